"""Bring fields into another order of rows and columns, or take a part of them."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Order:
    """Rows turned upside down, then the rows and the columns (of 1-D fields: the points) to take; None keeps all."""

    flip: bool = False
    columns: np.ndarray | None = None
    rows: slice | None = None

    @property
    def keeps(self) -> bool:
        """Whether fields stay as they are."""
        return not self.flip and self.columns is None and self.rows is None

    def cut(self, rows: slice | None, columns: np.ndarray) -> "Order":
        """This order, and of its result these rows and columns only."""
        return replace(self, rows=rows, columns=columns if self.columns is None else self.columns[columns])

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """Fields ``(..., ny, nx)`` in the new order: ``fields`` itself or a view where no column moves, else a copy."""
        if self.flip:
            fields = fields[..., ::-1, :]
        if self.rows is not None:
            fields = fields[..., self.rows, :]
        if self.columns is None:
            return fields
        jump = np.flatnonzero(np.diff(self.columns) != 1) + 1
        if not jump.size:
            return fields[..., int(self.columns[0]) : int(self.columns[-1]) + 1]
        if jump.size == 1:
            # A roll: two block copies are several times faster than taking columns one by one.
            cut = int(jump[0])
            first, second = (slice(p[0], p[-1] + 1) for p in (self.columns[:cut], self.columns[cut:]))
            return np.concatenate([fields[..., first], fields[..., second]], axis=-1)
        return np.take(fields, self.columns, axis=-1)
