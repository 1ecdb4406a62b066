"""Preloaded by the workers of a test's cluster: they know the toy kind of data."""

from tasks.lake import recipe as recipes


def dask_setup(worker: object) -> None:
    del worker
    recipes.KINDS["toy"] = "tests.toy_kind"  # type: ignore[index]
