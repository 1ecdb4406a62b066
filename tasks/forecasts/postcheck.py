"""What is looked at before a regridded run is published: complete, within the range of its source, mean conserved.

Every partition notes a `Tally` of each of its arrays while the values are at hand; the tallies of all blocks
together make the judgement, so nothing has to be read again.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..lake.errors import CorruptInput
from ..lake.partition import Output

ROWS = ("low", "high", "missing", "total", "source_low", "source_high", "source_missing", "source_total", "fallen")
"""What a tally holds per field: lowest and highest value, cells without a value (of those the source covers), and the
sum of values times areas, of the block and of the source behind it; values that fell where they cannot."""

_SUMMED = ("missing", "total", "source_missing", "source_total", "fallen")
_ROUNDING = 1e-6
"""By how much (of the largest value) float32 sums may leave the range of what they were made from."""

_SHARDS = ".shards"


@dataclass(frozen=True)
class Tally:
    """Numbers per field: float64 ``(len(ROWS), lead_time[, member][, level])``, NaN where they do not apply."""

    values: np.ndarray

    @classmethod
    def empty(cls, fields: tuple[int, ...]) -> "Tally":
        """A tally of that many fields, to be filled."""
        return cls(np.full((len(ROWS), *fields), np.nan))

    def __getitem__(self, row: str) -> np.ndarray:
        return self.values[ROWS.index(row)]

    def note(self, fields: np.ndarray, covered: int, field_dims: int) -> None:
        """Range and gaps of fields ``(*fields, *block)``; ``covered`` cells of the block see the source."""
        flat = fields.reshape(*fields.shape[:field_dims], -1)
        self["low"][...], self["high"][...] = np.fmin.reduce(flat, axis=-1), np.fmax.reduce(flat, axis=-1)
        gaps = flat.shape[-1] - covered
        self["missing"][...] = np.count_nonzero(np.isnan(flat), axis=-1) - gaps

    def add(self, other: "Tally") -> None:
        """Take in the tally of another block."""
        for row in ROWS:
            mine, theirs = self[row], other[row]
            if row in _SUMMED:
                mine += theirs
            elif row.endswith("low"):
                np.fmin(mine, theirs, out=mine)
            else:
                np.fmax(mine, theirs, out=mine)


def pack(tallies: Mapping[str, Tally], shards: Sequence[Output]) -> bytes:
    """Tallies and the shards that a partition wrote (``uri`` is the chunk's key) as one file."""
    sink = io.BytesIO()
    table = np.array([(s.uri, s.digest, str(s.bytes)) for s in shards])
    np.savez(sink, allow_pickle=False, **{name: t.values for name, t in tallies.items()}, **{_SHARDS: table})
    return sink.getvalue()


def unpack(data: bytes, where: str) -> tuple[dict[str, Tally], list[Output]]:
    """What `pack` made. Raises ``CorruptInput``."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            shards = [Output(str(uri), str(digest), int(size)) for uri, digest, size in file[_SHARDS]]
            return {name: Tally(file[name]) for name in file.files if name != _SHARDS}, shards
    except (ValueError, KeyError, OSError) as error:
        raise CorruptInput(f"{where} is no tally of a regridded block ({error})") from None


def merged(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """The tallies of all blocks as one per array."""
    whole: dict[str, Tally] = {}
    for part in parts:
        for name, tally in part.items():
            if name in whole:
                whole[name].add(tally)
            else:
                whole[name] = Tally(tally.values.copy())
    return whole


@dataclass(frozen=True)
class Subject:
    """An array as the judgement names it: its fields' dimensions and their values, for the sentence.

    ``limits`` are what its values can be whatever the weather; None leaves a side open.
    """

    name: str
    axes: Mapping[str, Sequence[float]]
    limits: tuple[float | None, float | None] = (None, None)
    units: str = ""

    def at(self, place: tuple[int, ...]) -> str:
        """``step 6 h, member 3, level 850``."""
        words = {"lead_time": "step {:g} h", "member": "member {:g}", "level": "level {:g}"}
        return ", ".join(words[n].format(v[i]) for (n, v), i in zip(self.axes.items(), place, strict=True))


def judge(subject: Subject, tally: Tally, *, mean: bool, bounded: bool, area: float, conservation: float) -> list[str]:
    """What is wrong with an array, a sentence each, the worst field named; empty when nothing is.

    ``mean``: a conservative method, so the mean over ``area`` must be kept within ``conservation`` of the field's
    largest value. ``bounded``: the weights are an average, so values stay within the range of the source.
    """
    found = []
    gaps = np.where(tally["source_missing"] == 0, tally["missing"], 0)
    if (worst := _worst(gaps)) is not None:
        count = int(gaps[worst])
        found.append(f"{subject.name} has no value in {count} cell(s) at {subject.at(worst)}{_others(gaps)}")
    with np.errstate(invalid="ignore"):
        if (worst := _worst(tally["fallen"])) is not None:
            found.append(
                f"{subject.name} would be negative in {int(tally['fallen'][worst])} cell(s) at {subject.at(worst)}"
                f"{_others(tally['fallen'])}: an accumulated field at that step or the one before is wrong"
            )
        largest = np.fmax(np.abs(tally["source_low"]), np.abs(tally["source_high"]))
        if mean:
            before, after = tally["source_total"] / area, tally["total"] / area
            change = np.where(largest > 0, np.abs(after - before) / largest, 0)
            if (worst := _worst(np.where(change > conservation, change, 0))) is not None:
                found.append(
                    f"the mean of {subject.name} at {subject.at(worst)} is not conserved: {before[worst]:.9g} before "
                    f"and {after[worst]:.9g} after, {change[worst]:.2g} of the largest value"
                    f" (allowed {conservation:g}){_others(change > conservation)}"
                )
        if bounded:
            slack = _ROUNDING * largest
            beyond = np.fmax(tally["high"] - tally["source_high"] - slack, tally["source_low"] - tally["low"] - slack)
            if (worst := _worst(beyond)) is not None:
                found.append(
                    f"{subject.name} at {subject.at(worst)} goes from {tally['low'][worst]:.6g} to "
                    f"{tally['high'][worst]:.6g}, its source only from {tally['source_low'][worst]:.6g} to "
                    f"{tally['source_high'][worst]:.6g} {subject.units}{_others(beyond)}"
                )
        low, high = subject.limits
        outside = np.fmax(
            (low if low is not None else -np.inf) - tally["low"], tally["high"] - (high if high is not None else np.inf)
        )
        if (worst := _worst(outside)) is not None:
            found.append(
                f"{subject.name} at {subject.at(worst)} goes from {tally['low'][worst]:.6g} to "
                f"{tally['high'][worst]:.6g}, and can only be {_span(low, high)} {subject.units}{_others(outside)}"
            )
    return found


def _worst(amount: np.ndarray) -> tuple[int, ...] | None:
    """Place of the largest amount above zero; None when there is none."""
    amount = np.nan_to_num(np.asarray(amount, "float64"), nan=0.0, neginf=0.0)
    place = np.unravel_index(int(np.argmax(amount)), amount.shape)
    return tuple(int(i) for i in place) if amount[place] > 0 else None


def _others(amount: np.ndarray) -> str:
    count = int(np.count_nonzero(np.nan_to_num(np.asarray(amount, "float64"), nan=0.0, neginf=0.0) > 0)) - 1
    return f" and {count} more field(s)" if count > 0 else ""


def _span(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"{low:g} or more" if low is not None else f"{high:g} or less"
