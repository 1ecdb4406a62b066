""".ci/env with stand-ins for uv and Python: what it looks for, when it installs, what it says."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "env"
TOOLS = [
    "sh",
    "sed",
    "grep",
    "cksum",
    "tr",
    "dirname",
    "uname",
    "ln",
    "readlink",
    "rm",
    "mkdir",
    "mv",
    "cat",
    "find",
    "sleep",
    "tail",
]

FAKE_UV = """#!/bin/sh
echo "$@" >>"$LOG"
case $1 in
venv) mkdir -p .venv/bin && ln -s "$REAL" .venv/bin/python && echo "VIRTUAL_ENV=$PWD/.venv" >.venv/bin/activate ;;
pip) sleep "${SLOW:-0}"; exit "${UV_FAILS:-0}" ;;
esac
"""


class Project:
    """A folder with .ci/env and locks, and a PATH on which there is nothing but what a test puts there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.log = root / "log"
        (root / ".ci").mkdir()
        self.bin.mkdir()
        shutil.copy2(SCRIPT, root / ".ci" / "env")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        (root / "requirements.lock").write_text("a==1 \\\n")
        (root / "requirements-dev.lock").write_text("a==1 \\\nb==1 \\\n")
        (root / "pyproject.toml").write_text("[project]\n")

    def tool(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {"PATH": str(self.bin), "HOME": str(self.root), "LOG": str(self.log), "REAL": sys.executable}
        return subprocess.run(
            [str(self.root / ".ci" / "env"), *arguments],
            env=known | environment, cwd=self.root, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def installs(self) -> list[str]:
        """The locks that were installed, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.rsplit("/", 1)[-1] for line in lines if "--require-hashes" in line]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def with_uv(project: Project) -> Project:
    project.tool("uv", FAKE_UV)
    return project


def test_without_uv_and_python_it_says_so(project: Project) -> None:
    done = project.run("true")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "neither uv nor Python 3.12" in done.stderr


def test_an_old_python_does_not_count(project: Project) -> None:
    project.tool("python3", '#!/bin/sh\necho "Python 3.11"\nexit 1\n')
    assert project.run("true").returncode == 2


def test_python_is_found_under_pyenv(project: Project) -> None:
    folder = project.root / "pyenv" / "versions" / "3.12.9" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text('#!/bin/sh\necho "$@" >>"$LOG"\ncase $2 in venv) exit 1 ;; esac\n')
    (folder / "python").chmod(0o755)
    done = project.run("true", PYENV_ROOT=str(project.root / "pyenv"))
    assert done.returncode == 4
    assert "-m venv" in project.log.read_text()


def test_it_installs_once_and_runs_the_command_inside(with_uv: Project) -> None:
    first = with_uv.run("sh", "-c", 'echo "$VIRTUAL_ENV"; command -v python; exit 7')
    assert first.returncode == 7, first.stderr
    venv = with_uv.root / ".venv"
    assert first.stdout.split() == [str(venv), str(venv / "bin" / "python")]
    assert first.stderr.splitlines() == [".ci/env: installing 1 packages from requirements.lock into .venv (once)"]
    again = with_uv.run("sh", "-c", ":")
    assert (again.returncode, again.stderr) == (0, "")
    assert with_uv.installs == ["requirements.lock"]


def test_development_packages_come_on_request_and_stay(with_uv: Project) -> None:
    with_uv.run()
    with_uv.run("--dev")
    with_uv.run()
    with_uv.run(WEATHERLAKE_ENV="dev")
    assert with_uv.installs == ["requirements.lock", "requirements-dev.lock"]


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_it_installs_anew_when_the_project_changes(with_uv: Project, changed: str) -> None:
    with_uv.run()
    with (with_uv.root / changed).open("a") as file:
        file.write("# changed\n")
    with_uv.run()
    assert len(with_uv.installs) == 2


def test_a_moved_environment_is_made_anew(with_uv: Project) -> None:
    with_uv.run()
    activate = with_uv.root / ".venv" / "bin" / "activate"
    activate.write_text("VIRTUAL_ENV=/somewhere/else/.venv\n")
    (with_uv.root / ".venv" / ".weatherlake-stamp").write_text("core 0-0 0-0 /somewhere/else\n")
    assert with_uv.run("sh", "-c", ":").returncode == 0
    assert str(with_uv.root) in activate.read_text()


def test_two_at_once_install_once(with_uv: Project) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: with_uv.run("sh", "-c", "echo ran", SLOW="0.5"), range(2)))
    assert [d.stdout for d in done] == ["ran\n", "ran\n"], [d.stderr for d in done]
    assert len(with_uv.installs) == 1


def test_a_dead_installer_is_not_waited_for(with_uv: Project) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (with_uv.root / ".venv").mkdir()
    (with_uv.root / ".venv" / ".weatherlake-busy").symlink_to(f"{gone.pid}@{os.uname().nodename}")
    assert with_uv.run().returncode == 0


def test_a_failed_installation_is_not_taken_for_done(with_uv: Project) -> None:
    done = with_uv.run("sh", "-c", "echo ran", UV_FAILS="1")
    assert (done.returncode, done.stdout) == (4, "")
    assert "could not be installed" in done.stderr
    assert not (with_uv.root / ".venv" / ".weatherlake-busy").is_symlink()
    assert with_uv.run("sh", "-c", "echo ran").stdout == "ran\n"


def test_uv_is_told_what_pip_was_told(with_uv: Project) -> None:
    settings = (
        "global.extra-index-url='file:///one\\nfile:///two'\nglobal.find-links='/a /b'\n:env:.index-url='file:///main'"
    )
    with_uv.tool("python3", f"#!/bin/sh\ncase $2 in pip) cat <<'END'\n{settings}\nEND\n;; esac\n")
    with_uv.tool("uv", FAKE_UV + 'echo "$UV_DEFAULT_INDEX|$UV_INDEX|$UV_FIND_LINKS" >>"$LOG"\n')
    with_uv.run(UV_FIND_LINKS="/mine")
    assert "file:///main|file:///one file:///two|/mine" in with_uv.log.read_text()


@pytest.mark.parametrize(("arguments", "environment"), [(["--what"], {}), ([], {"WEATHERLAKE_ENV": "what"})])
def test_wrong_usage(with_uv: Project, arguments: list[str], environment: dict[str, str]) -> None:
    assert with_uv.run(*arguments, **environment).returncode == 2
    assert with_uv.installs == []
