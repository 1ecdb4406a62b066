"""Exporter ``grib``: the source's own messages, byte for byte, as GRIB files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ..lake.errors import UsageError
from .exporter import Exporter, Source, exporters

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_ORDER = ("step", "variable", "level", "member", "sub")


@exporters.register("grib")
class Grib(Exporter):
    """A subset of a run's messages as they are at the source: nothing is decoded, so nothing is lost or rounded.

    One file, or one a step, member or variable (``<name>-006.grib2``, ``<name>-m01.grib2``, ``<name>-t2m.grib2``);
    messages are ordered by lead time, variable, level and member. What the run's verdict took out of the cube is here
    as it came. A message with several fields (U and V of older NCEP files) comes whole, once.
    """

    type: Literal["grib"] = "grib"
    variables: tuple[str, ...] | None = Field(default=None, description="Variables by their names in the cube.")
    steps: tuple[int, ...] | None = Field(default=None, min_length=1, description="Lead times in hours.")
    members: tuple[int, ...] | None = Field(default=None, min_length=1, description="Members; 0 is the control.")
    levels: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="Levels of variables that have several; all when absent."
    )
    split: Literal["none", "step", "member", "variable"] = Field(default="none", description="What makes a file.")

    made_of: ClassVar[Literal["cube", "messages"]] = "messages"

    def write(self, source: Source, folder: Path) -> list[Path]:
        rows = self._selected(source.manifest())
        paths = []
        for label, part in self._files(rows):
            path = folder / f"{self.name}{label}.grib2"
            with path.open("wb") as out:
                for message in source.messages(part.to_arrow()):
                    out.write(message)
            paths.append(path)
        return paths

    def _selected(self, manifest: pa.Table) -> pl.DataFrame:
        """The rows wanted, in the order of the file, each message once. Raises ``UsageError`` for what is not there."""
        import polars as pl

        found: Any = pl.from_arrow(manifest)
        rows: pl.DataFrame = found.with_columns(
            pl.col("variable", "url").cast(pl.String), step=pl.col("lead_time").dt.total_hours()
        )
        # A variable on one level was not chosen by it.
        layered = pl.col("level").n_unique().over("variable") > 1
        for column, wanted in (
            ("variable", self.variables),
            ("step", self.steps),
            ("member", self.members),
            ("level", self.levels),
        ):
            if wanted is None:
                continue
            there = rows[column].drop_nulls().unique().sort().to_list()
            if lacking := [w for w in wanted if w not in there]:
                raise UsageError(
                    f"the run has no message of {column} {lacking[0]!r}",
                    expected=", ".join(map(str, there)) or "none",
                    found=lacking[0],
                )
            chosen = pl.col(column).is_in(wanted)
            rows = rows.filter(chosen | ~layered if column == "level" else chosen)
        if rows.is_empty():
            raise UsageError("no message of the run is in all that was chosen")
        return rows.sort(*_ORDER, nulls_last=False).unique(["url", "offset"], keep="first", maintain_order=True)

    def _files(self, rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
        if self.split == "none":
            return [("", rows)]
        if rows[self.split].has_nulls():
            raise UsageError(f"the run has no {self.split}s to split by; leave 'split' out")
        labels = {"step": "-{:03d}", "member": "-m{:02d}", "variable": "-{}"}[self.split]
        parts = rows.partition_by(self.split, as_dict=True, maintain_order=True)
        return [(labels.format(*key), part) for key, part in sorted(parts.items())]
