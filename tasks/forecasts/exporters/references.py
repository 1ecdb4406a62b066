"""Exporter ``references``: a run's fields where they lie at the provider, for readers who need no copy."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ...exports.exporter import Exporter, Source, exporters
from ...exports.placing import place
from ...lake.errors import UsageError
from ...lake.partition import Output
from ..archive import Archive
from ..export_source import RunSource
from ..references import Form, kerchunk_parquet
from ..references.layout import collect
from ..references.places import places
from ..references.run import write_run
from ..template import load


@exporters.register("references")
class References(Exporter):
    """Virtual references to the run's messages (docs/references.md), as ingest makes them with ``references:``.

    ``kerchunk``: a Parquet file a member among the export's files, in the layout published for the ECMWF ensemble
    (``2026112000z-control.parquet``, ``2026112000z-ens_01.parquet``). ``icechunk``: a commit to the one repository of
    the recipe, ``references/<recipe>/virtual.icechunk``, which grows run by run. Made for runs that are published only.
    """

    type: Literal["references"] = "references"
    forms: tuple[Form, ...] = Field(default=("kerchunk",), min_length=1, description="kerchunk, icechunk, or both.")

    made_of: ClassVar[Literal["cube", "messages"]] = "messages"

    def export(self, source: Source) -> Sequence[Output]:
        if not isinstance(source, RunSource):
            raise UsageError("references are of forecasts, whose messages have a manifest")
        outputs: list[Output] = []
        if "kerchunk" in self.forms:
            outputs += place(source.lake, source.prefix, lambda folder: _members(source, folder))
        if "icechunk" in self.forms:
            outputs += write_run(source.context, source.scope, [source.manifest()], ("icechunk",))
        return outputs


def _members(source: RunSource, folder: Path) -> list[Path]:
    context = source.context
    run, samples = collect(context.recipe, source.scope, [source.manifest()])
    if samples is None:
        raise UsageError(f"run {source.scope} of {context.recipe.name} has no fields to refer to")
    template = load(context, samples)
    kerchunk_parquet.refuse_what_kerchunk_cannot_read(run, template)
    urls = [p.url for p in places(Archive(context), run.objects)]
    paths = []
    for name, table in kerchunk_parquet.tables(context.recipe, template, run, urls):
        path = folder / name
        path.write_bytes(kerchunk_parquet.to_parquet(table))
        paths.append(path)
    return paths
