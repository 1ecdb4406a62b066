"""Coordinates: that a value is where it says it is."""

import numpy as np

from .check import Check, Finding, Subject, checks


@checks.register("coordinates")
class Coordinates(Check):
    """lead_time rises strictly; latitude and longitude are monotone (1-D) and in range; members and levels unique.

    Latitudes lie within -90..90, longitudes within -180..360 and span at most a full circle, both in degrees;
    the lengths fit ``values``. Any fault is fatal: every field would be read at the wrong place.
    """

    type: str = "coordinates"
    fatal: bool = True

    def run(self, subject: Subject) -> Finding:
        times, members, levels, rows, columns = subject.values.shape
        faults = [
            *_rising("lead_time", subject.lead_time, times),
            *_unique("member", subject.member, members),
            *_unique("level", subject.level, levels),
            *_axis("latitude", subject.latitude, rows, (rows, columns), -90.0, 90.0),
            *_axis("longitude", subject.longitude, columns, (rows, columns), -180.0, 360.0),
        ]
        if subject.present.shape != (times, members, levels):
            faults.append(f"present has shape {subject.present.shape} and values {subject.values.shape}")
        if not faults:
            return self.finding(subject, f"{subject.name}: coordinates are in order and in range.")
        sentence = f"{subject.name}: {'; '.join(faults)}."
        return Finding(self.type, subject.name, 0.0, sentence, fatal=self.fatal, weight=self.weight)


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
