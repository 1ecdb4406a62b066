"""An EDR on loopback, and phases of a station recipe run against it in this process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.executor import Threads
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.lake.recipe import PHASES
from tasks.plan import Options, Plan, plan_phase
from tasks.report import Report
from tasks.runner import run_phase
from tasks.stations.edr import close_clients

from .edr_server import KEY, Edr, serve


@pytest.fixture
def edr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Edr]]:
    """``edr(stations, **options)`` serves until the test ends (see `edr_server.serve`); the environment has its key."""
    monkeypatch.setenv("KNMI_API_KEY", KEY)
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(serve(*args, **options))
        close_clients()


@dataclass
class Site:
    """A lake and a recipe that reads from a server; ``settings`` are keys of the recipe."""

    server: Edr
    url: str
    recipe: str = "knmi-hourly"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> Context[Any]:
        """Lake and recipe as the phases see them."""
        return Context(Lake(self.url), self.loaded())

    def loaded(self, **settings: Any) -> Any:
        """The recipe."""
        keys = {
            "source.url": self.server.url,
            **self.settings,
            **{k.replace("__", "."): v for k, v in settings.items()},
        }
        return recipes.load(self.recipe, keys)

    def run(self, *phases: str, force: bool = False, window: Window | None = None, **settings: Any) -> list[Report]:
        """Run phases (all of them when none is named); stops after one that is not all done."""
        reports: list[Report] = []
        for phase in phases or PHASES:
            threads = Threads(2)
            reports.append(
                run_phase(
                    Lake(self.url), self.loaded(**settings), phase, window or Window(), Options(force=force), threads
                )
            )
            threads.close()
            if reports[-1].exit_code:
                break
        return reports

    def plan(self, phase: str, **settings: Any) -> Plan:
        """What a phase would do."""
        return plan_phase(Lake(self.url), self.loaded(**settings), phase, Window(), Options())


@pytest.fixture
def site(edr: Callable[..., Edr], tmp_path: Path) -> Callable[..., Site]:
    """``site(stations, settings={...}, **server)``: a server, and an empty lake for it."""
    made: list[Site] = []

    def make(
        stations: Any = 3, *, settings: dict[str, Any] | None = None, recipe: str = "knmi-hourly", **options: Any
    ) -> Site:
        made.append(Site(edr(stations, **options), str(tmp_path / f"lake-{len(made)}"), recipe, settings or {}))
        return made[-1]

    return make
