"""A run in a few numbers a field: what the report shows and what later runs are held against."""

import io
from dataclasses import dataclass

import numpy as np

from .check import Check, Finding, Subject, Watch
from .field import Field

NAMES = ("mean", "std", "q01", "q25", "q50", "q75", "q99", "missing")
"""Statistics of a field, of about 10,000 of its points; ``missing`` is the share of points without a value."""

BOXES = (6, 12)
"""Boxes that a map is divided into, in y and x, for its pattern."""

_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_BINS = 40
_KEPT = 200_000


def summary(field: Field) -> np.ndarray:
    """`NAMES` of a field, float64; NaN where it has no finite value. Measured once a field."""
    found = field.__dict__.get("_summary")
    if found is None:
        found = field.__dict__["_summary"] = _summary(field)
    return found


def _summary(field: Field) -> np.ndarray:
    out = np.full(len(NAMES), np.nan)
    out[-1] = field.missing / max(field.values.size, 1)
    sample = field.sample.ravel()
    if field.missing or not np.isfinite(field.low + field.high):
        sample = sample[np.isfinite(sample)]
    if sample.size:
        out[0], out[1] = sample.mean(dtype="float64"), sample.std(dtype="float64")
        out[2:7] = np.quantile(sample, _QUANTILES)
    return out


def pattern(field: Field) -> np.ndarray:
    """Means over `BOXES` of the sample, float64 (boxes,); NaN where a box has no finite value. Once a field."""
    found = field.__dict__.get("_pattern")
    if found is None:
        found = field.__dict__["_pattern"] = _pattern(field.sample)
    return found


def _pattern(sample: np.ndarray) -> np.ndarray:
    rows, columns = (min(n, have) for n, have in zip(BOXES, sample.shape, strict=True))
    out = np.full(BOXES, np.nan)
    if not rows or not columns:
        return out.ravel()
    edges = [np.arange(n) * have // n for n, have in zip((rows, columns), sample.shape, strict=True)]
    there = np.isfinite(sample)
    whole = there.all()
    values = sample.astype("float64") if whole else np.where(there, sample, 0.0).astype("float64")
    total = np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)
    count = np.add.reduceat(np.add.reduceat(there.astype("float64"), edges[0], axis=0), edges[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        out[:rows, :columns] = np.where(count > 0, total / count, np.nan)
    return out.ravel()


@dataclass(frozen=True)
class Summary:
    """The numbers of one variable of one run, as they are kept.

    ``statistics`` and ``spread`` are float32 (lead_time, level, statistic): mean and standard deviation over the
    members; ``pattern`` float32 (lead_time, level, box); ``digests`` uint64 (lead_time, level) of the first member's
    fields, 0 where there is none or it holds one value. ``low``, ``mean``, ``high`` are over everything; ``counts`` and
    ``edges`` a histogram.
    """

    lead_time: np.ndarray
    level: np.ndarray
    statistics: np.ndarray
    spread: np.ndarray
    pattern: np.ndarray
    digests: np.ndarray
    extent: np.ndarray
    counts: np.ndarray
    edges: np.ndarray

    def to_bytes(self) -> bytes:
        """As a compressed ``.npz``, the same bytes for the same numbers."""
        sink = io.BytesIO()
        np.savez_compressed(sink, **self.__dict__)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Summary":
        """From `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return cls(**{name: found[name] for name in cls.__dataclass_fields__})


class Statistics(Watch[Check]):
    """A watch that collects the numbers. It judges nothing."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        shape = subject.present.shape
        self._found = np.full((*shape, len(NAMES)), np.nan, "float32")
        self._pattern = np.zeros((shape[0], shape[2], BOXES[0] * BOXES[1]))
        self._patterns = np.zeros((shape[0], shape[2], BOXES[0] * BOXES[1]), np.int64)
        self._digests = np.zeros((shape[0], shape[2]), np.uint64)
        self._extent = (np.inf, -np.inf)
        self._values: list[np.ndarray] = []
        self._each = max(4, _KEPT // max(1, int(np.count_nonzero(subject.present))))

    def see(self, field: Field) -> None:
        time, member, level = field.index
        self._found[field.index] = summary(field)
        boxes = pattern(field)
        there = np.isfinite(boxes)
        self._pattern[time, level] += np.where(there, boxes, 0.0)
        self._patterns[time, level] += there
        if member == 0 and not field.constant:
            self._digests[time, level] = field.digest
        if np.isfinite(field.low + field.high):
            self._extent = (min(self._extent[0], field.low), max(self._extent[1], field.high))
        sample = field.sample.ravel()
        kept = sample[:: max(1, sample.size // self._each)]
        self._values.append(kept[np.isfinite(kept)])

    def finding(self) -> Finding:
        raise NotImplementedError("statistics find no fault")

    def result(self) -> Summary:
        """What was collected."""
        subject = self.subject
        found = self._found.astype("float64")
        there = np.isfinite(found)
        count = there.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(there, found, 0).sum(axis=1) / count
            spread = np.sqrt((np.where(there, found - mean[:, None], 0) ** 2).sum(axis=1) / count)
            boxes = self._pattern / self._patterns
        values = np.concatenate(self._values) if self._values else np.empty(0, "float32")
        counts, edges = np.histogram(values, _BINS) if values.size else (np.zeros(0, int), np.zeros(0))
        average = float(values.mean(dtype="float64")) if values.size else np.nan
        low, high = self._extent if self._extent[0] <= self._extent[1] else (np.nan, np.nan)
        return Summary(
            lead_time=np.asarray(subject.lead_time, "int64"),
            level=np.asarray([] if subject.level is None else subject.level, "float64"),
            statistics=mean.astype("float32"),
            spread=spread.astype("float32"),
            pattern=boxes.astype("float32"),
            digests=self._digests,
            extent=np.array([low, average, high]),
            counts=counts.astype("int64"),
            edges=edges.astype("float64"),
        )
