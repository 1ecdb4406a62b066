"""Regridding weights: a sparse matrix with a row per target cell, what it was made for, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.errors import UsageError
from . import sphere, weights_file
from .grid import Grid
from .request import Backend, Extrapolation, Method, Norm, Pole, Request

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from scipy.sparse import csr_array

type Window = tuple[slice, ...]

_SAME_PLACE = 2e-3
"""Degrees by which centres may differ: GRIB edition 1 has millidegrees."""


@dataclass(frozen=True, eq=False)
class Weights:
    """``matrix`` ``(n_b, n_a)`` float64 in CSR form, with sorted columns, times a source field is the target field.

    ``source`` and ``target`` are digests of the grids. ``convention`` says which edges the cells have: ``circles`` (of
    latitude), ``great-circles``, or ``centres`` where only centres count. ``area_*`` (steradians) and ``frac_*`` (share
    of a cell that the other grid covers), both ``(n,)``, are there for conservative weights.
    """

    matrix: "csr_array"
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    method: str
    convention: str = ""
    norm: str = ""
    source: str = ""
    target: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    area_a: np.ndarray | None = None
    area_b: np.ndarray | None = None
    frac_a: np.ndarray | None = None
    frac_b: np.ndarray | None = None
    centres: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Latitude and longitude, degrees, of source (``a``) and target (``b``) as a file of another program has them."""

    def __post_init__(self) -> None:
        sizes = (int(np.prod(self.target_shape)), int(np.prod(self.source_shape)))
        if self.matrix.shape != sizes:
            raise UsageError("the weights do not fit their grids", expected=sizes, found=self.matrix.shape)

    @cached_property
    def empty(self) -> np.ndarray:
        """Target cells that see no source, bool ``(n_b,)``."""
        return np.diff(self.matrix.indptr) == 0

    @cached_property
    def any_empty(self) -> bool:
        """Whether there are target cells that see no source."""
        return bool(self.empty.any())

    @cached_property
    def single(self) -> "csr_array":
        """The matrix in float32."""
        return self.matrix.astype(np.float32)

    @cached_property
    def row_sums(self) -> np.ndarray:
        """Sum of each row, float64 ``(n_b,)``."""
        return np.asarray(self.matrix.sum(axis=1)).ravel()

    @cached_property
    def is_normal(self) -> bool:
        """Whether every row that is not empty sums to 1, so a field without gaps needs no renormalisation."""
        return bool(np.all(self.empty | (np.abs(self.row_sums - 1) < 1e-9)))

    def check(self, source: Grid, target: Grid) -> None:
        """Refuse weights of other grids: by their digests, or else by size and, where a file of another program has
        them, by the centres. Raises `UsageError`."""
        sides = (
            ("source", source, self.source, self.source_shape, self.centres.get("a")),
            ("target", target, self.target, self.target_shape, self.centres.get("b")),
        )
        for what, grid, digest, shape, centres in sides:
            if digest:
                if grid.digest != digest:
                    raise UsageError(f"the weights are for another {what} grid", expected=grid.digest, found=digest)
                continue
            if int(np.prod(shape)) != grid.size:
                raise UsageError(f"the weights are for another {what} grid", expected=grid.shape, found=shape)
            if centres is not None:
                off = np.linalg.norm(sphere.unit_vectors(*centres) - grid.vectors, axis=1)
                if not np.degrees(off.max()) < _SAME_PLACE:
                    first = int(np.argmax(off >= np.radians(_SAME_PLACE)))
                    raise UsageError(
                        f"the weights are for another {what} grid, or for another order of its cells",
                        expected=f"cell {first} at {_place(*(p[first] for p in grid.points))}",
                        found=_place(*(c[first] for c in centres)),
                    )

    def rows(self, *block: slice) -> tuple["Weights", Window]:
        """Weights of a block of target cells, and the smallest window of the source that they need.

        ``block`` has a slice (step 1) per target dimension. The window has a slice per source dimension; the new
        weights apply to ``field[..., *window]`` and give ``(..., *block)``. A block across the seam of a global grid
        needs whole rows of it. Raises `UsageError` for slices that do not fit or an empty block.
        """
        if len(block) != len(self.target_shape) or any(s.step not in (None, 1) for s in block):
            raise UsageError(
                "a block has a slice of step 1 per target dimension", expected=len(self.target_shape), found=block
            )
        spans = [range(*s.indices(n)) for s, n in zip(block, self.target_shape, strict=True)]
        if not all(spans):
            raise UsageError("the block of target cells is empty", expected=self.target_shape, found=block)
        wanted = _numbers(spans, self.target_shape)
        matrix: Any = self.matrix[wanted]
        window: Window = tuple(slice(0, 1) for _ in self.source_shape)
        places = np.unravel_index(matrix.indices, self.source_shape)
        if matrix.nnz:
            window = tuple(slice(int(p.min()), int(p.max()) + 1) for p in places)
        shape = tuple(w.stop - w.start for w in window)
        # Columns are counted anew, not picked: picking costs as much as the whole source, for every tile.
        moved = np.zeros(matrix.nnz, matrix.indices.dtype)
        for place, size, side in zip(places, shape, window, strict=True):
            moved = moved * size + (place - side.start).astype(moved.dtype)
        columns = _numbers([range(w.start, w.stop) for w in window], self.source_shape)
        part = replace(
            self,
            matrix=type(matrix)((matrix.data, moved, matrix.indptr), shape=(wanted.size, columns.size)),
            source_shape=shape,
            target_shape=tuple(len(s) for s in spans),
            source="",
            target="",
            centres={},
            area_a=None if self.area_a is None else self.area_a[columns],
            frac_a=None if self.frac_a is None else self.frac_a[columns],
            area_b=None if self.area_b is None else self.area_b[wanted],
            frac_b=None if self.frac_b is None else self.frac_b[wanted],
        )
        return part, window

    def without(self, masked: np.ndarray) -> "Weights":
        """The same weights with the rows of some target cells, bool ``(n_b,)``, empty."""
        matrix = self.matrix.copy()
        matrix.data[np.repeat(masked, np.diff(matrix.indptr))] = 0
        matrix.eliminate_zeros()
        frac = None if self.frac_b is None else np.where(masked, 0.0, self.frac_b)
        return replace(self, matrix=matrix, frac_b=frac)

    def save(self) -> bytes:
        """An ESMF offline weight file (netCDF): ``row`` and ``col`` from 1, ``S``; the same bytes each time."""
        return weights_file.write(self)


def load_weights(data: bytes) -> Weights:
    """Weights from an ESMF offline weight file, an xESMF one or a SCRIP file of CDO (netCDF bytes).

    What the file does not say stays empty. Raises `CorruptInput` for anything else.
    """
    return Weights(**weights_file.read(data))


def make(
    source: Grid,
    target: Grid,
    method: Method | str,
    *,
    backend: Backend | str = "auto",
    norm: Norm | str = "fracarea",
    pole: Pole | str = "mean",
    extrapolate: Extrapolation | str | bool = "none",
    source_mask: np.ndarray | None = None,
    target_mask: np.ndarray | None = None,
    pool: "Executor | None" = None,
) -> Weights:
    """Weights from one grid to another.

    ``conservative``: first-order, by area of overlap; ``norm`` divides by the covered part of a target cell
    (``fracarea``, for intensive quantities) or by the whole cell (``dstarea``). ``bilinear``: among the four centres
    around; ``pole`` says what lies beyond the last row of a global grid: the mean of that row, the row itself, or
    nothing. ``nearest``: the nearest centre, for targets that lie in a source cell. ``patch`` (higher-order patch
    recovery) and ``second-order`` (conservative with gradients): with ESMF only.

    ``extrapolate`` serves target cells that are left empty: from the ``nearest`` source (also: True), or by
    ``inverse-distance`` from the eight nearest. Masks are bool, True where a cell counts.

    ``backend`` ``native`` takes edges along latitude circles where both grids have such rows (``rectilinear`` insists
    on it), else great circles as ESMF does (``curvilinear`` insists on it); ``xesmf`` calls ESMF; ``auto`` is native,
    and ESMF for what that lacks. ``pool`` does the work of large conservative weights; threads when None.

    Target cells that see no source have empty rows. Raises `UsageError` where a backend lacks the method or is not
    installed, for unknown options, and when no target cell sees the source.
    """
    if isinstance(extrapolate, bool):
        extrapolate = "nearest" if extrapolate else "none"
    return answer(
        Request(
            source=source,
            target=target,
            method=method,
            backend=backend,
            norm=norm,
            pole=pole,
            extrapolate=extrapolate,
            source_mask=source_mask,
            target_mask=target_mask,
        ),
        pool,
    )


def answer(request: Request, pool: "Executor | None" = None) -> Weights:
    """The weights of a request; see `make`."""
    # Here, because they load scipy.
    from . import esmf, native

    source, target = request.source, request.target
    reason = native.lacks(request)
    if request.backend == "xesmf" or (request.backend == "auto" and reason and esmf.is_there()):
        made = esmf.make(request)
    elif request.backend == "auto" and reason and not esmf.lacks(request):
        raise UsageError(
            f"the native backend cannot make these weights ({reason}), and xESMF, which can, is not installed here "
            "(deployments/environment.yaml)"
        )
    else:
        made = native.make(request, pool)
    if request.target_mask is not None:
        made = made.without(~request.target_mask.ravel())
    if not made.matrix.nnz:
        raise UsageError(
            "the target grid lies wholly outside the source grid", expected=_extent(source), found=_extent(target)
        )
    if request.extrapolate != "none":
        from .extrapolate import fill

        made = fill(made, request)
    return replace(made, source=source.digest, target=target.digest, options=request.options)


def _numbers(spans: Sequence[range], shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in C order of the cells in a block of a grid."""
    return np.ravel_multi_index(np.ix_(*spans), shape).ravel()


def _place(latitude: float, longitude: float) -> str:
    return f"latitude {latitude:g}, longitude {(longitude + 180) % 360 - 180:g}"


def _extent(grid: Grid) -> str:
    lat, lon = grid.latitude, grid.longitude
    return f"latitude {lat.min():g} to {lat.max():g}, longitude {lon.min():g} to {lon.max():g}"
