"""A survey on loopback: granules on a web server, their collections in a catalogue, a lake, and the phases to run."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.executor import Threads
from tasks.lake import children
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.ledger import Record
from tasks.lake.phase import Window
from tasks.plan import Options, plan_phase
from tasks.report import Report
from tasks.runner import run_phase
from tasks.surveys import catalogue
from tests.servers import Archive, archive

from .cmr_server import Cmr, cmr

PHASES = ("ingest", "refine", "validate", "regrid", "export")


@dataclass
class Survey:
    """A catalogue whose collections each have one file (``files``: concept id -> URL, None for no link)."""

    catalogue: Cmr
    archive: Archive
    folder: Path
    lake: Lake
    files: dict[str, str | None] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, number: int, file: str | None, *, granules: int = 3, center: str = "POCLOUD") -> str:
        """A collection whose granules are all this file (a URL, or a name in the archive)."""
        concept = f"C{number:07d}-{center}"
        self.files[concept] = file if file is None or "://" in file else f"{self.archive.url}/{file}"
        self.catalogue.collections[concept] = granules
        catalogue.forget()
        return concept

    def recipe(self, **settings: Any) -> recipes.Recipe:
        base = {"catalogue.url": self.catalogue.url, "catalogue.rate": 10_000, "check.seconds": 20}
        dotted = {k.replace("__", "."): v for k, v in settings.items()}
        return recipes.load("cmr-collections", {**base, **self.settings, **dotted})

    def run(self, *phases: str, select: str = "missing", **settings: Any) -> list[Report]:
        """Run phases (all of them when none is named) in two threads."""
        executor = Threads(2)
        try:
            return [
                run_phase(Lake(self.lake.url), self.recipe(**settings), p, Window(), Options(select), executor)  # type: ignore[arg-type]
                for p in phases or PHASES
            ]
        finally:
            executor.close()

    def selected(self, phase: str, select: str = "missing", **settings: Any) -> set[str]:
        """Which collections a run of a phase would take."""
        plan = plan_phase(Lake(self.lake.url), self.recipe(**settings), phase, Window(), Options(select))  # type: ignore[arg-type]
        return {p.key.partition("/")[2] for p in plan.selected}

    def records(self, phase: str, round: str = "first") -> dict[str, Record]:
        """Records of a phase by collection."""
        found = self.lake.ledger("cmr-collections").read_all(phase, round)
        return {k.partition("/")[2]: r for k, r in found.items() if not k.endswith("/settle")}

    def rows(self, round: str = "first") -> dict[str, dict[str, Any]]:
        """Rows of the exported report by collection."""
        data = orjson.loads(self.lake.objects.get(f"exports/cmr-collections/{round}/survey.json"))
        return {row["collection_concept_id"]: row for row in data["rows"]}

    def results(self, round: str = "first") -> dict[str, str]:
        """Collection -> compatible, its reason, or its state."""
        return {
            k: "compatible" if r["tiling_compatible"] else r["incompatible_reason"] or r["state"]
            for k, r in self.rows(round).items()
        }


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    """An empty catalogue and an empty lake."""
    folder = tmp_path / "granules"
    folder.mkdir()
    with ExitStack() as stack:
        files: dict[str, str | None] = {}

        def links(concept: str, index: int) -> list[dict[str, str]]:
            url = files[concept]
            found = [] if url is None else [{"URL": url, "Type": "GET DATA"}]
            if keys := files.get("s3credentials"):
                found.append({"URL": keys, "Type": "VIEW RELATED INFORMATION"})
            return found

        served = stack.enter_context(archive(folder))
        listed = stack.enter_context(cmr({}, links))
        yield Survey(listed, served, folder, Lake(str(tmp_path / "lake")), files)
    catalogue.forget()


@pytest.fixture(scope="session", autouse=True)
def _no_children_left() -> Iterator[None]:
    yield
    children.close_all()
