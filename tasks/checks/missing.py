"""Missing values: points without a value in fields that are there."""

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Subject, Watch, checks
from .field import Field, Index
from .limits import is_uneven, traits
from .phrases import others, place


@checks.register("missing")
class Missing(Check):
    """The share of NaN in each field is no larger than allowed.

    Parameters that only live on sea or land (trait ``masked`` or named in ``masked``) may have any share, but the
    same in all fields of a level: it may differ from their median by ``mask_change``. On surfaces that do not
    exist everywhere (``UNEVEN``) the share is free. A field of nothing but NaN is fatal.
    """

    type: str = "missing"
    allowed: float = Key(default=0.0, ge=0, le=1, description="Share of points of a field that may be NaN.")
    masked: tuple[str, ...] = Key(default=(), description="Further variables without values on part of the grid.")
    mask_change: float = Key(default=0.02, ge=0, le=1, description="Allowed change of a mask's share.")

    def watch(self, subject: Subject) -> Watch:
        return _Watch(self, subject)


class _Watch(Watch[Missing]):
    def __init__(self, check: Missing, subject: Subject) -> None:
        super().__init__(check, subject)
        self.share = np.zeros(subject.present.shape)

    def see(self, field: Field) -> None:
        self.share[field.index] = field.missing / max(field.values.size, 1)

    def finding(self) -> Finding:
        subject, share, present = self.subject, self.share, self.subject.present
        empty = present & (share >= 1.0)
        allowed = np.full(share.shape, self.check.allowed)
        if is_uneven(subject):
            allowed[:] = 1.0
        elif subject.name in self.check.masked or "masked" in (traits(subject) or ()):
            for level in range(share.shape[2]):
                filled = present[:, :, level] & ~empty[:, :, level]
                usual = float(np.median(share[:, :, level][filled])) if filled.any() else 0.0
                allowed[:, :, level] = max(self.check.allowed, usual + self.check.mask_change)
        self.faulty = empty | (present & (share > allowed))
        if not self.faulty.any():
            return self.sound(f"{subject.name}: no more values are missing than allowed in {self.total} fields.")
        worst = _worst(np.where(self.faulty, share, -1.0))
        count = round(share[worst] * subject.points)
        sentence = (
            f"{subject.name} at {place(subject, worst)}: {count} of {subject.points} values are missing "
            f"({100 * share[worst]:.3g} %, allowed {100 * allowed[worst]:.3g} %){others(self.faulty)}."
        )
        return self.faults(sentence, worst, of=self.total, unusable=bool(empty.any()))


def _worst(values: np.ndarray) -> Index:
    time, member, level = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(time), int(member), int(level)
