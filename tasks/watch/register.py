"""Who was told of what, once: a record in the lake per run and stage, claimed by a conditional write."""

import contextlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from ..lake.errors import ConflictError, NotFound
from ..lake.ledger import utcnow
from ..lake.objects import Objects
from ..lake.owner import is_dead, owner

_UNSURE = timedelta(minutes=10)
"""How long a claim stands whose holder never said that it told: it may have been killed in between."""

COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Available:
    """A stage of a run that was reached: ``usable_to`` is the last step (h) up to which everything is there."""

    recipe: str
    run: str
    lake: str
    usable_to: int
    complete: bool
    stage: str

    @property
    def resource(self) -> str:
        """The run as a resource of events."""
        return f"weatherlake.run.{self.recipe}.{self.run}"

    @property
    def id(self) -> uuid.UUID:
        """The same whoever says it and however often, so that who listens can tell."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self.lake}|{self.resource}|{self.stage}")

    def as_json(self) -> dict[str, Any]:
        """What an event carries."""
        return {
            "recipe": self.recipe, "run": self.run, "lake": self.lake, "usable_to": self.usable_to,
            "complete": self.complete, "stage": self.stage,
        }  # fmt: skip


class Register:
    """The records of one recipe: ``watch/<recipe>/<run>/<stage>.json``."""

    def __init__(self, objects: Objects, recipe: str) -> None:
        self._objects = objects
        self._recipe = recipe

    def _key(self, run: str, stage: str) -> str:
        return f"watch/{self._recipe}/{run}/{stage}.json"

    def told(self, run: str) -> set[str]:
        """The stages of a run that are over: told, or passed by a later one."""
        found = set()
        for meta in self._objects.folder(f"watch/{self._recipe}/{run}"):
            try:
                state = orjson.loads(self._objects.get(meta.key))["state"]
            except NotFound:
                continue
            if state in ("told", "passed"):
                found.add(meta.key.rsplit("/", 1)[1].removesuffix(".json"))
        return found

    def claim(self, one: Available, now: datetime | None = None) -> str | None:
        """Take it on oneself to tell; the claim's etag, or None when that was done or is being done by somebody."""
        now = now or utcnow()
        key, record = self._key(one.run, one.stage), _record(one, "claimed", now)
        try:
            return self._objects.put_new(key, record) or ""
        except ConflictError:
            pass
        try:
            data, etag = self._objects.get_with_etag(key)
            found = orjson.loads(data)
            held = not is_dead(found["owner"]) and datetime.fromisoformat(found["at"]) + _UNSURE > now
            if found["state"] != "claimed" or held:
                return None
            return self._objects.replace(key, record, etag) or ""
        except (ConflictError, NotFound):
            return None

    def done(self, one: Available, etag: str) -> None:
        """Note that it was told; by us, or by somebody who took us for dead meanwhile."""
        with contextlib.suppress(ConflictError):
            self._objects.replace(self._key(one.run, one.stage), _record(one, "told", utcnow()), etag)

    def release(self, one: Available) -> None:
        """Let go of a claim: it could not be told."""
        self._objects.delete(self._key(one.run, one.stage))

    def passed(self, one: Available, stage: str) -> None:
        """Note that a later stage of the run was told in the place of this one."""
        # That somebody was before us is as good.
        with contextlib.suppress(ConflictError):
            self._objects.put_new(self._key(one.run, stage), _record(one, "passed", utcnow()))


def _record(one: Available, state: str, at: datetime) -> bytes:
    document = {**one.as_json(), "state": state, "at": at.isoformat(timespec="seconds"), "owner": owner()}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)
