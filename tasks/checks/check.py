"""What a check is: one variable of a run in, a score between 0 and 1 and the reasons out."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from ..lake.registry import Plugin, Registry, Strict


@dataclass(frozen=True)
class Subject:
    """One variable of one run as the checks see it, read once for all of them.

    ``values`` is float32 of shape (lead_time, member, level, y, x): length 1 where the cube has no such
    dimension. ``present`` (lead_time, member, level) is True where the source had a field; elsewhere the
    values are NaN on purpose. ``lead_time`` holds hours; ``member`` and ``level`` are None without that
    dimension. ``latitude``/``longitude`` are degrees, 1-D for a rectilinear grid, else 2-D.

    Every (lead_time, member, level) of a subject is expected: steps at which the model does not produce the
    variable are left out of it. ``window_start`` (lead_time,) holds the hour at which the window of an
    accumulated, averaged or extreme field begins; None means that all begin with the run.
    """

    name: str
    units: str
    window: str
    values: np.ndarray
    present: np.ndarray
    lead_time: np.ndarray
    member: np.ndarray | None
    level: np.ndarray | None
    latitude: np.ndarray
    longitude: np.ndarray
    attributes: Mapping[str, object] = field(default_factory=dict)
    window_start: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A field that a check found fault with: lead_time in hours, member and level where there are any."""

    lead_time: int
    member: int | None = None
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says: a score (1 is faultless), the offending cells and one sentence.

    ``weight`` is that of the check, for the score of the run.
    """

    check: str
    variable: str
    score: float
    sentence: str
    cells: Sequence[Cell] = ()
    fatal: bool = False
    weight: float = 1.0


FIRST_FAULT = 0.1
"""What the first faulty field costs. One bad field in thousands must not drown in the share."""


class Check(Plugin):
    """A plug-in check. Registers with ``@checks.register(name)``; its fields are its tolerances."""

    standard: ClassVar[bool] = True
    """Whether the check belongs to the default suite (then every field needs a default)."""

    weight: float = Field(default=1.0, gt=0, description="Exponent of its score: 1 counts in full, 0.5 half.")
    fatal: bool = Field(default=False, description="Whether any fault rejects the run whatever the score.")

    @abstractmethod
    def run(self, subject: Subject) -> Finding:
        """Judge one variable. Must not change ``subject.values`` and never raises for bad data."""

    def finding(
        self, subject: Subject, sentence: str, faulty: np.ndarray | None = None, *, of: int = 0, unusable: bool = False
    ) -> Finding:
        """A finding from the faulty fields.

        ``faulty`` is boolean (lead_time, member, level), None for no fault; ``of`` counts the fields judged.
        The score is 1 without a fault, else (1 - FIRST_FAULT) x (share of sound fields). ``unusable`` makes a
        fault fatal; so does the check's own ``fatal``.
        """
        if faulty is None or not faulty.any():
            return Finding(self.type, subject.name, 1.0, sentence, weight=self.weight)
        where = np.argwhere(faulty)
        share = min(1.0, len(where) / max(of, 1))
        cells = tuple(cell(subject, *map(int, index)) for index in where)
        score = (1.0 - FIRST_FAULT) * (1.0 - share)
        return Finding(self.type, subject.name, score, sentence, cells, self.fatal or unusable, self.weight)


def cell(subject: Subject, time: int, member: int, level: int) -> Cell:
    """The field at these positions of ``subject.values``, by its coordinates."""
    return Cell(
        lead_time=int(subject.lead_time[time]),
        member=None if subject.member is None else int(subject.member[member]),
        level=None if subject.level is None else float(subject.level[level]),
    )


checks: Registry[Check] = Registry("check", "tasks.checks")


class CheckConfig(Strict):
    """Acceptance scale of a recipe: which checks run, and what score leads to which verdict."""

    accept_above: float = Field(default=0.95, ge=0, le=1)
    flag_above: float = Field(default=0.8, ge=0, le=1, description="From here a run is published flagged.")
    defaults: bool = Field(default=True, description="Run the default suite; entries of 'run' replace or join it.")
    run: tuple[checks.field, ...] = ()  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _something_runs(self) -> "CheckConfig":
        if not self.defaults and not self.run:
            raise ValueError("switches every check off: name at least one in 'run' or leave 'defaults' on")
        if self.flag_above > self.accept_above:
            raise ValueError(f"flag_above ({self.flag_above}) is higher than accept_above ({self.accept_above})")
        return self
