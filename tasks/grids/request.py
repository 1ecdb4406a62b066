"""What weights are asked for: two grids, a method, and everything else that changes the numbers."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import orjson

from ..lake.errors import UsageError
from .grid import Grid

type Method = Literal["conservative", "bilinear", "nearest", "patch", "second-order"]
type Backend = Literal["auto", "native", "rectilinear", "curvilinear", "xesmf"]
type Norm = Literal["fracarea", "dstarea"]
type Pole = Literal["mean", "nearest", "none"]
type Extrapolation = Literal["none", "nearest", "inverse-distance"]

METHODS: tuple[Method, ...] = get_args(Method.__value__)
CONSERVATIVE = ("conservative", "second-order")

_VERSION = 2
"""Raised when the same request gives other weights than before: stored ones are then made anew."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Weights that are wanted; see `weights.make` for the meaning of each part.

    Masks are bool arrays of their grid's shape, True where a cell counts. Raises `UsageError` for values that are not
    known and masks that do not fit.
    """

    source: Grid
    target: Grid
    method: str
    backend: str = "auto"
    norm: str = "fracarea"
    pole: str = "mean"
    extrapolate: str = "none"
    source_mask: np.ndarray | None = None
    target_mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError("there is no such regridding method", expected=" or ".join(METHODS), found=self.method)
        for name, known in (
            ("norm", Norm),
            ("pole", Pole),
            ("backend", Backend),
            ("extrapolate", Extrapolation),
        ):
            choices = get_args(known.__value__)
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} has no such value", expected=" or ".join(choices), found=getattr(self, name))
        for name, mask, grid in (
            ("source", self.source_mask, self.source),
            ("target", self.target_mask, self.target),
        ):
            if mask is None:
                continue
            if mask.shape != grid.shape or mask.dtype != bool:
                raise UsageError(
                    f"the {name} mask does not fit its grid",
                    expected=f"bool {grid.shape}",
                    found=f"{mask.dtype} {mask.shape}",
                )
            if not mask.any():
                raise UsageError(f"the {name} mask leaves no cell")

    @property
    def valid(self) -> np.ndarray | None:
        """Source cells that count, bool ``(n_a,)``; None when all do."""
        return None if self.source_mask is None else self.source_mask.ravel()

    @property
    def options(self) -> dict[str, str]:
        """What changes the numbers beside grids and method, for the head of the weight file."""
        found = {"extrapolate": self.extrapolate}
        if self.method in CONSERVATIVE:
            found["norm"] = self.norm
        elif self.method != "nearest":
            found["pole"] = self.pole
        for name, mask in (("source_mask", self.source_mask), ("target_mask", self.target_mask)):
            if mask is not None:
                found[name] = "sha256:" + hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
        return found

    @property
    def digest(self) -> str:
        """Identity of the weights (hex): of source, target, method, backend and options."""
        parts = [_VERSION, self.source.digest, self.target.digest, self.method, self.backend, self.options]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def key(self) -> str:
        """Where the weights lie in a lake."""
        grids = "-".join(g.digest.removeprefix("sha256:")[:12] for g in (self.source, self.target))
        return f"weights/{grids}-{self.method}-{self.digest[:12]}.nc"
