"""The application: routes, what stands before them, and its OpenAPI document."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from covjson_pydantic.coverage import Coverage, CoverageCollection
from edr_pydantic.capabilities import ConformanceModel, LandingPageModel
from edr_pydantic.collections import Collection, Collections, Instance, Instances
from fastapi import FastAPI, Path
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tasks.lake.errors import NotFound

from . import covjson, metadata, plain, queries
from .caching import fresh, tagged
from .guard import Guard
from .protocol import Patient
from .refusals import Problem, Refused, answer, refusals
from .service import Service
from .settings import Settings, handed_on, log

_log = logging.getLogger(__name__)
_STALE = 6
"""Looks that may fail one after the other until the server says that it is not ready."""

Id = Annotated[str, Path(max_length=140, description="Id of a collection: recipe.zone.")]
RunId = Annotated[str, Path(max_length=20, description="Id of an instance: a run, such as 2026-11-20T00.")]


def from_environment() -> FastAPI:
    """The application of a worker process (see `settings.handed_on`)."""
    log()
    settings = handed_on()
    Patient.seconds = settings.slow
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    return create(settings)


def _end_with(parent: Any) -> None:
    """End when the process that started the workers is gone, even killed: nobody else would stop them."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def create(settings: Settings) -> FastAPI:
    """The application. Raises ``UsageError`` when there is no such lake, ``AccessError`` when a key is not there."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        yield
        service.stop()

    app = FastAPI(
        title=metadata.TITLE, description=metadata.DESCRIPTION, version="1.0", lifespan=lifespan, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.service = service
    _describe(app, service)
    _watch(app, service)
    app.include_router(queries.routes(service))
    _refuse(app)
    app.add_middleware(Guard, service=service)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _describe(app: FastAPI, service: Service) -> None:
    """Routes of what the API says of itself."""

    def base(request: Request) -> str:
        return str(request.base_url).rstrip("/")

    head: dict[str, Any] = {"response_model_exclude_none": True, "tags": ["about"]}
    known = refusals(401, 429, 503)

    @app.get("/", summary="Landing page", response_model=LandingPageModel, responses=known, **head)
    async def landing(request: Request) -> Response:
        return JSONResponse(metadata.landing(base(request)))

    @app.get("/conformance", summary="Conformance", response_model=ConformanceModel, responses=known, **head)
    async def conformance() -> Response:
        return JSONResponse({"conformsTo": metadata.CONFORMANCE})

    @app.get("/collections", summary="All collections", response_model=Collections, responses=known, **head)
    async def collections(request: Request) -> Response:
        there = service.following.collections.values()
        found = [(c, c.snapshot) for c in there if c.snapshot is not None]
        return JSONResponse(metadata.collections(base(request), found))

    known = {**refusals(400, 401, 404, 429, 503), 304: {"description": "Nothing has been published since."}}

    @app.get("/collections/{collection_id}", summary="A collection", response_model=Collection, responses=known, **head)
    async def collection(request: Request, collection_id: Id) -> Response:
        one, snapshot = service.collection(collection_id)
        if fresh(request, snapshot):
            return tagged(service, Response(status_code=304), snapshot)
        return tagged(service, JSONResponse(metadata.collection(base(request), one, snapshot)), snapshot)

    @app.get(
        "/collections/{collection_id}/instances", summary="The runs of a collection", response_model=Instances,
        responses=known, **head,
    )  # fmt: skip
    async def instances(request: Request, collection_id: Id) -> Response:
        one, snapshot = service.collection(collection_id)
        if fresh(request, snapshot):
            return tagged(service, Response(status_code=304), snapshot)
        return tagged(service, JSONResponse(metadata.instances(base(request), one, snapshot)), snapshot)

    @app.get(
        "/collections/{collection_id}/instances/{instance_id}", summary="A run", response_model=Instance,
        responses=known, **head,
    )  # fmt: skip
    async def instance(request: Request, collection_id: Id, instance_id: RunId) -> Response:
        one, snapshot = service.collection(collection_id)
        try:
            run = snapshot.run(instance_id)
        except NotFound:
            raise Refused(404, "there is no such run") from None
        if fresh(request, snapshot):
            return tagged(service, Response(status_code=304), snapshot)
        return tagged(service, JSONResponse(metadata.instance(base(request), one, snapshot, run)), snapshot)


def _watch(app: FastAPI, service: Service) -> None:
    """Routes for those who watch over the server."""

    @app.get("/health/live", summary="Whether the process answers", tags=["health"])
    async def live() -> dict[str, str]:
        return {"status": "live"}

    async def ready() -> Response:
        following = service.following
        age = time.monotonic() - following.looked
        found = {c.id: c.problem or "ok" for c in following.collections.values()}
        late = age > service.settings.refresh * _STALE + service.settings.timeout
        well = not late and any(c.snapshot is not None for c in following.collections.values())
        # What is wrong with a collection has the store's address in it: that is for the log.
        said = {name: "ok" if problem == "ok" else "not up to date" for name, problem in found.items()}
        text = {"status": "ready" if well else "not ready", "looked_seconds_ago": round(age, 1), "collections": said}
        return JSONResponse(text, 200 if well else 503)

    for path in ("/health", "/health/ready"):
        app.add_api_route(
            path, ready, summary="Whether there is something to read", tags=["health"], name=path,
            responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}},
                       503: {"description": "Nothing can be read, or the lake has not answered for a while."}},
        )  # fmt: skip

    @app.get(
        "/metrics", summary="Numbers for Prometheus", tags=["health"], response_class=PlainTextResponse,
        responses=refusals(401, 429),
    )  # fmt: skip
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _refuse(app: FastAPI) -> None:
    """Whatever goes wrong is said in one form."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return answer(error.status, error.sentence, error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        text = str(first["msg"]).removeprefix("Value error, ")
        return answer(400, f"{where[:200]}: {text[:1].lower()}{text[1:400]}")

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = {404: "there is nothing at this path", 405: "this path is not for that method"}
        return answer(error.status_code, text.get(error.status_code, str(error.detail)), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return answer(500, "the server made a mistake; it is in its log")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schemas of answers that are written without pydantic, 400 in place of 422, and the
    collections that there are now."""
    ids = sorted(app.state.service.following.collections)
    if app.openapi_schema is None or ids != app.state.ids:
        app.state.ids = ids
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for name, type_ in ((covjson.SCHEMA, Coverage | CoverageCollection), (plain.SCHEMA, plain.Values)):
            # EDR has parameters and units, too, and they are others.
            made = TypeAdapter(type_).json_schema(ref_template=f"#/components/schemas/{name}-{{model}}")
            schemas |= {f"{name}-{key}": value for key, value in made.pop("$defs", {}).items()}
            schemas[name] = made
        schemas |= {"Problem": Problem.model_json_schema()}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                for parameter in operation.get("parameters", ()):
                    if parameter["name"] == "collection_id" and ids:
                        parameter["schema"]["enum"] = ids
        app.openapi_schema = schema
    return app.openapi_schema
