"""Completeness: what a run should hold and what came, field by field, as the cube's status coordinates say it."""

import io
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..checks.verdict import Spot
from ..lake.errors import NotFound
from ..lake.phase import Context
from ..lake.run_axis import FIELD_STATUS
from .quarantine import Damage
from .recipe import ForecastRecipe
from .runs import lead_times, parse_run, steps_of
from .selection import Variable

MATRIX = {v: k for k, v in FIELD_STATUS.items()}
USABLE = (FIELD_STATUS["present"], FIELD_STATUS["flagged"], FIELD_STATUS["not_produced"])
"""Statuses that do not break the chain of steps up to which a run is complete."""


def present(rows: pa.Table, recipe: ForecastRecipe, variable: Variable) -> np.ndarray:
    """Whether the manifest has each field of a variable: bool (lead_time, member, level)."""
    places = Places(recipe, variable)
    out = np.zeros(places.shape, bool)
    mine = rows.filter(pc.equal(rows["variable"].cast(pa.string()), variable.name))
    columns = (mine[c].to_pylist() for c in ("lead_time", "member", "level"))
    for lead, member, level in zip(*columns, strict=True):
        out[places.of(int(lead.total_seconds() // 3600), member, level)] = True
    return out


class Places:
    """Positions of a variable's fields along (lead_time, member, level); length 1 where it has no such dimension."""

    def __init__(self, recipe: ForecastRecipe, variable: Variable) -> None:
        self.steps = {hours: i for i, hours in enumerate(lead_times(recipe))}
        members = recipe.select.members
        self.members = None if members is None else {m: i for i, m in enumerate(members)}
        self.levels = {v: i for i, v in enumerate(variable.levels)} if len(variable.levels) > 1 else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lengths of (lead_time, member, level)."""
        return len(self.steps), len(self.members or (0,)), len(self.levels or (0,))

    def of(self, hours: int, member: int | None, level: float | None) -> tuple[int, int, int]:
        """The position of a field."""
        return (
            self.steps[hours],
            self.members[member] if self.members is not None and member is not None else 0,
            self.levels[level] if self.levels is not None and level is not None else 0,
        )


def statuses(
    context: Context[ForecastRecipe],
    scope: str,
    rows: pa.Table,
    *,
    damaged: Iterable[Damage] = (),
    rejected: Iterable[Spot] = (),
    flagged: Iterable[Spot] = (),
    read_at: datetime | None = None,
) -> dict[str, np.ndarray]:
    """Variable -> int8 (lead_time, member, level): what became of each field (`FIELD_STATUS`).

    ``rows`` is the manifest of the run, ``read_at`` when it was read: what was absent then and not due yet is late.
    """
    recipe, run = context.recipe, parse_run(scope)
    produced = steps_of(recipe, run)
    out: dict[str, np.ndarray] = {}
    places: dict[str, Places] = {}
    for variable in recipe.select.variables:
        places[variable.name] = place = Places(recipe, variable)
        there = present(rows, recipe, variable)
        found = np.where(there, FIELD_STATUS["present"], FIELD_STATUS["missing"]).astype("int8")
        for step, at in place.steps.items():
            if step not in produced or step in variable.not_at:
                found[at] = FIELD_STATUS["not_produced"]
            elif read_at is not None and read_at < run + timedelta(hours=recipe.source.latency(step)):
                found[at][~there[at]] = FIELD_STATUS["late"]
        out[variable.name] = found
    for status, spots in (("flagged", flagged), ("rejected", rejected)):
        for spot in spots:
            where = places[spot.variable].of(spot.lead_time, spot.member, spot.level)
            if out[spot.variable][where] in (FIELD_STATUS["present"], FIELD_STATUS["flagged"]):
                out[spot.variable][where] = FIELD_STATUS[status]
    for damage in damaged:
        where = places[damage.variable].of(damage.lead_time, damage.member, damage.level)
        out[damage.variable][where] = FIELD_STATUS[damage.status]
    return out


def complete_to(found: Mapping[str, np.ndarray], steps: Iterable[int]) -> int:
    """Lead time (h) up to which every expected field is there; -1 when not even the first step is."""
    last = -1
    for at, step in enumerate(steps):
        if not all(np.isin(values[at], USABLE).all() for values in found.values()):
            break
        last = step
    return last


def key(recipe: str, scope: str) -> str:
    """Where the statuses of a run lie in the lake."""
    return f"verdicts/{recipe}/{scope}/status.npz"


def to_bytes(found: Mapping[str, np.ndarray]) -> bytes:
    """Statuses as a compressed ``.npz``."""
    sink = io.BytesIO()
    np.savez_compressed(sink, **found)  # type: ignore[arg-type]
    return sink.getvalue()


def load(context: Context[ForecastRecipe], scope: str) -> dict[str, np.ndarray]:
    """The statuses that validation left for a run; empty when there are none."""
    try:
        data = context.lake.objects.get(key(context.recipe.name, scope))
    except NotFound:
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
