"""What a run will take: bytes, requests, worker-hours and money - by what earlier runs of the recipe took."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .. import kinds
from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import parse_run, steps_of
from ..lake.ledger import Record, utcnow
from ..lake.partition import SETTLE, Status
from ..lake.phase import Context
from ..lake.prices import prices
from .survey import Cell, Run

VCPU, GIB = 1, 4
"""What a worker is taken to be: so much of Fargate."""

_GIBIBYTE = 2**30
_FEW = 4
"""So many runs are read from the ledger one by one; for more of them it is read as a whole."""

_RECORD = 3
"""Writes of a partition besides its outputs: its record is claimed, renewed once on average, and finished."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes read and kept, requests to read and to write, seconds of a worker."""

    read: float = 0.0
    kept: float = 0.0
    gets: float = 0.0
    puts: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.read + other.read, self.kept + other.kept, self.gets + other.gets, self.puts + other.puts,
            self.seconds + other.seconds,
        )  # fmt: skip

    def __mul__(self, factor: float) -> "Amount":
        return Amount(*(factor * v for v in (self.read, self.kept, self.gets, self.puts, self.seconds)))

    @property
    def usd(self) -> float:
        """What the work costs: workers and requests, at list prices."""
        known = prices()
        standard = known.storage["STANDARD"]
        workers = self.seconds / 3600 * known.fargate_hour(VCPU, GIB)
        return workers + self.gets / 1000 * standard.get_1000 + self.puts / 1000 * standard.put_1000

    @property
    def usd_month(self) -> float:
        """What keeping the results costs a month."""
        return self.kept / _GIBIBYTE * prices().storage["STANDARD"].gib_month


DEFAULTS: Mapping[str, Amount] = {
    "ingest": Amount(read=250, kept=120, gets=0.02, puts=0.02, seconds=0.001),
    "refine": Amount(read=700e3, kept=700e3, gets=1, puts=0.1, seconds=0.06),
    "validate": Amount(read=700e3, kept=2e3, gets=0.1, puts=0.02, seconds=0.03),
    "regrid": Amount(read=700e3, kept=700e3, gets=0.1, puts=0.05, seconds=0.08),
    "export": Amount(read=100e3, kept=100e3, gets=0.1, puts=0.01, seconds=0.02),
}
"""A field (one variable, member, level and step, 0.25 degrees) in each phase, where no run of the recipe tells better:
a message is about 0.7 MB, decoding and writing it some 60 ms of a core (docs/performance.md)."""

COPIED = Amount(read=700e3, kept=700e3, gets=0.2, puts=0.01, seconds=0.01)
"""What a field takes in ingest besides, when its bytes are copied."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a partition takes in each phase and how many a run has; ``measured`` are the phases that runs told of."""

    partition: Mapping[str, Amount]
    count: Mapping[str, float]
    measured: Mapping[str, int]

    def of(self, cell: Cell) -> Amount:
        """What is left to do of a run in a phase."""
        if cell.over:
            return Amount()
        todo = len(cell.todo) if cell.waits is None else self.count[cell.phase]
        amount = self.partition[cell.phase] * todo
        planned = sum(p.bytes for p in cell.todo)
        # A plan knows the bytes of just these partitions where it says any.
        return amount if not planned else Amount(planned, amount.kept, amount.gets, amount.puts, amount.seconds)

    def of_run(self, run: Run) -> Amount:
        """What is left to do of a run in all phases."""
        return total(self.of(c) for c in run.cells.values()) if not run.held else Amount()

    def sentences(self) -> list[str]:
        """Where the numbers come from."""
        known = prices()
        told = [f"{phase} by {count} done partitions" for phase, count in self.measured.items() if count]
        rest = [phase for phase, count in self.measured.items() if not count]
        said = [f"rates: {', '.join(told)}"] if told else []
        if rest:
            each = (f"{p} {DEFAULTS[p].seconds * 1000:g} ms" for p in rest)
            said.append(f"no run of the recipe tells of {', '.join(rest)}: a field is taken to need {', '.join(each)}")
        worker = f"a worker is {VCPU} vCPU and {GIB} GiB of Fargate, {known.fargate_hour(VCPU, GIB):.4f} USD an hour"
        return [*said, f"{worker} (list prices of {known.region}, {known.as_of})"]


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum."""
    return sum(amounts, Amount())


def rates(context: Context[ForecastRecipe], phases: Sequence[str], scopes: Sequence[str]) -> Rates:
    """What partitions took so far, by the records of done ones; defaults where there is none."""
    partition: dict[str, Amount] = {}
    count: dict[str, float] = {}
    measured: dict[str, int] = {}
    for phase in phases:
        records = context.ledger.read_all(phase)
        done = [r for k, r in records.items() if r.status is Status.DONE and not k.endswith(f"/{SETTLE}")]
        measured[phase] = len(done)
        if done:
            runs = {r.partition.split("/", 1)[0] for r in done}
            count[phase] = len(done) / len(runs)
            partition[phase] = total(_took(context, phase, r) for r in done) * (1 / len(done))
        else:
            fields = _fields(context.recipe, scopes)
            count[phase] = _partitions(context.recipe, phase, scopes)
            each = DEFAULTS[phase]
            if phase == "ingest" and context.recipe.transfer == "copy":
                each += COPIED
            partition[phase] = each * (fields / count[phase]) if count[phase] else Amount()
    return Rates(partition, count, measured)


def _took(context: Context[Any], phase: str, record: Record) -> Amount:
    """What a done partition took, by its record."""
    seconds = (record.finished - record.started).total_seconds() if record.finished else 0.0
    fields = float(record.metrics.get("fields", 1))
    read = float(record.metrics.get("bytes", 0))
    gets = fields if phase == "refine" else len(record.inputs) + 2
    kept = sum(o.bytes for o in record.outputs)
    return Amount(read, kept, gets, len(record.outputs) + _RECORD, seconds / _threads(context, phase))


def _threads(context: Context[Any], phase: str) -> int:
    """Partitions that share a worker at a time."""
    return kinds.phase(context.recipe, phase).threads


def _fields(recipe: ForecastRecipe, scopes: Sequence[str]) -> float:
    """Fields of a run of the recipe."""
    steps = len(steps_of(recipe, parse_run(scopes[0]))) if scopes else 1
    members = len(recipe.select.members) if recipe.select.members is not None else 1
    return steps * members * sum(max(1, len(v.levels)) for v in recipe.select.variables)


def _partitions(recipe: ForecastRecipe, phase: str, scopes: Sequence[str]) -> float:
    """Partitions of a run of the recipe, about."""
    variables = len(recipe.select.variables)
    members = len(recipe.select.members) if recipe.select.members is not None else 1
    return {
        "ingest": len(steps_of(recipe, parse_run(scopes[0]))) if scopes else 1,
        "refine": variables * members,
        "validate": variables,
        "regrid": variables * len(recipe.grids),
        "export": len(recipe.exports),
    }[phase]


def spent(
    context: Context[ForecastRecipe], phases: Sequence[str], scopes: Iterable[str], since: datetime
) -> dict[str, float]:
    """USD that the attempts begun since then took, by run, whatever became of them."""
    now = utcnow()
    wanted = set(scopes)
    found = dict.fromkeys(wanted, 0.0)
    for phase in phases:
        threads = _threads(context, phase)
        few = wanted if len(wanted) < _FEW else {""}
        for key, record in (pair for part in few for pair in context.ledger.read_all(phase, part).items()):
            scope = key.split("/", 1)[0]
            if scope not in wanted:
                continue
            for attempt in (*record.history, record.as_attempt()):
                if attempt.started >= since:
                    seconds = ((attempt.finished or now) - attempt.started).total_seconds() / threads
                    gets = float(record.metrics.get("fields", 1)) if phase == "refine" else len(record.inputs) + 2
                    found[scope] += Amount(0, 0, gets, len(record.outputs) + _RECORD, seconds).usd
    return found
