"""One block of a target grid: read the window of the source it needs, regrid, and make everything that follows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product as combinations

import numpy as np

from ..checks.conversion import conversion
from ..grids.apply import apply
from ..grids.vectors import earth_relative
from ..grids.weights import Weights
from ..lake.errors import UsageError
from . import derived
from .deaccumulate import Span, gains, take_apart
from .ensemble import statistics
from .postcheck import Tally
from .products import Amount, DewPoint, Product, Rate, RelativeHumidity, WindDirection, WindSpeed
from .regrid_plan import Group, Item, roots_of
from .regrid_template import product_units

type Fields = dict[str, np.ndarray]
type Read = Callable[[str, tuple[slice | int, ...]], np.ndarray]
"""Values of a source variable at lead times (a slice), member and level, in the block's window: (leads, *window)."""

_SAME_AREA = 1e-12
"""Share by which the areas of cells of one row may differ by rounding."""


@dataclass(frozen=True)
class Part:
    """The weights of a block and what belongs to them.

    ``window`` is the part of the source they apply to; ``angle`` that of its grid's x axis there (None: not needed).
    ``areas`` (of the block) and ``source_areas`` (of the window, 0 for cells that another block counts) are steradians,
    float64 and flat, None where the method does not conserve.
    """

    weights: Weights
    window: tuple[slice, ...]
    angle: np.ndarray | None = None
    areas: np.ndarray | None = None
    source_areas: np.ndarray | None = None

    @cached_property
    def covered(self) -> int:
        """Cells of the block that see the source."""
        return int(np.count_nonzero(~self.weights.empty))

    @cached_property
    def _row_areas(self) -> np.ndarray | None:
        """Source areas by row, where all cells of a row have the same: then a sum reads half as much memory."""
        if self.source_areas is None:
            return None
        areas = self.source_areas.reshape(self.weights.source_shape)
        low, high = areas.min(axis=-1), areas.max(axis=-1)
        return areas.mean(axis=-1) if np.all(high - low <= _SAME_AREA * high) else None

    def source_total(self, wide: np.ndarray) -> float:
        """Sum of a float64 field of the window times the source areas; NaN where the method does not conserve."""
        if self.source_areas is None:
            return np.nan
        # Not np.dot: BLAS would start threads of its own for it, which wait for work at full speed.
        if self._row_areas is None:
            return float(np.einsum("i,i->", self.source_areas, wide.ravel()))
        return float(np.sum(wide.sum(axis=-1) * self._row_areas))

    def total(self, out: np.ndarray) -> float:
        """Sum of a field of the block times its areas; NaN where the method does not conserve."""
        if self.areas is None:
            return np.nan
        seen = np.where(self.weights.empty, 0, out.ravel()) if self.weights.any_empty else out.ravel()
        return float(np.einsum("i,i->", self.areas, seen))


@dataclass(frozen=True)
class Known:
    """What the values of a variable are: units, kind of time window, whether it can only grow, and its windows."""

    units: str
    step_type: str = "instant"
    rising: bool = False
    windows: tuple[Span | None, ...] = ()


def make(
    group: Group, items: Sequence[Item], part: Part, read: Read, fields: tuple[int, ...], known: Mapping[str, Known],
    lead_time: Sequence[int], at_once: int, na_thres: float,
) -> Iterator[tuple[str, np.ndarray, Tally]]:  # fmt: skip
    """Arrays of these items, one after the other: name, float32 ``(*fields, *block)``, tally.

    ``fields`` is the shape of a variable without its horizontal dimensions: lead times first, then members
    (axis 1 where there are statistics) and levels. An
    array is the caller's until the next is asked for; roots stay in memory until the last.
    """
    roots, tallies = _regridded(group, items, part, read, fields, known, at_once, na_thres)
    for item in items:
        values, tally = _item(item, roots, tallies, known, lead_time, part, len(fields))
        yield item.name, values, tally
        if item.statistics:
            inside = tally["missing"].any(axis=1)
            outer = (fields[0], *fields[2:])
            for statistic, result in zip(item.statistics, statistics(values, item.statistics), strict=True):
                found = Tally.empty(outer)
                found.note(result, part.covered, len(outer))
                found["source_missing"][...] = inside
                yield f"{item.name}_{statistic.suffix}", result, found


def _regridded(
    group: Group, items: Sequence[Item], part: Part, read: Read, fields: tuple[int, ...], known: Mapping[str, Known],
    at_once: int, na_thres: float,
) -> tuple[Fields, dict[str, Tally]]:  # fmt: skip
    """The roots of these items on the block: each piece of the source is read once, one ahead of the work."""
    made = {i.product.name: i.product for i in items if i.product is not None and i.roots == (i.product.name,)}
    wanted = roots_of(items)
    needed = {n for root in wanted for n in (made[root].of_variables if root in made else (root,))}
    needed |= {n for pair in group.turned if set(pair) & needed for n in pair}
    variables = [n for n in group.variables if n in needed]
    roots = {name: np.empty((*fields, *part.weights.target_shape), "float32") for name in wanted}
    tallies = {name: Tally.empty(fields) for name in wanted}

    # Written over for every field: the first touch of fresh memory costs more than the sums.
    wide = np.empty(part.weights.source_shape)

    def fetch(piece: tuple[slice | int, ...]) -> Fields:
        return {name: read(name, piece) for name in variables}

    places = list(_pieces(fields, at_once))
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        coming = reader.submit(fetch, places[0])
        for number, place in enumerate(places):
            source = coming.result()
            if number + 1 < len(places):
                coming = reader.submit(fetch, places[number + 1])
            for u, v in group.turned:
                if u in source and part.angle is not None:
                    source[u], source[v] = earth_relative(source[u], source[v], part.angle)
            for name in wanted:
                values = before(made[name], source, known) if name in made else source[name]
                start = place[0].start if isinstance(place[0], slice) else 0
                for offset, field in enumerate(values):
                    at = (start + offset, *place[1:])
                    _one(field, wide, roots[name][at], tallies[name].values[(slice(None), *at)], part, na_thres)
    return roots, tallies


def _one(field: np.ndarray, wide: np.ndarray, out: np.ndarray, row: np.ndarray, part: Part, na_thres: float) -> None:
    """Regrid one field into its place and note its numbers, in the order of `postcheck.ROWS`."""
    low, high = float(field.min()), float(field.max())
    gaps = bool(np.isnan(low))
    missing = 0
    if gaps:
        low, high = float(np.fmin.reduce(field, axis=None)), float(np.fmax.reduce(field, axis=None))
        missing = int(np.count_nonzero(np.isnan(field)))
    wide[...] = field
    # Before the product, while the field is in the cache.
    source_total = np.nan if gaps else part.source_total(wide)
    apply(part.weights, wide, skipna=gaps, na_thres=na_thres, out=out)
    total = np.nan if gaps else part.total(out)
    lost = np.count_nonzero(np.isnan(out)) - (out.size - part.covered)
    lowest, highest = float(np.fmin.reduce(out, axis=None)), float(np.fmax.reduce(out, axis=None))
    row[:] = (lowest, highest, lost, total, low, high, missing, source_total, np.nan)


def _pieces(fields: tuple[int, ...], at_once: int) -> Iterator[tuple[slice | int, ...]]:
    """Places of pieces that together are all fields: some lead times of one member and level."""
    leads = [slice(i, min(i + at_once, fields[0])) for i in range(0, fields[0], at_once)]
    for rest in combinations(*(range(n) for n in fields[1:])):
        for lead in leads:
            yield (lead, *rest)


def before(product: Product, source: Mapping[str, np.ndarray], known: Mapping[str, Known]) -> np.ndarray:
    """A product that is made on the source's grid, in its own units: it is not linear in what it is made of."""

    def in_units(name: str, units: str) -> np.ndarray:
        return converted(source[name], known[name].units, units)

    match product:
        case WindSpeed():
            return derived.wind_speed(source[product.u], source[product.v])
        case RelativeHumidity():
            return derived.relative_humidity(in_units(product.temperature, "K"), in_units(product.dew_point, "K"))
        case DewPoint():
            return derived.dew_point(in_units(product.temperature, "K"), in_units(product.relative_humidity, "%"))
    raise UsageError(f"product {product.name} is not made on the source's grid")


def _item(
    item: Item, roots: Fields, tallies: Mapping[str, Tally], known: Mapping[str, Known], lead_time: Sequence[int],
    part: Part, dims: int,
) -> tuple[np.ndarray, Tally]:  # fmt: skip
    """An item's own array from the regridded fields."""
    product, of = item.product, item.roots[0]
    if product is None:
        return roots[of], tallies[of]
    tally = Tally.empty(roots[of].shape[:dims])
    missing = np.sum([tallies[r]["source_missing"] for r in item.roots], axis=0)
    own = known[item.variables[0]].units
    match product:
        case WindDirection():
            u, v = (roots[name] for name in item.roots)
            values, own = np.empty_like(u), "degree"
            for lead, direction in enumerate(values):
                direction[...] = derived.wind_direction(u[lead], v[lead])
            missing = np.nan  # calm air has no direction
        case Rate() | Amount():
            values, missing = _taken_apart(product, roots[of], known[of], lead_time, missing, tally)
            own = product_units(product, own, known[of].step_type)
        case RelativeHumidity():
            values, own = roots[of], "%"
        case DewPoint():
            values, own = roots[of], "K"
        case _:
            values = roots[of]
    if product.units is not None:
        values = converted(values, own, product.units)
    tally.note(values, part.covered, dims)
    if of == product.name and values is roots[of]:
        return values, tallies[of]
    tally["source_missing"][...] = missing
    return values, tally


def _taken_apart(
    product: Rate | Amount,
    fields: np.ndarray,
    known: Known,
    lead_time: Sequence[int],
    missing: np.ndarray,
    tally: Tally,
) -> tuple[np.ndarray, np.ndarray]:
    """The values, and 0 for each of their fields that can have no gaps: its window is known, and all it is made of
    is there."""
    values, fallen = take_apart(
        fields, lead_time, known.windows, hours=product.window, mean=known.step_type == "avg",
        per_second=isinstance(product, Rate), rising=known.rising,
    )  # fmt: skip
    incomplete = np.ones_like(missing)
    for at, gain in enumerate(gains(lead_time, known.windows, product.window)):
        if gain is not None and gain.terms is not None:
            incomplete[at] = sum(missing[t] for t, _ in gain.terms) + fallen[at]
    tally["fallen"][...] = 0
    # Counted over members and levels together: one of them is enough to hold the run.
    tally["fallen"][(slice(None), *(0,) * (tally["fallen"].ndim - 1))] = fallen
    return values, incomplete


def converted(values: np.ndarray, units: str, to: str) -> np.ndarray:
    """Values in other units, float32; themselves when the units are the same. Raises ``UsageError``."""
    factor, offset = conversion(units, to)
    if (factor, offset) == (1.0, 0.0):
        return values
    result = np.empty(values.shape, "float32")
    for given, made in zip(values, result, strict=True):
        # In float64: 273.15 K less 273.15 is to be 0. Field by field: no more than one is wide at once.
        made[...] = given * np.float64(factor) + offset
    return result
