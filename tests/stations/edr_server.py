"""An OGC API - EDR on loopback, in the shape of KNMI's: real HTTP, real limits, and faults on request.

It serves hourly or ten-minute series that are a function of station, parameter and time, so a test knows what must
arrive. Limits are KNMI's: 376,000 data points a request (413), a number of requests per window (429 with Retry-After),
a key. The window may be of any length: an hour scaled to seconds.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zlib import crc32

import numpy as np
import orjson

from ..listening import Answering, listening

KEY = "planted-secret-key"
HOURLY = "hourly-in-situ-meteorological-observations-validated"
PARAMETERS = {
    "T": "degrees Celsius", "TD": "degrees Celsius", "T10N": "degrees Celsius", "U": "%", "P": "hPa", "DD": "degrees",
    "FH": "m s-1", "FF": "m s-1", "FX": "m s-1", "RH": "mm", "DR": "h", "SQ": "h", "Q": "J cm-2", "VV": "code",
    "N": "octa", "WW": "code", "EE": "code", "IX": "code",
}  # fmt: skip
SLOTS = 23
"""Parameters of KNMI's collection, as its points are counted; the synthetic ones are filled up to them."""


@dataclass(frozen=True)
class Place:
    """A station that is served; ``parameters`` empty for all."""

    id: str
    name: str
    longitude: float
    latitude: float
    height: float = 1.0
    parameters: tuple[str, ...] = ()


def places(count: int) -> list[Place]:
    """So many stations on a grid of about 25 km over the Netherlands."""
    return [
        Place(f"0-20000-0-{6200 + n:05}", f"STATION {n}", 3.5 + 0.36 * (n % 10), 51.0 + 0.23 * (n // 10))
        for n in range(count)
    ]


type Data = Callable[[Place, str, np.ndarray], np.ndarray]
"""Values (float64, NaN for null) of a station and parameter at datetime64[s] times."""


def weather(place: Place, parameter: str, times: np.ndarray) -> np.ndarray:
    """Plausible values without a fault: smooth in time and space, each consistent with the others."""
    hours = times.astype("datetime64[s]").astype("int64") / 3600
    seed = crc32(place.id.encode()) % 97
    day, year = np.sin(2 * np.pi * (hours - 9) / 24), np.sin(2 * np.pi * (hours / 24 - 110) / 365.25)
    front = np.sin(hours / 37.0) + 0.5 * np.sin(hours / 11.3 + 1)
    temperature = 10 + 8 * year + 3 * day + 1.5 * front - 0.3 * (place.latitude - 52)
    wind = 5 + 2 * front + 0.3 * np.sin(hours / 5.1 + seed)
    rain = np.clip(front - 1.0, 0, None) * 2
    sun = np.clip(day, 0, None)
    wet = np.round(rain, 1) > 0
    values = {
        "T": temperature,
        "TD": temperature - 3 - 0.5 * front,
        "T10N": temperature - 1,
        "U": 80 + 8 * front,
        "P": 1013 + 8 * np.sin(hours / 53) + 0.6 * np.sin(hours / 3.1) + 0.2 * (place.latitude - 52),
        "DD": np.round((220 + 60 * front) % 360 / 10) * 10,
        "FH": wind,
        "FF": wind + 0.3,
        "FX": wind * 1.6 + 1,
        "RH": np.round(rain, 1),
        "DR": np.where(wet, 0.4, 0.0),
        "SQ": np.where(sun > 0.3, np.round(sun, 1), 0.0),
        "Q": np.round(sun * (150 + 60 * year)),
        "VV": np.round(60 + 8 * front),
        "N": np.round(4 + 2 * front),
        "WW": np.round(10 + 5 * front),
    }
    return np.round(values.get(parameter, np.full(len(times), 5.0)), 1)


@dataclass
class Behaviour:
    """What the server permits and does wrong; may be changed while it serves.

    ``window`` is (requests, seconds) of the quota; a request above it gets 429 and Retry-After. ``latency`` seconds a
    request takes when no more than ``capacity`` are under way; above it, everybody's takes longer than in proportion.
    ``error_rate`` of the data requests get ``error_status``; ``truncate_rate`` of them a body that ends early; drawn
    from ``seed``.
    ``several`` False refuses requests for more than one station with 400. ``say_seconds`` puts Retry-After there.
    """

    points: int = 376_000
    window: tuple[int, float] | None = None
    latency: float = 0.0
    capacity: int = 1000
    error_rate: float = 0.0
    error_status: int = 503
    truncate_rate: float = 0.0
    several: bool = True
    say_seconds: bool = True
    seed: int = 5


@dataclass(frozen=True)
class Answered:
    """A request for data, and what became of it. ``whole`` is False when the body was cut."""

    stations: tuple[str, ...]
    first: str
    last: str
    parameters: tuple[str, ...]
    status: int
    at: float
    whole: bool = True


@dataclass
class Edr:
    """A server that runs. ``answers`` are the data requests so far; ``asked`` counts every request."""

    url: str
    places: list[Place]
    behaviour: Behaviour
    every: int
    data: Data
    parameters: dict[str, str]
    collection: str
    now: Callable[[], datetime]
    answers: list[Answered] = field(default_factory=list)
    asked: int = 0
    lock: Any = field(default_factory=threading.Lock)
    under_way: int = 0
    most_under_way: int = 0

    def statuses(self) -> list[int]:
        """Status of every data request, in order."""
        return [a.status for a in self.answers]

    def cells(self) -> list[tuple[str, str, str, str]]:
        """(station, first, last, parameters) of what was answered in full, one for each station."""
        return [
            (s, a.first, a.last, ",".join(a.parameters))
            for a in self.answers
            if a.status == 200 and a.whole
            for s in a.stations
        ]


@contextmanager
def serve(
    stations: Sequence[Place] | int = 3,
    *,
    every: int = 60,
    data: Data = weather,
    parameters: dict[str, str] | None = None,
    collection: str = HOURLY,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    **behaviour: Any,
) -> Iterator[Edr]:
    """Serve until the block is left. ``behaviour`` are the fields of `Behaviour`."""
    listed = places(stations) if isinstance(stations, int) else list(stations)
    edr = Edr("", listed, Behaviour(**behaviour), every, data, parameters or PARAMETERS, collection, now)
    dice = random.Random(edr.behaviour.seed)
    granted: list[float] = []

    class Handler(_Handler):
        served = edr

        def quota(self) -> float | None:
            """Seconds to wait when the window is used up, None when this request is one of it."""
            window = edr.behaviour.window
            if window is None:
                return None
            limit, seconds = window
            with edr.lock:
                now = time.monotonic()
                while granted and granted[0] <= now - seconds:
                    granted.pop(0)
                if len(granted) >= limit:
                    return max(granted[0] + seconds - now, 0.001)
                granted.append(now)
                return None

        def luck(self) -> tuple[bool, bool]:
            """Whether this request fails, and whether its body is cut."""
            with edr.lock:
                return dice.random() < edr.behaviour.error_rate, dice.random() < edr.behaviour.truncate_rate

    with listening(Handler) as url:
        edr.url = f"{url}/edr/v1"
        yield edr


class _Handler(Answering):
    served: Edr

    def quota(self) -> float | None:
        raise NotImplementedError

    def luck(self) -> tuple[bool, bool]:
        raise NotImplementedError

    def do_GET(self) -> None:
        edr = self.served
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/edr/v1/").split("/")
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        with edr.lock:
            edr.asked += 1
        if self.headers["Authorization"] != KEY:
            return self._json(403, {"message": "Access to this API has been disallowed"})
        if path == ["collections"]:
            return self._json(200, {"collections": [self._collection()]})
        if path[:2] != ["collections", edr.collection] or path[2:3] != ["locations"]:
            return self._json(404, {"message": "not found"})
        if len(path) == 3:
            return self._json(200, self._locations())
        return self._data(tuple(path[3].split(",")), query)

    def _collection(self) -> dict[str, Any]:
        edr = self.served
        link = {"link": {"href": f"{edr.url}/collections/{edr.collection}/locations", "rel": "data"}}
        return {
            "id": edr.collection,
            "extent": {"temporal": {"interval": [["1990-01-01T00:00:00Z", None]]}},
            "data_queries": {"locations": link},
            "parameter_names": {
                n: {"type": "Parameter", "unit": {"symbol": {"value": u}}, "observedProperty": {"label": n}}
                for n, u in edr.parameters.items()
            },
        }

    def _locations(self) -> dict[str, Any]:
        features = [
            {
                "type": "Feature",
                "id": p.id,
                "geometry": {"type": "Point", "coordinates": [p.longitude, p.latitude, p.height]},
                "properties": {"name": p.name} | ({"parameter-name": list(p.parameters)} if p.parameters else {}),
            }
            for p in self.served.places
        ]
        return {"type": "FeatureCollection", "features": features}

    def _data(self, stations: tuple[str, ...], query: dict[str, str]) -> None:
        edr, now = self.served, self.served.behaviour
        names = tuple(query.get("parameter-name", "").split(","))
        first, _, last = query.get("datetime", "").partition("/")

        def note(status: int, whole: bool = True) -> None:
            with edr.lock:
                edr.answers.append(Answered(stations, first, last, names, status, time.monotonic(), whole))

        if (wait := self.quota()) is not None:
            note(429)
            headers = {"Retry-After": str(int(np.ceil(wait)))} if now.say_seconds else {}
            return self._json(429, {"message": "Quota exceeded"}, headers)
        with edr.lock:
            edr.under_way += 1
            edr.most_under_way = max(edr.most_under_way, edr.under_way)
            load = edr.under_way
        try:
            if now.latency:
                time.sleep(now.latency * max(1.0, load / now.capacity) ** 1.3)
            fails, cut = self.luck()
            if fails:
                note(now.error_status)
                return self._json(now.error_status, {"message": "out of order"})
            by_id = {p.id: p for p in edr.places}
            unknown = [s for s in stations if s not in by_id]
            if unknown or (len(stations) > 1 and not now.several):
                status = 404 if unknown and len(stations) == 1 else 400
                note(status)
                return self._json(status, {"message": f"no location {','.join(stations)}"})
            if any(n not in edr.parameters for n in names) or not first or not last:
                note(400)
                return self._json(400, {"message": "bad query"})
            step = timedelta(minutes=edr.every)
            begin, end = (datetime.fromisoformat(t) for t in (first, last))
            # Points are counted as asked for; what has not happened yet is not served.
            points = len(stations) * len(names) * (int((end - begin) / step) + 1)
            if points > now.points:
                note(413)
                text = f"Maximum number of requested data points exceeded (total_datapoints={points})"
                return self._json(413, {"message": text})
            end = min(end, edr.now())
            body = orjson.dumps(
                _document([by_id[s] for s in stations], names, begin, end, edr), option=orjson.OPT_SERIALIZE_NUMPY
            )
            note(200, not cut)
            self._send(200, body, {}, cut=len(body) // 2 if cut else None)
        finally:
            with edr.lock:
                edr.under_way -= 1
        return None

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, orjson.dumps(document), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/prs.coverage+json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


def _document(stations: list[Place], names: Sequence[str], begin: datetime, end: datetime, edr: Edr) -> dict[str, Any]:
    first, last = (np.datetime64(t.astimezone(UTC).replace(tzinfo=None), "s") for t in (begin, end))
    times = np.arange(first, last + np.timedelta64(1, "s"), np.timedelta64(edr.every * 60, "s"))
    labels = [f"{t}Z" for t in np.datetime_as_string(times, unit="s").tolist()]
    return {
        "type": "CoverageCollection",
        "domainType": "PointSeries",
        "parameters": {n: {"type": "Parameter", "unit": {"symbol": edr.parameters[n]}} for n in names},
        "coverages": [_coverage(s, names, times, labels, edr) for s in stations],
    }


def _coverage(place: Place, names: Sequence[str], times: np.ndarray, labels: list[str], edr: Edr) -> dict[str, Any]:
    shape = [len(times), 1, 1]
    mine = [n for n in names if not place.parameters or n in place.parameters]
    return {
        "type": "Coverage",
        "eumetnet:locationId": place.id,
        "domain": {
            "type": "Domain",
            "domainType": "PointSeries",
            "axes": {"x": {"values": [place.longitude]}, "y": {"values": [place.latitude]}, "t": {"values": labels}},
        },
        "ranges": {
            n: {
                "type": "NdArray", "dataType": "float", "axisNames": ["t", "y", "x"], "shape": shape,
                "values": edr.data(place, n, times),
            }
            for n in mine
        },
    }  # fmt: skip
