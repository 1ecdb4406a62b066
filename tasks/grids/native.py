"""The backend that needs nothing but numpy and scipy: it finds the code that can make the weights of two grids."""

from concurrent.futures import Executor

from ..lake.errors import UsageError
from .request import Request
from .weights import Weights

METHODS = ("conservative", "bilinear", "nearest")


def lacks(request: Request) -> str | None:
    """Why this backend cannot make the weights, as the rest of a sentence, or None when it can."""
    source, target, method = request.source, request.target, request.method
    if method not in METHODS:
        return f"it has no method {method!r}"
    if method == "nearest" or _ringed(request):
        return None
    if source.kind == "unstructured" and source.row_sizes is None:
        return f"a grid of points has no {method} weights; use method 'nearest'"
    if target.kind == "unstructured" and target.row_sizes is None and method == "conservative":
        return "a target grid of points has no cells; use method 'bilinear' or 'nearest'"
    if source.row_sizes is not None or (method == "conservative" and target.row_sizes is not None):
        return f"{method} weights between reduced and curvilinear grids are not among its methods"
    if request.backend == "rectilinear":
        return f"backend 'rectilinear' has no {method} weights for {source.kind} to {target.kind}"
    return None


def make(request: Request, pool: Executor | None) -> Weights:
    """See `weights.make`. Raises `UsageError` for what the backend lacks."""
    if reason := lacks(request):
        raise UsageError(f"the native backend cannot make these weights: {reason}")
    source, target, method = request.source, request.target, request.method
    # Here, because they load scipy.
    if method == "nearest":
        from .native_nearest import nearest

        return nearest(source, target, everywhere=request.extrapolate != "none", valid=request.valid)
    circles = request.backend != "curvilinear" and _ringed(request)
    if method == "conservative":
        from .overlap import weigh

        if circles:
            from .native_rectilinear import overlap

            common = overlap(source, target)
        else:
            from .native_polygons import overlap as of_polygons

            common = of_polygons(source, target, pool)
        return weigh(common, source.shape, target.shape, request.norm, request.valid)
    if circles:
        from .native_rectilinear import bilinear

        return bilinear(source, target, request.pole, request.valid)
    from .native_quadrilaterals import bilinear as of_quadrilaterals

    return of_quadrilaterals(source, target, request.pole, request.valid)


def _ringed(request: Request) -> bool:
    """Whether rows along latitude circles are all that matters: exact, and much faster."""
    source, target = request.source, request.target
    if request.backend == "curvilinear" and source.row_sizes is None and target.row_sizes is None:
        return False
    source_rings = source.kind == "rectilinear" or source.row_sizes is not None
    target_rings = target.kind == "rectilinear" or target.row_sizes is not None
    return source_rings and (target_rings or request.method == "bilinear")
