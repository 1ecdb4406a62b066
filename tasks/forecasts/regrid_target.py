"""A target grid of a recipe with what follows from it: cube, groups, sizes, weights, and the parts of blocks."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from ..grids.grid import Grid, from_spec
from ..grids.request import Request
from ..grids.store import read
from ..grids.vectors import angle
from ..lake.cube_template import CubeTemplate
from ..lake.errors import UsageError
from .products import TargetGrid
from .recipe import ForecastRecipe
from .regrid_block import Part
from .regrid_plan import Group, Size, groups
from .regrid_template import block_shape, outer_shape, place, regridded_path, regridded_template
from .template import Template, ordered
from .winds import turned

_NNZ = {"conservative": 2.0, "bilinear": 4.0, "nearest": 1.0}
"""Entries of a weight matrix per cell of the grids (of the target; conservative: of both), as a projection."""


@dataclass(frozen=True)
class Target:
    """A target grid and its cube. ``groups`` is what the cube holds, by what is made together."""

    spec: TargetGrid
    structure: CubeTemplate
    grid: Grid
    path: str
    groups: tuple[Group, ...]

    def group(self, name: object) -> Group:
        """A group by its name."""
        return next(g for g in self.groups if g.name == name)

    def fields(self, group: Group) -> tuple[int, ...]:
        """Shape of the group's variables without their horizontal dimensions."""
        return outer_shape(self.structure.arrays[group.items[0].name], self.grid)

    def block(self, group: Group) -> tuple[int, ...]:
        """Cells of a block of this group along each horizontal dimension."""
        return block_shape(self.spec, self.grid.shape, prod(self.fields(group)))

    def size(self, source: Grid, refined: CubeTemplate, group: Group) -> Size:
        """What the memory of the group's partitions follows from."""
        fields = self.fields(group)
        dims = self.structure.arrays[group.items[0].name].dims
        block = prod(min(b, n) for b, n in zip(self.block(group), self.grid.shape, strict=True))
        cells = self.grid.size + (source.size if self.spec.method == "conservative" else 0)
        weights = int(12 * _NNZ.get(self.spec.method, 9.0) * cells)
        return Size(
            leads=fields[0],
            row=max(refined.arrays[name].chunks[0] for name in group.variables),
            fields=prod(fields),
            source=source.size,
            block=block,
            members=fields[dims.index("member")] if "member" in dims else 1,
            weights=weights,
        )


def target_of(template: Template, recipe: ForecastRecipe, spec: TargetGrid) -> Target:
    """A target grid of a recipe. Raises ``UsageError`` where things to be made together differ in their dimensions."""
    structure = regridded_template(template, recipe, spec)
    target = Target(
        spec,
        structure,
        grid_of(spec),
        regridded_path(recipe, spec, structure),
        tuple(groups(recipe, spec, turned(template, recipe))),
    )
    source = template.cube(recipe).arrays
    for group in target.groups:
        for item in group.items:
            shapes = {source[name].shape for name in item.variables}
            if len(shapes) > 1:
                raise UsageError(
                    f"{item.name} cannot be made of variables of different shapes",
                    expected="the same members and levels",
                    found=" and ".join(f"{n} {source[n].shape[:-2]}" for n in item.variables),
                )
    return target


def source_of(template: Template, recipe: ForecastRecipe) -> Grid:
    """The grid of the refined cube."""
    return ordered(template.grid, recipe)[0]


@lru_cache(maxsize=8)
def grid_of(spec: TargetGrid) -> Grid:
    """The target grid itself, worked out once."""
    return from_spec(spec)


def request_of(template: Template, recipe: ForecastRecipe, spec: TargetGrid) -> Request:
    """The weights that a target grid asks for; they lie under the request's key in the lake."""
    return Request(
        source=source_of(template, recipe),
        target=grid_of(spec),
        method=spec.method,
        backend=spec.backend,
        norm=spec.norm,
        pole=spec.pole,
        extrapolate=spec.extrapolate,
    )


@lru_cache(maxsize=4)
def _counted_by(lake: str, key: str, block: tuple[int, ...]) -> np.ndarray:
    """Number of the block that counts each source cell in the mean, the first that uses it: ``(n_a,)``, -1 for none.

    Every cell is counted once, though the windows of blocks overlap.
    """
    weights = read(lake, key)
    shape = weights.target_shape
    across = [np.arange(n) // b for n, b in zip(shape, block, strict=True)]
    many = [-(-n // b) for n, b in zip(shape, block, strict=True)]
    number = np.ravel_multi_index(np.ix_(*across), many).ravel()
    found = np.full(prod(weights.source_shape), -1, "int64")
    rows = np.repeat(number, np.diff(weights.matrix.indptr))
    # The last to be written stays, so from the end.
    found[weights.matrix.indices[::-1]] = rows[::-1]
    return found


@lru_cache(maxsize=8)
def part_of(lake: str, key: str, block: tuple[int, ...], number: tuple[int, ...]) -> Part:
    """The weights of a block, the window of the source they need, and what its mean is counted with."""
    weights = read(lake, key)
    shape = weights.target_shape
    part, window = weights.rows(*place(number, shape, block))
    if weights.area_a is None or weights.area_b is None or weights.frac_a is None or weights.frac_b is None:
        return Part(part, window)
    many = [-(-n // b) for n, b in zip(shape, block, strict=True)]
    mine = (_counted_by(lake, key, block) == np.ravel_multi_index(number, many)).reshape(weights.source_shape)[window]
    inside = place(number, shape, block)
    areas = weights.area_b * (weights.frac_b if weights.norm == "fracarea" else 1.0)
    area = (weights.area_a * weights.frac_a).reshape(weights.source_shape)[window]
    return Part(part, window, None, areas.reshape(shape)[inside].ravel(), np.where(mine, area, 0.0).ravel())


@lru_cache(maxsize=2)
def angles(source: Grid) -> np.ndarray:
    """Direction of a grid's x axis at its centres, radians, worked out once by a worker."""
    return angle(source)
