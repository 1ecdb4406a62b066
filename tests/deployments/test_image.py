"""The image cannot be built here: it is linted, what it copies is there, and its check finds what is wrong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployments import entry

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deployments" / "Dockerfile"
SHIMS = ROOT / "deployments" / "shims"


def test_the_linter_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed")
    ran = subprocess.run([linter, "--no-color", str(FILE)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in FILE.with_name("Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = [
        word for line in re.findall(r"^COPY (.*)$", FILE.read_text(), re.M)
        for word in line.split()[:-1] if not word.startswith("--")
    ]  # fmt: skip
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in kept, f"{name} is not given to the builder"


def test_nobody_is_root_and_no_key_is_in_it() -> None:
    text = FILE.read_text()
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] not in ("root", "0")
    assert not re.search(r"(?i)(secret|password|token|access_key)\S*=", text)


@pytest.mark.parametrize("name", entry.SHIMS)
def test_the_shims_are_dasks_commands(name: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        [SHIMS / name, "--help"], capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "Usage" in ran.stdout
    assert os.access(SHIMS / name, os.X_OK)


def test_the_check_of_an_image_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(entry, "MODULES", ("flows.pipeline", "flows.nothing"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [sentence.split(":")[0] for sentence in entry.problems()] == [
        "flows.nothing cannot be imported (No module named 'flows.nothing')", "the user is root",
        "there is no dask-scheduler on the PATH", "there is no dask-worker on the PATH",
        "the environment holds AWS_SECRET_ACCESS_KEY",
    ]  # fmt: skip


def test_a_good_machine_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{SHIMS}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    assert entry.problems() == []
