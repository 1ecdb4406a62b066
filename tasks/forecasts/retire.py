"""What becomes of the copies in the raw zone once their run is published: removed, or moved to a colder class."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import Output, Status
from ..lake.phase import Context
from ..lake.storage_class import move
from .recipe import ForecastRecipe
from .validate import published

DELETE = "delete"
"""Remove the copies; any other word is a storage class."""


@dataclass(frozen=True, slots=True)
class Retired:
    """Copies of one run that were dealt with."""

    scope: str
    objects: int
    bytes: int


def copies(context: Context[ForecastRecipe], scope: str) -> dict[str, list[Output]]:
    """The copies of a run by the partition that made them; without those that are gone on purpose."""
    records: dict[str, Record] = context.ledger.read_all("ingest", scope)
    found = {
        key: [o for o in record.outputs if o.uri.startswith("raw/")]
        for key, record in records.items()
        if record.status is Status.DONE
    }
    return {key: outputs for key, outputs in found.items() if outputs}


def retire(context: Context[ForecastRecipe], scope: str, how: str) -> Retired:
    """Delete the copies of a published run, or move them to a storage class of S3 (see `lake.storage_class`).

    The ledger is told first: a copy that is removed on purpose is not ingested again. What needs the bytes later
    - another variable, a run to be refined anew - copies them again from the provider, or says that they are gone.
    Repeatable. Raises ``UsageError`` for a run that is not published, or a recipe that copies nothing.
    """
    if context.recipe.transfer != "copy":
        raise UsageError(f"{context.recipe.name} copies nothing: its bytes stay at the provider")
    published(context, scope)
    by_partition = copies(context, scope)
    keys = [o.uri for outputs in by_partition.values() for o in outputs]
    if how == DELETE:
        for partition, outputs in by_partition.items():
            context.ledger.retire("ingest", partition, {o.uri for o in outputs})
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda key: _one(context, key, how), keys):
            pass
    return Retired(scope, len(keys), sum(o.bytes for outputs in by_partition.values() for o in outputs))


def _one(context: Context[ForecastRecipe], key: str, how: str) -> None:
    if how == DELETE:
        context.lake.objects.delete(key)
    else:
        move(context.lake.objects, key, how)
