"""What a request asks for: times, levels, members and variables, as places along the dimensions of a snapshot."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from tasks.lake.errors import NotFound
from tasks.serving.reader import Cost, Outer, Place, cost
from tasks.serving.snapshot import Run, Snapshot

from .refusals import Refused
from .settings import Settings

FORMATS = ("CoverageJSON", "JSON", "CSV")
CRS = ("CRS84", "OGC:CRS84", "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "EPSG:4326")
"""What the API understands by ``crs``: coordinates are longitude, latitude in degrees, whatever it is called."""

_MOST_LISTED = 200


@dataclass(frozen=True, eq=False)
class Asked:
    """A request on one run: variables, and the places along lead_time, member and level that are wanted."""

    collection: str
    snapshot: Snapshot
    run: Run
    names: tuple[str, ...]
    leads: np.ndarray
    outer: Outer

    @property
    def valid_times(self) -> np.ndarray:
        """Valid times of the lead times that were asked for: datetime64[s], UTC."""
        return self.run.init + np.round(self.snapshot.lead_time[self.leads] * 3600).astype("timedelta64[s]")

    def values(self, dim: str) -> np.ndarray:
        """Coordinate values along ``member`` or ``level`` that were asked for."""
        known = self.snapshot.outer[dim][0]
        at = self.outer.at.get(dim)
        return known if at is None else known[at]

    def cost(self, place: Place) -> Cost:
        """What reading all variables at a place takes."""
        total = Cost(0, 0, 0)
        for name in self.names:
            total += cost(self.snapshot.variables[name], place, self.outer)
        return total


def ask(
    collection: str,
    snapshot: Snapshot,
    *,
    run: str | None = None,
    parameter_name: str | None = None,
    datetime: str | None = None,
    z: str | None = None,
    member: str | None = None,
) -> Asked:
    """A request's common parameters, looked up in a snapshot. Raises ``Refused`` (400, 404)."""
    try:
        found = snapshot.newest if run is None else snapshot.run(run)
    except NotFound:
        raise Refused(404, "no run has been published yet" if run is None else "there is no such run") from None
    names = _names(snapshot, parameter_name)
    init = found.init.astype("int64")
    seconds = init + np.round(snapshot.lead_time * 3600).astype("int64")
    leads = np.arange(len(seconds)) if datetime is None else _times(seconds, datetime)
    at: dict[str, np.ndarray] = {}
    if len(leads) != len(seconds):
        at["lead_time"] = leads
    for dim, text in (("level", z), ("member", member)):
        if text is not None:
            at[dim] = _numbers(snapshot, names, dim, text)
    return Asked(collection, snapshot, found, names, leads, Outer(at))


def only(known: Iterable[str], given: Sequence[str]) -> None:
    """Raises ``Refused`` (400) for a query parameter that there is not, or that is there twice."""
    if len(given) > len(set(given)):
        raise Refused(400, "a parameter is given once; lists are written with commas")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise Refused(400, f"there is no parameter {unknown[0][:40]!r}; there are: {', '.join(sorted(known))}")


def affordable(found: Cost, settings: Settings) -> None:
    """Raises ``Refused`` (413) for a request that is more than is given at once."""
    if found.values > settings.max_values:
        raise Refused(
            413, f"this would be {found.values:,} values; an answer has {settings.max_values:,} at most: ask for less"
        )
    if found.bytes > settings.max_read_mb * 1e6:
        raise Refused(
            413,
            f"this would read {found.bytes / 1e6:,.0f} MB of chunks; a request may read {settings.max_read_mb:,} MB: "
            "ask for a smaller place or fewer variables, or a collection with point-shaped chunks",
        )


def _names(snapshot: Snapshot, text: str | None) -> tuple[str, ...]:
    if text is None:
        return tuple(snapshot.variables)
    names = tuple(dict.fromkeys(text.split(",")))
    unknown = [n for n in names if n not in snapshot.variables]
    if unknown:
        known = ", ".join(list(snapshot.variables)[:_MOST_LISTED])
        raise Refused(400, f"there is no parameter-name {unknown[0][:40]!r}; there are: {known}")
    return names


def _times(seconds: np.ndarray, text: str) -> np.ndarray:
    """Places of the valid times that an instant or interval of EDR names."""
    start, slash, end = text.partition("/")
    first = -math.inf if slash and start in ("..", "") else _instant(start)
    last = first if not slash else math.inf if end in ("..", "") else _instant(end)
    if not slash and not math.isfinite(first):
        raise Refused(400, "datetime must be a time or an interval in RFC 3339, such as 2026-11-20T06:00:00Z/..")
    found = np.flatnonzero((seconds >= first) & (seconds <= last))
    if not found.size:
        raise Refused(404, f"the run has no such time; it goes from {_text(seconds.min())} to {_text(seconds.max())}")
    return found


def _instant(text: str) -> float:
    try:
        # A blank is what becomes of the plus of an offset that was not encoded.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        pass
    raise Refused(400, "datetime must be a time or an interval in RFC 3339, such as 2026-11-20T06:00:00Z/..")


def _numbers(snapshot: Snapshot, names: Iterable[str], dim: str, text: str) -> np.ndarray:
    """Places of the levels or members that ``a``, ``a,b`` or ``a/b`` (from, to) names."""
    word = "z" if dim == "level" else "member"
    if dim not in snapshot.outer or not any(dim in snapshot.variables[n].layout.dims for n in names):
        raise Refused(400, f"nothing that was asked for has a {dim}; leave {word} out")
    known = np.asarray(snapshot.outer[dim][0], dtype="float64")
    if not re.fullmatch(r"[-+0-9.eE]+([,/][-+0-9.eE]+)*", text) or text.count("/") > 1 or {"/", ","} <= set(text):
        raise Refused(400, f"{word} must be a number, a list (a,b) or a range (a/b)")
    try:
        wanted = np.array([float(part) for part in re.split("[,/]", text)])
    except ValueError:
        raise Refused(400, f"{word} must be a number, a list (a,b) or a range (a/b)") from None
    if "/" in text:
        found = np.flatnonzero((known >= wanted.min()) & (known <= wanted.max()))
    else:
        found = np.flatnonzero(np.isclose(known[:, None], wanted[None, :]).any(axis=1))
    if not found.size:
        raise Refused(404, f"there is no such {dim}; there are: {', '.join(f'{v:g}' for v in known[:_MOST_LISTED])}")
    return found


def _text(seconds: float) -> str:
    return f"{np.datetime64(int(seconds), 's')}Z"


def described(attributes: Mapping[str, object], name: str) -> tuple[str, str, str]:
    """A variable's name in words, its unit and its CF standard name."""
    return (
        str(attributes.get("long_name") or name),
        str(attributes.get("units") or "1"),
        str(attributes.get("standard_name") or ""),
    )
