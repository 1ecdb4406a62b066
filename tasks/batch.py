"""The Prefect task: a batch of partitions in, outcomes out. The only place under tasks/ that knows Prefect."""

import contextlib
import contextvars
import importlib
from types import TracebackType
from typing import Any

from prefect import task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner
from pydantic import SecretStr

from .executor import Handle, Terms
from .lake import credentials, secrets
from .lake.errors import AccessError, LakeError, UsageError
from .lake.partition import Outcome
from .scheduler import Scheduler
from .work import Job, work


@task(name="batch", task_run_name="{job.phase} {job.label}", cache_policy=NO_CACHE, persist_result=False)
def batch(job: Job) -> tuple[Outcome, ...]:
    """Work through a batch of partitions; see `work.work`.

    No Prefect retries and no cache: the ledger decides what is tried again and what is done.
    """
    know_blocks()
    return work(job)


def know_blocks() -> None:
    """Make references to Prefect blocks known in this process: of secrets, and of credentials for a store."""
    # A store's own threads ask for keys, too: they need the server that this thread knows.
    here = contextvars.copy_context()
    secrets.scheme("block", lambda place: here.copy().run(secret_of_block, place))
    credentials.source("block", lambda place: here.copy().run(keys_of_block, place))


def secret_of_block(place: str) -> str:
    """The secret that ``block:SLUG/NAME/FIELD`` refers to; loaded where it is used. Raises ``AccessError``."""
    try:
        slug, name, field = place.split("/")
    except ValueError:
        raise UsageError("a block reference has three parts", expected="block:SLUG/NAME/FIELD", found=place) from None
    loaded = block(f"{slug}/{name}")
    value = getattr(loaded, field, None)
    if value is None:
        raise AccessError(f"the block {slug}/{name} has no {field}")
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def keys_of_block(place: str) -> credentials.Keys | None:
    """The credentials that the block ``SLUG/NAME`` holds, or the block in its field ``credentials``; None when it
    leaves that to the machine's role. Raises ``AccessError``."""
    loaded = block(place)
    keys = getattr(loaded, "credentials", loaded)
    if keys is None:
        return None
    try:
        found = keys.get_boto3_session().get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except Exception as error:
        raise AccessError(f"the block {place} gives no AWS credentials ({type(error).__name__})") from None
    return None if frozen is None else credentials.Keys(frozen.access_key, frozen.secret_key, frozen.token)


def block(place: str) -> Any:
    """The block ``SLUG/NAME``. Raises ``AccessError``."""
    # The types of blocks are known once their modules are.
    for module in ("blocks.storage", "blocks.credentials", "prefect_aws"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    try:
        return Block.load(place)
    except Exception as error:
        # Prefect says "not found" as ValueError, and whatever its client raises otherwise.
        raise AccessError(f"the block {place} cannot be loaded ({type(error).__name__})") from None


class PrefectExecutor:
    """Batches as Prefect task runs on any task runner (threads, Dask by address)."""

    def __init__(self, runner: TaskRunner[Any], slots: int, terms: Terms | None = None) -> None:
        self.slots = slots
        self.terms = terms or Terms()
        self._runner = runner
        self._scheduler: Scheduler | None = None

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

    @property
    def scheduler(self) -> Scheduler | None:
        """The Dask scheduler behind the runner, if it is one for Dask."""
        # Prefect's runner for Dask makes its client when it is asked for it first.
        if self._scheduler is None and (client := getattr(self._runner, "client", None)) is not None:
            self._scheduler = Scheduler(client)
        return self._scheduler

    def usable(self) -> str | None:
        """Whether the Dask scheduler behind the runner is there, with workers."""
        return self.scheduler.usable() if self.scheduler else None
