"""What the finished store of a scene consists of: levels, bands at every level, and how each is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from ..grids.georef import Georef
from ..grids.overviews import Method
from ..lake.errors import CorruptInput
from ..lake.lake import Lake
from ..lake.partition import digest_json
from . import manifest as manifests_
from .layout import Cut, cut
from .manifest import Manifest, SourceArray
from .recipe import SceneRecipe, Variable
from .zarr_array import Document, document, dtype

NAN = "AAAAAAAA+H8="
"""NaN as xarray writes ``_FillValue`` for Zarr 3: the eight bytes of the float64, base64."""

LADDER = (10, 20, 60, 120, 360, 720)
"""Metres per pixel of the fixed ladder."""

_DROPPED = frozenset(
    {"_eopf_attrs", "_FillValue", "_ARRAY_DIMENSIONS", "coordinates", "dtype", "fill_value", "grid_mapping",
     "missing_value", "nodata", "scale_factor", "add_offset"}
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A group of the store that holds bands on one grid. ``parent`` is the level it was made from, by ``factor``."""

    path: str
    georef: Georef
    rows: int
    columns: int
    parent: str | None = None
    factor: int = 1


@dataclass(frozen=True)
class Band:
    """An array of the store.

    ``group`` and ``name`` say which array of the source it comes from; ``parent`` (a path) which band of the finer
    level, None where it is the source's own. ``nodata`` is the stored value without data (NaN when decoded).
    """

    level: Level
    group: str
    name: str
    source: SourceArray
    method: Method
    stored: np.dtype
    source_nodata: float | None
    scale: float | None
    offset: float | None
    decoded: bool
    cuts: tuple[Cut, Cut]
    compression: int
    parent: str | None = None

    @property
    def path(self) -> str:
        """Its path in the store."""
        return f"{self.level.path}/{self.name}"

    @property
    def nodata(self) -> float | None:
        """The stored value that means no data."""
        return float("nan") if self.decoded else self.source_nodata

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""
        return (*self.source.shape[:-2], self.level.rows, self.level.columns)

    @cached_property
    def document(self) -> Document:
        """``zarr.json`` of the array."""
        leading = self.source.shape[:-2]
        y, x = self.cuts
        return document(
            self.shape, str(self.stored), (*leading, y.chunk, x.chunk), (*leading, y.shard, x.shard),
            fill=self._fill, dims=self.source.dims, attributes=self._attributes, level=self.compression,
        )  # fmt: skip

    @property
    def _fill(self) -> Any:
        if self.stored.kind == "f":
            return float("nan") if self.source_nodata is None or self.decoded else self.source_nodata
        return int(self.source_nodata or 0)

    @property
    def _attributes(self) -> dict[str, Any]:
        out = {
            k: v for k, v in self.source.attributes.items()
            if k not in _DROPPED and not k.startswith(("proj:", "spatial:"))
        }  # fmt: skip
        out["grid_mapping"] = "spatial_ref"
        if self.decoded:
            out |= {"_FillValue": NAN, "units": "1" if out.get("units") == "digital_counts" else out.get("units", "1")}
            for key in ("valid_min", "valid_max"):
                out.pop(key, None)
            return out
        if self.scale is not None or self.offset is not None:
            out |= {"scale_factor": _plain(self.scale, 1.0), "add_offset": _plain(self.offset, 0.0)}
        if self.source_nodata is not None and self.stored.kind in "iu":
            out["_FillValue"] = int(self.source_nodata)
        elif self.stored.kind == "f":
            out["_FillValue"] = NAN
        return out


@dataclass(frozen=True)
class Structure:
    """The whole store of a scene; ``version`` is its identity: another source or layout is another store."""

    scene: str
    version: str
    manifests: Mapping[str, Manifest]
    levels: Mapping[str, Level]
    bands: Mapping[str, Band]
    pyramids: Mapping[str, tuple[str, ...]]

    def prefix(self, recipe: str) -> str:
        """Where the store lies in the lake."""
        return f"scenes/{recipe}/{self.scene}/{self.version}/{self.scene}.zarr"

    def own(self) -> list[Band]:
        """The bands that come from the source as they are."""
        return [b for b in self.bands.values() if b.parent is None]

    def derived(self) -> list[Band]:
        """The bands that are made from a finer level: all levels of a band, then the next."""
        found = [b for b in self.bands.values() if b.parent is not None]
        return sorted(found, key=lambda b: (b.group, b.name, -b.level.rows))


_KEPT = 8
_known: dict[tuple[object, ...], "Structure"] = {}


def structure(lake: Lake, recipe: SceneRecipe, scene: str) -> Structure:
    """The store of a scene as its manifests and the recipe say. Raises ``UsageError`` for a group not ingested.

    Every partition asks for it. The last ones are kept, by all that they come from: nobody changes them.
    """
    said = {g: manifests_.content(lake, recipe.name, scene, g) for g in recipe.select.groups}
    settings = [recipe.part("layout", "overviews"), recipe.part("select")["select"]]
    key = (recipe.name, scene, digest_json(settings), *said.items())
    if (kept := _known.get(key)) is not None:
        return kept
    found = {g: manifests_.parse(data, f"/{g} of {scene}") for g, data in said.items()}
    build = _ladder if recipe.overviews.scheme == "ladder" else _halves
    levels, bands, pyramids = build(recipe, found)
    version = digest_json([*settings, manifests_.inputs_of(found)]).removeprefix("sha256:")[:12]
    made = Structure(scene, version, found, levels, bands, pyramids)
    while len(_known) >= _KEPT:
        # Another thread may have taken the same one away.
        _known.pop(next(iter(_known)), None)
    _known[key] = made
    return made


type _Built = tuple[dict[str, Level], dict[str, Band], dict[str, tuple[str, ...]]]


def _halves(recipe: SceneRecipe, found: Mapping[str, Manifest]) -> _Built:
    """``<group>/0`` is the source's own level, ``<group>/1`` and on are half as fine each."""
    levels: dict[str, Level] = {}
    bands: dict[str, Band] = {}
    pyramids: dict[str, tuple[str, ...]] = {}
    least = recipe.overviews.min_dimension
    for group, made in found.items():
        rows, columns = made.size
        level = Level(f"{group}/0", made.georef, rows, columns)
        paths = []
        while True:
            levels[level.path] = level
            paths.append(level.path)
            for name, source in made.bands.items():
                parent = f"{level.parent}/{name}" if level.parent else None
                band = _band(recipe, level, group, name, source, parent)
                bands[band.path] = band
            rows, columns = -(-level.rows // 2), -(-level.columns // 2)
            if recipe.overviews.scheme == "none" or min(rows, columns) < least:
                break
            level = Level(f"{group}/{len(paths)}", level.georef.coarser(2), rows, columns, level.path, 2)
        pyramids[group] = tuple(paths)
    return levels, bands, pyramids


def _ladder(recipe: SceneRecipe, found: Mapping[str, Manifest]) -> _Built:
    """``<parent>/r10m`` ... ``<parent>/r720m``; a band goes down from its own finest level."""
    levels: dict[str, Level] = {}
    bands: dict[str, Band] = {}
    pyramids: dict[str, tuple[str, ...]] = {}
    for parent in dict.fromkeys(g.rpartition("/")[0] for g in found):
        own = {int(g.rpartition("/")[2][1:-1]): g for g in found if g.rpartition("/")[0] == parent}
        if unknown := sorted(set(own) - set(LADDER)):
            raise CorruptInput(
                f"/{own[unknown[0]]} is on no rung of the ladder", expected=" ".join(f"r{r}m" for r in LADDER),
                found=f"r{unknown[0]}m",
            )  # fmt: skip
        paths: list[str] = []
        before: Level | None = None
        for metres in LADDER[LADDER.index(min(own)) :]:
            path = f"{parent}/r{metres}m"
            factor = metres // int(before.path.rpartition("/")[2][1:-1]) if before else 1
            if metres in own:
                made = found[own[metres]]
                level = Level(path, made.georef, *made.size, before.path if before else None, factor)
            elif before is not None:
                rows, columns = -(-before.rows // factor), -(-before.columns // factor)
                level = Level(path, before.georef.coarser(factor), rows, columns, before.path, factor)
            else:
                continue
            small = min(level.rows, level.columns) < recipe.overviews.min_dimension
            if metres not in own and (metres > max(own) and small):
                break
            natives = found[own[metres]].bands if metres in own else {}
            for name, source in natives.items():
                band = _band(recipe, level, own[metres], name, source, None)
                bands[band.path] = band
            if before is not None and _fits(before, level, factor):
                for above in [b for b in bands.values() if b.level == before and b.name not in natives]:
                    band = _band(recipe, level, above.group, above.name, above.source, above.path)
                    bands[band.path] = band
            levels[path] = level
            paths.append(path)
            before = level
        pyramids[parent] = tuple(paths)
    return levels, bands, pyramids


def _fits(finer: Level, coarser: Level, factor: int) -> bool:
    """Whether a level is exactly what reducing the finer one gives, so that bands may go on to it."""
    expected = (-(-finer.rows // factor), -(-finer.columns // factor))
    grid = finer.georef.coarser(factor)
    return (coarser.rows, coarser.columns) == expected and np.allclose(grid.transform, coarser.georef.transform)


def _band(
    recipe: SceneRecipe, level: Level, group: str, name: str, source: SourceArray, parent: str | None
) -> Band:  # fmt: skip
    rule = next((r for r in recipe.select.variables if _matches(r.match, f"{group}/{name}")), Variable(match="**"))
    attributes = source.attributes
    scale = _number(attributes.get("scale_factor", rule.scale))
    offset = _number(attributes.get("add_offset", rule.offset))
    own = dtype(source.document)
    decoded = recipe.layout.values == "decoded" and (scale, offset) != (None, None) and own.kind in "iu"
    chunks = source.chunks[-2:] if parent is None else (level.rows, level.columns)
    layout = recipe.layout
    cuts = tuple(
        cut(length, chunk, layout.spatial_chunk, layout.shard)
        for length, chunk in zip((level.rows, level.columns), chunks, strict=True)
    )
    return Band(
        level, group, name, source, rule.method or _method(attributes, own),
        np.dtype("float32") if decoded else own.newbyteorder("="), _nodata(rule, source), scale, offset, decoded,
        (cuts[0], cuts[1]), layout.compression_level, parent,
    )  # fmt: skip


def _matches(pattern: str, path: str) -> bool:
    """Whether a path fits a glob in which ``*`` stays within a group and ``**`` does not."""
    wanted, parts = pattern.strip("/").split("/"), path.split("/")
    if "**" in wanted:
        return fnmatchcase(path, pattern.strip("/").replace("**", "*"))
    return len(wanted) == len(parts) and all(fnmatchcase(p, w) for p, w in zip(parts, wanted, strict=True))


def _method(attributes: Mapping[str, Any], own: np.dtype) -> Method:
    """How overviews are made, by the CF attributes: flags, classes, masks, and a mean for everything else."""
    if "flag_masks" in attributes:
        return "flags"
    if "flag_values" in attributes:
        return "mode"
    return "max" if own.kind == "b" else "mean"


def _nodata(rule: Variable, source: SourceArray) -> float | None:
    if rule.nodata is not None:
        return rule.nodata
    for key in ("_FillValue", "fill_value", "nodata", "missing_value"):
        if (value := _number(source.attributes.get(key))) is not None:
            return value
    # Zarr 2 has no other place for it; in Zarr 3 the fill value means nothing but what is not written yet.
    return _number(source.document.get("fill_value")) if source.document["zarr_format"] == 2 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    return float("nan") if value in ("NaN", NAN) else None


def _plain(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)
