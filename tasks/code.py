"""The same code everywhere: versions of client, scheduler and workers compared, this code shipped where it differs."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle
from distributed import Client

from . import shipping, spot
from .lake.errors import LakeError, UsageError

WIRE = ("dask", "distributed", "cloudpickle", "msgpack")
"""Packages whose versions decide whether processes understand each other."""

RESULTS = (
    "numpy", "scipy", "zarr", "numcodecs", "icechunk", "eccodes", "eccodeslib", "gribberish", "pyproj", "xarray",
    "pyarrow", "polars", "netcdf4", "obstore", "msgspec", "pydantic", "prefect",
)  # fmt: skip
"""Packages whose versions may decide what comes out."""

_BACK = 120.0
"""Seconds that workers are given to come back with the shipped code."""


class Mismatch(UsageError):
    """Client, scheduler and workers do not have the same versions of what matters."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was found and done: how many workers there are, and to how many of them code was shipped."""

    workers: int
    shipped: int
    code: str

    def __str__(self) -> str:
        if not self.shipped:
            return f"{self.workers} worker(s) with the same code"
        return f"the code of this machine was shipped to {self.shipped} of {self.workers} worker(s)"


def prepare_cluster(client: Client, grace: float = spot.GRACE) -> Prepared:
    """Make sure that a cluster runs this code with these packages, also in workers that join later.

    Call it once, after the cluster was opened and before any work is handed out. Where this project's code differs from
    this process's - the image is an older one, or the checkout was edited - it is shipped, and the workers are started
    again with it. ``grace`` is how many seconds work may go on after notice that its machine is about to go.
    Raises ``Mismatch`` with a table, and `LakeError` when the code cannot be brought there.
    """
    here = shipping.state((*WIRE, *RESULTS))
    with _by_value():
        scheduler, workers = _look(client)
        if wrong := mismatches(here["versions"], scheduler["versions"], {a: w["versions"] for a, w in workers.items()}):
            raise Mismatch(f"the cluster does not run the versions of this machine\n{table(wrong)}")
        other = [a for a, w in workers.items() if w["code"] != here["code"]]
        if other or scheduler["code"] != here["code"]:
            _ship(client, here["code"], here["versions"], len(workers))
    spot.register(client, grace)
    return Prepared(len(workers), len(other), here["code"])


def mismatches(
    client: Mapping[str, str | None],
    scheduler: Mapping[str, str | None],
    workers: Mapping[str, Mapping[str, str | None]],
) -> dict[str, dict[str, str | None]]:
    """Package -> process -> version, of packages that are not the same everywhere. Processes: ``client``,
    ``scheduler``, and addresses of workers that differ. The scheduler computes nothing, so only what it needs to
    understand the others counts there."""
    found: dict[str, dict[str, str | None]] = {}
    for name, wanted in client.items():
        row = {address: versions.get(name) for address, versions in workers.items() if versions.get(name) != wanted}
        if name in ("python", *WIRE) and scheduler.get(name) != wanted:
            row = {"scheduler": scheduler.get(name), **row}
        if row:
            found[name] = {"client": wanted, **row}
    return found


def table(wrong: Mapping[str, Mapping[str, str | None]], most: int = 3) -> str:
    """Mismatches as lines of text: a column for the client, the scheduler and the first few workers."""
    workers = sorted({who for row in wrong.values() for who in row} - {"client", "scheduler"})
    columns = ["client", "scheduler", *workers[:most]]
    lines = [["package", *columns]]
    for name, row in wrong.items():
        same = row["client"] or "absent"
        lines.append([name, *((row[c] or "absent") if c in row else same for c in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if len(workers) > most:
        text.append(f"... and {len(workers) - most} more worker(s)")
    return "\n".join(text)


def _look(client: Client) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What scheduler and workers run (see `shipping.state`)."""
    names = (*WIRE, *RESULTS)
    return client.run_on_scheduler(shipping.state, names), client.run(shipping.state, names)


def _ship(client: Client, code: str, versions: dict[str, str | None], count: int) -> None:
    data = shipping.wheel(code)
    client.register_plugin(shipping.ToScheduler(data, code))
    client.register_plugin(shipping.ToNanny(data, code))
    _wait(client, count)
    client.register_plugin(shipping.ToWorker(data, code, versions))
    scheduler, workers = _look(client)
    wrong = [a for a, w in {"the scheduler": scheduler, **workers}.items() if w["code"] != code]
    if wrong:
        raise LakeError(f"{wrong[0]} does not run the code that was shipped to it", expected=code[:12], found="another")


def _wait(client: Client, count: int) -> None:
    """Wait until the workers that were started again are back."""
    end = time.monotonic() + _BACK
    while (found := len(client.scheduler_info(n_workers=-1)["workers"])) < count:
        if time.monotonic() > end:
            raise LakeError(
                f"workers did not come back with the shipped code within {_BACK:.0f} s", expected=count, found=found
            )
        time.sleep(0.1)


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    """Have `shipping` travel as what it is rather than by its name, which may mean nothing or something older there."""
    module = sys.modules[shipping.__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
