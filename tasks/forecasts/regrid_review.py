"""The judgement on a regridded run, from the tallies of all its blocks, and on whether every shard is there."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..grids.weights import Weights
from ..lake.cubes import Cube
from ..lake.partition import Output
from ..lake.run_axis import FIELD_STATUS
from .postcheck import Subject, Tally, judge
from .products import Amount, Rate, RelativeHumidity, Statistic, WindDirection, WindSpeed
from .recipe import ForecastRecipe
from .regrid_plan import Item
from .regrid_target import Target
from .regrid_template import blocks
from .runs import lead_times, parse_run, steps_of

_NO_LIMITS = (None, None)


def judged(
    target: Target, recipe: ForecastRecipe, weights: Weights, tallies: Mapping[str, Tally]
) -> tuple[list[str], dict[str, Any]]:
    """Sentences about what is wrong with a grid's arrays, and the numbers they were judged by."""
    area = float(np.sum(weights.area_a * weights.frac_a)) if weights.area_a is not None else np.nan
    average = bool(weights.matrix.data.min() >= 0) and float(weights.row_sums.max()) <= 1 + 1e-9
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for group in target.groups:
        for item in group.items:
            root = item.product is None or item.roots == (item.product.name,)
            for statistic in (None, *item.statistics):
                name = item.name if statistic is None else f"{item.name}_{statistic.suffix}"
                tally, array = tallies[name], target.structure.arrays[name]
                dims = array.dims[: len(array.dims) - len(target.grid.shape)]
                subject = Subject(
                    name,
                    {d: target.structure.coordinates[d][1].tolist() for d in dims},
                    _limits(item, statistic),
                    str(array.attributes.get("units", "")),
                )
                own = root and statistic is None
                mean = own and target.spec.method == "conservative" and not np.isnan(area)
                within = own and average and weights.is_normal
                problems += [
                    f"{target.spec.name}: {sentence}"
                    for sentence in judge(
                        subject, tally, mean=mean, bounded=within, area=area, conservation=recipe.regrid.conservation
                    )
                ]
                numbers[name] = _numbers(tally, area if mean else None)
    return problems, numbers


def gaps(recipe: ForecastRecipe, scope: str, target: Target, tallies: Mapping[str, Tally]) -> list[str]:
    """Sentences about lead times at which a rate or amount has no value, though the run should have one."""
    leads = lead_times(recipe)
    there = set(steps_of(recipe, parse_run(scope)))
    found = []
    for item in (i for group in target.groups for i in group.items):
        if not isinstance(item.product, Rate | Amount):
            continue
        of, window = item.roots[0], item.product.window
        left_out = {s for v in recipe.select.variables if v.name == of for s in v.not_at}
        first = leads[0] if window is None else window - 1
        nothing = np.isnan(tallies[item.name]["low"]).reshape(len(leads), -1).any(axis=1)
        steps = [h for h, gone in zip(leads, nothing, strict=True) if gone and h > first and h in there - left_out]
        if steps:
            said = ", ".join(map(str, steps[:8])) + (", ..." if len(steps) > 8 else "")
            found.append(
                f"{target.spec.name}: {item.name} has no value at step {said}: {of} lacks a field that its window needs"
            )
    return found


def statuses(tallies: Mapping[str, Tally]) -> dict[str, np.ndarray]:
    """Array -> int8 per field: ``present`` where it has a value; what has none stays ``unknown`` (no window is over at
    the first lead time, say)."""
    there, not_there = FIELD_STATUS["present"], FIELD_STATUS["unknown"]
    return {name: np.where(np.isnan(t["low"]), not_there, there).astype("int8") for name, t in tallies.items()}


def incomplete(cube: Cube, target: Target, scope: str, shards: Sequence[Output]) -> list[str]:
    """Shards of the run that are not on its branch, or that no partition says it wrote."""
    written = {s.uri for s in shards}
    names = {uri.split("/", 1)[0] for uri in written}
    many = sum(len(blocks(target.grid.shape, target.block(g))) * len(g.arrays) for g in target.groups)
    lacking = sorted({a for g in target.groups for a in g.arrays} - names)
    if lacking or len(written) != many:
        what = f"nothing was written of {lacking[0]}" if lacking else f"{len(written)} of {many} blocks were written"
        return [f"{target.spec.name}: {what}"]
    store = cube.store(f"run/{scope}")

    async def gone() -> list[str]:
        there = await asyncio.gather(*(store.exists(uri) for uri in written))
        return sorted(uri for uri, found in zip(written, there, strict=True) if not found)

    return [f"{target.spec.name}: the block {uri} is not in the cube" for uri in asyncio.run(gone())[:1]]


def _limits(item: Item, statistic: Statistic | None) -> tuple[float | None, float | None]:
    """What values of an array can be whatever the weather."""
    if statistic is not None:
        if statistic.kind in ("above", "below"):
            return (0.0, 1.0)
        if statistic.kind == "std":
            return (0.0, None)
    product = item.product
    plain = product is not None and product.units is None
    if isinstance(product, WindSpeed) and (plain or statistic is None):
        return (0.0, None)
    if isinstance(product, WindDirection) and plain:
        return (0.0, 360.0)
    if isinstance(product, RelativeHumidity) and plain:
        return (0.0, 100.001)
    return _NO_LIMITS


def _numbers(tally: Tally, area: float | None) -> dict[str, Any]:
    """Lowest and highest value, the most gaps of a field, and the largest change of a mean."""
    found: dict[str, Any] = {
        "low": float(np.fmin.reduce(tally["low"], axis=None)),
        "high": float(np.fmax.reduce(tally["high"], axis=None)),
        "most_missing": int(tally["missing"].max()),
    }
    if area is not None:
        change = np.abs(tally["total"] - tally["source_total"]) / area
        found["mean_changed_by"] = float(np.fmax.reduce(change, axis=None))
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in found.items()}
