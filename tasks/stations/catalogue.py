"""What the provider offers: the collection's parameters and queries, and its stations."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson

from ..lake.errors import CorruptInput, NotFound, UsageError
from ..lake.lake import Lake
from .edr import Edr
from .recipe import ALL, StationRecipe

_FRESH = timedelta(hours=24)


class Station(msgspec.Struct, frozen=True):
    """A station: degrees, metres; ``parameters`` are those it measures, empty where the provider does not say."""

    id: str
    name: str
    longitude: float
    latitude: float
    height: float | None = None
    parameters: tuple[str, ...] = ()


class Catalogue(msgspec.Struct, frozen=True):
    """A collection as it was at ``read``. ``start`` is the first time of its extent, where it names one."""

    collection: str
    read: datetime
    parameters: dict[str, str]
    stations: tuple[Station, ...]
    start: datetime | None = None

    def station(self, identifier: str) -> Station:
        """A station by its identifier, whole (0-20000-0-06260) or its last part. Raises ``UsageError``."""
        for station in self.stations:
            if identifier in (station.id, station.id.rpartition("-")[2]):
                return station
        known = ", ".join(s.id for s in self.stations[:3])
        raise UsageError(
            f"there is no station {identifier!r} in {self.collection}, which has {len(self.stations)}, such as {known}"
        )


def key(recipe: str) -> str:
    """Where the catalogue of a recipe lies in the lake."""
    return f"stations/{recipe}/catalogue.json"


def stored(lake: Lake, recipe: StationRecipe) -> Catalogue:
    """The catalogue as ingest left it. Raises ``UsageError`` when there is none."""
    found = _stored(lake, recipe)
    if found is None:
        raise UsageError(f"nothing of {recipe.name} was ingested yet; start with: python -m flows.ingest {recipe.name}")
    return found


def current(lake: Lake, recipe: StationRecipe, edr: Edr) -> Catalogue:
    """The catalogue: as stored when it is of today, otherwise from the provider (two requests).

    Raises ``AccessError`` for a wrong key, ``UsageError`` for an unknown collection, ``Unreachable``.
    """
    found = _stored(lake, recipe)
    if found is not None and found.collection == recipe.source.collection and found.read > datetime.now(UTC) - _FRESH:
        return found
    if edr.catalogue is None:
        edr.catalogue = read(recipe.source.collection, edr)
    return edr.catalogue


def store(lake: Lake, recipe: StationRecipe, catalogue: Catalogue) -> None:
    """Put the catalogue into the lake unless it is there already."""
    if _stored(lake, recipe) != catalogue:
        lake.objects.put(key(recipe.name), msgspec.json.encode(catalogue))


def _stored(lake: Lake, recipe: StationRecipe) -> Catalogue | None:
    try:
        return msgspec.json.decode(lake.objects.get(key(recipe.name)), type=Catalogue)
    except NotFound:
        return None
    except msgspec.DecodeError as error:
        raise CorruptInput(
            f"{key(recipe.name)} cannot be read ({error}); delete it, and ingest reads the provider's again"
        ) from None


def read(collection: str, edr: Edr) -> Catalogue:
    """The catalogue from the provider."""
    listed = _json(edr, "collections")
    try:
        found = {c["id"]: c for c in listed["collections"]}
        if collection not in found:
            raise UsageError(f"there is no collection {collection!r}; there are: {', '.join(found)}")
        record = found[collection]
        queries = record.get("data_queries", {})
        if "locations" not in queries:
            raise UsageError(
                f"collection {collection} cannot be asked by station",
                expected="locations among its data_queries",
                found=", ".join(queries) or "none",
            )
        parameters = {name: _unit(p) for name, p in record.get("parameter_names", {}).items()}
        features = _json(edr, f"collections/{collection}/locations")["features"]
        stations = tuple(sorted((_station(f) for f in features), key=lambda s: s.id))
        start = _start(record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptInput(
            f"{edr.source.url} describes {collection} in no form of OGC API - EDR ({type(error).__name__}: {error})"
        ) from None
    return Catalogue(collection, datetime.now(UTC), parameters, stations, start)


def chosen(catalogue: Catalogue, recipe: StationRecipe) -> list[Station]:
    """The stations that a recipe selects, each once, sorted. Raises ``UsageError`` for an unknown one."""
    stations: dict[str, Station] = {}
    for word in recipe.select.stations:
        members: Sequence[Station]
        if word == ALL:
            members = catalogue.stations
        elif word in recipe.groups:
            members = [catalogue.station(s) for s in recipe.groups[word]]
        else:
            members = [catalogue.station(word)]
        stations |= {s.id: s for s in members}
    return [stations[identifier] for identifier in sorted(stations)]


def parameters_of(catalogue: Catalogue, recipe: StationRecipe, station: Station) -> tuple[str, ...]:
    """The selected parameters that a station measures, sorted. Raises ``UsageError`` for an unknown one."""
    wanted = recipe.select.parameters or tuple(catalogue.parameters)
    unknown = [p for p in wanted if p not in catalogue.parameters]
    if unknown:
        raise UsageError(
            f"there is no parameter {unknown[0]!r} in {catalogue.collection}; "
            f"there are: {', '.join(catalogue.parameters)}"
        )
    measured = set(station.parameters or wanted)
    return tuple(sorted(p for p in set(wanted) if p in measured))


def _json(edr: Edr, path: str) -> Any:
    answer = edr.get(path)
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise CorruptInput(f"{edr.source.url}/{path} answered something else than JSON ({error})") from None


def _unit(parameter: Any) -> str:
    symbol = (parameter.get("unit") or {}).get("symbol", "")
    return str(symbol.get("value", "") if isinstance(symbol, dict) else symbol)


def _station(feature: Any) -> Station:
    longitude, latitude, *height = feature["geometry"]["coordinates"]
    properties = feature.get("properties") or {}
    return Station(
        id=str(feature["id"]),
        name=str(properties.get("name", feature["id"])),
        longitude=float(longitude),
        latitude=float(latitude),
        height=float(height[0]) if height else None,
        parameters=tuple(properties.get("parameter-name", ())),
    )


def _start(record: Any) -> datetime | None:
    intervals = (record.get("extent", {}).get("temporal") or {}).get("interval") or [[None]]
    first = intervals[0][0]
    return None if first in (None, "..") else datetime.fromisoformat(first).astimezone(UTC)
