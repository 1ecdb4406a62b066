"""Versions compared, this checkout's code brought to a cluster that runs another one."""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from distributed import Client

from tasks import code, shipping
from tasks.code import Mismatch, mismatches, prepare_cluster, table
from tasks.lake.errors import ExitCode, LakeError

from .clusters import ROOT, processes

HERE = {"python": "3.12", "distributed": "2026.8.0", "zarr": "3.4.2"}


def test_the_same_versions_are_no_mismatch():
    assert mismatches(HERE, HERE, {"tcp://a": HERE, "tcp://b": HERE}) == {}


def test_a_mismatch_is_a_table_that_names_who_differs():
    older = {**HERE, "zarr": "3.1.6", "distributed": None}
    wrong = mismatches(HERE, {**HERE, "python": "3.11"}, {"tcp://a": HERE, "tcp://b": older})
    assert table(wrong).splitlines() == [
        "package      client    scheduler  tcp://b",
        "python       3.12      3.11       3.12",
        "distributed  2026.8.0  2026.8.0   absent",
        "zarr         3.4.2     3.4.2      3.1.6",
    ]


def test_the_scheduler_needs_only_what_it_speaks_with():
    assert mismatches(HERE, {**HERE, "zarr": None}, {"tcp://a": HERE}) == {}
    assert "distributed" in mismatches(HERE, {**HERE, "distributed": "2026.1"}, {"tcp://a": HERE})


def test_many_workers_make_no_wide_table():
    wrong = mismatches(HERE, HERE, {f"tcp://{i}": {**HERE, "zarr": "1"} for i in range(9)})
    assert table(wrong).splitlines()[-1] == "... and 6 more worker(s)"
    assert max(map(len, table(wrong).splitlines())) < 80


def test_the_wheel_holds_the_project_and_its_data_files(tmp_path: Path):
    data = shipping.wheel(shipping.digest())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {"deployments/prices.yaml", "deployments/recipes/demo.yaml", "tasks/runner.py", "flows/phase.py"} <= names
    assert not [n for n in names if n.endswith(".pyc") or "__pycache__" in n]
    tables = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tasks" / "checks").rglob("*.csv")}
    assert tables <= names
    assert all((tmp_path / n).read_bytes() == (ROOT / n).read_bytes() for n in tables)
    metadata = next(n for n in names if n.endswith(".dist-info/METADATA"))
    assert f"+{shipping.digest()[:12]}\n" in (tmp_path / metadata).read_text()


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """This project as an image may hold it that was built some time ago: another one than this checkout."""
    folder = tmp_path / "image"
    for package in shipping.PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tasks" / "work.py").write_text("raise RuntimeError('this is the image')\n")
    (folder / "deployments" / "prices.yaml").write_text("region: nowhere\n")
    return folder


def _answers() -> dict[str, Any]:
    """What runs in a worker, and what a process that it starts finds."""
    import importlib.metadata
    import subprocess
    import sys

    import tasks.work
    from tasks.lake.prices import prices

    look = "import tasks.work, sys; print(tasks.work.__file__)"
    child = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False, cwd="/")
    return {
        "file": tasks.work.__file__, "child": child.stdout.strip(), "region": prices().region,
        "version": importlib.metadata.version("weatherlake"), "code": shipping.digest(),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("nanny", [True, False], ids=["nanny", "no nanny"])
def test_an_edited_checkout_runs_on_a_cluster_with_another_image(tmp_path: Path, older: Path, nanny: bool):
    with processes(tmp_path / "cluster", workers=0, code=older) as cluster:
        cluster.start_worker("--nanny" if nanny else "--no-nanny")
        cluster.wait_for(1)
        with cluster.client() as client:
            _import_what_is_there(client)
            prepared = prepare_cluster(client)
            assert (prepared.workers, prepared.shipped) == (1, 1)
            assert "shipped to 1 of 1" in str(prepared)
            # One that joins later starts with the same code.
            cluster.start_worker("--nanny" if nanny else "--no-nanny")
            client.wait_for_workers(2, timeout=60)
            answers = [client.submit(_answers, workers=w, pure=False).result(30) for w in _workers(client)]
            assert prepare_cluster(client).shipped == 0
    for answer in answers:
        assert answer["code"] == shipping.digest()
        assert answer["region"] == "us-east-1"
        assert answer["version"].endswith(f"+{shipping.digest()[:12]}")
        assert "weatherlake-code-" in answer["file"]
        if nanny:
            assert answer["child"] == answer["file"]


@pytest.mark.slow
def test_the_same_code_is_not_shipped(tmp_path: Path):
    with processes(tmp_path / "cluster", workers=1) as cluster, cluster.client() as client:
        before = [w.pid for w in cluster.workers()]
        prepared = prepare_cluster(client)
        assert (prepared.shipped, str(prepared)) == (0, "1 worker(s) with the same code")
        assert [w.pid for w in cluster.workers()] == before


@pytest.mark.slow
def test_other_versions_end_the_run_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # A worker whose zarr says that it is an older one.
    fake = tmp_path / "cluster" / "zarr-3.1.6.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: zarr\nVersion: 3.1.6\n")
    with processes(tmp_path / "cluster", workers=1, code=fake.parent) as cluster, cluster.client() as client:
        with pytest.raises(Mismatch) as caught:
            prepare_cluster(client)
        assert caught.value.exit_code is ExitCode.USAGE
        first, header, row = str(caught.value).splitlines()
        assert first == "the cluster does not run the versions of this machine"
        assert header.split()[:3] == ["package", "client", "scheduler"]
        assert row.split()[0] == "zarr"
        assert row.split()[-1] == "3.1.6"


@pytest.mark.slow
def test_a_worker_with_other_versions_does_not_join_later(tmp_path: Path, older: Path):
    with processes(tmp_path / "cluster", workers=1, code=older) as cluster, cluster.client() as client:
        prepare_cluster(client)
        fake = tmp_path / "other" / "zarr-3.1.6.dist-info"
        fake.mkdir(parents=True)
        (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: zarr\nVersion: 3.1.6\n")
        cluster.environment["PYTHONPATH"] = f"{fake.parent}:{cluster.environment['PYTHONPATH']}"
        late = cluster.start_worker("--no-nanny")
        late.wait(60)
        assert len(_workers(client)) == 1


@pytest.mark.slow
def test_code_that_does_not_arrive_ends_the_run(tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipping, "wheel", lambda _: _empty())
    with (
        processes(tmp_path / "cluster", workers=1, code=older) as cluster,
        cluster.client() as client,
        pytest.raises(LakeError, match="does not run the code that was shipped to it"),
    ):
        prepare_cluster(client)


def _empty() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


def _workers(client: Client) -> list[str]:
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


def _import_what_is_there(client: Client) -> None:
    """Have the image's modules loaded, as they are in a cluster that was used before."""

    def load() -> str:
        import tasks.lake.ledger

        return tasks.lake.ledger.__file__

    files = {*client.run(load).values(), client.run_on_scheduler(load)}
    assert all("/image/" in f for f in files), files
    assert orjson.dumps(code.WIRE)
