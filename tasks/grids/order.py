"""Bring fields into another order of rows and columns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Order:
    """Rows turned upside down, and the columns to take; None keeps all as they are."""

    flip: bool = False
    columns: np.ndarray | None = None

    @property
    def keeps(self) -> bool:
        """Whether fields stay as they are."""
        return not self.flip and self.columns is None

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """Fields ``(..., ny, nx)`` in the new order: ``fields`` itself or a view where no column moves, else a copy."""
        if self.flip:
            fields = fields[..., ::-1, :]
        if self.columns is None:
            return fields
        jump = np.flatnonzero(np.diff(self.columns) != 1) + 1
        if jump.size == 1:
            # A roll: two block copies are several times faster than taking columns one by one.
            cut = int(jump[0])
            first, second = (slice(p[0], p[-1] + 1) for p in (self.columns[:cut], self.columns[cut:]))
            return np.concatenate([fields[..., first], fields[..., second]], axis=-1)
        return np.take(fields, self.columns, axis=-1)
