"""Requests that are refused: one sentence each, with the HTTP status that fits, in the form that EDR has for it."""

from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

from tasks.lake.errors import CorruptInput, LakeError, NotFound, TransientError, UsageError


class Problem(BaseModel):
    """Why a request was not answered (the exception schema of OGC API - EDR)."""

    code: int = Field(description="HTTP status.")
    description: str = Field(description="One sentence.")


class Refused(Exception):
    """A request that is not answered: HTTP status, one sentence, further headers."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = {k.replace("_", "-"): v for k, v in headers.items()}


STATUSES = {
    400: "The request is wrong: a parameter is missing, unknown or has a value it cannot have.",
    401: "The API key is missing or wrong.",
    404: "There is no such collection, run, time or place.",
    413: "The request asks for more than is given at once.",
    429: "The client made too many requests.",
    503: "The server has too much to do, or its store does not answer; try again later.",
}
"""What a refusal means, by status: for the OpenAPI document."""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may be refused."""
    return {s: {"model": Problem, "description": STATUSES[s]} for s in statuses}


def answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal as a response."""
    return Response(
        orjson.dumps({"code": status, "description": sentence}), status, headers, media_type="application/json"
    )


def of_lake(error: LakeError) -> Refused:
    """A lake's error as a refusal. What the store or the cube has to do with is said without addresses."""
    if isinstance(error, UsageError):
        return Refused(400, str(error))
    if isinstance(error, NotFound):
        # An object of the snapshot is gone: it was cleared away after a newer one had been published.
        return Refused(503, "what this snapshot refers to is no longer there; try again", Retry_After="5")
    if isinstance(error, TransientError):
        return Refused(503, "the store does not answer at the moment; try again", Retry_After="5")
    if isinstance(error, CorruptInput):
        return Refused(503, "the store holds broken bytes at this place", Retry_After="60")
    return Refused(503, "the store cannot be read at the moment; try again", Retry_After="30")
