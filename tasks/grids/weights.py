"""Regridding weights: a sparse matrix with a row per target cell, what it was made for, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..lake.errors import UsageError
from . import weights_file
from .grid import Grid

if TYPE_CHECKING:
    from scipy.sparse import csr_array

type Method = Literal["conservative", "bilinear", "nearest"]
type Norm = Literal["fracarea", "dstarea"]
type Window = tuple[slice, ...]

METHODS: tuple[Method, ...] = ("conservative", "bilinear", "nearest")


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

    def __post_init__(self) -> None:
        sizes = (int(np.prod(self.target_shape)), int(np.prod(self.source_shape)))
        if self.matrix.shape != sizes:
            raise UsageError("the weights do not fit their grids", expected=sizes, found=self.matrix.shape)

    @cached_property
    def empty(self) -> np.ndarray:
        """Target cells that see no source, bool ``(n_b,)``."""
        return np.diff(self.matrix.indptr) == 0

    @cached_property
    def row_sums(self) -> np.ndarray:
        """Sum of each row, float64 ``(n_b,)``."""
        return np.asarray(self.matrix.sum(axis=1)).ravel()

    @cached_property
    def is_normal(self) -> bool:
        """Whether every row that is not empty sums to 1, so a field without gaps needs no renormalisation."""
        return bool(np.all(self.empty | (np.abs(self.row_sums - 1) < 1e-9)))

    def check(self, source: Grid, target: Grid) -> None:
        """Refuse weights of other grids. Raises `UsageError`."""
        for what, grid, digest in (("source", source, self.source), ("target", target, self.target)):
            if digest and grid.digest != digest:
                raise UsageError(f"the weights are for another {what} grid", expected=grid.digest, found=digest)

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
        wanted = np.ravel_multi_index(np.ix_(*spans), self.target_shape).ravel()
        matrix: Any = self.matrix[wanted]
        window: Window = tuple(slice(0, 1) for _ in self.source_shape)
        if matrix.nnz:
            places = np.unravel_index(matrix.indices, self.source_shape)
            window = tuple(slice(int(p.min()), int(p.max()) + 1) for p in places)
        shape = tuple(w.stop - w.start for w in window)
        columns = np.ravel_multi_index(np.ix_(*(range(w.start, w.stop) for w in window)), self.source_shape).ravel()
        part = replace(
            self,
            matrix=matrix[:, columns],
            source_shape=shape,
            target_shape=tuple(len(s) for s in spans),
            source="",
            target="",
            area_a=None if self.area_a is None else self.area_a[columns],
            frac_a=None if self.frac_a is None else self.frac_a[columns],
            area_b=None if self.area_b is None else self.area_b[wanted],
            frac_b=None if self.frac_b is None else self.frac_b[wanted],
        )
        return part, window

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
    backend: Literal["auto", "rectilinear", "curvilinear"] = "auto",
    norm: Norm = "fracarea",
    pole: Literal["mean", "nearest", "none"] = "mean",
    extrapolate: bool = False,
) -> Weights:
    """Weights from one grid to another.

    ``conservative``: first-order, by area of overlap; ``norm`` divides by the covered part of a target cell
    (``fracarea``, for intensive quantities) or by the whole cell (``dstarea``).
    ``bilinear``: among the four centres around; ``pole`` says what lies beyond the last row of a global grid: the mean
    of that row, the row itself, or nothing. ``nearest``: the nearest centre; ``extrapolate`` also serves targets that
    lie in no source cell.
    ``backend`` ``rectilinear`` takes edges along latitude circles and serves rectilinear and (as a source) reduced
    grids, ``curvilinear`` takes great circles as ESMF does and serves all grids of cells; ``auto`` takes the first that
    can. Target cells that see no source have empty rows. Raises `UsageError` where a backend lacks the method, for
    unknown options, and when no target cell sees the source.
    """
    if method not in METHODS:
        raise UsageError("there is no such regridding method", expected=" or ".join(METHODS), found=method)
    for name, value, known in (
        ("norm", norm, ("fracarea", "dstarea")),
        ("pole", pole, ("mean", "nearest", "none")),
        ("backend", backend, ("auto", "rectilinear", "curvilinear")),
    ):
        if value not in known:
            raise UsageError(f"{name} has no such value", expected=" or ".join(known), found=value)
    build = _backend(backend, source, target, method)
    made = build(source, target, method, norm=norm, pole=pole, extrapolate=extrapolate)
    if not made.matrix.nnz:
        raise UsageError(
            "the target grid lies wholly outside the source grid", expected=_extent(source), found=_extent(target)
        )
    return replace(made, source=source.digest, target=target.digest)


def _backend(name: str, source: Grid, target: Grid, method: str):
    # Here, because they load scipy.
    if method == "nearest":
        from .native_nearest import make as nearest

        return nearest
    ringed = source.kind == "rectilinear" or source.row_sizes is not None
    boxes = target.kind == "rectilinear" or method == "bilinear"
    if name == "rectilinear" or (name == "auto" and ringed and boxes):
        if not (ringed and boxes):
            raise UsageError(
                f"backend 'rectilinear' has no {method} weights for these grids",
                expected="a source with rows along latitude circles, and for 'conservative' a rectilinear target",
                found=f"{source.kind} to {target.kind}",
            )
        from .native_rectilinear import make as rectilinear

        return rectilinear
    if source.kind == "unstructured" or (target.kind == "unstructured" and method == "conservative"):
        raise UsageError(
            f"backend 'curvilinear' has no {method} weights for a grid of points; use method 'nearest'",
            expected="rectilinear or curvilinear grids",
            found=f"{source.kind} to {target.kind}",
        )
    from .native_curvilinear import make as curvilinear

    return curvilinear


def _extent(grid: Grid) -> str:
    lat, lon = grid.latitude, grid.longitude
    return f"latitude {lat.min():g} to {lat.max():g}, longitude {lon.min():g} to {lon.max():g}"
