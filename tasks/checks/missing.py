"""Missing values: points without a value in fields that are there."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import fields, others, place
from .limits import is_uneven, traits


@checks.register("missing")
class Missing(Check):
    """The share of NaN in each field is no larger than allowed.

    Parameters that only live on sea or land (trait ``masked`` or named in ``masked``) may have any share, but the
    same in all fields of a level: it may differ from their median by ``mask_change``. On surfaces that do not
    exist everywhere (``UNEVEN``) the share is free. A field of nothing but NaN is fatal.
    """

    type: str = "missing"
    allowed: float = Field(default=0.0, ge=0, le=1, description="Share of points of a field that may be NaN.")
    masked: tuple[str, ...] = Field(default=(), description="Further variables without values on part of the grid.")
    mask_change: float = Field(default=0.02, ge=0, le=1, description="Allowed change of a mask's share.")

    def run(self, subject: Subject) -> Finding:
        share = np.zeros(subject.present.shape)
        for index, values in fields(subject):
            share[index] = np.count_nonzero(np.isnan(values)) / max(values.size, 1)
        present = subject.present
        total = int(np.count_nonzero(present))
        empty = present & (share >= 1.0)
        allowed = np.full(share.shape, self.allowed)
        if is_uneven(subject):
            allowed[:] = 1.0
        elif subject.name in self.masked or "masked" in (traits(subject) or ()):
            for level in range(share.shape[2]):
                filled = present[:, :, level] & ~empty[:, :, level]
                usual = float(np.median(share[:, :, level][filled])) if filled.any() else 0.0
                allowed[:, :, level] = max(self.allowed, usual + self.mask_change)
        faulty = empty | (present & (share > allowed))
        if not faulty.any():
            return self.finding(subject, f"{subject.name}: no more values are missing than allowed in {total} fields.")
        worst = _worst(np.where(faulty, share, -1.0))
        count = round(share[worst] * subject.values[worst].size)
        sentence = (
            f"{subject.name} at {place(subject, worst)}: {count} of {subject.values[worst].size} values are missing "
            f"({100 * share[worst]:.3g} %, allowed {100 * allowed[worst]:.3g} %){others(faulty)}."
        )
        return self.finding(subject, sentence, faulty, of=total, unusable=bool(empty.any()))


def _worst(values: np.ndarray) -> tuple[int, int, int]:
    time, member, level = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(time), int(member), int(level)
