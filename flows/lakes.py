"""A lake by the name of its block: ``block:weatherlake-lake/NAME`` becomes the URL that everything else takes.

The URL names the block that has the credentials (``?credentials=block:...``), so whoever opens the lake loads them
there and then: no secret is in a parameter, a task's arguments, a ledger record or a pickled session.
"""

from tasks.lake.errors import AccessError, UsageError

SCHEME = "block:"


def url_of(lake: str) -> str:
    """The URL of a lake: as it is, or what its block says. Raises ``UsageError``, ``AccessError``."""
    if not lake.startswith(SCHEME):
        return lake
    from prefect.settings import PREFECT_API_URL

    from blocks.storage import LakeStorage
    from tasks.batch import block, know_blocks

    if not PREFECT_API_URL.value():
        raise UsageError(f"{lake} is a Prefect block, but no Prefect server is configured (PREFECT_API_URL)")
    know_blocks()
    loaded = block(lake.removeprefix(SCHEME))
    if not isinstance(loaded, LakeStorage):
        raise AccessError(f"{lake} is no lake", expected=LakeStorage.get_block_type_slug(), found=type(loaded).__name__)
    return loaded.url(lake)
