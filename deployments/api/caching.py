"""What clients may keep: an answer is good for as long as its snapshot is the newest."""

from starlette.requests import Request
from starlette.responses import Response

from tasks.serving.snapshot import Snapshot

from .service import Service


def fresh(request: Request, snapshot: Snapshot) -> bool:
    """Whether the client has the answer already (If-None-Match): a path and a snapshot make one answer."""
    held = request.headers.get("if-none-match")
    if held is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in held.split(",")}
    return "*" in tags or _tag(snapshot) in tags


def tagged(service: Service, response: Response, snapshot: Snapshot) -> Response:
    """The answer with its snapshot as ETag, and how long it may be kept without asking."""
    response.headers["ETag"] = _tag(snapshot)
    who = "public" if service.open else "private"
    response.headers["Cache-Control"] = f"{who}, max-age={max(1, round(service.settings.refresh))}"
    return response


def _tag(snapshot: Snapshot) -> str:
    return f'"{snapshot.id}"'
