"""The Prefect task: a batch of partitions in, outcomes out. The only place under tasks/ that knows Prefect."""

from types import TracebackType
from typing import Any

from prefect import task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner
from pydantic import SecretStr

from .executor import Handle
from .lake import secrets
from .lake.errors import AccessError, LakeError, UsageError
from .lake.partition import Outcome
from .work import Job, work


@task(name="batch", task_run_name="{job.phase} {job.label}", cache_policy=NO_CACHE, persist_result=False)
def batch(job: Job) -> tuple[Outcome, ...]:
    """Work through a batch of partitions; see `work.work`.

    No Prefect retries and no cache: the ledger decides what is tried again and what is done.
    """
    secrets.scheme("block", secret_of_block)
    return work(job)


def secret_of_block(place: str) -> str:
    """The secret that ``block:SLUG/NAME/FIELD`` refers to; loaded where it is used. Raises ``AccessError``."""
    try:
        slug, name, field = place.split("/")
    except ValueError:
        raise UsageError("a block reference has three parts", expected="block:SLUG/NAME/FIELD", found=place) from None
    try:
        block: Any = Block.load(f"{slug}/{name}")
    except Exception as error:
        # Prefect says "not found" as ValueError, and whatever its client raises otherwise.
        raise AccessError(f"the block {slug}/{name} cannot be loaded ({type(error).__name__})") from None
    value = getattr(block, field, None)
    if value is None:
        raise AccessError(f"the block {slug}/{name} has no {field}")
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class PrefectExecutor:
    """Batches as Prefect task runs on any task runner (threads, Dask by address)."""

    def __init__(self, runner: TaskRunner[Any], slots: int) -> None:
        self.slots = slots
        self._runner = runner

    def __enter__(self) -> "PrefectExecutor":
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def submit(self, job: Job) -> Handle:
        """Start a batch as a task run."""
        return self._runner.submit(batch, parameters={"job": job})

    def result(self, handle: Any) -> tuple[Outcome, ...]:
        """Outcomes of a batch that is over; raises what the worker died of.

        A future that ended without a final state (prefect-dask swallows a killed worker) raises here, so the
        phase runner counts it as lost.
        """
        outcomes = handle.result(timeout=30)
        if not isinstance(outcomes, tuple):
            raise LakeError("the batch ended in no final state", found=type(outcomes).__name__)
        return outcomes

    def usable(self) -> str | None:
        """Whether the Dask scheduler behind the runner still answers."""
        client = getattr(self._runner, "_client", None)
        if client is not None and client.status not in ("running", "connecting"):
            return f"the Dask scheduler is gone ({client.status})"
        return None
