"""A webhook: whoever knows the secret may say that a run is there. It is looked at, and told of if that is so.

``POST /runs`` with ``Authorization: Bearer SECRET`` and ``{"run": "2026-11-20T00"}``. Answers with what was told; 202
when the run is not as far yet, 401 for a wrong secret, 400 for a body that is none.
"""

import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import orjson
from pydantic import SecretStr

from ..forecasts.runs import index_of, parse_run
from ..lake.errors import AccessError, LakeError, UsageError
from .watching import Watch

_LARGEST = 64 * 2**10
_START = 20.0


def application(watch: Watch, secret: SecretStr, say: Callable[[str], None]) -> Any:
    """The ASGI application."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    expected = b"Bearer " + secret.get_secret_value().encode()

    async def runs(request: Request) -> JSONResponse:
        # In constant time: how much of a guess is right must not show in how long the answer takes.
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return JSONResponse({"error": "the secret is wrong"}, 401, {"WWW-Authenticate": "Bearer"})
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST:
                return JSONResponse({"error": f"the body is larger than {_LARGEST} bytes"}, 413)
        try:
            run = _run(watch, body)
        except UsageError as error:
            return JSONResponse({"error": str(error)}, 400)
        try:
            told = await run_in_threadpool(watch.look, [run], say)
        except LakeError as error:
            return JSONResponse({"error": str(error)}, 503)
        over = watch.complete(run)
        return JSONResponse({"announced": [a.as_json() for a in told], "complete": over}, 200 if told or over else 202)

    return Starlette(routes=[Route("/runs", runs, methods=["POST"])])


def _run(watch: Watch, body: bytes) -> datetime:
    """The run that a body names. Raises ``UsageError``."""
    try:
        text = orjson.loads(body)["run"]
    except (ValueError, KeyError, TypeError):
        raise UsageError("the body names no run", expected='{"run": "2026-11-20T00"}', found="something else") from None
    run = parse_run(str(text))
    index_of(watch.context.recipe, run)
    return run


@contextmanager
def serving(app: Any, host: str, port: int) -> Iterator[str]:
    """Serve the application in a thread while the block lasts; its address. Raises ``AccessError`` for a port that is
    taken."""
    import socket
    import time

    import uvicorn

    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise AccessError(f"nothing can listen at {host}:{port} ({error.strerror})") from None
    with listening:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="webhook", daemon=True)
        thread.start()
        end = time.monotonic() + _START
        while not server.started and thread.is_alive() and time.monotonic() < end:
            time.sleep(0.02)
        try:
            yield f"http://{host}:{listening.getsockname()[1]}/runs"
        finally:
            server.should_exit = True
            thread.join(_START)
