"""A check of one granule: the question goes to a child process, and its answer - or its end - comes back."""

import time
from collections.abc import Mapping

import msgspec

from ..lake import children
from ..lake.errors import Unreachable
from ..lake.phase import Context
from .formats import Link
from .login import account
from .question import Answer, Question
from .reasons import Reason
from .recipe import SurveyRecipe
from .redact import redact

INSPECTION = "tasks.surveys.inspection:inspect"
"""What children run."""

_DEATHS: Mapping[type[children.Died], Reason] = {
    children.TimedOut: Reason.TIMEOUT,
    children.OutOfMemory: Reason.OUT_OF_MEMORY,
    children.Crashed: Reason.CRASHED,
}


def ask(recipe: SurveyRecipe, question: Question) -> tuple[Answer, float]:
    """The answer to a question, and the seconds it took; a child that died gave its reason by that."""
    pool = children.pool(INSPECTION)
    begun = time.monotonic()
    try:
        data = pool.run(msgspec.msgpack.encode(question), recipe.check.seconds, recipe.check.memory * 2**20)
        answer = msgspec.msgpack.decode(data, type=Answer)
    except children.Died as death:
        message = redact(str(death), question.secrets)
        answer = Answer(reason=_DEATHS[type(death)], message=message)
    return answer, time.monotonic() - begun


def question(recipe: SurveyRecipe, what: str, link: Link, credentials: str | None, variable: str | None) -> Question:
    """The question about a link, with what is needed to read it where a login may be used. Raises ``AccessError``."""
    who = account(recipe.login)
    url, token, keys = link.url, None, None
    if who is not None:
        if url.startswith("s3://"):
            keys = who.keys(credentials) if credentials else None
        elif who.may_see(url):
            token = who.token()
    family = link.family
    assert family is not None
    return Question(
        what=what,  # type: ignore[arg-type]
        url=url, family=family, variable=variable, token=token, keys=keys,
        region=recipe.check.region, endpoint=recipe.check.endpoint,
    )  # fmt: skip


def unreachable(context: Context[SurveyRecipe], phase: str, key: str, message: str) -> Answer:
    """A server that did not answer: to be tried again, until it has been tried often enough.

    Raises ``Unreachable`` as long as attempts are left; then that is the collection's verdict.
    """
    record = context.ledger.read(phase, key)
    attempt = record.attempt if record else 1
    if attempt < context.recipe.check.attempts:
        raise Unreachable(f"{key}: {message}", partition=key)
    return Answer(reason=Reason.CANT_OPEN_FILE, message=f"after {attempt} attempts: {message}")
