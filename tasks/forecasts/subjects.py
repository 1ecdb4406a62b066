"""A variable of a run's branch as the checks see it: read field by field, with what it should be beside what it is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ..checks.check import Form, Structure, Subject
from ..checks.order import partner_of
from ..lake.fork import fast_codecs
from ..lake.phase import Context
from ..lake.run_axis import FIELD_AXES, RUN_AXIS
from . import climatology
from .completeness import Places, present
from .messages import Messages
from .quarantine import Damage, rows_of
from .recipe import ForecastRecipe
from .runs import index_of, lead_times, parse_run, steps_of
from .selection import Variable
from .template import Template, refined_cube


class StoredValues:
    """The fields of a variable in a branch, read a row of chunks at a time when asked for (see `check.Values`).

    ``steps`` are the positions along the stored lead_time that count. Where a chunk holds several lead times, they are
    read together and kept until the next are asked for.
    """

    def __init__(self, array: Any, index: int, steps: Sequence[int]) -> None:
        self._array = array
        self._index = index
        self._steps = steps
        self._dims = tuple(array.metadata.dimension_names[1:])
        lengths = dict(zip(self._dims, array.shape[1:], strict=True))
        spatial = [n for d, n in lengths.items() if d not in FIELD_AXES]
        plane = [1] * (2 - len(spatial)) + spatial
        self.shape = (len(steps), lengths.get("member", 1), lengths.get("level", 1), *plane)
        self._rows = array.chunks[1 + self._dims.index("lead_time")]
        self._block: tuple[tuple[int, int, int], np.ndarray] | None = None

    def __getitem__(self, index: tuple[int, int, int]) -> np.ndarray:
        time, member, level = index
        block, row = divmod(self._steps[time], self._rows)
        if self._block is None or self._block[0] != (block, member, level):
            at = {"lead_time": slice(block * self._rows, (block + 1) * self._rows), "member": member, "level": level}
            where = tuple(at.get(d, slice(None)) for d in self._dims)
            self._block = ((block, member, level), np.asarray(self._array[(self._index, *where)]))
        values = self._block[1][row]
        return values if values.ndim == 2 else values.reshape(self.shape[3:])


def groups(recipe: ForecastRecipe, template: Template) -> list[tuple[str, ...]]:
    """The variables of a recipe, those together that are compared with each other and so read in step."""
    names = {v.name: _names(v, template) for v in recipe.select.variables}
    arrays = template.cube(recipe).arrays
    shapes = {v.name: (arrays[v.name].dims, arrays[v.name].shape, v.not_at) for v in recipe.select.variables}
    group_of = {name: {name} for name in names}
    for name in names:
        other = partner_of(names, name)
        if other is not None and shapes[name] == shapes[other]:
            together = group_of[name] | group_of[other]
            for member in together:
                group_of[member] = together
    found = dict.fromkeys(tuple(n for n in names if n in group_of[name]) for name in names)
    return list(found)


def _names(variable: Variable, template: Template) -> set[str]:
    return {variable.name.lower(), variable.param.lower(), template.variables[variable.name].short_name.lower()}


def subjects(
    context: Context[ForecastRecipe], template: Template, rows: pa.Table, scope: str, names: Sequence[str],
    damaged: Sequence[Damage] = (),
) -> list[Subject]:  # fmt: skip
    """The named variables of a run's branch; their lead times are the same, so they can be read in step.

    ``rows`` is the manifest of the run; what of it is ``damaged`` counts as absent.
    """
    recipe = context.recipe
    cube = refined_cube(context, template.cube(recipe))
    with fast_codecs():
        group = cube.group(f"run/{scope}")
    wanted = [v for v in recipe.select.variables if v.name in names]
    produced = steps_of(recipe, parse_run(scope))
    # What the model does not produce at a step is no fault of the run: those steps are left out.
    steps = [i for i, s in enumerate(lead_times(recipe)) if s in produced and any(s not in v.not_at for v in wanted)]
    absent = {v.name: [d for d in damaged if d.variable == v.name] for v in wanted}
    made = {v.name: _subject(context, template, group, rows, scope, v, steps, absent[v.name]) for v in wanted}
    known = {v.name: _names(v, template) for v in wanted}
    for name in made:
        other = partner_of(known, name)
        if other is not None:
            made[name] = replace(made[name], partner=made[other])
    return _with_final_partners(list(made.values()))


def _with_final_partners(found: list[Subject]) -> list[Subject]:
    """Partners as the subjects that are handed out, not as they were before they got partners themselves."""
    by_name = {s.name: s for s in found}
    order = sorted(found, key=lambda s: s.partner is not None)
    for subject in order:
        if subject.partner is not None:
            by_name[subject.name] = replace(subject, partner=by_name[subject.partner.name])
    return [by_name[s.name] for s in found]


def _subject(
    context: Context[ForecastRecipe], template: Template, group: Any, rows: pa.Table, scope: str, variable: Variable,
    steps: Sequence[int], damaged: Sequence[Damage],
) -> Subject:  # fmt: skip
    recipe, name = context.recipe, variable.name
    structure = template.cube(recipe)
    expected = structure.arrays[name]
    index = index_of(recipe, parse_run(scope))
    mine = rows_of(rows, name)
    there = present(mine, recipe, variable)
    for damage in damaged:
        there[Places(recipe, variable).of(damage.lead_time, damage.member, damage.level)] = False
    leads = np.asarray(structure.lead_time)[steps]
    latitude, longitude = (np.asarray(group[n][...]) for n in ("latitude", "longitude"))
    member = np.asarray(recipe.select.members) if recipe.select.members is not None else None
    level = np.asarray(variable.levels) if "level" in expected.dims else None
    subject = Subject(
        name=name,
        units=template.variables[name].units,
        window=variable.window or template.variables[name].step_type,
        values=StoredValues(group[name], index, steps),
        present=there[steps],
        lead_time=leads,
        member=member,
        level=level,
        latitude=latitude,
        longitude=longitude,
        attributes={**expected.attributes, **_level_of(variable)},
        window_start=_window_starts(mine, structure.lead_time)[steps],
        structure=_structure(group, structure, name, scope, index, steps),
        origin=Messages(
            context,
            _by_index(mine, recipe, variable, steps),
            latitude,
            longitude,
            expected.attributes.get("keep_bits"),
            step=variable.packed.step if variable.packed else 0.0,
        ),
        climate=climatology.load(context, scope, name, leads, () if level is None else level.tolist()),
    )
    return replace(subject, units=str(group[name].attrs.get("units", subject.units)))


def _structure(group: Any, structure: Any, name: str, scope: str, index: int, steps: Sequence[int]) -> Structure:
    array, expected = group[name], structure.arrays[name]
    axes = {
        axis: (np.asarray(group[axis][...], float), np.asarray(structure.coordinates[axis][1], float))
        for axis in ("latitude", "longitude", *expected.dims)
        if axis in structure.coordinates and axis in group
    }
    stored = Form(
        str(array.dtype), tuple(array.metadata.dimension_names[1:]), tuple(array.shape[1:]),
        str(array.attrs.get("units", "")),
    )  # fmt: skip
    wanted = Form(expected.dtype, expected.dims, expected.shape, str(expected.attributes.get("units", "")))
    run: datetime = parse_run(scope)
    return Structure(
        stored=stored,
        expected=wanted,
        axes=axes,
        run=int(run.astimezone(UTC).timestamp()),
        init_time=int(group[RUN_AXIS][index]),
        valid_time=np.asarray(group["valid_time"][index])[list(steps)],
    )


def _by_index(rows: pa.Table, recipe: ForecastRecipe, variable: Variable, steps: Sequence[int]) -> dict[Any, Any]:
    """Rows of the manifest by position in the subject."""
    places = Places(recipe, variable)
    among = {stored: at for at, stored in enumerate(steps)}
    found = {}
    for row in rows.to_pylist():
        time, member, level = places.of(int(row["lead_time"].total_seconds() // 3600), row["member"], row["level"])
        if time in among:
            found[among[time], member, level] = row
    return found


def _level_of(variable: Variable) -> dict[str, float]:
    """The level of a variable that has just one and so no level dimension, for the checks' table of ranges."""
    return {"level": variable.levels[0]} if len(variable.levels) == 1 else {}


def _window_starts(rows: pa.Table, leads: Sequence[int]) -> np.ndarray:
    """Hour at which the window of each lead time begins (lead_time,); 0 for instant fields."""
    starts = np.zeros(len(leads), "int64")
    for lead, start in zip(rows["lead_time"].to_pylist(), rows["window_start"].to_pylist(), strict=True):
        if start is not None:
            starts[leads.index(int(lead.total_seconds() // 3600))] = int(start.total_seconds() // 3600)
    return starts
