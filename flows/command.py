"""The command line that all flows share. Standard output holds the result, standard error the progress."""

import argparse
import contextlib
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import orjson

from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError, UsageError, as_lake_error
from tasks.lake.ledger import Select
from tasks.lake.settings import parse_setting
from tasks.plan import HANG
from tasks.report import Progress, Report

from . import runtime
from .phase import DEFAULT_LAKE, PhaseFailed, Request, plan, run, wait_for, worthwhile
from .server import Server

WHAT = {
    "ingest": "Read the provider's index of every step into a manifest; copy the bytes if the recipe says so.",
    "refine": "Fetch, decode and write the run's fields to a branch of the cube.",
    "validate": "Check the run's branch, give a verdict, and publish the run when it allows.",
    "regrid": "Regrid published fields to the recipe's target grids, in point-shaped chunks.",
    "export": "Make the files that users take away: points, NetCDF, maps.",
    "pipeline": "Run all five phases: ingest, refine, validate, regrid, export.",
}

_EXIT_CODES = """\
exit codes:
  0  all done
  1  some partition failed for good
  2  wrong usage or recipe
  3  validation held data back
  4  transient failure, try again later
"""


def parser(name: str) -> argparse.ArgumentParser:
    """The arguments of one flow."""
    known = ", ".join(recipes.names())
    made = argparse.ArgumentParser(
        prog=f"python -m flows.{name}",
        description=WHAT[name],
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("recipe", metavar="RECIPE", help=f"name of a recipe ({known}) or a YAML file")
    runs = made.add_argument_group("which runs (UTC); the recipe's default, or else the latest, when nothing is said")
    which = runs.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="R", help="one run, such as 2026-11-20T00")
    which.add_argument("--latest", action="store_true", help="the newest run that should be complete by now")
    runs.add_argument("--start", metavar="A", help="first run of a range (2026-11-20 or 2026-11-20T00)")
    runs.add_argument("--end", metavar="B", help="last run of a range")
    which.add_argument("--days-back", metavar="N", type=int, help="the runs of today and of the N days before")
    runs.add_argument(
        "--wait", metavar="MINUTES", type=float, default=0.0, help="wait for a run that is not complete yet"
    )
    what = made.add_argument_group("what of it")
    what.add_argument(
        "--select", choices=[str(s) for s in Select], default=str(Select.MISSING),
        help="missing: never done, stale, lost or failed in passing (default); failed: whatever failed; "
        "stale: done once, but from other inputs or another recipe; all: everything not done",
    )  # fmt: skip
    what.add_argument("--force", action="store_true", help="do again what is done, too")
    what.add_argument(
        "--plan", action="store_true", help="print what would run - partitions, bytes, memory - and run nothing"
    )
    what.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="a key of the recipe, for this run: select.members=[0,1] (again for another key)",
    )  # fmt: skip
    for kind, options in recipes.options().items():
        group = made.add_argument_group(f"keys of {kind} recipes") if options else made
        for option in options:
            taken: dict[str, Any] = {"action": "append", "default": [], "metavar": option.metavar}
            if option.constant is not None:
                taken = {"action": "append_const", "default": [], "const": option.constant}
            group.add_argument(option.flag, dest=option.destination, help=option.help, **taken)
    where = made.add_argument_group("where")
    where.add_argument(
        "--lake",
        metavar="URL",
        default=DEFAULT_LAKE,
        help="the lake: a folder or s3://bucket/prefix?endpoint=... (default: %(default)s)",
    )
    where.add_argument(
        "--cluster",
        metavar="NAME",
        default="local",
        help="local: a Dask cluster on this machine (default); none: threads of this process; "
        "tcp://HOST:PORT, tls://HOST:PORT: a running scheduler; FILE.yaml, BLOCK/NAME: a cluster for this run, "
        "on ECS or EC2 (docs/clusters.md)",
    )
    where.add_argument(
        "--no-prefect", action="store_true", help="run without Prefect: starts at once, records only in the lake"
    )
    where.add_argument(
        "--hang", metavar="MINUTES", type=float, default=HANG / 60,
        help="a partition that takes longer, besides what its bytes take, hangs: its worker is replaced "
        "(default: %(default).0f; not with --cluster none)",
    )  # fmt: skip
    where.add_argument(
        "--performance-report", action="store_true", help="keep Dask's performance report of each phase in the lake"
    )
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


class Extra(Protocol):
    """Arguments that only one flow has, and what they do before its phase runs (not with ``--plan``)."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        ...

    def before(self, arguments: argparse.Namespace, request: Request, progress: Progress) -> None:
        """Do what they ask for. Raises ``UsageError``, and changes nothing, when that cannot be."""
        ...


def main(name: str, argv: Sequence[str] | None = None, extra: Extra | None = None) -> int:
    """Run a flow from the command line; the exit code."""
    made = parser(name)
    if extra is not None:
        extra.arguments(made)
    arguments = made.parse_args(argv)
    try:
        return _main(name, arguments, extra)
    except LakeError as error:
        return _failed(name, arguments, error)
    except KeyboardInterrupt:
        return _failed(
            name,
            arguments,
            LakeError("interrupted; what was finished is on record, the same command goes on from there"),
            130,
        )
    except BrokenPipeError:
        return 1


def _main(name: str, arguments: argparse.Namespace, extra: Extra | None = None) -> int:
    if (arguments.start or arguments.end) and (arguments.run or arguments.latest):
        parser(name).error("--start and --end do not go with --run or --latest")
    if arguments.start and arguments.days_back is not None:
        parser(name).error("--start does not go with --days-back")
    if arguments.hang <= 0:
        parser(name).error("--hang is a number of minutes above 0")
    request = Request(
        recipe=arguments.recipe, run=arguments.run or "", start=arguments.start or "", end=arguments.end or "",
        latest=arguments.latest, lake=arguments.lake, select=arguments.select, force=arguments.force,
        cluster=arguments.cluster,
        settings=_settings(arguments), days_back=arguments.days_back, wait=arguments.wait,
        hang=arguments.hang, performance_report=arguments.performance_report,
    )  # fmt: skip
    runtime.quiet()
    request.load()
    names = recipes.PHASES if name == "pipeline" else (name,)
    if arguments.plan:
        return _plan(name, names, request, arguments.json)
    progress = Progress() if arguments.json else _terminal()
    if extra is not None:
        extra.before(arguments, request, progress)
    wait_for(request, names[0], progress)
    request = replace(request, wait=0.0)
    if _nothing_to_do(names, request):
        reports = _idle(names, request, progress)
    elif arguments.no_prefect:
        reports = _without_prefect(names, request, progress)
    else:
        reports = _with_prefect(name, request, progress)
    return _show(name, reports, request, arguments.json)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--set` and the flags of the recipe's kind set."""
    found = dict(parse_setting(text) for text in arguments.settings)
    kind = recipes.kind_of(arguments.recipe)
    for other, options in recipes.options().items():
        for option in options:
            if given := getattr(arguments, option.destination):
                if other != kind:
                    raise UsageError(f"{option.flag} is for {other} recipes; {arguments.recipe} is a {kind} recipe")
                found[option.key] = option.value(given)
    return found


def _terminal() -> Progress:
    from .show import Terminal

    return Terminal()


def _nothing_to_do(names: Sequence[str], request: Request) -> bool:
    """Whether every phase, up to one that cannot go on, would find everything done.

    Such a run needs neither Prefect nor a cluster, and neither does one that ends with an error at once.
    """
    if request.force:
        return False
    for phase in names:
        try:
            if not plan(request, phase).nothing_to_do:
                return False
        except LakeError:
            return True
    return True


def _idle(names: Sequence[str], request: Request, progress: Progress) -> list[Report]:
    reports: list[Report] = []
    with runtime.executor(runtime.Place(None, 1, ""), prefect=False) as executor:
        for phase in names:
            reports.append(run(request, phase, executor))
            if reports[-1].exit_code is not ExitCode.DONE:
                break
    progress.said("nothing to do; neither Prefect nor a cluster was started")
    return reports


def _without_prefect(names: Sequence[str], request: Request, progress: Progress) -> list[Report]:
    reports: list[Report] = []
    most = worthwhile(request, names[0]) if len(names) == 1 else None
    with runtime.open_cluster(request.cluster, most) as place, runtime.executor(place, prefect=False) as executor:
        progress.said(f"running without Prefect, on {place.description}")
        for phase in names:
            reports.append(run(request, phase, executor, progress))
            if reports[-1].exit_code is not ExitCode.DONE:
                break
    return reports


def _with_prefect(name: str, request: Request, progress: Progress) -> list[Report]:
    from concurrent.futures import ThreadPoolExecutor

    from .show import watch

    server = Server()
    server.start()
    reports: list[Report] = []
    try:
        if not runtime.is_here(request.cluster):
            # Opened inside the flow run, whose id its tags carry; and it may be a block of the server.
            with server.ready() as description:
                progress.said(f"running with {description}, on {request.cluster}")
                watch(progress)
                _call(name, request, request.cluster, reports)
            return reports
        with runtime.open_cluster(request.cluster) as place, ThreadPoolExecutor(1) as side:
            # The server takes longest to start; workers import meanwhile.
            warming = side.submit(runtime.warm_up, place)
            with server.ready() as description:
                warming.result()
                progress.said(f"running with {description}, on {place.description}")
                watch(progress)
                _call(name, request, place.address or "none", reports)
    finally:
        server.stop()
    return reports


def _call(name: str, request: Request, cluster: str, reports: list[Report]) -> None:
    import importlib

    from .phase import reported

    flow: Any = getattr(importlib.import_module(f"flows.{name}"), name)
    parameters = asdict(request) | {"cluster": cluster}
    with reported(reports.append), contextlib.suppress(PhaseFailed):
        flow(**parameters)


def _plan(name: str, names: Sequence[str], request: Request, as_json: bool) -> int:
    plans = []
    for phase in names:
        try:
            plans.append(plan(request, phase))
        except LakeError as error:
            if not plans:
                raise
            # A later phase of a pipeline that has not begun cannot say yet what it will do.
            print(f"{phase}: planned once the phases before it are done ({error})", file=sys.stderr)
            break
    if as_json:
        rows = [
            {
                "phase": p.phase,
                "partition": r.partition.key,
                "state": str(r.state),
                "runs": r.selected,
                "bytes": r.partition.bytes,
                "memory": r.partition.memory,
            }
            for p in plans
            for r in p.rows
        ]
        _print_json({"recipe": request.recipe, "flow": name, "plan": rows})
    else:
        from .show import plan_table

        plan_table(plans)
    return ExitCode.DONE


def _show(name: str, reports: Sequence[Report], request: Request, as_json: bool) -> int:
    last = reports[-1]
    code = last.exit_code
    if as_json:
        if name == "pipeline":
            idle = all(r.status == "nothing to do" for r in reports)
            status = "nothing to do" if idle else last.status if code is not ExitCode.DONE else "done"
            phases = [r.as_json() for r in reports]
            _print_json({"recipe": last.recipe, "status": status, "exit_code": int(code), "phases": phases})
        else:
            _print_json(last.as_json())
        return code
    from .show import summary

    summary(reports)
    if name == "pipeline" and code is ExitCode.DONE:
        _take_away(reports, request)
    return code


def _take_away(reports: Sequence[Report], request: Request) -> None:
    """Where the results are, and the line of Python that opens them."""
    from tasks.lake.objects import locate

    at = locate(request.open().url)
    base = at.prefix if at.is_local else request.lake.split("?")[0].rstrip("/")
    by_phase = {r.phase: r for r in reports}
    cubes = [u for p in ("validate", "regrid") if p in by_phase for u in by_phase[p].outputs if u.startswith("cubes/")]
    pages = [u for u in by_phase["validate"].outputs if u.endswith(".html")] if "validate" in by_phase else []
    files = list(by_phase["export"].outputs) if "export" in by_phase else []
    for uri in dict.fromkeys([*pages, *cubes, *files]):
        print(f"{base}/{uri}")
    recipe = reports[0].recipe
    if not cubes:
        return
    print(
        textwrap.dedent(f"""\

        open a cube in Python:
            from tasks.lake import open_cube; cube = open_cube({request.lake!r}, {recipe!r}, "refined")""")
    )


def _failed(name: str, arguments: argparse.Namespace, error: BaseException, code: int | None = None) -> int:
    failure = as_lake_error(error)
    code = int(failure.exit_code) if code is None else code
    if arguments.json:
        empty = dict.fromkeys(("planned", "skipped", "done", "failed", "lost", "rejected"), 0)
        document: dict[str, Any] = {
            "recipe": arguments.recipe,
            "status": "error",
            "exit_code": code,
            "error": str(failure),
        }
        if name == "pipeline":
            document["phases"] = []
        else:
            document |= {"phase": name, "partitions": empty, "outputs": [], "seconds": 0.0}
        _print_json(document)
    print(f"error: {failure}", file=sys.stderr)
    return code


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    sys.stdout.flush()
