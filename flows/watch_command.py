"""The command line of `flows.watch`, and what it shares with the flow: what is watched, and how."""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tasks.backfill.range import forecast
from tasks.forecasts.runs import parse_run, scopes
from tasks.lake import recipe as recipes
from tasks.lake import secrets
from tasks.lake.errors import ExitCode, LakeError, UsageError, as_lake_error
from tasks.lake.phase import Context
from tasks.lake.recipe import PHASES
from tasks.watch.availability import candidates
from tasks.watch.notices import Queue, concerned
from tasks.watch.register import Available
from tasks.watch.watching import Watch
from tasks.watch.webhook import application, serving

from . import runtime
from .request import DEFAULT_LAKE, Request, moment

EVERY = 60.0
BACK = 24.0
_UNTOLD = 900.0
"""Seconds after which runs are looked at all the same where a queue or a webhook says when: either may miss one."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched: the runs of a window, or those begun within so many hours; and the stages besides complete."""

    request: Request
    back_hours: float = BACK
    usable_to: tuple[int, ...] = ()

    def watch(self, tell: Callable[[Available], None]) -> Watch:
        """The watch. Raises ``UsageError``."""
        recipe, lake = forecast(self.request.load()), self.request.open()
        lake.prepare()
        return Watch(Context(lake, recipe), self.usable_to, tell)

    def runs(self, watch: Watch) -> list[datetime]:
        """The runs that may be complete now, newest first."""
        asked = self.request
        if asked.run or asked.start or asked.end:
            return [parse_run(s) for s in reversed(scopes(watch.context, asked.window))]
        return candidates(watch.context.recipe, timedelta(hours=self.back_hours))


@dataclass
class Pace:
    """How often to look, and until when: once, every so many seconds, until a time (UTC)."""

    once: bool
    every: float = EVERY
    until: datetime | None = None

    def over(self) -> bool:
        """Whether there is no further look."""
        return self.once or (self.until is not None and datetime.now(UTC) >= self.until)

    def wait(self) -> float:
        """Seconds until the next look."""
        left = self.every if self.until is None else (self.until - datetime.now(UTC)).total_seconds()
        return max(0.0, min(self.every, left))


def probing(watched: Watched, watch: Watch, pace: Pace, say: Callable[[str], None]) -> list[Available]:
    """Look at the provider until it is over; what was told."""
    found: list[Available] = []
    while True:
        runs = watched.runs(watch)
        found += watch.look(runs, say)
        done = bool(watched.request.run) and all(watch.complete(r) for r in runs)
        if done or pace.over():
            return found
        time.sleep(pace.wait())


def listening(watched: Watched, watch: Watch, pace: Pace, queue: Queue, say: Callable[[str], None]) -> list[Available]:
    """Look when a queue says so, and now and then all the same; what was told."""
    found: list[Available] = []
    looked = -_UNTOLD
    while True:
        runs = watched.runs(watch)
        if time.monotonic() - looked >= _UNTOLD:
            found += watch.look(runs, say)
            looked = time.monotonic()
        notices = queue.receive(0 if pace.once else pace.wait())
        about = concerned(notices.objects, {run: watch.prober.keys(run) for run in runs})
        found += watch.look(about, say)
        # Only now: what could not be told stays in the queue.
        queue.delete(notices)
        if notices.unreadable:
            say(f"{notices.unreadable} message(s) of the queue cannot be read and are left in it")
        if pace.over() and not notices.receipts:
            return found


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.watch",
        description="Say, once, that a run - or the part of it that is waited for - is complete at its provider.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "recipe", metavar="RECIPE", help=f"a forecast recipe ({', '.join(recipes.names())}) or a YAML file"
    )
    which = made.add_argument_group("which runs (UTC); those begun within --back hours when nothing is said")
    which.add_argument("--run", metavar="R", help="one run; ends when it is complete")
    which.add_argument("--start", metavar="A", help="first run of a range")
    which.add_argument("--end", metavar="B", help="last run of a range")
    which.add_argument("--back", metavar="HOURS", type=float, default=BACK, help="default: %(default)g")
    which.add_argument(
        "--usable-to", metavar="H", type=int, action="append", default=[],
        help="also say when everything up to +H h is there (may be repeated)",
    )  # fmt: skip
    how = made.add_argument_group("how to know")
    how.add_argument(
        "--every", metavar="SECONDS", type=float, default=EVERY, help="look so often (default: %(default)g)"
    )
    how.add_argument("--once", action="store_true", help="look once")
    how.add_argument("--until", metavar="T", help="stop at this time (2026-11-20T12:00), or after so many minutes (30)")
    how.add_argument(
        "--queue", metavar="URL", help="an SQS queue with the bucket's notifications: look when it says so"
    )
    how.add_argument("--queue-endpoint", metavar="URL", help="another endpoint than AWS's own for the queue")
    how.add_argument(
        "--webhook", metavar="[HOST:]PORT", help="listen for POST /runs; at 127.0.0.1 unless a host is named"
    )
    how.add_argument("--secret", metavar="REF", help="the webhook's secret by reference: env:NAME, file:PATH, ssm:NAME")
    then = made.add_argument_group("what follows")
    then.add_argument(
        "--no-prefect", action="store_true", help="print only; otherwise an event goes to the Prefect server, too"
    )
    then.add_argument(
        "--then", choices=("pipeline", *PHASES), metavar="FLOW",
        help="run this flow for every run that is told, one after the other (pipeline, ingest...)",
    )  # fmt: skip
    then.add_argument("--cluster", metavar="NAME", default="local", help="where --then runs (default: %(default)s)")
    made.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print a JSON object a line for every run that is told")
    return made


_EXIT_CODES = """\
exit codes:
  0  looked, and told what there was to tell
  2  wrong usage or recipe
  4  the run that was named is not complete, or a server does not answer
  others are those of the flow that --then runs
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except LakeError as error:
        if arguments.json:
            print(orjson.dumps({"recipe": arguments.recipe, "error": str(error)}).decode())
        print(f"error: {as_lake_error(error)}", file=sys.stderr)
        return int(error.exit_code)


def _main(arguments: argparse.Namespace) -> int:
    request = Request(
        recipe=arguments.recipe, run=arguments.run, start=arguments.start, end=arguments.end, lake=arguments.lake
    )
    watched = Watched(request, arguments.back, tuple(arguments.usable_to))
    if arguments.every <= 0:
        raise UsageError("looks are some time apart", expected="more than 0 seconds", found=arguments.every)
    if bool(arguments.webhook) != bool(arguments.secret):
        raise UsageError("a webhook has a secret", expected="--webhook and --secret together", found="one of them")
    if arguments.webhook and arguments.queue:
        raise UsageError("a watch listens to a queue or to a webhook, not to both")
    runtime.quiet()
    if not arguments.no_prefect:
        from .events import needs_server

        needs_server()
    waiting: list[Available] = []

    def tell(one: Available) -> None:
        if not arguments.no_prefect:
            from .events import available

            available(one)
        _print(one, arguments.json)
        waiting.append(one)

    watch = watched.watch(tell)
    pace = Pace(arguments.once, arguments.every, _until(arguments.until))
    say = _changes()
    codes: set[int] = set()
    with _webhook(arguments, watch, say):
        looks = Pace(True) if arguments.then else pace
        while True:
            _look(arguments, watched, watch, looks, say)
            codes |= {_then(waiting.pop(0), arguments) for _ in range(len(waiting))} if arguments.then else set()
            if looks is pace or pace.over() or _complete(watched, watch):
                break
            time.sleep(pace.wait())
    if request.run and not _complete(watched, watch):
        codes.add(int(ExitCode.TRANSIENT))
    codes.discard(0)
    return min(codes, default=0)


def _complete(watched: Watched, watch: Watch) -> bool:
    """Whether the one run that was named is complete."""
    return bool(watched.request.run) and all(watch.complete(r) for r in watched.runs(watch))


def _look(
    arguments: argparse.Namespace, watched: Watched, watch: Watch, pace: Pace, say: Callable[[str], None]
) -> None:
    if arguments.queue:
        listening(watched, watch, pace, Queue(arguments.queue, arguments.queue_endpoint), say)
    elif arguments.webhook:
        # Callers say when to look; what they do not say is found all the same.
        probing(watched, watch, Pace(pace.once, max(pace.every, _UNTOLD), pace.until), say)
    else:
        probing(watched, watch, pace, say)


def _webhook(arguments: argparse.Namespace, watch: Watch, say: Callable[[str], None]) -> Any:
    if not arguments.webhook:
        return contextlib.nullcontext()
    host, _, port = arguments.webhook.rpartition(":")
    if not port.isdigit():
        raise UsageError("a webhook listens at a port", expected="PORT or HOST:PORT", found=arguments.webhook)

    @contextlib.contextmanager
    def open_for_calls() -> Any:
        app = application(watch, secrets.reveal(arguments.secret), say)
        with serving(app, host or "127.0.0.1", int(port)) as address:
            say(f"listening at {address}")
            yield

    return open_for_calls()


def _then(one: Available, arguments: argparse.Namespace) -> int:
    """Run a flow for a run that was told, in a process of its own."""
    command = [sys.executable, "-m", f"flows.{arguments.then}", arguments.recipe]
    command += ["--run", one.run, "--lake", arguments.lake, "--cluster", arguments.cluster]
    command += ["--partial"] if not one.complete else []
    command += [flag for flag, given in (("--no-prefect", arguments.no_prefect), ("--json", arguments.json)) if given]
    return subprocess.run(command, check=False).returncode


def _until(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.now(UTC) + timedelta(minutes=float(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return moment(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _changes() -> Callable[[str], None]:
    """Say on standard error what was not said last of the same run."""
    said: dict[str, str] = {}

    def say(sentence: str) -> None:
        about = sentence.split(":", 1)[0]
        if said.get(about) != sentence:
            said[about] = sentence
            print(sentence, file=sys.stderr, flush=True)

    return say


def _print(one: Available, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps({"event": "weatherlake.run.available", **one.as_json()}).decode(), flush=True)
    else:
        far = "complete" if one.complete else f"usable to +{one.usable_to} h"
        print(f"{one.recipe} {one.run} is {far}", flush=True)
