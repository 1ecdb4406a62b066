"""The static part of a forecast cube, learnt from the headers of one run and kept in the lake.

What does not change from run to run - grid, names, units, packing - is read from the header of one message per
variable and stored under ``templates/<recipe>/<digest>/v<version>``: a JSON with the headers; as the grid's
description, one message without its data; and what the runs of each of the provider's eras hold (`contents`).
``current.json`` names the version in use. Later runs are held against it (`drift`); learning again makes another
version, and no version is ever changed.
"""

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..grids.from_grib import from_grib
from ..grids.grid import Grid
from ..grids.order import Order
from ..lake.cube_template import ArrayTemplate, CubeTemplate
from ..lake.cubes import Cube
from ..lake.errors import ConflictError, CorruptInput, NotFound, UsageError
from ..lake.lake import Lake
from ..lake.partition import digest_json
from ..lake.phase import Context
from . import decode
from .archive import Archive
from .crop import cropped
from .message import cut, without_data
from .recipe import ForecastRecipe
from .rounding import MANTISSA, by_unit
from .runs import lead_times
from .selection import Variable

_SHARD_BYTES = 384 * 2**20
_CURRENT = "current.json"
_HEADERS = 16
_INDENT = orjson.OPT_INDENT_2
_HEADER_BYTES = 16 * 1024
"""First bytes of a message that hold its header, unless it has a bitmap or a long list of row lengths."""

CELL_METHODS = {
    "accum": "lead_time: sum",
    "avg": "lead_time: mean",
    "max": "lead_time: maximum",
    "min": "lead_time: minimum",
}
"""CF cell_methods by kind of window; the window itself is in ``step_type`` and ``comment``."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What one message says of its variable."""

    short_name: str
    cf_name: str
    long_name: str
    units: str
    type_of_level: str
    step_type: str
    packing_type: str


@dataclass(frozen=True)
class Template:
    """Headers per variable and the message that describes the grid."""

    variables: Mapping[str, Learnt]
    message: bytes
    structures: dict[tuple[str, str], CubeTemplate] = field(default_factory=dict, compare=False, repr=False)
    """(recipe's digest, zone) -> structure of the zone's cube, as far as asked for: worked out once."""

    @cached_property
    def grid(self) -> Grid:
        """The source's grid, in the order the messages hold their values."""
        return from_grib(self.message)

    def cube(self, recipe: ForecastRecipe) -> CubeTemplate:
        """The refined cube's structure; worked out once per recipe."""
        key = (recipe.digest, "refined")
        if key not in self.structures:
            self.structures[key] = self._cube(recipe)
        return self.structures[key]

    def _cube(self, recipe: ForecastRecipe) -> CubeTemplate:
        grid, _ = ordered(self.grid, recipe)
        coordinates = {name: (dims, np.asarray(v), attrs) for name, (dims, v, attrs) in grid.coordinates().items()}
        leads = lead_times(recipe)
        coordinates["lead_time"] = (
            ("lead_time",),
            np.asarray(leads, dtype="int64"),
            {
                "standard_name": "forecast_period",
                "long_name": "time since initialisation",
                "units": "hours",
                "dtype": "timedelta64[ns]",
            },
        )
        members = recipe.select.members
        if members is not None:
            coordinates["member"] = (
                ("member",),
                np.asarray(members, dtype="int16"),
                {"standard_name": "realization", "long_name": "ensemble member (0 is the control)", "units": "1"},
            )
        levels = level_axis(recipe)
        if levels:
            coordinates["level"] = (("level",), np.asarray(levels, dtype="float64"), _level_attributes(self, recipe))
        arrays = {v.name: self._array(v, recipe, grid, len(leads)) for v in recipe.select.variables}
        attributes = {
            "title": recipe.title or recipe.name,
            "source": recipe.description,
            "attribution": recipe.attribution,
        }
        return CubeTemplate(
            start=recipe.runs.start, interval=recipe.runs.interval, lead_time=leads, coordinates=coordinates,
            arrays=arrays, attributes={k: v for k, v in attributes.items() if v},
        )  # fmt: skip

    def _array(self, variable: Variable, recipe: ForecastRecipe, grid: Grid, steps: int) -> ArrayTemplate:
        dims, shape = ["lead_time"], [steps]
        if recipe.select.members is not None:
            dims, shape = [*dims, "member"], [*shape, len(recipe.select.members)]
        if len(variable.levels) > 1:
            dims, shape = [*dims, "level"], [*shape, len(variable.levels)]
        outer = len(shape)
        dims, shape = [*dims, *grid.dims], [*shape, *grid.shape]
        side = recipe.layout.chunk
        chunks = [1] * outer + [min(side, n) if side else n for n in grid.shape]
        # A shard is what one task writes: all steps of one member, and of all its levels when that fits.
        shards = [steps] + [1] * (outer - 1) + [_up(n, c) for n, c in zip(grid.shape, chunks[outer:], strict=True)]
        if "level" in dims and 4 * steps * len(variable.levels) * grid.size <= _SHARD_BYTES:
            shards[dims.index("level")] = len(variable.levels)
        learnt = self.variables[variable.name]
        attributes = {
            "units": learnt.units,
            "long_name": variable.long_name or learnt.long_name,
            "standard_name": variable.standard_name,
            "short_name": learnt.short_name,
            "step_type": learnt.step_type,
            "cell_methods": CELL_METHODS.get(variable.window or learnt.step_type, ""),
            "level_type": learnt.type_of_level,
            "grid_mapping": "spatial_ref",
            "coordinates": "latitude longitude" if "latitude" not in grid.dims else "",
            "keep_bits": kept_bits(variable, learnt, recipe),
        }
        return ArrayTemplate(
            dims=tuple(dims),
            shape=tuple(shape),
            chunks=tuple(chunks),
            shards=tuple(shards),
            attributes={k: v for k, v in attributes.items() if v not in ("", None)},
            level=recipe.layout.compression_level,
            packing=None if variable.packed is None else (variable.packed.offset, variable.packed.step),
        )


def kept_bits(variable: Variable, learnt: Learnt, recipe: ForecastRecipe) -> int | None:
    """Mantissa bits that are kept of a variable; None keeps all."""
    if variable.packed is not None:
        return None
    if variable.keep_bits is not None:
        return variable.keep_bits if variable.keep_bits < MANTISSA else None
    return by_unit(learnt.units, learnt.short_name) if recipe.layout.rounding == "by-unit" else None


def ordered(grid: Grid, recipe: ForecastRecipe) -> tuple[Grid, Order]:
    """The grid as the recipe asks for it, in order and extent, and what brings a field there."""
    found, order = grid.reorder(longitude=recipe.layout.longitude, latitude=recipe.layout.latitude)
    return (found, order) if recipe.select.bbox is None else cropped(found, order, recipe.select.bbox)


def level_axis(recipe: ForecastRecipe) -> tuple[float, ...]:
    """Levels of the cube's level dimension, empty without one. All variables with levels share them."""
    axes = {v.levels for v in recipe.select.variables if len(v.levels) > 1}
    if len(axes) > 1:
        raise UsageError(
            f"the variables of {recipe.name} have different levels",
            expected="the same levels for all",
            found=sorted(axes),
        )
    return next(iter(axes), ())


def load(context: Context[ForecastRecipe], rows: pa.Table | None = None) -> Template:
    """The recipe's template from the lake, or learnt from the messages of ``rows`` (read-only: not stored).

    Raises ``NotFound`` when there is none and no rows to learn from.
    """
    number = version(context)
    if number:
        return _stored(context.lake.url, f"{base(context.recipe)}/v{number}")
    if rows is None:
        raise NotFound(f"nothing was ingested of {context.recipe.name} yet")
    return learn(context, rows)


def version(context: Context[ForecastRecipe]) -> int:
    """Version of the template in use; 0 when there is none."""
    try:
        return int(orjson.loads(context.lake.objects.get(f"{base(context.recipe)}/{_CURRENT}"))["version"])
    except NotFound:
        return 0


def store(context: Context[ForecastRecipe], template: Template, learnt_from: str) -> int:
    """Keep a template as the version after the one in use, and put it into use; its number.

    Safe when two do it at once: the first one's stands. ``learnt_from`` is the run (``2026-11-20T00``).
    """
    number = version(context) + 1
    folder = f"{base(context.recipe)}/v{number}"
    headers = {
        "version": number,
        "learnt_from": learnt_from,
        "variables": {n: asdict(v) for n, v in template.variables.items()},
    }
    for name, data in (("grid.grib", template.message), ("headers.json", orjson.dumps(headers, option=_INDENT))):
        with contextlib.suppress(ConflictError):
            context.lake.objects.put_new(f"{folder}/{name}", data)
    # The pointer comes last: a version that is named is whole.
    context.lake.objects.put(f"{base(context.recipe)}/{_CURRENT}", orjson.dumps({"version": number}))
    return number


@lru_cache(maxsize=8)
def _stored(lake: str, folder: str) -> Template:
    # A version does not change, and every partition of a worker asks for it.
    objects = Lake(lake).objects
    headers = orjson.loads(objects.get(f"{folder}/headers.json"))
    variables = {n: Learnt(**v) for n, v in headers["variables"].items()}
    return Template(variables, objects.get(f"{folder}/grid.grib"))


def learn(context: Context[ForecastRecipe], rows: pa.Table) -> Template:
    """Learn from the header of one message per variable, side by side, without their data.

    Raises ``UsageError`` where variables differ in grid or a unit is not the expected one, ``CorruptInput``
    where a variable has no message.
    """
    archive = Archive(context)
    variables: dict[str, Learnt] = {}
    grids: dict[str, str] = {}
    wanted = context.recipe.select.variables
    with ThreadPoolExecutor(min(_HEADERS, len(wanted))) as pool:
        headers = list(pool.map(lambda v: _header(archive, rows, v), wanted))
    for variable, (message, header) in zip(wanted, headers, strict=True):
        if variable.units is not None and header.units != variable.units:
            raise UsageError(f"{variable.name} has other units", expected=variable.units, found=header.units)
        variables[variable.name] = Learnt(
            short_name=header.short_name,
            cf_name=header.cf_name,
            long_name=header.name,
            units=header.units,
            type_of_level=header.type_of_level,
            step_type=header.step_type,
            packing_type=header.packing_type,
        )
        grids[from_grib(message).digest] = variable.name
    if len(grids) > 1:
        raise UsageError(
            "the selected variables lie on different grids", expected="one grid", found=", ".join(grids.values())
        )
    return Template(variables, headers[-1][0])


def _header(archive: Archive, rows: pa.Table, variable: Variable) -> tuple[bytes, decode.Header]:
    """A message of a variable, without its data where that can be, and its header."""
    found = rows.filter(pc.equal(rows["variable"].cast(pa.string()), variable.name))
    if not len(found):
        raise CorruptInput(f"the run has no field of {variable.name}")
    row = found.sort_by([("lead_time", "descending")]).slice(0, 1).to_pylist()[0]
    if row["sub"] == 0 and row["length"] > _HEADER_BYTES:
        start = without_data(archive.fetch(row["url"], row["offset"], _HEADER_BYTES))
        if start is not None:
            return start, decode.header(start)
    message = archive.fetch(row["url"], row["offset"], row["length"])
    decode.verify(message)
    # The grid is that of the field; a message of several is cut.
    message = bytes(cut(message, row["sub"]))
    return without_data(message) or message, decode.header(message)


def changed(before: Template, now: Template) -> list[str]:
    """How what a run's headers say differs from the template in use, a sentence each."""
    sentences = []
    for name, learnt in before.variables.items():
        found = now.variables.get(name)
        if found is not None:
            for what, old in asdict(learnt).items():
                if (new := getattr(found, what)) != old:
                    sentences.append(f"{name} has another {what}: {new} instead of {old}")
    if before.grid.digest != now.grid.digest:
        sentences.append(f"the grid is another one: {now.grid.shape} points instead of {before.grid.shape}")
    return sentences


def refined_path(recipe: ForecastRecipe, template: CubeTemplate) -> str:
    """Where the refined cube of this layout lies in the lake."""
    return f"cubes/{recipe.name}/refined/{template.digest.removeprefix('sha256:')[:12]}.icechunk"


def refined_cube(context: Context[ForecastRecipe], template: CubeTemplate) -> Cube:
    """The refined cube of this layout."""
    return context.lake.cube(refined_path(context.recipe, template))


def base(recipe: ForecastRecipe) -> str:
    """Where the versions of a recipe's template lie in the lake."""
    select = recipe.part("select")["select"]
    matched = ("name", "param", "level_type", "levels", "window", "units")
    part = [recipe.part("source"), [{k: v[k] for k in matched} for v in select["variables"]]]
    return f"templates/{recipe.name}/{digest_json(part).removeprefix('sha256:')[:12]}"


def _level_attributes(template: Template, recipe: ForecastRecipe) -> dict[str, str]:
    kinds = {template.variables[v.name].type_of_level for v in recipe.select.variables if len(v.levels) > 1}
    if kinds == {"isobaricInhPa"}:
        return {"standard_name": "air_pressure", "long_name": "pressure", "units": "hPa", "positive": "down"}
    return {"long_name": ", ".join(sorted(kinds)), "units": "1"}


def _up(n: int, chunk: int) -> int:
    return -(-n // chunk) * chunk
