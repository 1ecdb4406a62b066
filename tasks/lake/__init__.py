"""The lake: recipes, partitions, objects, ledger and cubes. No science, no Prefect.

Readers need one function of it::

    from tasks.lake import open_cube

    cube = open_cube("./lake", "demo", "refined")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reading import open_cube

__all__ = ["open_cube"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: stores and cubes take a while to import, and most importers need neither.
    if name == "open_cube":
        from .reading import open_cube

        return open_cube
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
