"""What a check is: a watch over the fields of one variable, that ends in a score and the reasons for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import Field as Key

from ..lake.registry import Plugin, Registry
from .field import Field, Index

FIRST_FAULT = 0.1
"""What the first faulty field costs. One bad field in thousands must not drown in the share."""


class Values(Protocol):
    """The fields of a variable, read when asked for: ``values[time, member, level]`` is float32 (y, x).

    ``shape`` is (lead_time, member, level, y, x). A numpy array of five dimensions is one.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of (lead_time, member, level, y, x)."""
        ...

    def __getitem__(self, index: Any, /) -> np.ndarray:
        """The field at (time, member, level)."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """How an array is stored: dtype, dimensions (without init_time), their lengths, units."""

    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    units: str


@dataclass(frozen=True, slots=True)
class Structure:
    """What a run's branch says of itself, and what the recipe and the source's metadata say it should be.

    ``axes``: name -> (stored, expected) values of the coordinates that the variable has. ``init_time`` and
    ``valid_time`` (lead_time,) are the stored ones of the run, ``run`` the run's own: seconds since 1970, UTC.
    """

    stored: Form
    expected: Form
    axes: Mapping[str, tuple[np.ndarray, np.ndarray]]
    run: int
    init_time: int
    valid_time: np.ndarray


class Origin(Protocol):
    """The source messages behind the fields of a variable."""

    def second(self, index: Index) -> tuple[np.ndarray, np.ndarray | float] | str | None:
        """The field once more by a second decoder, in the order of the cube, and how far each value may lie from
        the stored one (packing and rounding). What is wrong with the message, in words, where it is; None when it
        is not to be had any more, or there is no second decoder for it."""
        ...

    def place(self, index: Index) -> str:
        """Where the message of a field lies, for a sentence."""
        ...

    def changed(self) -> list[str]:
        """Source objects that are not what they were when the manifest was made: one sentence part each."""
        ...


@dataclass(frozen=True, slots=True)
class Climate:
    """The last accepted runs of a variable, at the lead times and levels of the subject.

    ``statistics`` is float64 (run, lead_time, level, statistic) in the order of `statistics.NAMES`, the mean over
    the members; ``pattern`` (run, lead_time, level, box) means over boxes of the map; NaN where a run has none.
    ``digests`` maps the digest of a field (of the first member) to the run and lead time (h) it was seen at.
    """

    runs: tuple[str, ...]
    statistics: np.ndarray
    pattern: np.ndarray
    digests: Mapping[int, tuple[str, int]]


@dataclass(frozen=True)
class Subject:
    """One variable of one run as the checks see it.

    ``values`` has the shape (lead_time, member, level, y, x): length 1 where the cube has no such dimension.
    ``present`` (lead_time, member, level) is True where the source had a field; elsewhere the values are NaN on
    purpose. ``lead_time`` holds hours; ``member`` and ``level`` are None without that dimension.
    ``latitude``/``longitude`` are degrees, 1-D for a rectilinear grid, else 2-D.

    Every (lead_time, member, level) of a subject is expected: steps at which the model does not produce the
    variable are left out of it. ``window_start`` (lead_time,) holds the hour at which the window of an
    accumulated, averaged or extreme field begins; None means that all begin with the run. ``partner`` is the
    variable that this one may never lie below (the minimum of a maximum), of the same shape.
    """

    name: str
    units: str
    window: str
    values: Values
    present: np.ndarray
    lead_time: np.ndarray
    member: np.ndarray | None
    level: np.ndarray | None
    latitude: np.ndarray
    longitude: np.ndarray
    attributes: Mapping[str, object] = field(default_factory=dict)
    window_start: np.ndarray | None = None
    structure: Structure | None = None
    climate: Climate | None = None
    origin: Origin | None = None
    partner: "Subject | None" = None

    @property
    def points(self) -> int:
        """Grid points of a field."""
        return int(np.prod(self.values.shape[3:]))


@dataclass(frozen=True, slots=True)
class Cell:
    """A field that a check found fault with: lead_time in hours, member and level where there are any."""

    lead_time: int
    member: int | None = None
    level: float | None = None

    @property
    def key(self) -> str:
        """The cell as keys and commands write it: ``024-m01-l500``."""
        member = "" if self.member is None else f"-m{self.member:02d}"
        return f"{self.lead_time:03d}{member}" + ("" if self.level is None else f"-l{self.level:g}")


class Action(StrEnum):
    """What becomes of cells whose check scored below ``flag_above``."""

    ACCEPT = "accept"
    FLAG = "flag"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says: a score (1 is faultless), the offending cells and one sentence.

    No cells and a score below 1 mean the whole variable. ``fatal`` cells cannot be used whatever the score.
    ``weight`` is that of the check, for the score of the run; ``source`` the message behind the sentence.
    """

    check: str
    variable: str
    score: float
    sentence: str
    cells: Sequence[Cell] = ()
    fatal: bool = False
    weight: float = 1.0
    source: str = ""


class Check(Plugin):
    """A plug-in check. Registers with ``@checks.register(name)``; its fields are its tolerances and its scale."""

    standard: ClassVar[bool] = True
    """Whether the check belongs to the default suite (then every field needs a default)."""

    weight: float = Key(default=1.0, gt=0, description="Exponent of its score: 1 counts in full, 0.5 half.")
    tolerance: float = Key(default=0.0, ge=0, lt=1, description="Share of its fields that may be faulty at no cost.")
    fatal: bool = Key(default=False, description="Whether any fault makes a cell unusable whatever the score.")
    accept_above: float | None = Key(
        default=None, ge=0, le=1, description="Instead of the scale's own, for this check."
    )
    flag_above: float | None = Key(default=None, ge=0, le=1, description="Instead of the scale's own, for this check.")
    action: Action = Key(default=Action.QUARANTINE, description="What happens to its cells below flag_above.")

    @abstractmethod
    def watch(self, subject: Subject) -> "Watch":
        """A watch over a variable; it is shown every field that is there, once."""

    def run(self, subject: Subject) -> Finding:
        """Judge one variable by this check alone."""
        from .inspection import inspect

        return inspect([subject], [self])[0]


class Watch[C: Check](ABC):
    """A check at work on one variable. Keeps little: a few numbers a field, the field before.

    Fields come member by member and level by level, in the order of lead_time within each. ``faulty`` is boolean
    (lead_time, member, level), for `see` to fill in. Neither method changes values or raises for bad data.
    """

    def __init__(self, check: C, subject: Subject) -> None:
        self.check = check
        self.subject = subject
        self.faulty = np.zeros(subject.present.shape, bool)

    def see(self, field: Field) -> None:
        """Look at one field. ``field.values`` may be kept, never changed."""
        del field

    @abstractmethod
    def finding(self) -> Finding:
        """What is to be said, once all fields were seen."""

    @property
    def total(self) -> int:
        """Number of fields that are there."""
        return int(np.count_nonzero(self.subject.present))

    def sound(self, sentence: str) -> Finding:
        """A finding without a fault."""
        return Finding(self.check.type, self.subject.name, 1.0, sentence, weight=self.check.weight)

    def faults(self, sentence: str, at: Index, *, of: int, unusable: bool = False) -> Finding:
        """A finding from ``faulty``; ``of`` counts the fields judged, ``at`` is the one the sentence speaks of.

        The score is (1 - FIRST_FAULT) x (share of sound fields), or 1 within the check's tolerance. ``unusable``
        makes the fault fatal; so does the check's own ``fatal``.
        """
        where = np.argwhere(self.faulty)
        share = min(1.0, len(where) / max(of, 1))
        if share <= self.check.tolerance and not unusable:
            return self.sound(f"{sentence.removesuffix('.')} (within the tolerance of {self.check.tolerance:g}).")
        subject = self.subject
        return Finding(
            self.check.type,
            subject.name,
            (1.0 - FIRST_FAULT) * (1.0 - share),
            sentence,
            tuple(cell(subject, *map(int, index)) for index in where),
            self.check.fatal or unusable,
            self.check.weight,
            subject.origin.place(at) if subject.origin is not None else "",
        )

    def first(self) -> Index:
        """The first faulty field, by lead time."""
        time, member, level = np.argwhere(self.faulty)[0].tolist()
        return time, member, level


class Quiet(Watch[Check]):
    """A watch of a check that has nothing to judge in this variable."""

    def __init__(self, check: Check, subject: Subject, sentence: str) -> None:
        super().__init__(check, subject)
        self._sentence = sentence

    def finding(self) -> Finding:
        return self.sound(f"{self.subject.name}: {self._sentence}.")


def cell(subject: Subject, time: int, member: int, level: int) -> Cell:
    """The field at these positions of ``subject.values``, by its coordinates."""
    return Cell(
        lead_time=int(subject.lead_time[time]),
        member=None if subject.member is None else int(subject.member[member]),
        level=None if subject.level is None else float(subject.level[level]),
    )


checks: Registry[Check] = Registry("check", "tasks.checks")
