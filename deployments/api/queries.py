"""The queries: position, area, cube, and a thousand points at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from tasks.serving.reader import Cost, Place, at_places, read

from . import covjson, plain
from .asked import CRS, FORMATS, Asked, affordable, ask, only
from .caching import fresh, tagged
from .geometry import Points, Region, bounds, locate, points, polygon, region
from .refusals import Refused, refusals
from .service import Service

Format = Literal["CoverageJSON", "JSON", "CSV"]
Method = Literal["nearest", "bilinear"]

CollectionId = Annotated[str, Path(max_length=140, description="Id of a collection: recipe.zone.")]
Coords = Annotated[
    str,
    Query(
        max_length=12_000, pattern=r"^[A-Za-z0-9 ().,+-]*$", description="Well-known text, longitude first, degrees.",
        examples=["POINT(5.2 52.1)", "POLYGON((4 51,6 51,6 53,4 51))"],
    ),
]  # fmt: skip
Bbox = Annotated[
    str,
    Query(max_length=200, description="west,south,east,north in degrees; six with levels.", examples=["4,51,7,53"]),
]
Names = Annotated[
    str | None, Query(alias="parameter-name", max_length=2_000, description="Variables, by commas; all when absent.")
]
Times = Annotated[str | None, Query(max_length=80, description="A valid time, or an interval: from/to, ../to, from/..")]
Levels = Annotated[str | None, Query(max_length=400, description="A level, a list (a,b) or a range (a/b).")]
Members = Annotated[str | None, Query(max_length=400, description="An ensemble member, a list (a,b) or a range (a/b).")]
Crs = Annotated[str | None, Query(max_length=80, description="CRS84: longitude, latitude in degrees.")]
How = Annotated[Method, Query(description="nearest cell by great circle, or bilinear between four.")]
What = Annotated[Format, Query(description="Form of the answer.")]

_JSON_BYTES, _CSV_BYTES = 24, 80
"""Bytes that a value takes while its answer is made: the number, and its text."""

OF_RUN: dict[str, Any] = {
    "parameters": [
        {
            "name": "instance_id", "in": "path", "required": True,
            "schema": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}$"},
            "description": "Id of an instance: a run, such as 2026-11-20T00.",
        }
    ]
}  # fmt: skip
"""What OpenAPI is told of the path of a run: a route is one function for the newest run and for any."""

_COMMON = {"parameter-name", "datetime", "z", "member", "crs", "f"}


class Wanted(BaseModel):
    """One place of `ManyPoints`."""

    model_config = ConfigDict(extra="forbid")

    latitude: float = Field(ge=-90, le=90, allow_inf_nan=False, description="Degrees.")
    longitude: float = Field(ge=-180, le=360, allow_inf_nan=False, description="Degrees.")
    name: str | None = Field(default=None, max_length=200, description="Comes back with the values.")


class ManyPoints(BaseModel):
    """Points that are asked for at once."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    collection: str = Field(max_length=140, description="Id of a collection.")
    points: list[Wanted] = Field(min_length=1, max_length=100_000, description="At most as many as the server allows.")
    instance: str | None = Field(default=None, max_length=20, description="A run; the newest when absent.")
    parameter_name: list[Annotated[str, Field(max_length=200)]] | None = Field(
        default=None, alias="parameter-name", min_length=1, max_length=1_000, description="Variables; all when absent."
    )
    datetime: str | None = Field(default=None, max_length=80)
    z: str | None = Field(default=None, max_length=400)
    member: str | None = Field(default=None, max_length=400)
    method: Method = "nearest"
    f: Format = "JSON"


_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The values, null where missing.",
        "content": {
            covjson.TYPE: {"schema": {"$ref": f"#/components/schemas/{covjson.SCHEMA}"}},
            plain.JSON: {"schema": {"$ref": f"#/components/schemas/{plain.SCHEMA}"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    **refusals(400, 401, 404, 413, 429, 503),
}
_CONDITIONAL = {**_ANSWER, 304: {"description": "What the client has is of the newest snapshot."}}


def routes(service: Service) -> APIRouter:
    """The routes of all queries."""
    router = APIRouter(tags=["data"])

    def asked(
        request: Request, name: str, allowed: set[str], *, parameter_name: str | None,
        datetime: str | None, z: str | None, member: str | None, crs: str | None,
    ) -> Asked:  # fmt: skip
        only(_COMMON | allowed, [name for name, _ in request.query_params.multi_items()])
        if crs is not None and crs not in CRS:
            raise Refused(400, f"crs must be {CRS[0]}")
        _, snapshot = service.collection(name)
        run = request.path_params.get("instance_id")
        return ask(name, snapshot, run=run, parameter_name=parameter_name, datetime=datetime, z=z, member=member)

    async def at_points(request: Request, one: Asked, found: Points, f: Format, method: str) -> Response:
        shape = found.cells
        corners = found.places.rows.shape[1]
        what = one.cost(shape)
        affordable(Cost(what.chunks, what.bytes, what.values // corners), service.settings)

        def make() -> bytes:
            raw = read(one.snapshot, one.run, one.names, shape, one.outer, service.cache)
            values = {n: _ordered(one, n, at_places(v, found.places), 1) for n, v in raw.items()}
            if f == "CoverageJSON":
                return covjson.of_points(one, found, values)
            if f == "CSV":
                return plain.table_of_points(one, found, values)
            return plain.of_points(one, found, values, method)

        return await _send(request, service, one, what, f, make)

    async def in_region(
        request: Request, one: Asked, f: Format, where: Callable[[], Region], rough: Callable[[], Place]
    ) -> Response:
        # Whether it can be afforded is seen by the box around it, before each cell is looked at.
        what = one.cost(rough())
        affordable(what, service.settings)

        def make() -> bytes:
            found = where()
            raw = read(one.snapshot, one.run, one.names, found.place, one.outer, service.cache)
            values = {n: _ordered(one, n, v, len(found.place.shape)) for n, v in raw.items()}
            if f == "CSV":
                return plain.table_of_region(one, found, values)
            if found.mask is not None:
                for array in values.values():
                    array[..., ~found.mask] = np.nan
            return covjson.of_region(one, found, values) if f == "CoverageJSON" else plain.of_region(one, found, values)

        return await _send(request, service, one, what, f, make)

    async def position(
        request: Request, collection_id: CollectionId, coords: Coords,
        parameter_name: Names = None, datetime: Times = None, z: Levels = None, member: Members = None, crs: Crs = None,
        method: How = "nearest", f: What = "CoverageJSON",
    ) -> Response:  # fmt: skip
        one = asked(
            request, collection_id, {"coords", "method"}, parameter_name=parameter_name,
            datetime=datetime, z=z, member=member, crs=crs,
        )  # fmt: skip
        lonlat = points(coords)
        if len(lonlat) > service.settings.max_points:
            raise Refused(
                413, f"these are {len(lonlat):,} points; a request has {service.settings.max_points:,} at most"
            )
        if fresh(request, one.snapshot):
            return tagged(service, Response(status_code=304), one.snapshot)
        found = locate(one.snapshot.grid, (), lonlat, method, service.search(one.snapshot))
        return await at_points(request, one, found, f, method)

    async def area(
        request: Request, collection_id: CollectionId, coords: Coords,
        parameter_name: Names = None, datetime: Times = None, z: Levels = None, member: Members = None, crs: Crs = None,
        f: What = "CoverageJSON",
    ) -> Response:  # fmt: skip
        one = asked(
            request, collection_id, {"coords"}, parameter_name=parameter_name, datetime=datetime, z=z,
            member=member, crs=crs,
        )  # fmt: skip
        shape = polygon(coords)
        if fresh(request, one.snapshot):
            return tagged(service, Response(status_code=304), one.snapshot)
        west, south, east, north = (float(v) for v in shape.bounds)
        grid = one.snapshot.grid
        return await in_region(
            request, one, f, lambda: region(grid, west, south, east, north, shape),
            lambda: region(grid, west, south, east, north).place,
        )  # fmt: skip

    async def cube(
        request: Request, collection_id: CollectionId, bbox: Bbox,
        parameter_name: Names = None, datetime: Times = None, z: Levels = None, member: Members = None, crs: Crs = None,
        f: What = "CoverageJSON",
    ) -> Response:  # fmt: skip
        west, south, east, north, levels = bounds(bbox)
        if levels is not None and z is None:
            z = f"{levels[0]!r}/{levels[1]!r}"
        one = asked(
            request, collection_id, {"bbox"}, parameter_name=parameter_name, datetime=datetime, z=z,
            member=member, crs=crs,
        )  # fmt: skip
        if fresh(request, one.snapshot):
            return tagged(service, Response(status_code=304), one.snapshot)
        found = region(one.snapshot.grid, west, south, east, north)
        return await in_region(request, one, f, lambda: found, lambda: found.place)

    texts = {position: "Values at a point, or some", area: "Values in a polygon", cube: "Values in a box"}
    for query, text in texts.items():
        name = query.__name__
        router.add_api_route(
            f"/collections/{{collection_id}}/{name}", query, summary=f"{text}: the newest run",
            responses=_CONDITIONAL, response_class=Response, name=name,
        )  # fmt: skip
        router.add_api_route(
            f"/collections/{{collection_id}}/instances/{{instance_id}}/{name}", query, summary=f"{text}: a run",
            responses=_CONDITIONAL, response_class=Response, name=f"{name} of a run", openapi_extra=OF_RUN,
        )  # fmt: skip

    @router.post("/points", summary="Values at a thousand points at once", responses=_ANSWER, response_class=Response)
    async def many_points(request: Request, wanted: Annotated[ManyPoints, Body()]) -> Response:
        only((), [name for name, _ in request.query_params.multi_items()])
        if len(wanted.points) > service.settings.max_points:
            most = service.settings.max_points
            raise Refused(413, f"these are {len(wanted.points):,} points; a request has {most:,} at most")
        _, snapshot = service.collection(wanted.collection)
        names = None if wanted.parameter_name is None else ",".join(wanted.parameter_name)
        one = ask(
            wanted.collection, snapshot, run=wanted.instance, parameter_name=names, datetime=wanted.datetime,
            z=wanted.z, member=wanted.member,
        )  # fmt: skip
        lonlat = [(p.longitude, p.latitude) for p in wanted.points]
        labels = tuple(p.name if p.name is not None else str(i) for i, p in enumerate(wanted.points))
        found = locate(snapshot.grid, labels, lonlat, wanted.method, service.search(snapshot))
        return await at_points(request, one, found, wanted.f, wanted.method)

    return router


async def _send(
    request: Request, service: Service, one: Asked, what: Cost, f: Format, make: Callable[[], bytes]
) -> Response:
    each = _CSV_BYTES if f == "CSV" else _JSON_BYTES
    body = await service.work(request, what.values * each, make)
    media = {FORMATS[0]: covjson.TYPE, FORMATS[1]: plain.JSON, FORMATS[2]: plain.CSV}[f]
    return tagged(service, Response(body, media_type=media), one.snapshot)


def _ordered(one: Asked, name: str, values: np.ndarray, spatial: int) -> np.ndarray:
    """Dimensions in the order that answers have: level, member, lead_time, then the place's."""
    dims = one.snapshot.variables[name].layout.dims[:-2]
    order = [dims.index(d) for d in ("level", "member", "lead_time") if d in dims]
    rest = range(len(dims), len(dims) + spatial)
    return values.transpose([*order, *rest])
