"""The backend that calls ESMF through xESMF and esmpy, where conda has installed them (docs/adr/0011).

It makes weights, once a grid pair and in one process; nothing here applies them. Like ESMF it takes cells with
great-circle edges.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from ..lake.errors import LakeError, UsageError
from ..lake.hdf5 import HDF5
from . import clip
from .grid import Grid
from .overlap import Overlap, weigh
from .request import CONSERVATIVE, Request
from .weights import Weights

_METHODS = {
    "conservative": "CONSERVE",
    "second-order": "CONSERVE_2ND",
    "bilinear": "BILINEAR",
    "patch": "PATCH",
    "nearest": "NEAREST_STOD",
}
"""Our names of methods -> members of ``esmpy.RegridMethod``."""

_POLES = {"mean": "ALLAVG", "none": "NONE"}


def is_there() -> bool:
    """Whether xESMF and the ESMF library under it are installed."""
    return find_spec("esmpy") is not None and find_spec("xesmf") is not None


def lacks(request: Request) -> str | None:
    """Why ESMF cannot make the weights, as the rest of a sentence, or None when it can."""
    source, target, method = request.source, request.target, request.method
    if method in CONSERVATIVE and "unstructured" in (source.kind, target.kind):
        return f"{method} weights need cells with rows and columns"
    if source.kind == "unstructured" and method != "nearest":
        return f"{method} weights need a source with rows and columns; use method 'nearest'"
    if method in ("bilinear", "patch") and request.pole not in _POLES:
        return f"it has no pole rule {request.pole!r}"
    if "unstructured" in (source.kind, target.kind) and not (
        request.source_mask is None and request.target_mask is None
    ):
        return "it has no masks for grids of points"
    return None


def make(request: Request) -> Weights:
    """See `weights.make`. Raises `UsageError` where ESMF lacks the method or is not installed, `LakeError` with
    ESMF's own words where it fails."""
    if reason := lacks(request):
        raise UsageError(f"the backend 'xesmf' cannot make these weights: {reason}")
    if not is_there():
        raise UsageError(
            "the backend 'xesmf' needs ESMF, which is not installed here (deployments/environment.yaml)",
            expected="the modules xesmf and esmpy",
            found="neither" if find_spec("xesmf") is None else "xesmf without esmpy",
        )
    return as_weights(request, *_factors(request))


def as_weights(request: Request, row: np.ndarray, column: np.ndarray, share: np.ndarray) -> Weights:
    """ESMF's factors - row and column from 1, in C order of the arrays, and weights normalised by the target cell's
    area (``DSTAREA``) - as weights of the request."""
    source, target = request.source, request.target
    matrix = csr_array(coo_array((share, (row - 1, _of_all(source, column - 1))), shape=(target.size, source.size)))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if request.method == "conservative":
        area_a, area_b = areas(source), areas(target)
        matrix.data *= np.repeat(area_b, np.diff(matrix.indptr))
        overlap = Overlap(matrix, area_a, area_b, "great-circles")
        return weigh(overlap, source.shape, target.shape, request.norm, request.valid)
    convention = "great-circles" if request.method == "second-order" else "centres"
    norm = request.norm if request.method == "second-order" else ""
    return Weights(matrix, source.shape, target.shape, request.method, convention, norm)


def areas(grid: Grid) -> np.ndarray:
    """Areas in steradians of cells with great-circle edges, float64 ``(n,)``."""
    return clip.areas(np.ascontiguousarray(grid.corners.transpose(2, 1, 0)))


def centres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the centres as ESMF wants them: degrees, x first, in Fortran order ``(nx, ny)``; of
    points ``(n,)``. A column that comes twice is left out."""
    if grid.kind == "unstructured":
        return grid.longitude, grid.latitude
    lat, lon = (p.reshape(grid.shape)[:, : _columns(grid)] for p in grid.points)
    return lon.T.copy(order="F"), lat.T.copy(order="F")


def nodes(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the corners, each once: degrees, in Fortran order ``(nx + 1, ny + 1)``.

    Raises `UsageError` for cells that do not share their corners.
    """
    ny, nx = grid.shape
    if grid.kind == "rectilinear":
        axes = []
        for bounds in (grid.latitude_bounds, grid.longitude_bounds):
            # In the direction of the axis, whichever bound the file names first.
            along = np.sort(bounds, axis=1)[:, :: 1 if bounds[0].mean() <= bounds[-1].mean() else -1]
            if not np.allclose(along[1:, 0], along[:-1, 1], atol=1e-9):
                raise UsageError("ESMF needs cells that share their edges, and these bounds leave gaps")
            axes.append(np.append(along[:, 0], along[-1, 1]))
        lat, lon = np.meshgrid(*axes, indexing="ij")
    else:
        four = grid.corners.reshape(ny, nx, 4, 3)
        shared = _shared(four)
        if shared is None:
            # Corners are counter-clockwise; where rows or columns run the other way they were turned round.
            shared = _shared(four[:, :, ::-1])
        if shared is None:
            raise UsageError("ESMF needs cells that share their corners, and these bounds leave gaps")
        lat = np.degrees(np.arctan2(shared[..., 2], np.hypot(shared[..., 0], shared[..., 1])))
        lon = np.degrees(np.arctan2(shared[..., 1], shared[..., 0]))
    return lon.T.copy(order="F"), lat.T.copy(order="F")


def _shared(four: np.ndarray) -> np.ndarray | None:
    """Corners ``(ny, nx, 4, 3)`` as nodes ``(ny + 1, nx + 1, 3)``, or None where neighbours do not share them."""
    ny, nx = four.shape[:2]
    nodes = np.empty((ny + 1, nx + 1, 3))
    nodes[:-1, :-1], nodes[:-1, -1] = four[:, :, 0], four[:, -1, 1]
    nodes[-1, :-1], nodes[-1, -1] = four[-1, :, 3], four[-1, -1, 2]
    places = ((slice(None, -1), slice(None, -1)), (slice(None, -1), slice(1, None)), (slice(1, None), slice(1, None)),
              (slice(1, None), slice(None, -1)))  # fmt: skip
    fits = all(np.allclose(nodes[place], four[:, :, corner], atol=1e-9) for corner, place in enumerate(places))
    return nodes if fits else None


def _columns(grid: Grid) -> int:
    return grid.shape[1] - grid.repeats_its_first


def _of_all(grid: Grid, column: np.ndarray) -> np.ndarray:
    """Numbers in the whole grid of cells that ESMF counted without the column that comes twice."""
    if not grid.repeats_its_first:
        return column
    row, place = np.divmod(column, _columns(grid))
    return row * grid.shape[1] + place


def _factors(request: Request) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # netCDF4 first: loaded after ESMF it can crash the process, as both bring an HDF5 library.
    import netCDF4  # noqa: F401

    with HDF5:
        import esmpy
        from xesmf import backend

        conservative = request.method in CONSERVATIVE
        grids = [
            _as_esmf(backend, request.source, request.source_mask, conservative, periodic=not conservative),
            _as_esmf(backend, request.target, request.target_mask, conservative, periodic=False),
        ]
        options: dict[str, Any] = {}
        if "unstructured" not in (request.source.kind, request.target.kind):
            options = {"src_mask_values": [0], "dst_mask_values": [0]}
        if request.method in ("bilinear", "patch"):
            periodic = request.source.is_periodic
            options["pole_method"] = getattr(esmpy.PoleMethod, _POLES[request.pole] if periodic else "NONE")
        # First order is normalised by us, with the areas that the file then holds.
        fraction = request.method == "second-order" and request.norm == "fracarea"
        try:
            made = esmpy.Regrid(
                esmpy.Field(grids[0]),
                esmpy.Field(grids[1]),
                regrid_method=getattr(esmpy.RegridMethod, _METHODS[request.method]),
                norm_type=esmpy.NormType.FRACAREA if fraction else esmpy.NormType.DSTAREA,
                unmapped_action=esmpy.UnmappedAction.IGNORE,
                ignore_degenerate=True,
                factors=True,
                **options,
            )
            found = made.get_weights_dict(deep_copy=True)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise LakeError(f"ESMF cannot make the weights: {error}") from None
        backend.esmf_regrid_finalize(made)
    return tuple(np.asarray(found[name]) for name in ("row_dst", "col_src", "weights"))  # type: ignore[return-value]


def _as_esmf(backend: Any, grid: Grid, mask: np.ndarray | None, conservative: bool, *, periodic: bool) -> Any:
    lon, lat = centres(grid)
    if grid.kind == "unstructured":
        return backend.LocStream.from_xarray(lon, lat)
    counts = None if mask is None else mask[:, : lon.shape[0]].T.copy(order="F").astype("int32")
    made = backend.Grid.from_xarray(lon, lat, periodic=periodic and grid.is_periodic, mask=counts)
    if conservative:
        backend.add_corner(made, *nodes(grid))
    return made
