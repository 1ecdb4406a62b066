"""What a phase is: plan, prepare, process, settle. Every kind of data implements the five phases as this.

The runner (`tasks.runner`) knows nothing of what a phase does; it plans, claims, hands out batches,
records and settles. A phase knows nothing of batches, retries, Prefect or Dask.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .lake import Lake
from .ledger import Ledger, Record
from .partition import RETIRED, SETTLE, Input, Partition, Produced, Status, fingerprint
from .recipe import Recipe


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of the data a run is asked for: one run, a range (both ends in it), or the latest."""

    run: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    latest: bool = False


@dataclass(frozen=True)
class Context[R: Recipe]:
    """What every step of a phase is given: the lake and the recipe."""

    lake: Lake
    recipe: R

    @property
    def ledger(self) -> Ledger:
        """The ledger of the recipe."""
        return self.lake.ledger(self.recipe.name)


@dataclass(frozen=True)
class ScopePlan:
    """The partitions of one scope (for a forecast: of one run), and what a person should know of them."""

    scope: str
    partitions: tuple[Partition, ...]
    notes: tuple[str, ...] = ()


class Phase[R: Recipe](ABC):
    """One phase of one kind of data.

    ``version`` is part of every fingerprint: raise it when the same inputs would give another result.
    ``threads`` is how many partitions of a batch are worked on at once inside one worker; ``batch_bytes``
    and ``batch_count`` bound a batch so that it takes seconds to a minute.
    """

    name: str
    version: str
    threads: int = 1
    batch_bytes: int = 256 * 2**20
    batch_count: int = 64

    @abstractmethod
    def scopes(self, context: Context[R], window: Window) -> list[str]:
        """The scopes a window means, in order. Raises ``UsageError``, ``NotThereYet``."""

    @abstractmethod
    def plan(self, context: Context[R], scope: str) -> ScopePlan:
        """What a scope consists of. Reads, never writes. Raises ``UsageError`` when an earlier phase is not done."""

    def picks(self, context: Context[R], record: Record | None) -> bool | None:
        """What the recipe's own selection (a flag of its kind) says of a partition with this record, whatever its
        state: True takes it, also when it is done, False leaves it; None, the default, has no say."""
        del context, record
        return None

    def awaited(self, context: Context[R], scope: str) -> str | None:
        """What the world still owes this scope - a run that is not complete at its provider - in a sentence; None when
        there is nothing to wait for. Reads, never writes."""
        del context, scope
        return None

    def prepare(self, context: Context[R], scope: str, partitions: Sequence[Partition]) -> None:
        """Once before any of ``partitions`` is worked on; must be repeatable, and safe when two do it at once."""
        del context, scope, partitions

    @abstractmethod
    def process(self, context: Context[R], partition: Partition) -> Produced:
        """Do the work of one partition, in a worker. Raises typed errors; leaves no half output behind."""

    settles: bool = True
    """Whether `settle` is there to be called."""

    def settle(self, context: Context[R], scope: str, records: Mapping[str, Record]) -> Produced:
        """Once all partitions of a scope are done; ``records`` are theirs. Must be repeatable."""
        raise NotImplementedError(f"phase {self.name} says it settles, but does not say how")

    def settle_part(self, context: Context[R]) -> object:
        """The part of the recipe that settling depends on, as JSON values."""
        del context
        return None

    def settling(self, context: Context[R], scope: str, records: Mapping[str, Record]) -> Partition:
        """The settling of a scope as a partition: its fingerprint follows the results it is made from."""
        inputs = [
            Input(f"{r.partition}:{o.uri.removeprefix(RETIRED)}", o.digest) for r in records.values() for o in r.outputs
        ]
        inputs += [
            Input(f"rejected:{r.partition}", r.error.message if r.error else "")
            for r in records.values()
            if r.status is Status.REJECTED
        ]
        return Partition(
            key=f"{scope}/{SETTLE}",
            fingerprint=fingerprint(f"{self.name}-{self.version}-settle", self.settle_part(context), inputs),
            inputs=tuple(inputs),
        )
