"""References: a run's fields where they lie at the provider, for readers who need no copy (docs/references.md)."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    from ...lake.partition import Output
    from ...lake.phase import Context
    from ..recipe import ForecastRecipe

type Form = Literal["kerchunk", "icechunk"]


def write(
    context: "Context[ForecastRecipe]", scope: str, manifests: "Iterable[pa.Table]", forms: Sequence[Form]
) -> "tuple[Output, ...]":
    """Write a run's references to ``references/<recipe>/``; what was written.

    ``manifests`` are tables in `manifest.MANIFEST`, one a step in any order, taken one by one. The same manifests
    give the same files and no new commit. Raises ``CorruptInput`` for manifests that do not fit the recipe,
    ``UsageError`` for fields that a form cannot express, before anything is written.
    """
    if not forms:
        return ()
    # Loaded when asked for: most runs want no references.
    from .run import write_run

    return write_run(context, scope, manifests, forms)
