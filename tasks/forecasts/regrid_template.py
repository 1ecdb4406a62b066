"""The cube of a target grid: its arrays, how they are laid out, and where it lies in the lake.

A chunk holds all lead times and members of a small tile, so that a point is one read. Chunks are bound to *blocks*
(shards) of `TargetGrid.shard_mb`; a block is what one partition writes.
"""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np

from ..grids.grid import Grid, from_spec
from ..lake.cube_template import ArrayTemplate, CubeTemplate
from ..lake.partition import digest_json
from .products import Amount, DewPoint, Product, Rate, RelativeHumidity, Statistic, TargetGrid, WindDirection, WindSpeed
from .recipe import ForecastRecipe
from .regrid_plan import Item, items
from .template import Template

_CHUNK_BYTES = 24 * 2**20
"""Largest chunk, uncompressed: above it every level gets a chunk of its own."""

_INTEGRAL = "integral_wrt_time_of_"
_RATES = {
    "lwe_thickness_of_precipitation_amount": "lwe_precipitation_rate",
    "precipitation_amount": "precipitation_flux",
}
"""CF standard names of what is accumulated -> of its rate."""

_KINDS: Mapping[type[Product], tuple[str, str, str, str]] = {
    WindSpeed: ("", "wind speed", "wind_speed", "sqrt(u**2 + v**2) on the source grid"),
    WindDirection: (
        "degree", "direction the wind comes from", "wind_from_direction",
        "from the regridded components; NaN where calm",
    ),
    RelativeHumidity: (
        "%", "relative humidity", "relative_humidity", "over water, Teten's formula (Buck 1981), on the source grid",
    ),
    DewPoint: (
        "K", "dew point temperature", "dew_point_temperature",
        "over water, Teten's formula (Buck 1981), on the source grid",
    ),
}  # fmt: skip
"""Units (those of the input when empty), long_name, standard_name and how it is made."""


def regridded_template(template: Template, recipe: ForecastRecipe, spec: TargetGrid) -> CubeTemplate:
    """Structure of a target grid's cube; worked out once per recipe."""
    key = (recipe.digest, spec.name)
    if key not in template.structures:
        template.structures[key] = _structure(template, recipe, spec)
    return template.structures[key]


def regridded_path(recipe: ForecastRecipe, spec: TargetGrid, target: CubeTemplate) -> str:
    """Where the cube of a target grid lies in the lake: another grid, method or layout is another cube."""
    part = spec.model_dump(mode="json", exclude={"name", "variables"})
    digest = digest_json([target.digest, part]).removeprefix("sha256:")[:12]
    return f"cubes/{recipe.name}/{spec.name}/{digest}.icechunk"


def block_shape(spec: TargetGrid, shape: tuple[int, ...], outer: int) -> tuple[int, ...]:
    """Cells of a block along each dimension of the target grid: whole tiles, at most `TargetGrid.shard_mb` together.

    ``outer`` is the number of fields. Whole rows of tiles while they fit, near squares otherwise, never less than
    a tile; blocks along a dimension are as equal as tiles allow.
    """
    tile = tile_shape(spec, shape)
    most = max(1, spec.shard_mb * 10**6 // (4 * outer * int(np.prod(tile))))
    tiles = [-(-n // t) for n, t in zip(shape, tile, strict=True)]
    if len(tiles) == 1:
        taken = [min(most, tiles[0])]
    elif most >= tiles[1]:
        taken = [min(most // tiles[1], tiles[0]), tiles[1]]
    else:
        rows = min(isqrt(most), tiles[0])
        taken = [rows, min(most // rows, tiles[1])]
    even = [-(-n // -(-n // k)) for n, k in zip(tiles, taken, strict=True)]
    return tuple(k * t for k, t in zip(even, tile, strict=True))


def tile_shape(spec: TargetGrid, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Cells of a chunk along each dimension; of a grid of points, as many as a tile has."""
    side = spec.tile if len(shape) > 1 else spec.tile**2
    return tuple(min(side, n) for n in shape)


def blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Numbers of all blocks of a grid, in order."""
    return list(np.ndindex(*(-(-n // b) for n, b in zip(shape, block, strict=True))))


def place(number: tuple[int, ...], shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[slice, ...]:
    """Where a block lies on its grid."""
    return tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(number, block, shape, strict=True))


def outer_shape(array: ArrayTemplate, grid: Grid) -> tuple[int, ...]:
    """Shape of an array without its horizontal dimensions: lead times, members, levels."""
    return array.shape[: len(array.shape) - len(grid.shape)]


def _structure(template: Template, recipe: ForecastRecipe, spec: TargetGrid) -> CubeTemplate:
    source = template.cube(recipe)
    grid = from_spec(spec)
    spatial = set(template.grid.dims) | {"latitude", "longitude", "spatial_ref"}
    coordinates = {n: c for n, c in source.coordinates.items() if n not in spatial}
    coordinates |= {n: (d, np.asarray(v), a) for n, (d, v, a) in grid.coordinates().items()}
    arrays: dict[str, ArrayTemplate] = {}
    for item in items(recipe, spec):
        of = source.arrays[item.variables[0]]
        attributes = _attributes(item, source, spec)
        arrays[item.name] = _array(of, len(template.grid.shape), grid, spec, attributes)
        for statistic in item.statistics:
            name = f"{item.name}_{statistic.suffix}"
            arrays[name] = _array(
                of, len(template.grid.shape), grid, spec, _of_members(statistic, attributes), reduced=True
            )
    return CubeTemplate(source.start, source.interval, source.lead_time, coordinates, arrays, source.attributes)


def _array(
    of: ArrayTemplate,
    spatial: int,
    grid: Grid,
    spec: TargetGrid,
    attributes: Mapping[str, Any],
    *,
    reduced: bool = False,
) -> ArrayTemplate:
    """An array of the target cube for one of the source; ``reduced``: over the members, in the same blocks."""
    dims, shape = of.dims[:-spatial], of.shape[:-spatial]
    block = block_shape(spec, grid.shape, int(np.prod(shape)))
    tile = tile_shape(spec, grid.shape)
    if reduced:
        shape = tuple(n for d, n in zip(dims, shape, strict=True) if d != "member")
        dims = tuple(d for d in dims if d != "member")
    by_level = 4 * int(np.prod(shape)) * int(np.prod(tile)) > _CHUNK_BYTES
    chunks = tuple(1 if d == "level" and by_level else n for d, n in zip(dims, shape, strict=True))
    if "latitude" not in grid.dims:
        attributes = {**attributes, "coordinates": "latitude longitude"}
    return ArrayTemplate(
        dims=(*dims, *grid.dims),
        shape=(*shape, *grid.shape),
        chunks=(*chunks, *tile),
        shards=(*shape, *block),
        attributes=attributes,
        level=of.level,
    )


def _attributes(item: Item, source: CubeTemplate, spec: TargetGrid) -> dict[str, Any]:
    """CF attributes of a variable or product; ``product`` says how it is made, and so what it must stay."""
    of = source.arrays[item.variables[0]].attributes
    found: dict[str, Any] = {k: v for k, v in of.items() if k not in ("coordinates", "keep_bits")}
    found["regrid_method"] = spec.method
    if spec.keep_bits is not None:
        found["keep_bits"] = spec.keep_bits
    product = item.product
    if product is None:
        return found
    # What a source says of its windows is not so any more.
    long_name = str(of.get("long_name", item.variables[0])).removesuffix(" since the start of the run")
    if type(product) in _KINDS:
        units, name, standard, how = _KINDS[type(product)]
        found |= {"units": units or of["units"], "long_name": name, "standard_name": standard, "comment": how}
        found.pop("short_name", None)
    if isinstance(product, Rate | Amount):
        rate = isinstance(product, Rate)
        over = "since the lead time before" if product.window is None else f"over the last {product.window} h"
        found |= {
            "units": product_units(product, str(of["units"]), str(of.get("step_type", "accum"))),
            "long_name": f"{'mean rate' if rate else 'amount'} {over}: {long_name}",
            "cell_methods": "lead_time: mean" if rate else "lead_time: sum",
            "step_type": "avg" if rate else "accum",
            "comment": "de-accumulated; NaN where a field of the window is missing",
        }
        standard = str(of.get("standard_name", ""))
        changed = _RATES.get(standard, standard.removeprefix(_INTEGRAL)) if rate else standard
        found["standard_name"] = changed if changed != standard or not rate else ""
        found.pop("short_name", None)
    if product.units is not None:
        found["units"] = product.units
    found["product"] = " ".join(f"{k}={v}" for k, v in product.model_dump(exclude_none=True, exclude={"name"}).items())
    return {k: v for k, v in found.items() if v != ""}


def product_units(product: Rate | Amount, units: str, step_type: str) -> str:
    """Units of a rate or amount before any conversion: those of the field, times or per second."""
    if step_type == "avg":
        return units if isinstance(product, Rate) else f"{units} s"
    if isinstance(product, Amount):
        return units
    return "W m-2" if units in ("J m**-2", "J m-2") else f"{units} s-1"


def _of_members(statistic: Statistic, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """CF attributes of a statistic over the members."""
    found = dict(attributes)
    name, units = str(attributes.get("long_name", "")), str(attributes.get("units", "1"))
    value = f"{statistic.value:g}"
    said, method = {
        "mean": ("ensemble mean", "mean"),
        "std": ("ensemble standard deviation", "standard_deviation"),
        "quantile": (f"ensemble quantile {value}", ""),
        "above": (f"share of members above {value} {units}", ""),
        "below": (f"share of members below {value} {units}", ""),
    }[statistic.kind]
    found["long_name"] = f"{said}: {name}" if name else said
    methods = [str(attributes.get("cell_methods", "")), f"member: {method}" if method else ""]
    found["cell_methods"] = " ".join(m for m in methods if m)
    if statistic.kind == "quantile":
        found["quantile"] = statistic.value
    if statistic.kind in ("above", "below"):
        found |= {"threshold": statistic.value, "threshold_units": units, "units": "1"}
        found.pop("standard_name", None)
    return {k: v for k, v in found.items() if v != ""}
