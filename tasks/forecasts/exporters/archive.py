"""Archive: copies of whole runs in another store, verified, with a signed manifest (docs/archive.md)."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ...exports.exporter import Exporter, Planned, Source, exporters
from ...lake.meter import Meter
from ...lake.objects import Objects, locate
from ...lake.partition import Output, Status
from ...lake.prices import prices
from ...lake.shipment import refuse_same_place, ship
from ...lake.signature import Signer
from ...lake.storage_rules import class_at
from ...lake.transfer_cost import sentences
from ...lake.transfer_manifest import MANIFEST, folder_of
from ..belongings import PARTS, Part, age_of, belongings, inputs, runs_a_month

if TYPE_CHECKING:
    from ..export_source import RunSource


@exporters.register("archive")
class Archive(Exporter):
    """Copies runs to another store. The manifest of each, with its checksums and signature, also stays in the lake."""

    to: str = Field(description="Where to: a folder or s3://bucket/prefix?endpoint=...; laid out as a lake there.")
    what: tuple[Part, ...] = Field(default=PARTS, description="Parts of a run: raw, refined, regridded, exports.")
    sign: str | None = Field(default=None, description="The private key to sign with, by reference: env:NAME.")

    @field_validator("to")
    @classmethod
    def _place(cls, value: str) -> str:
        locate(value)
        return value

    @field_validator("what")
    @classmethod
    def _something(cls, value: tuple[Part, ...]) -> tuple[Part, ...]:
        if not value:
            raise ValueError(f"names no part of a run; there are: {', '.join(PARTS)}")
        return tuple(part for part in PARTS if part in value)

    def plan(self, source: Source) -> Planned:
        run = _forecast(source)
        recipe, target = run.context.recipe, Objects(self.to)
        refuse_same_place(run.lake.objects, target)
        own = f"{run.scope}/{self.name}"
        sent = belongings(run.context, run.scope, self._there(run), own)
        sizes = [i.bytes for items in sent.parts.values() for i in items]
        age = age_of(run.scope)
        told = sentences(
            run.lake.objects.location, target.location, sizes, recipe.storage, class_at(recipe.storage, age), age.days,
            prices(),
        )  # fmt: skip
        told += self._lost(run, target)
        return Planned(
            inputs=inputs(run.context, run.scope, self._there(run), own),
            bytes=sum(sizes),
            memory=2 * 256 * 2**20,
            notes=tuple(f"{own}: {sentence}" for sentence in told),
        )

    def _lost(self, run: "RunSource", target: Objects) -> list[str]:
        """What a plan says of a run that was sent, by the ledger, and is not at the target any more."""
        record = run.context.ledger.read("export", f"{run.scope}/{self.name}")
        place = f"{folder_of(run.context.recipe.name, run.scope)}/{MANIFEST}"
        if record is None or record.status is not Status.DONE or target.head(place) is not None:
            return []
        return [f"it was sent and is not at {target.url.split('?')[0]} any more; --force sends it again"]

    def _there(self, run: "RunSource") -> tuple[Part, ...]:
        """The parts asked for, without those that this recipe makes none of."""
        recipe = run.context.recipe
        made = {"regridded": bool(recipe.grids), "exports": any(e.name != self.name for e in recipe.exports)}
        return tuple(part for part in self.what if made.get(part, True))

    def export(self, source: Source) -> Sequence[Output]:
        run = _forecast(source)
        recipe, target = run.context.recipe, Objects(self.to)
        signer = Signer(self.sign) if self.sign else None
        sent = belongings(run.context, run.scope, self._there(run), f"{run.scope}/{self.name}")
        # On standard error, where workers of a local cluster are heard, too.
        meter = Meter(run.scope, lambda said: print(said, file=sys.stderr, flush=True), runs_a_month(recipe))
        cold = class_at(recipe.storage, age_of(run.scope)) if target.location.scheme == "s3" else None
        _, files, _ = ship(sent, target, signer, cold, meter)
        return [run.lake.write(f"{run.prefix}/{name}", data) for name, data in files.items()]


def _forecast(source: Source) -> "RunSource":
    from ..export_source import RunSource

    assert isinstance(source, RunSource)
    return source
