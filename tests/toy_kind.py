"""A kind of data for tests of the runner: a partition writes one object, and fails as its recipe says.

`register` makes it known for one test. The recipe's ``faults`` and ``scratch`` are part of no fingerprint, so
a test may change them between two runs without making anything stale.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from tasks.lake import recipe as recipes
from tasks.lake.errors import CorruptInput, LakeError, NotThereYet, QuotaError, ResourceError
from tasks.lake.ledger import Record
from tasks.lake.partition import Input, Output, Partition, Produced, digest_bytes, fingerprint
from tasks.lake.phase import Context, Phase, ScopePlan, Window
from tasks.lake.registry import Strict
from tasks.lake.run_axis import RunEntry

from .lake import toy_cube

PATH = "cubes/toy/refined-1"


class Fault(Strict):
    """How a partition (or ``<scope>/settle``) goes wrong, the first ``times`` times it is worked on."""

    how: Literal[
        "transient", "permanent", "quota", "resource", "bug", "lies", "rejects", "holds", "stolen", "dies", "hangs"
    ]
    times: int = 1_000_000
    retry_after: float | None = None


class Recipe(recipes.Recipe):
    """What to make, and what goes wrong."""

    kind: Literal["toy"] = "toy"  # type: ignore[assignment]
    scopes: tuple[str, ...] = ("one",)
    partitions: int = 4
    value: int = 1
    scratch: str
    sleep: float = 0.0
    faults: Mapping[str, Fault] = Field(default_factory=dict)


def calls(recipe: Recipe) -> list[str]:
    """Keys of everything that was worked on so far, in order, once per try."""
    log = Path(recipe.scratch, "calls")
    return log.read_text().split() if log.exists() else []


def _count(recipe: Recipe, key: str) -> int:
    with Path(recipe.scratch, "calls").open("a") as log:
        log.write(key + "\n")
    return calls(recipe).count(key)


def _fault(context: Context[Recipe], phase: str, key: str) -> Fault | None:
    """Raise what the recipe says for a key; the fault when it is of a kind that does not raise."""
    number = _count(context.recipe, key)
    fault = context.recipe.faults.get(key)
    if fault is None or number > fault.times:
        return None
    errors: dict[str, Exception] = {
        "transient": NotThereYet(f"{key} is not there yet", partition=key),
        "permanent": CorruptInput(f"{key} is broken", expected="GRIB", found="HTML"),
        "quota": QuotaError(f"{key}: slow down", retry_after=fault.retry_after),
        "resource": ResourceError(f"{key}: no space left"),
        "bug": ZeroDivisionError(f"nobody thought of {key}"),
    }
    if fault.how in errors:
        raise errors[fault.how]
    if fault.how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.how == "hangs":
        time.sleep(3600)
    if fault.how == "stolen":
        context.ledger.mark_lost(phase, key, "taken away in a test")
    return fault


class Objects(Phase[Recipe]):
    """Every partition writes ``out/<key>``; settling writes a list of them."""

    name = "ingest"
    version = "1"
    threads = 2

    def scopes(self, context: Context[Recipe], window: Window) -> list[str]:
        return list(context.recipe.scopes)

    def plan(self, context: Context[Recipe], scope: str) -> ScopePlan:
        inputs = (Input("https://h/in", "etag"),)
        print = fingerprint(self.version, context.recipe.value, inputs)
        keys = [f"{scope}/{i:02}" for i in range(context.recipe.partitions)]
        return ScopePlan(scope, tuple(Partition(k, print, inputs, {}, bytes=10) for k in keys))

    def process(self, context: Context[Recipe], partition: Partition) -> Produced:
        fault = _fault(context, self.name, partition.key)
        time.sleep(context.recipe.sleep)
        data = f"{partition.key}={context.recipe.value}".encode()
        out = f"out/{partition.key}"
        if fault is None or fault.how != "lies":
            context.lake.objects.put(out, data)
        rejected = f"{partition.key} is nonsense" if fault and fault.how == "rejects" else None
        return Produced((Output(out, digest_bytes(data), len(data)),), rejected=rejected)

    def settle(self, context: Context[Recipe], scope: str, records: Mapping[str, Record]) -> Produced:
        fault = _fault(context, self.name, f"{scope}/settle")
        data = "\n".join(f"{k} {r.status}" for k, r in records.items()).encode()
        context.lake.objects.put(f"out/{scope}.list", data)
        held = f"{scope} is held back" if fault and fault.how == "holds" else None
        return Produced((Output(f"out/{scope}.list", digest_bytes(data), len(data)),), held=held)


class Publishing(Objects):
    """Settling publishes the scope (a place along init_time) in a cube."""

    name = "refine"

    def prepare(self, context: Context[Recipe], scope: str, partitions: Sequence[Partition]) -> None:
        context.lake.cube(PATH).ensure(toy_cube.TEMPLATE)

    def settle(self, context: Context[Recipe], scope: str, records: Mapping[str, Record]) -> Produced:
        index = int(scope)
        _count(context.recipe, f"{scope}/settle")
        cube = context.lake.cube(PATH)
        fork = toy_cube.write(cube, index, float(context.recipe.value))
        entry = RunEntry(index, "accepted", 12, 12)
        cube.publish(toy_cube.name(index), [fork], toy_cube.TEMPLATE, entry, {"run": scope})
        place = f"cube:{PATH}#{cube.identity}/{toy_cube.chunk(index)}"
        return Produced((Output(place, f"value-{context.recipe.value}", 1),))


class Unsettled(Objects):
    """A phase without a settling."""

    name = "export"
    settles = False

    def settle(self, context: Context[Recipe], scope: str, records: Mapping[str, Record]) -> Produced:
        raise LakeError("a phase that does not settle was settled")


def phases() -> dict[str, type[Phase[Any]]]:
    """The phases of the kind."""
    return {phase.name: phase for phase in (Objects, Publishing, Unsettled)}


def register(patch: pytest.MonkeyPatch) -> None:
    """Make ``kind: toy`` known until the test is over."""
    patch.setitem(sys.modules, "toy_kind", sys.modules[__name__])
    patch.setitem(recipes.KINDS, "toy", "toy_kind")  # type: ignore[arg-type]
