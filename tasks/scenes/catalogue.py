"""The STAC item of a result, and telling a STAC API of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..lake.errors import ConflictError, LakeError, UsageError
from ..lake.http import Http
from ..lake.partition import Output
from .items import authorisation, parse_time
from .recipe import Catalogue, SceneRecipe
from .structure import Structure

_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_ZARR = "application/vnd.zarr; version=3; profile=multiscales"
_NOT_KEPT = ("proj:", "updated", "created", "published", "deprecated")


def item(
    structure: Structure, recipe: SceneRecipe, store: str, files: Mapping[str, tuple[str, Output]]
) -> dict[str, Any]:
    """The STAC item of a result: projection, bounding box, an asset a pyramid and a file, links to the source.

    ``store`` is the URL of the GeoZarr, ``files`` holds what else was made: role -> (URL, output). It says nothing of
    the time it was made, so the same scene gives the same item. Raises ``UsageError`` without the extra ``scenes``.
    """
    try:
        import pystac
    except ImportError:
        raise UsageError("writing a STAC item needs the extra 'scenes'") from None
    first = next(iter(structure.manifests.values()))
    source = first.item or dict(first.root.get("stac_discovery") or {})
    given = dict(source.get("properties") or {})
    finest = min((structure.levels[p[0]] for p in structure.pyramids.values()), key=_pixel)
    box = list(finest.georef.geographic(finest.rows, finest.columns))
    properties = {k: v for k, v in given.items() if not k.startswith(_NOT_KEPT) and v is not None}
    properties |= {
        "gsd": _pixel(finest),
        "proj:shape": [finest.rows, finest.columns],
        "proj:transform": list(finest.georef.transform),
        "proj:bbox": list(finest.georef.bbox(finest.rows, finest.columns)),
        **({"proj:code": finest.georef.code} if finest.georef.code else {"proj:wkt2": finest.georef.crs}),
    }
    taken = given.get("datetime") or given.get("start_datetime")
    made = pystac.Item(
        id=structure.scene,
        geometry=source.get("geometry") or _ring(box),
        bbox=box,
        datetime=parse_time(taken) if taken else datetime.fromtimestamp(0, UTC),
        properties={k: v for k, v in properties.items() if k != "datetime"},
        stac_extensions=list(_EXTENSIONS),
        collection=recipe.outputs.catalogue.collection if recipe.outputs.catalogue else None,
    )
    made.add_asset("geozarr", pystac.Asset(store, recipe.title or structure.scene, None, _ZARR, ["data", "metadata"]))
    for path, levels in structure.pyramids.items():
        level = structure.levels[levels[0]]
        names = sorted({b.name for b in structure.bands.values() if b.level.path in levels})
        extra = {
            "gsd": _pixel(level), "proj:shape": [level.rows, level.columns],
            "proj:transform": list(level.georef.transform), "bands": [{"name": n} for n in names],
        }  # fmt: skip
        asset = pystac.Asset(f"{store}/{path}", f"/{path}", None, _ZARR, ["data"], extra)
        made.add_asset(path.replace("/", "-"), asset)
    for role, (href, output) in sorted(files.items()):
        kind, roles = _kind(role)
        extra = {"file:size": output.bytes, "file:checksum": f"1220{output.digest.removeprefix('sha256:')}"}
        made.add_asset(role, pystac.Asset(href, None, None, kind, roles, extra))
    for rel, target in _links(structure):
        made.add_link(pystac.Link(rel, target))
    return made.to_dict(include_self_link=False, transform_hrefs=False)


def _links(structure: Structure) -> Sequence[tuple[str, str]]:
    first = next(iter(structure.manifests.values()))
    return [("derived_from", first.href)] if first.href else [("via", first.store)]


def _pixel(level: Any) -> float:
    return abs(float(level.georef.transform[0]))


def _kind(role: str) -> tuple[str, list[str]]:
    """Media type and roles of a file by what it is."""
    if role == "archive":
        return "application/x-tar", ["data", "archive"]
    if role == "quicklook":
        return "image/png", ["thumbnail", "overview"]
    if role.startswith("cog-"):
        return "image/tiff; application=geotiff; profile=cloud-optimized", ["data"]
    return "text/html", ["metadata"]


def _ring(box: Sequence[float]) -> dict[str, Any]:
    west, south, east, north = np.round(box, 9).tolist()
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def upsert(catalogue: Catalogue, made: Mapping[str, Any]) -> None:
    """Put an item into a STAC API's collection, or in the place of the one that is there.

    The transaction extension of the STAC API: POST, and PUT where the answer is 409. Raises ``AccessError``,
    ``Unreachable``, ``LakeError`` with what the API says.
    """
    path = f"collections/{catalogue.collection}/items"
    with Http(catalogue.url, headers=authorisation(catalogue.token)) as http:
        try:
            http.request("POST", path, json=dict(made))
        except (UsageError, ConflictError) as error:
            if "409" not in error.message:
                raise LakeError(f"the STAC API did not take {made['id']}: {error.message}") from None
            http.request("PUT", f"{path}/{made['id']}", json=dict(made))
