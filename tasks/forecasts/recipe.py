"""The recipe of a forecast: source, selection, cube layout, checks, target grids and exports."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..checks.acceptance import CheckConfig
from ..checks.acceptance import names as scale_names
from ..exports.exporter import Exporter, exporters
from ..lake.recipe import Name, Recipe
from ..lake.registry import Strict
from ..lake.retention import Retention
from .narrowing import narrowed
from .products import AnyProduct, RegridConfig, Statistics, TargetGrid, refuse_products
from .selection import Select
from .sources.source import sources

exporters.extend("tasks.forecasts.exporters")


class Runs(Strict):
    """Which initialisation times exist, and so each run's place along init_time."""

    start: datetime = Field(description="First run of the cube (UTC): index 0 of init_time.")
    every: int = Field(gt=0, le=24, description="Hours between runs.")
    default: str | None = Field(default=None, description="Run taken when none is named; the latest when absent.")

    partial: bool = Field(
        default=False,
        description="Whether a run that is not complete yet is taken as far as it is, and completed later.",
    )

    @field_validator("start")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @property
    def interval(self) -> timedelta:
        """Time between two runs."""
        return timedelta(hours=self.every)


class Layout(Strict):
    """Shape of the cube on disk."""

    longitude: Literal["source", "-180", "0"] = Field(
        default="source", description="First longitude: as the source, -180..180 or 0..360."
    )
    latitude: Literal["source", "north-south", "south-north"] = "source"
    chunk: int = Field(default=0, ge=0, description="Side of a chunk in x and y; 0 keeps whole maps.")
    compression_level: int = Field(default=1, ge=1, le=22, description="zstd level.")
    rounding: Literal["by-unit", "none"] = Field(
        default="by-unit",
        description="Mantissa bits kept of variables that do not say: by their units, or all (see docs/refine.md).",
    )


class ForecastRecipe(Recipe):
    """A gridded model run archive and what to make of it."""

    kind: Literal["forecast"] = "forecast"
    source: sources.field  # type: ignore[valid-type]
    transfer: Literal["virtual", "copy"] = Field(
        default="virtual",
        description="virtual: bytes stay at the provider; copy: they are copied into the lake's raw zone.",
    )
    incomplete: Literal["refuse", "accept"] = Field(
        default="refuse",
        description="What to do when an index lacks selected fields: fail the step, or record them as missing.",
    )
    drift: Literal["stop", "warn", "relearn"] = Field(
        default="warn",
        description="What to do when a run holds other fields, members or headers than the runs before it: hold it "
        "back, say so, or learn the template anew.",
    )
    references: tuple[Literal["kerchunk", "icechunk"], ...] = Field(
        default=(), description="Virtual forms to make of every run: references into the provider's GRIB files."
    )
    runs: Runs
    select: Select
    layout: Layout = Layout()
    retention: Retention = Retention()
    checks: CheckConfig = CheckConfig()
    grids: tuple[TargetGrid, ...] = ()
    regrid: RegridConfig = RegridConfig()
    products: tuple[AnyProduct, ...] = Field(default=(), description="Made in the pass that regrids.")
    statistics: tuple[Statistics, ...] = Field(default=(), description="Over the members, published with them.")
    exports: tuple[exporters.field, ...] = ()  # type: ignore[valid-type]
    only: tuple[Name, ...] = Field(default=(), description="Exports to make, by name; all when none is named.")

    @property
    def chosen(self) -> tuple[Exporter, ...]:
        """The exports that are to be made."""
        return tuple(e for e in self.exports if not self.only or e.name in self.only)

    @model_validator(mode="before")
    @classmethod
    def _scale_of_the_model(cls, value: Any) -> Any:
        """The acceptance scale made for the source, where there is one and the recipe names none."""
        if not isinstance(value, dict):
            return value
        source, checks = value.get("source"), value.get("checks") or {}
        kind = source.get("type") if isinstance(source, dict) else source
        if kind in scale_names() and isinstance(checks, dict) and "scale" not in checks:
            return value | {"checks": checks | {"scale": kind}}
        return value

    @model_validator(mode="before")
    @classmethod
    def _archive(cls, value: Any) -> Any:
        # The key ``archive``, which the command line sets: fields of the export of that type, made when there is none.
        if not isinstance(value, dict) or not isinstance(fields := value.get("archive"), dict):
            return value
        entry = {"type": "archive", "name": "archive"}
        others = []
        for export in value.get("exports") or ():
            if isinstance(export, dict) and export.get("type") == "archive":
                entry |= export
            else:
                others.append(export)
        return {k: v for k, v in value.items() if k != "archive"} | {"exports": [*others, entry | fields]}

    @model_validator(mode="before")
    @classmethod
    def _narrowed(cls, value: Any) -> Any:
        return narrowed(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> "ForecastRecipe":
        names = [g.name for g in self.grids]
        if len(set(names)) != len(names):
            raise ValueError(f"names a grid twice: {names}")
        variables = (v.name for v in self.select.variables)
        members = self.select.members is not None
        refuse_products(variables, self.products, self.statistics, members, self.grids, self.regrid.vectors)
        outputs = [e.name for e in self.exports]
        if len(set(outputs)) != len(outputs):
            raise ValueError(f"names an export twice: {outputs}")
        if unknown := sorted(set(self.only) - set(outputs)):
            hint = "; name where it goes: --to URL" if unknown == ["archive"] else ""
            raise ValueError(f"there is no export {unknown[0]!r}; there are: {', '.join(outputs) or 'none'}{hint}")
        for export in self.exports:
            if export.zone not in ("refined", *names):
                zones = ", ".join(("refined", *names))
                raise ValueError(f"export {export.name!r} reads zone {export.zone!r}; there are: {zones}")
        return self
