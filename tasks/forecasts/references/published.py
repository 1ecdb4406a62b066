"""Published reference files read, held against the provider's index of their run, and made anew where they are wrong.

What is known to be wrong with published files (URLs without ``.grib2``, pressure levels collapsed to one, references
and times of the template's date, the control lost) cannot be told right from inside the file. So everything that is
referred to comes from the index again; the file says which variables there are and what they are called.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

import eccodes
import numpy as np
import orjson
import pyarrow as pa

from ...grids.from_grib import from_grib
from ...lake.errors import CorruptInput, LakeError, UsageError
from ...lake.phase import Context
from .. import decode
from ..archive import Archive
from ..ecmwf_index import LEVEL_TYPES
from ..recipe import ForecastRecipe
from ..runs import parse_run, run_id
from .inventory import FieldKey, Inventory, read_inventory
from .reading import read_bytes, read_table
from .repairs import Repairs, Report
from .tree import Leaf, Tree, run_attributes

_FILE = re.compile(r"(?P<run>\d{10})z(?:-(?P<member>control|ens_?\d{1,2}))?\.par(?:quet)?$")
_STEP = re.compile(r"step_(\d+)/([^/]+)/([^/]+)(?:/([^/]+))?/(control|ens_?\d{1,2})/0\.0\.0")
_HEADERS = 16


@dataclass(frozen=True)
class Published:
    """A published file taken apart.

    ``fields`` are the references by step, as written: a level is None where the file names none. ``arrays`` maps the
    path of every data array of the Zarr tree to its attributes, ``chunks`` the path of an array to the URLs its chunks
    refer to, ``times`` are the seconds since 1970 that its ``time`` coordinates hold.
    """

    member: int | None
    fields: Mapping[FieldKey, tuple[str, int, int]]
    arrays: Mapping[str, Mapping[str, object]]
    chunks: Mapping[str, tuple[str, ...]]
    times: frozenset[int]


def load_published(
    place: str, context: Context[ForecastRecipe], scope: str, member: int | None = None
) -> tuple[pa.Table, Report]:
    """A published reference file with its defects repaired from the provider's index of run ``scope``, and a report.

    ``place`` is a path or URL; ``member`` (0 is the control) is taken from the file's name when not given. The table
    has the columns ``key`` and ``value`` of `tree.Tree.table`. Nothing is written.

    Raises ``UsageError`` when the file belongs to another run or says no member, ``CorruptInput`` when it is no
    reference file, ``NotThereYet`` or ``Unreachable`` when the provider has no index of the run at all.
    """
    recipe, run = context.recipe, parse_run(scope)
    named = _FILE.search(place.partition("?")[0])
    if named and datetime.strptime(named["run"], "%Y%m%d%H") != run.replace(tzinfo=None):
        raise UsageError(f"{place} belongs to another run", expected=run_id(run), found=named["run"])
    if member is None and named and named["member"]:
        member = _member(named["member"])
    published = parse(read_table(read_bytes(place), place), member)
    member = published.member
    if member is None and recipe.select.members is not None:
        raise UsageError(f"{place} does not say which member it is of; name it")
    archive = Archive(context)
    inventory = read_inventory(archive, run, member)
    report = Repairs(published, inventory, run).report()
    leaves = _leaves(archive, published, inventory, report)
    return _made(archive, recipe, run, member, inventory, leaves), report


def parse(table: pa.Table, member: int | None = None) -> Published:
    """A reference file (columns ``key``, ``value``) taken apart. Raises ``CorruptInput`` when it refers to nothing."""
    fields: dict[FieldKey, tuple[str, int, int]] = {}
    arrays: dict[str, dict[str, object]] = {}
    chunks: dict[str, list[str]] = {}
    members: dict[int, int] = {}
    times: set[int] = set()
    for key, value in zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True):
        reference = _reference(key, value)
        if step := _STEP.fullmatch(key):
            if reference is None:
                raise CorruptInput(f"{key} of the reference file refers to nothing", found=value[:80])
            of = _member(step[5])
            members[of] = members.get(of, 0) + 1
            level = None if step[4] is None else float(step[4])
            level_type = LEVEL_TYPES.get(step[3], step[3])
            fields[FieldKey(int(step[1]), step[2].partition(":")[0], level_type, level)] = reference
        elif reference is not None:
            chunks.setdefault(key.rpartition("/")[0], []).append(reference[0])
        elif key.endswith("/.zattrs"):
            attributes = orjson.loads(value)
            if "GRIB_shortName" in attributes:
                arrays[key.removesuffix("/.zattrs")] = attributes
        elif key.endswith(("/time/0", "/time/0.0")):
            times |= _seconds(value)
    if not fields and not chunks:
        raise CorruptInput("the reference file refers to nothing", expected="keys by step or a Zarr tree")
    if member is None and len(members) == 1:
        member = next(iter(members))
    return Published(member, fields, arrays, {k: tuple(v) for k, v in chunks.items()}, frozenset(times))


def _member(word: str) -> int:
    return 0 if word == "control" else int(word.removeprefix("ens").lstrip("_"))


def _reference(key: str, value: bytes) -> tuple[str, int, int] | None:
    """``[url, offset, length]``, or None for content."""
    if not value.startswith(b"["):
        return None
    try:
        url, offset, length = orjson.loads(value)
    except (orjson.JSONDecodeError, ValueError):
        raise CorruptInput(f"{key} of the reference file is no reference", found=value[:80]) from None
    return str(url), int(offset), int(length)


def _seconds(value: bytes) -> set[int]:
    """The times of an inline coordinate: int64 seconds, as kerchunk writes them."""
    data = base64.b64decode(value.removeprefix(b"base64:")) if value.startswith(b"base64:") else value
    return {int(n) for n in np.frombuffer(data, "<i8")} if len(data) % 8 == 0 else set()


def _leaves(archive: Archive, published: Published, inventory: Inventory, report: Report) -> list[Leaf]:
    """A variable of the tree for every param and level type of the index.

    Named as the file names it, or, where it has no metadata of it, as the header of one message says.
    """
    grid = from_grib(inventory.message(archive, next(iter(inventory.fields))))
    known: dict[tuple[str, bool], tuple[str, Mapping[str, object]]] = {}
    for path, attributes in published.arrays.items():
        words = path.split("/")
        if len(words) >= 4:
            known[str(attributes["GRIB_shortName"]), words[2] == "isobaricInhPa"] = (path, attributes)

    def one(param: str, level_type: str) -> Leaf | None:
        levels = inventory.levels(param, level_type)
        if found := known.get((param, level_type == "isobaricInhPa")):
            path, attributes = found
            variable, step_type, kind = path.split("/")[:3]
            kept = {k: v for k, v in attributes.items() if k not in ("_ARRAY_DIMENSIONS", "coordinates")}
            return Leaf(variable, step_type, kind, levels, (param, level_type), grid.dims, grid.shape, kept)
        try:
            message = inventory.message(archive, inventory.any_of(param, level_type))
            header = decode.header(message)
        except LakeError as error:
            report.unrepaired.append(f"{param} at {level_type}: the file has no metadata of it, and {error}")
            return None
        attributes = {
            "units": header.units, "long_name": header.name, "GRIB_shortName": header.short_name,
            "GRIB_cfName": header.cf_name, "GRIB_name": header.name, "GRIB_units": header.units,
            "GRIB_stepType": header.step_type, "GRIB_typeOfLevel": header.type_of_level,
        }  # fmt: skip
        words = (param, level_type)
        return Leaf(
            _variable(message, param),
            header.step_type,
            header.type_of_level,
            levels,
            words,
            grid.dims,
            grid.shape,
            attributes,
        )

    with ThreadPoolExecutor(_HEADERS) as pool:
        leaves = [leaf for leaf in pool.map(lambda words: one(*words), inventory.products) if leaf is not None]
    return _distinct(leaves)


def _variable(message: bytes, param: str) -> str:
    """A variable's name as cfgrib gives it (2t -> t2m), or its param."""
    handle = eccodes.codes_new_from_message(message)
    try:
        name = eccodes.codes_get(handle, "cfVarName", str)
    finally:
        eccodes.codes_release(handle)
    return param if name in ("unknown", "~") else name


def _distinct(leaves: list[Leaf]) -> list[Leaf]:
    """Leaves that would share a path (two params of one name) told apart by their params."""
    paths = [(leaf.group, leaf.name) for leaf in leaves]
    return [replace(x, name=x.words[0]) if paths.count((x.group, x.name)) > 1 else x for x in leaves]


def _made(
    archive: Archive, recipe: ForecastRecipe, run: datetime, member: int | None, inventory: Inventory,
    leaves: list[Leaf],
) -> pa.Table:  # fmt: skip
    grid = from_grib(inventory.message(archive, next(iter(inventory.fields))))
    coordinates = {n: (dims, np.asarray(v), attrs) for n, (dims, v, attrs) in grid.coordinates().items()}
    steps = sorted({field.step for field in inventory.fields})
    tree = Tree(run, steps, leaves, coordinates, run_attributes(run, {"title": recipe.title or recipe.name}))
    urls = list(dict.fromkeys(place[0] for place in inventory.fields.values()))
    number = {url: n for n, url in enumerate(urls)}
    places = [inventory.fields.get(key) for key in _wanted(leaves, steps)]
    source = np.array([-1 if p is None else number[p[0]] for p in places], np.int32)
    offset, length = (np.array([0 if p is None else p[n] for p in places], np.int64) for n in (1, 2))
    return tree.table(member, urls, source, offset, length)


def _wanted(leaves: list[Leaf], steps: list[int]) -> Iterator[FieldKey]:
    for leaf in leaves:
        for step in steps:
            for level in leaf.levels:
                yield FieldKey(step, *leaf.words, level)
