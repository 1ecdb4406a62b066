"""What a check is: one variable of a run in, a score between 0 and 1 and the reasons out."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from ..lake.registry import Plugin, Registry, Strict


@dataclass(frozen=True)
class Subject:
    """One variable of one run as the checks see it, read once for all of them.

    ``values`` is float32 of shape (lead_time, member, level, y, x): length 1 where the cube has no such
    dimension. ``present`` (lead_time, member, level) is True where the source had a field; elsewhere the
    values are NaN on purpose. ``lead_time`` holds hours; ``member`` and ``level`` are None without that
    dimension. ``latitude``/``longitude`` are degrees, 1-D for a rectilinear grid, else 2-D.
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


@dataclass(frozen=True, slots=True)
class Cell:
    """A field that a check found fault with: lead_time in hours, member and level where there are any."""

    lead_time: int
    member: int | None = None
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says: a score (1 is faultless), the offending cells and one sentence."""

    check: str
    variable: str
    score: float
    sentence: str
    cells: Sequence[Cell] = ()
    fatal: bool = False


class Check(Plugin):
    """A plug-in check. Registers with ``@checks.register(name)``; its fields are its tolerances."""

    weight: float = Field(default=1.0, gt=0, description="Weight in the score of the run.")
    fatal: bool = Field(default=False, description="Whether any fault rejects the run whatever the score.")

    @abstractmethod
    def run(self, subject: Subject) -> Finding:
        """Judge one variable. Must not change ``subject.values`` and never raises for bad data."""


checks: Registry[Check] = Registry("check", "tasks.checks")


class CheckConfig(Strict):
    """Acceptance scale of a recipe: which checks run, and what score leads to which verdict."""

    accept_above: float = Field(default=0.95, ge=0, le=1)
    flag_above: float = Field(default=0.8, ge=0, le=1, description="Between this and accept_above a run is published flagged.")
    run: tuple[checks.field, ...] = ()  # type: ignore[valid-type]
