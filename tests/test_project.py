"""The project as a whole: locks, versions, recipes, documented commands and links agree with each other."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tasks.lake import recipe as recipes

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {"requirements.lock": (), "requirements-dev.lock": ("dev", "aws", "references", "scenes", "surveys")}
"""Lock file -> the extras it holds beside the core dependencies."""

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEST_COMMAND = ".ci/env --dev python -m pytest"
_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>\S+)(?: ; (?P<marker>.+?))? \\$")


def entries(lock: str) -> Iterator[tuple[str, Version, list[str]]]:
    """Name, version and hashes of every pin of a lock."""
    name, version, hashes = "", Version("0"), []
    for line in (ROOT / lock).read_text().splitlines():
        if match := _PIN.match(line):
            if name:
                yield name, version, hashes
            name, version, hashes = canonicalize_name(match["name"]), Version(match["version"]), []
        elif line.strip().startswith("--hash="):
            hashes.append(line.strip().removeprefix("--hash=").removesuffix(" \\"))
        else:
            assert line.lstrip().startswith("#"), f"{lock}: unexpected line {line!r}"
    yield name, version, hashes


def pins(lock: str) -> dict[str, set[Version]]:
    """Package -> the versions a lock holds of it (more than one where platforms or Pythons differ)."""
    found: dict[str, set[Version]] = {}
    for name, version, _ in entries(lock):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_address_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"/|@|--(extra-)?index|--find-links|--trusted", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_sha256(lock: str) -> None:
    for name, _, hashes in entries(lock):
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), name


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_a_lock_fits_pyproject(lock: str, extras: tuple[str, ...]) -> None:
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *PYPROJECT["dependency-groups"]["build"]]
    wanted += [line for extra in extras for line in project["optional-dependencies"][extra]]
    locked = pins(lock)
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in {lock}; run .ci/lock"
        assert all(v in requirement.specifier for v in versions), (
            f"{lock} has {versions}, wanted {requirement}; run .ci/lock"
        )


def test_tests_run_on_the_versions_that_production_installs() -> None:
    core, dev = (pins(lock) for lock in LOCKS)
    assert {name: dev.get(name) for name in core} == core


def test_installed_packages_have_what_they_need() -> None:
    """A lock is installed without resolving, so what it lacks shows only here."""
    installed = {canonicalize_name(d.name): Version(d.version) for d in importlib.metadata.distributions()}
    lacking = []
    for distribution in importlib.metadata.distributions():
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            found = installed.get(canonicalize_name(requirement.name))
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                lacking.append(f"{distribution.name} needs {requirement}, found {found}")
    assert lacking == []


def test_versions_agree() -> None:
    version = PYPROJECT["project"]["version"]
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version
    try:
        installed = importlib.metadata.version("weatherlake")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("weatherlake runs from its folder and is not installed")
    assert installed == version


def test_python_versions_agree() -> None:
    oldest = (ROOT / ".python-version").read_text().strip()
    assert PYPROJECT["project"]["requires-python"] == f">={oldest}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PYPROJECT["tool"]["pyrefly"]["python-version"] == oldest


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_loads_and_is_named_as_its_file(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipes.parse(recipe.model_dump(mode="json")) == recipe


def commands(text: str) -> list[str]:
    """Lines of a document's shell blocks."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        line.strip() for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")
    ]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert TEST_COMMAND in commands((ROOT / "README.md").read_text())
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text()


WORDS = {"flows.template": ("mine",)}
"""Words after a command that are no recipe of ours: somebody's own recipe."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_documented_commands_exist(document: Path) -> None:
    for command in commands(document.read_text()):
        if script := re.match(r"(\.ci/\w+)", command):
            assert (ROOT / script[1]).stat().st_mode & 0o100, command
        for module, recipe in re.findall(r"python -m (flows\.\w+)(?: ([a-z][\w-]*))?", command):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), command
            assert not recipe or recipe in recipes.names() or recipe in WORDS.get(module, ()), command


def test_git_ignores_no_source_file() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no git checkout")
    sources = [
        str(path.relative_to(ROOT))
        for folder in ("flows", "tasks", "blocks", "deployments", "tests", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in (".py", ".yaml", ".csv", ".json", ".md")
    ]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(sources), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.split("\n")[:-1] == []


def anchors(document: Path) -> set[str]:
    """Link targets within a document: its headings, lower case with hyphens."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document.name}: {target} does not exist"
        assert not anchor or anchor in anchors(path), f"{document.name}: {target} names no heading"


@pytest.mark.parametrize("document", sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")), ids=lambda p: p.name)
def test_a_decision_has_its_parts(document: Path) -> None:
    text = document.read_text()
    assert text.startswith(f"# {document.name[:4]}: ")
    assert re.search(r"^Status: (accepted|replaced by \d{4})", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [p.name[:4] for p in (ROOT / "docs" / "adr").glob("*.md")]
    assert len(set(numbers)) == len(numbers)
