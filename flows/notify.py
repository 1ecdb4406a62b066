"""Who is told of what became of a run: Prefect artifacts, and notification blocks, once per event.

An event is (recipe, run, what happened, the verdict's content). It is claimed in the lake before anybody is told, by a
conditional write: a retry, a second flow and a run that finds the same again tell nobody twice. What was sent to whom,
and what could not be sent, is kept there: ``notifications/<recipe>/<run>/<event>.json``.
"""

import asyncio
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tasks.checks.verdict import Outcome, State, Verdict
from tasks.lake.errors import ConflictError, LakeError, NotFound
from tasks.lake.lake import Lake
from tasks.lake.ledger import utcnow
from tasks.lake.objects import Objects
from tasks.lake.partition import digest_json
from tasks.report import Report

from .phase import Request

_UNSURE = timedelta(minutes=10)
"""How long a claim stands whose holder never said what it sent: it may have been killed in between."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@|\?[^\s)\"']*=[^\s)\"']*")
"""Users and passwords in a URL, and its query, which may hold a signature."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run and that somebody may want to know."""

    recipe: str
    run: str
    what: str
    subject: str
    body: str
    identity: str

    @property
    def key(self) -> str:
        """Where its record lies in the lake."""
        return f"notifications/{self.recipe}/{self.run}/{self.what}-{self.identity}.json"


def told(request: Request, report: Report) -> None:
    """Tell who is to be told of a phase's end; make the artifacts of a validation. Failing to tell fails nothing."""
    from prefect import get_run_logger

    from .findings import artifacts

    recipe, lake = request.load(), request.open()
    wanted = getattr(getattr(recipe, "checks", None), "notify", ())
    log = get_run_logger()
    for event in events(lake, recipe.name, report):
        blocks = [n.block for n in wanted if event.what in n.on]
        for sentence in tell(lake.objects, event, blocks):
            log.warning("%s", sentence)
    for scope in report.scopes if report.phase == "validate" else ():
        verdict = _verdict(lake, recipe.name, scope)
        if verdict is not None:
            artifacts(lake, recipe.name, scope, verdict)


def events(lake: Lake, recipe: str, report: Report) -> list[Event]:
    """What happened to the runs of a report: one event a run at most for its verdict, one for partitions lost."""
    found = []
    for scope in report.scopes:
        verdict = _verdict(lake, recipe, scope) if report.phase == "validate" else None
        what = _what(verdict) if verdict is not None else None
        if verdict is not None and what is not None:
            lines = [f"score {verdict.score:.3f}", *verdict.reasons[:10]]
            more = len(verdict.reasons) - 10
            lines += [f"and {more} more reasons"] if more > 0 else []
            lines += [f"quarantined: {len(verdict.quarantined)} cell(s)"] if verdict.quarantined else []
            identity = digest_json([str(verdict.state), str(verdict.outcome), list(verdict.reasons)])
            found.append(_event(recipe, scope, what, "\n".join(lines), identity))
    if count := report.partitions.get("lost"):
        scope = report.scopes[0] if report.scopes else "all"
        text = "\n".join([f"{count} partition(s) of {report.phase}", *report.problems[:10]])
        found.append(_event(recipe, scope, "lost", text, digest_json([report.phase, scope])))
    return found


def _event(recipe: str, scope: str, what: str, body: str, identity: str) -> Event:
    subject = f"weatherlake: {recipe} {scope} {what}"
    return Event(recipe, scope, what, subject, scrubbed(body), identity.removeprefix("sha256:")[:12])


def scrubbed(text: str) -> str:
    """A text without what may be a secret in a URL: user and password, and the query."""
    return _CREDENTIALS.sub("", text)


def _what(verdict: Verdict) -> str | None:
    if verdict.state is State.REJECTED:
        return "rejected"
    if verdict.outcome is not Outcome.PUBLISH:
        return "held"
    return None if verdict.state is State.ACCEPTED else str(verdict.state)


def _verdict(lake: Lake, recipe: str, scope: str) -> Verdict | None:
    try:
        return Verdict.from_json(lake.objects.get(f"verdicts/{recipe}/{scope}/verdict.json"))
    except LakeError:
        # Validation did not get so far, or the recipe is of a kind without verdicts.
        return None


def tell(objects: Objects, event: Event, blocks: Sequence[str]) -> list[str]:
    """Send an event through blocks, once; what went wrong, a sentence each. Keeps a record of both."""
    etag, before = _claimed(objects, event)
    if etag is None:
        return []
    sent: dict[str, str | None] = {b: at for b, at in before.items() if at is not None}
    problems = []
    for block in blocks:
        if block in sent:
            continue
        try:
            _send(block, event)
            sent[block] = _now()
        except Exception as error:
            # Whatever a block does, the run goes on; texts of errors may hold the block's secrets.
            problems.append(f"{event.what} of {event.run} could not be sent through {block} ({type(error).__name__})")
            sent[block] = None
    record = _record(event, sent, [scrubbed(p) for p in problems])
    objects.replace(event.key, orjson.dumps(record, option=orjson.OPT_INDENT_2), etag)
    return problems


def _claimed(objects: Objects, event: Event) -> tuple[str | None, dict[str, str | None]]:
    """Claim an event: the etag of the claim (None when there is nothing to do), and who was told already."""
    claim = orjson.dumps(_record(event, None, []), option=orjson.OPT_INDENT_2)
    try:
        return objects.put_new(event.key, claim) or "", {}
    except ConflictError:
        pass
    try:
        data, etag = objects.get_with_etag(event.key)
    except NotFound:
        return None, {}
    found = orjson.loads(data)
    sent: dict[str, str | None] | None = found["sent"]
    unsure = sent is None and datetime.fromisoformat(found["at"]) + _UNSURE < utcnow()
    failed = sent is not None and any(at is None for at in sent.values())
    if not unsure and not failed:
        return None, {}
    try:
        return objects.replace(event.key, claim, etag), sent or {}
    except ConflictError:
        return None, {}


def _record(event: Event, sent: dict[str, str | None] | None, problems: list[str]) -> dict[str, Any]:
    return {
        "recipe": event.recipe, "run": event.run, "what": event.what, "subject": event.subject, "body": event.body,
        "at": _now(), "sent": sent, "problems": problems,
    }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _send(block: str, event: Event) -> None:
    """Load a block by ``TYPE/NAME`` and send. Raises what the block raises."""
    from prefect.blocks.core import Block

    import blocks.notifications  # noqa: F401 (types of blocks are known once their module is)

    loaded: Any = _finished(Block.load(block))
    with loaded.raise_on_failure():
        _finished(loaded.notify(body=event.body, subject=event.subject))


def _finished(value: Any) -> Any:
    """The value itself, or what comes out of it when a block is asynchronous."""
    return asyncio.run(value) if inspect.iscoroutine(value) else value
