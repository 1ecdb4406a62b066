"""What a run says of the variables that are regridded: units, windows, and which fields it lacks."""

import pyarrow as pa
import pyarrow.compute as pc

from ..checks.limits import table
from ..lake.errors import CorruptInput, UsageError
from ..lake.phase import Context
from .deaccumulate import Span
from .products import Amount, Rate
from .recipe import ForecastRecipe
from .refine import run_manifest
from .regrid_block import Known
from .regrid_plan import Group
from .runs import lead_times
from .template import Template


def known_of(context: Context[ForecastRecipe], template: Template, scope: str, group: Group) -> dict[str, Known]:
    """What is known of the variables of a group in a run; windows only of those that are taken apart.

    The windows are those of the run's own manifest, so they are right whatever the provider did in that year. Raises
    ``UsageError`` for a rate of a variable that is no accumulation or mean, ``CorruptInput`` where the members of an
    ensemble disagree about a window.
    """
    found = {}
    for variable in context.recipe.select.variables:
        if variable.name not in group.variables:
            continue
        learnt = template.variables[variable.name]
        step_type = variable.window or learnt.step_type
        apart = [i.product for i in group.items if isinstance(i.product, Rate | Amount) and i.roots == (variable.name,)]
        if apart and step_type not in ("accum", "avg"):
            raise UsageError(
                f"{apart[0].name} cannot be made: {variable.name} is no accumulation",
                expected="a window accum or avg",
                found=step_type,
            )
        found[variable.name] = Known(
            learnt.units,
            step_type,
            bool(apart) and _rising(variable.name, learnt.short_name),
            windows(run_manifest(context, scope), variable.name, lead_times(context.recipe)) if apart else (),
        )
    return found


def windows(rows: pa.Table, variable: str, leads: tuple[int, ...]) -> tuple[Span | None, ...]:
    """Window (h) of the field at each lead time from a manifest, None where there is no field.

    Raises ``CorruptInput`` where the fields of one lead time have different windows.
    """
    mine = rows.filter(pc.equal(rows["variable"].cast(pa.string()), variable))
    found: dict[int, int] = {}
    for lead, start in zip(mine["lead_time"].to_pylist(), mine["window_start"].to_pylist(), strict=True):
        end = int(lead.total_seconds() // 3600)
        begin = 0 if start is None else int(start.total_seconds() // 3600)
        if found.setdefault(end, begin) != begin:
            raise CorruptInput(
                f"the fields of {variable} at step {end} have different windows", expected=found[end], found=begin
            )
    return tuple((found[lead], lead) if lead in found else None for lead in leads)


def _rising(name: str, short_name: str) -> bool:
    """Whether an accumulation can only grow, from the checks' table of parameters; False when it is not in it."""
    names = {name.lower(), short_name.lower()}
    return any("rising" in row.traits for row in table() if names & set(row.names))
