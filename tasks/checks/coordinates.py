"""Coordinates: that a value is where it says it is."""

import numpy as np

from .check import Check, Finding, Subject, Watch, checks


@checks.register("coordinates")
class Coordinates(Check):
    """lead_time rises strictly; latitude and longitude are monotone (1-D) and in range; members and levels unique.

    Latitudes lie within -90..90, longitudes within -180..360 and span at most a full circle, both in degrees; the
    lengths fit ``values``. What is stored in the run's branch has the values that the recipe and the source's grid
    say, corner by corner and step by step, and its times are the run's: valid_time = init_time + lead_time. Any fault
    is fatal for the whole variable: every field would be read at the wrong place.
    """

    type: str = "coordinates"
    fatal: bool = True

    def watch(self, subject: Subject) -> Watch:
        return _Watch(self, subject)


class _Watch(Watch[Coordinates]):
    def finding(self) -> Finding:
        subject = self.subject
        times, members, levels, rows, columns = subject.values.shape
        faults = [
            *_rising("lead_time", subject.lead_time, times),
            *_unique("member", subject.member, members),
            *_unique("level", subject.level, levels),
            *_axis("latitude", subject.latitude, rows, (rows, columns), -90.0, 90.0),
            *_axis("longitude", subject.longitude, columns, (rows, columns), -180.0, 360.0),
            *_as_expected(subject),
        ]
        if subject.present.shape != (times, members, levels):
            faults.append(f"present has shape {subject.present.shape} and values {subject.values.shape}")
        if not faults:
            return self.sound(f"{subject.name}: coordinates are in order, in range and as expected.")
        check = self.check
        return Finding(
            check.type, subject.name, 0.0, f"{subject.name}: {'; '.join(faults)}.", fatal=check.fatal,
            weight=check.weight,
        )  # fmt: skip


def _as_expected(subject: Subject) -> list[str]:
    """What of the stored coordinates is not as the recipe and the source's grid say."""
    structure = subject.structure
    if structure is None:
        return []
    faults = []
    for name, (stored, expected) in structure.axes.items():
        if stored.shape != expected.shape:
            faults.append(f"{name} has shape {stored.shape}, expected {expected.shape}")
        elif not np.allclose(stored, expected, rtol=0, atol=1e-4, equal_nan=True):
            at = np.unravel_index(int(np.argmax(np.abs(stored - expected))), stored.shape)
            where = ", ".join(str(int(i)) for i in at)
            faults.append(f"{name} is {float(stored[at]):g} at position {where}, expected {float(expected[at]):g}")
    if structure.init_time != structure.run:
        faults.append(f"init_time is {_time(structure.init_time)}, the run is {_time(structure.run)}")
    wanted = structure.run + 3600 * np.asarray(subject.lead_time, dtype="int64")
    wrong = np.flatnonzero(structure.valid_time != wanted) if wanted.shape == structure.valid_time.shape else [0]
    if len(wrong):
        at = int(wrong[0])
        found = _time(int(structure.valid_time[at])) if structure.valid_time.size else "nothing"
        faults.append(f"valid_time at +{int(subject.lead_time[at])} h is {found}, expected {_time(int(wanted[at]))}")
    return faults


def _time(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))[:16]


def _rising(name: str, values: np.ndarray, length: int) -> list[str]:
    if values.shape != (length,):
        return [f"{name} has shape {values.shape} for {length} steps"]
    wrong = np.flatnonzero(~(np.diff(values) > 0))
    if wrong.size:
        at = int(wrong[0])
        return [f"{name} does not rise from {values[at]:g} to {values[at + 1]:g} h at position {at + 1}"]
    return []


def _unique(name: str, values: np.ndarray | None, length: int) -> list[str]:
    if values is None:
        return [] if length == 1 else [f"there are {length} {name}s without a coordinate"]
    if values.shape != (length,):
        return [f"{name} has shape {values.shape} for {length} {name}s"]
    kinds, counts = np.unique(values, return_counts=True)
    if (counts > 1).any():
        return [f"{name} {float(kinds[counts > 1][0]):g} is there {int(counts.max())} times"]
    return []


def _axis(name: str, values: np.ndarray, length: int, plane: tuple[int, int], low: float, high: float) -> list[str]:
    shape = (length,) if values.ndim == 1 else plane
    if values.shape != shape:
        return [f"{name} has shape {values.shape}, the grid {plane}"]
    if not np.isfinite(values).all():
        return [f"{name} has {int(np.count_nonzero(~np.isfinite(values)))} values that are no numbers"]
    smallest, largest = float(values.min()), float(values.max())
    # A thousandth of a degree, because coordinates are often stored as float32.
    if smallest < low - 1e-3 or largest > high + 1e-3:
        return [f"{name} runs from {smallest:g} to {largest:g} degrees, outside {low:g}..{high:g}"]
    if largest - smallest > 360.0 + 1e-3:
        return [f"{name} runs from {smallest:g} to {largest:g} degrees, more than a full circle"]
    if values.ndim == 1 and values.size > 1:
        steps = np.diff(values)
        if not ((steps > 0).all() or (steps < 0).all()):
            sign = np.sign(np.median(steps)) or 1.0
            at = int(np.flatnonzero(steps * sign <= 0)[0])
            return [f"{name} is not monotone: {values[at]:g} is followed by {values[at + 1]:g} at position {at + 1}"]
    return []
