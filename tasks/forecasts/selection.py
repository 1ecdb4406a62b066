"""What of a forecast's source a recipe takes: variables, levels, lead times, members, a box."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..exports.box import Box
from ..lake.recipe import Name
from ..lake.registry import Strict

Window = Literal["instant", "accum", "avg", "max", "min"]
"""ecCodes' ``stepType`` for the statistical processing of a field over its time window."""


class Packing(Strict):
    """Values as 16-bit integers: ``offset + step * n`` with n from -32767 to 32767; missing ones have a number too."""

    step: float = Field(gt=0, description="Distance of two values, in the variable's units.")
    offset: float = Field(default=0.0, description="The value in the middle of the range, in the variable's units.")

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest value that can be stored."""
        return self.offset - 32767 * self.step, self.offset + 32767 * self.step


class Variable(Strict):
    """One variable of the cube and how to find it in the source's index."""

    name: Name = Field(description="Name in the cube.")
    param: str = Field(description="The source's own name: ECMWF short_name (2t) or NCEP abbreviation (TMP).")
    level_type: str | None = Field(
        default=None, description="ecCodes typeOfLevel, or levtype of an ECMWF index; any when absent."
    )
    levels: tuple[float, ...] = Field(
        default=(), description="Levels to keep as a dimension; one value or none gives no dimension."
    )
    window: Window | None = Field(default=None, description="Kind of time window; any when absent.")
    window_start: Literal["run", "any"] = Field(
        default="any", description="'run' keeps only windows that began with the run (run totals)."
    )
    not_at: tuple[int, ...] = Field(default=(), description="Steps (h) at which the model does not produce it.")
    keep_bits: int | None = Field(
        default=None,
        ge=1,
        le=23,
        description="Mantissa bits kept; 23 are all. When absent: as `layout.rounding` says.",
    )
    packed: Packing | None = Field(
        default=None,
        description="Store 16-bit integers of this step; without it, float32. Nothing else is rounded then.",
    )
    units: str | None = Field(default=None, description="Units as expected from the source; a mismatch is an error.")
    long_name: str = ""
    standard_name: str = ""


class Select(Strict):
    """What of the source is taken."""

    variables: tuple[Variable, ...] = Field(min_length=1)
    steps: tuple[int, ...] | None = Field(
        default=None, description="Lead times in hours; all of the source when absent."
    )
    members: tuple[int, ...] | None = Field(
        default=None, description="Ensemble members (0 is the control); None: no member dimension."
    )
    bbox: Box | None = Field(
        default=None,
        description="West, south, east, north in degrees: only cells whose centres lie in it; west > east crosses 180.",
    )
    only: tuple[Name, ...] | None = Field(
        default=None, description="Names of the variables to take, of those above; all when absent."
    )
    levels: tuple[float, ...] | None = Field(
        default=None, description="Levels to take of the variables that have several; all when absent."
    )

    @field_validator("steps", "members", mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        return spread(value)

    @model_validator(mode="before")
    @classmethod
    def _narrowed(cls, value: Any) -> Any:
        # What is selected counts, not how it was said: ``only`` and ``levels`` become variables and their levels.
        if not isinstance(value, dict) or not isinstance(value.get("variables"), list | tuple):
            return value
        left = dict(value)
        only, levels = left.pop("only", None), left.pop("levels", None)
        if only is not None:
            left["variables"] = _only(left["variables"], only if isinstance(only, list | tuple) else [only])
        if levels is not None:
            wanted = [float(v) for v in (levels if isinstance(levels, list | tuple) else [levels])]
            left["variables"] = [_at_levels(v, wanted) for v in left["variables"]]
        return left

    @field_validator("variables")
    @classmethod
    def _unique(cls, value: tuple[Variable, ...]) -> tuple[Variable, ...]:
        seen = [v.name for v in value]
        twice = sorted({n for n in seen if seen.count(n) > 1})
        if twice:
            raise ValueError(f"names a variable twice: {', '.join(twice)}")
        return value


def spread(value: Any) -> Any:
    """Numbers and ranges as numbers: ``["0-48/3", 60]`` is 0, 3 .. 48 and 60; both ends count. Else as it is."""
    if not isinstance(value, list | tuple | str):
        return value
    found: list[Any] = []
    for item in [value] if isinstance(value, str) else value:
        match = re.fullmatch(r"(\d+)-(\d+)(?:/([1-9]\d*))?", item) if isinstance(item, str) else None
        found += range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)) if match else [item]
    return found


def _only(variables: Sequence[Any], names: Sequence[Any]) -> list[Any]:
    known = [_field(v, "name") for v in variables]
    if unknown := [str(n) for n in names if n not in known]:
        raise ValueError(f"has no variable {', '.join(unknown)}; there are {', '.join(map(str, known))}")
    return [v for v in variables if _field(v, "name") in names]


def _at_levels(variable: Any, wanted: Sequence[float]) -> Any:
    levels = _field(variable, "levels") or ()
    if len(levels) < 2:
        return variable
    kept = [v for v in levels if float(v) in wanted]
    if not kept:
        there = ", ".join(f"{v:g}" for v in levels)
        raise ValueError(f"takes no level of {_field(variable, 'name')}, which has {there}")
    if isinstance(variable, Variable):
        return variable.model_copy(update={"levels": tuple(kept)})
    return {**variable, "levels": kept}


def _field(variable: Any, name: str) -> Any:
    return getattr(variable, name, None) if isinstance(variable, Variable) else dict(variable).get(name)
