"""One phase in a process of its own: prints what it took as one JSON object.

``python -m benchmarks.phase_run RECIPE PHASE LAKE [--slots N] [--start RUN --end RUN]``
"""

import argparse
import resource
import time

import orjson

from flows.phase import Request, run
from flows.runtime import Place, executor, quiet, warm_up
from tasks.lake.errors import ExitCode
from tasks.lake.lake import Lake
from tasks.lake.partition import SETTLE
from tasks.lake.recipe import load

from . import resident


def main(recipe: str, phase: str, lake: str, slots: int = 2, start: str | None = None, end: str | None = None) -> None:
    """Run one phase in threads and print seconds, CPU seconds, peak memory, fields and bytes."""
    quiet()
    request = Request(recipe=recipe, lake=lake, force=True, start=start, end=end)
    # What a worker that has been at work for a while has done already.
    warm_up(Place(None, slots, ""))
    before = resident.now()
    resident.forget()
    run_before = resource.getrusage(resource.RUSAGE_SELF)
    with executor(Place(None, slots, ""), prefect=False) as place:
        begun = time.perf_counter()
        report = run(request, phase, place)
        seconds = time.perf_counter() - begun
    if report.exit_code is not ExitCode.DONE:
        raise SystemExit(f"{phase} of {recipe}: {report.problems}")
    after = resource.getrusage(resource.RUSAGE_SELF)
    records = Lake(lake).ledger(load(recipe).name).read_all(phase)
    done = [r for r in records.values() if not r.partition.endswith(SETTLE)]
    numbers = {
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - run_before.ru_utime - run_before.ru_stime,
        "peak": resident.most(),
        "peak_before": before,
        "partitions": len(done),
        "fields": sum(int(r.metrics.get("fields", 0)) for r in done),
        "bytes": sum(int(r.metrics.get("bytes", 0)) for r in done),
        "outputs": sum(o.bytes for r in done for o in r.outputs),
    }
    print(orjson.dumps(numbers).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("recipe", "phase", "lake"):
        parser.add_argument(name)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--start")
    parser.add_argument("--end")
    main(**vars(parser.parse_args()))
