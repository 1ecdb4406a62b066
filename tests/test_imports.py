"""The import rules of the project: which way imports go, who may know Prefect, what an import may do."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "blocks", "deployments")
MAX_LINES = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

KINDS = {"forecasts", "stations", "scenes", "surveys"}
PARTS = {"grids", "checks", "exports", "serving"}
MAY_IMPORT: dict[str, set[str]] = {
    "deployments": {"deployments", "flows", "blocks", "tasks", *KINDS, "parts", "lake"},
    "flows": {"flows", "blocks", "tasks", *KINDS, "parts", "lake"},
    "blocks": {"blocks", "lake"},
    "tasks": {"tasks", *KINDS, "parts", "lake"},
    **{kind: {kind, "parts", "lake"} for kind in KINDS},
    "parts": {"parts", "lake"},
    "lake": {"lake"},
}
"""Layer of a module -> the layers it may import."""

HEAVY = {"prefect", "dask", "distributed", "xarray", "matplotlib", "zarr", "icechunk", "netCDF4", "scipy", "polars"}
READS = {
    "getenv",
    "read_text",
    "read_bytes",
    "iterdir",
    "glob",
    "exists",
    "is_file",
    "is_dir",
    "mkdir",
    "cwd",
    "home",
    "urlopen",
}
"""Methods and functions that reach for the environment, the disk or the network."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


def layer(module: str) -> str | None:
    """The layer of a module of ours; None for others' modules and for `tasks` itself, which anybody may import."""
    top, *rest = module.split(".")
    if top != "tasks":
        return top if top in PACKAGES else None
    if not rest:
        return None
    return "parts" if rest[0] in PARTS else rest[0] if rest[0] in KINDS | {"lake"} else "tasks"


def imported(module: str, tree: ast.AST, *, package: bool, known: Set[str]) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that is imported anywhere in a module, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + package]
                base = ".".join([*above, base] if base else above)
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield node.lineno, whole if whole in known else base


def violations(module: str, source: str, *, package: bool = False, known: Set[str] = frozenset(MODULES)) -> list[str]:
    """What a module imports that it must not, one sentence each."""
    found = []
    mine = layer(module)
    for line, name in imported(module, ast.parse(source), package=package, known=known):
        theirs = layer(name)
        if mine and theirs and theirs not in MAY_IMPORT[mine]:
            found.append(f"{module}:{line} ({mine}) imports {name} ({theirs})")
        if (
            name.split(".")[0] == "prefect"
            and mine not in ("flows", "blocks", "deployments")
            and module != "tasks.batch"
        ):
            found.append(f"{module}:{line} imports prefect")
    return found


class EagerReads(ast.NodeVisitor):
    """Finds what runs at import and reads the environment, the disk or the network."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        # The body runs later; decorators and defaults run at import.
        for part in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(part)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def visit_If(self, node: ast.If) -> None:
        if "__main__" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if ast.unparse(node) == "os.environ":
            self.found.append(f"line {node.lineno}: os.environ")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in READS or name == "open":
            self.found.append(f"line {node.lineno}: {ast.unparse(node)}")
        self.generic_visit(node)


def eager_reads(source: str) -> list[str]:
    """Expressions of a module that run at import and reach outside the process."""
    visitor = EagerReads()
    visitor.visit(ast.parse(source))
    return visitor.found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    path = MODULES[module]
    assert violations(module, path.read_text(), package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tasks.lake.ledger", "from ..grids.spec import GridSpec"),
        ("tasks.lake.ledger", "def f():\n    from ..runner import Report"),
        ("tasks.grids.spec", "from tasks.forecasts import recipe"),
        ("tasks.forecasts.refine", "from .. import work"),
        ("tasks.forecasts.refine", "import tasks.stations.refine"),
        ("tasks.runner", "import flows.phase"),
        ("tasks.runner", "import prefect"),
        ("tasks.runner", "from prefect.runtime import flow_run"),
        ("flows.phase", "from deployments.api import app"),
        ("blocks.storage", "from flows import phase"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    known = {*MODULES, "tasks.work", "flows.phase"}
    assert len(violations(module, source, known=known)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tasks.batch", "from prefect import task"),
        ("tasks.forecasts.refine", "from ..lake.errors import LakeError\nfrom .recipe import Recipe"),
        ("tasks.work", "from . import kinds\nfrom .lake import recipe as recipes"),
        ("flows.phase", "import tasks\nfrom . import runtime"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    assert violations(module, source) == []


@pytest.mark.parametrize("module", MODULES)
def test_an_import_reads_nothing(module: str) -> None:
    assert eager_reads(MODULES[module].read_text()) == []


def test_reading_at_import_is_found() -> None:
    source = "import os\nA = os.environ['A']\nB = open('b')\nclass C:\n    d = P('d').read_text()"
    source += "\ndef f(x=os.getenv('E')): ..."
    assert len(eager_reads(source)) == 4
    assert eager_reads("import os\ndef f():\n    return os.environ['A'], open('b')") == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_small_and_named_after_a_thing(module: str) -> None:
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines; split it by its nouns"
    assert not VAGUE_NAMES & set(module.split(".")), f"{module}: name the thing it is about"


def in_new_process(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, in the project's folder."""
    return subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("package", ["flows", "tasks"])
def test_importing_a_package_is_light(package: str) -> None:
    done = in_new_process(
        f"""
import json, sys
events = []
def hook(event, args):
    if event.startswith(("socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename")):
        events.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        events.append(f"open {{args[0]}}")
sys.addaudithook(hook)
import {package}
print(json.dumps({{"modules": sorted({{m.split(".")[0] for m in sys.modules}}), "events": events}}))
"""
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert not HEAVY & set(report["modules"])
    assert report["events"] == []


@pytest.mark.parametrize("module", ["tasks.runner", "tasks.work", "tasks.forecasts", "flows.command"])
def test_prefect_and_dask_are_not_loaded_before_they_are_needed(module: str) -> None:
    done = in_new_process(f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))")
    assert done.returncode == 0, done.stderr
    assert not {"prefect", "dask", "distributed", "matplotlib"} & set(done.stdout.split())


def test_proj_is_loaded_before_eccodes() -> None:
    """A process that loads ecCodes first dies when it exits (docs/adr/0002)."""
    order = "import sys; from tasks.lake import errors; assert 'pyproj' in sys.modules and 'eccodes' not in sys.modules"
    done = in_new_process(f"{order}; import eccodes; eccodes.codes_get_api_version(); print('ended')")
    assert (done.returncode, done.stdout.strip()) == (0, "ended"), done.stderr
