"""Accumulations: what has fallen cannot be taken back. Names the source field that is wrong."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index
from .limits import traits
from .phrases import others, place, quantity

_ROWS = 32


@checks.register("accumulation")
class Accumulation(Check):
    """Accumulated fields do not fall along lead_time beyond what packing and rounding explain.

    Judged are windows ``accum`` of parameters with the trait ``rising`` and those named in ``variables`` (fluxes
    with a sign may fall, so an unknown parameter is left alone). Steps are compared only within windows that
    begin at the same time (``Subject.window_start``). A point falls when it loses more than ``relative`` of its
    value (mantissa bits kept: 2**-7) plus ``packing`` of the field's largest (two fields packed with 12 bits).

    The fault is put on the field that disagrees with both its neighbours: where a later field is no smaller
    than the one before the fall, the falling field is too low, otherwise the one before it is too high. A
    deaccumulation would instead spread the damage over two steps.
    """

    type: str = "accumulation"
    variables: tuple[str, ...] = Key(default=(), description="Further variables that must never fall.")
    relative: float = Key(default=2.0**-7, ge=0, lt=1)
    packing: float = Key(default=2.0**-12, ge=0, lt=1)
    allowed: float = Key(default=0.0, ge=0, lt=1, description="Share of points that may fall all the same.")

    def watch(self, subject: Subject) -> Watch:
        rising = "rising" in (traits(subject) or ()) or subject.name in self.variables
        if subject.window != "accum" or not rising:
            return Quiet(self, subject, "is not an accumulation that must rise, so not judged")
        return _Watch(self, subject)


@dataclass(frozen=True, slots=True)
class _Fall:
    """A field in which something falls, until the next one tells whether it or the one before it is wrong."""

    field: Field
    good: Field
    before_good: Field | None
    falls: np.ndarray
    earlier: np.ndarray


class _Watch(Watch[Accumulation]):
    def __init__(self, check: Accumulation, subject: Subject) -> None:
        super().__init__(check, subject)
        self.window: tuple[int, int, int] | None = None
        self.good: Field | None = None
        self.before: list[Field] = []
        self.pending: _Fall | None = None
        self.worst: tuple[float, Index, str] | None = None
        self.step = np.empty((_ROWS, max(1, subject.values.shape[4])), np.float32)

    def see(self, field: Field) -> None:
        starts = self.subject.window_start
        window = (*field.index[1:], 0 if starts is None else int(starts[field.index[0]]))
        if window != self.window:
            self._end()
            self.window, self.good, self.before = window, None, []
        if self.pending is not None:
            # The field that agrees with neither neighbour is the wrong one.
            fall, self.pending = self.pending, None
            too_low = _mostly(field.values[fall.falls] >= fall.earlier)
            self._blame(fall, fall.field if too_low else fall.good)
            self.good = fall.good if too_low else fall.field
        if self.good is None:
            self.good = field
        else:
            falls = self._falling(self.good, field)
            if falls is None:
                self.good = field
            else:
                before = self.before[0] if len(self.before) == 2 and self.before[1] is self.good else None
                self.pending = _Fall(field, self.good, before, falls, self.good.values[falls])
        self.before = [*self.before[-1:], field]

    def _end(self) -> None:
        """The last field of a window: it is the one before that sticks out when the two around it agree."""
        fall, self.pending = self.pending, None
        if fall is None:
            return
        wrong = fall.field
        if fall.before_good is not None:
            later = fall.field.values[fall.falls]
            wrong = fall.good if _mostly(later >= fall.before_good.values[fall.falls]) else fall.field
        self._blame(fall, wrong)

    def _blame(self, fall: _Fall, wrong: Field) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            amount = float(np.fmax.reduce(fall.earlier - fall.field.values[fall.falls]))
        self.faulty[wrong.index] = True
        if self.worst is None or amount > self.worst[0]:
            count = int(np.count_nonzero(fall.falls))
            points = f"{count} points fall" if count > 1 else "1 point falls"
            self.worst = (amount, wrong.index, f"{points} by up to {quantity(amount, self.subject.units)}")

    def _falling(self, good: Field, field: Field) -> np.ndarray | None:
        """Which points fall, boolean (y, x), or None when no more do than may."""
        largest = max(abs(good.low), abs(good.high))
        slack = np.float32(self.check.packing * largest if np.isfinite(largest) else 0.0)
        if not self._suspicious(good.values, field.values, slack):
            return None
        with np.errstate(invalid="ignore", over="ignore"):
            earlier = good.values
            falls = field.values < earlier - np.abs(earlier) * np.float32(self.check.relative) - slack
        return falls if np.count_nonzero(falls) > self.check.allowed * falls.size else None

    def _suspicious(self, earlier: np.ndarray, later: np.ndarray, slack: np.float32) -> bool:
        """Whether anything falls by more than the packing explains: most fields are done with here."""
        with np.errstate(invalid="ignore", over="ignore"):
            for top in range(0, len(later), _ROWS):
                part = later[top : top + _ROWS]
                change = np.subtract(part, earlier[top : top + _ROWS], out=self.step[: len(part)])
                if not change.min() >= -slack:
                    return True
        return False

    def finding(self) -> Finding:
        self._end()
        subject = self.subject
        if self.worst is None:
            return self.sound(f"{subject.name}: no accumulation falls in {self.total} fields.")
        where = place(subject, self.worst[1])
        sentence = f"{subject.name} at {where}: the accumulated field is wrong, {self.worst[2]}{others(self.faulty)}."
        return self.faults(sentence, self.worst[1], of=self.total)


def _mostly(truth: np.ndarray) -> bool:
    return 2 * int(np.count_nonzero(truth)) >= truth.size
