"""Runs archived, proven on the other side, aged and brought back, as a user does it."""

import io
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import xarray as xr
import yaml

from flows.archive import main as archives
from flows.command import main as command
from flows.maintain import main as maintain
from tasks.lake import open_cube
from tasks.lake import recipe as recipes
from tasks.lake.objects import Objects

from ..servers import S3Server
from .running import PLAIN, Ran, assert_same_cubes, start

RUN = "2026-11-20T00"
FOLDER = f"transfers/demo/{RUN}"


def run(flow: str, *arguments: object, **environment: str) -> Ran:
    """Run a command in this process: a new one takes longer than most of what it does here."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(a) for a in arguments]
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        main = {"archive": archives, "maintain": maintain}.get(flow) or partial(command, flow)
        try:
            code = int(main(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def key() -> dict[str, str]:
    """A key to sign with in the environment, made by openssl as the manual says."""
    made = subprocess.run(
        "openssl genpkey -algorithm ed25519 -outform DER | base64 -w0", shell=True, capture_output=True, check=True
    )
    return {"ARCHIVE_KEY": made.stdout.decode()}


def archive(lake: object, to: object, *more: object, env: dict[str, str] | None = None, recipe: object = "demo") -> Ran:
    options = ("--exporter", "archive", "--to", to, "--lake", lake, *PLAIN, *more)
    return run("export", recipe, *options, "--json", **(env or {}))


@pytest.fixture(scope="session")
def archived(demo: Path, key: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the demo's run, signed. Not to be changed."""
    lake = Path(shutil.copytree(demo, tmp_path_factory.mktemp("archived") / "lake"))
    place = lake.parent / "archive"
    ran = archive(lake, place, "--sign", "env:ARCHIVE_KEY", env=key)
    assert ran.code == 0, ran.err
    assert ran.json["partitions"]["done"] == 1
    return place


@pytest.fixture
def copy_of_archive(archived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archived, tmp_path / "copy"))


def verify(url: object, *more: object) -> Ran:
    return run("archive", "verify", url, *more, "--json")


def problems(ran: Ran) -> list[str]:
    return [problem for row in ran.json["transfers"] for problem in row["problems"]]


def test_the_archive_is_a_lake_with_the_same_cubes(archived: Path, demo: Path) -> None:
    assert_same_cubes(archived, demo)
    for zone in ("raw", "manifests", "verdicts"):
        names = {p.relative_to(demo) for p in (demo / zone).rglob("*") if p.is_file() and RUN in p.as_posix()}
        assert names
        assert all((archived / n).read_bytes() == (demo / n).read_bytes() for n in names)


def test_other_programs_prove_it(archived: Path, tmp_path: Path) -> None:
    """sha256sum reads the sums, openssl the signature."""
    for sums in archived.glob("transfers/demo/**/SHA256SUMS"):
        done = subprocess.run(["sha256sum", "--strict", "-c", sums], cwd=archived, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        folder = sums.parent
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public-key.pem", "-rawin"]
        signature = next(folder.glob("*.sig")).name
        command += ["-in", "manifest.json", "-sigfile", signature]
        assert b"Successfully" in subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout


def test_the_verifier_proves_it(archived: Path) -> None:
    ran = verify(archived, "--key", archived / FOLDER / "public-key.pem")
    assert ran.code == 0
    assert {row["transfer"] for row in ran.json["transfers"]} == {
        FOLDER, "transfers/demo/cubes/refined", "transfers/demo/cubes/global-4", "transfers/demo/shared",
    }  # fmt: skip
    assert all(row["holds"] and row["read"]["bytes"] == row["bytes"] for row in ran.json["transfers"])
    sampled = verify(archived, "--sample", "0.1", "--recipe", "demo", "--run", RUN)
    assert sampled.code == 0
    whole, read = (sampled.json["transfers"][0][k] for k in ("objects", "read"))
    assert read["objects"] == round(whole / 10)


def largest(place: Path) -> Path:
    return max((place / "cubes").rglob("chunks/*"), key=lambda p: p.stat().st_size)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (lambda p: flip(largest(p)), "is damaged"),
    "a truncated object": (lambda p: largest(p).write_bytes(b"x"), "has 1 bytes, not"),
    "a missing object": (lambda p: largest(p).unlink(), "is missing"),
    "a flipped bit in the cube's metadata": (lambda p: flip(next((p / "cubes").rglob("repo"))), "is damaged"),
    "a changed manifest": (
        lambda p: (p / FOLDER / "manifest.json").write_text(
            (p / FOLDER / "manifest.json").read_text().replace('"objects"', ' "objects"', 1)
        ),
        "the manifest was changed after it was signed",
    ),
    "a flipped signature": (lambda p: flip(next((p / FOLDER).glob("*.sig"))), "is not that of the key"),
    "other sums": (lambda p: (p / FOLDER / "SHA256SUMS").write_text("0  x\n"), "does not say what the manifest says"),
    "no manifest": (lambda p: (p / FOLDER / "manifest.json").write_text("{"), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_verifier_finds_damage(copy_of_archive: Path, damage: str) -> None:
    from tasks.lake.proof import prove

    harm, said = DAMAGE[damage]
    harm(copy_of_archive)
    found = [p for proof in prove(Objects(str(copy_of_archive))) for p in proof.problems]
    assert any(said in problem for problem in found), found


def test_a_signature_of_somebody_else(archived: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    subprocess.run(
        f"openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out {other}", shell=True, check=True, timeout=30
    )
    ran = verify(archived, "--key", other)
    assert ran.code == 1
    assert all("is not that of the key" in problem for problem in problems(ran))
    assert len(problems(ran)) == 4


def test_an_archive_that_is_not_signed(demo: Path, archived: Path, tmp_path: Path) -> None:
    lake = Path(shutil.copytree(demo, tmp_path / "lake"))
    place = tmp_path / "archive"
    assert archive(lake, place, "--what", "raw").code == 0
    ran = verify(place)
    assert ran.code == 0
    assert {row["signed"] for row in ran.json["transfers"]} == {"not signed"}
    assert verify(place, "--key", archived / FOLDER / "public-key.pem").code == 1
    assert not (place / "cubes").exists()
    # More of the same run: only that is copied, and the raw copies stay as they are.
    before = {p: p.stat().st_mtime_ns for p in (place / "raw").rglob("*")}
    again = archive(lake, place, "--what", "raw,refined")
    assert again.json["partitions"]["done"] == 1
    assert {p: p.stat().st_mtime_ns for p in (place / "raw").rglob("*")} == before
    assert verify(place).code == 0
    xr.testing.assert_identical(
        open_cube(str(place), "demo", "refined").load(), open_cube(str(lake), "demo", "refined").load()
    )


def test_archived_once_there_is_nothing_to_do(copy_of_demo: Callable[[], Path], tmp_path: Path) -> None:
    lake, place = copy_of_demo(), tmp_path / "archive"
    assert archive(lake, place).json["partitions"]["done"] == 1
    assert archive(lake, place).json["status"] == "nothing to do"
    # The lake keeps the manifest as its own proof of what went where.
    name = f"exports/demo/{RUN}/archive/manifest.json"
    assert (lake / name).read_bytes() == (place / FOLDER / "manifest.json").read_bytes()
    # Another place is another archive; what one place lost is said, and sent again by force.
    assert archive(lake, tmp_path / "other").json["partitions"]["done"] == 1
    shutil.rmtree(place)
    assert archive(lake, place).json["partitions"]["done"] == 1


def test_the_plan_tells_bytes_requests_and_money(demo: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "aging.yaml"
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text())
    document["storage"] = [{"after": "7d", "class": "STANDARD_IA"}, {"after": "60d", "class": "GLACIER"}]
    recipe.write_text(yaml.safe_dump(document))
    ran = run(
        "export", recipe, "--exporter", "archive", "--to", "s3://some-bucket/archive", "--lake", demo, "--plan", *PLAIN
    )
    assert ran.code == 0, ran.err
    told = [line for line in ran.out.splitlines() if line.startswith(f"{RUN}/archive: ")]
    assert "objects" in told[0]
    assert "writes, USD 0.00 to send" in told[0]
    assert [line.split(" a month in ")[1].split(" (")[0] for line in told[1:]] == [
        "STANDARD from day 1 to day 7", "STANDARD_IA from day 7 to day 60", "GLACIER from day 60 on",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--exporter", "archive"), "there is no export 'archive'"),
        (("--to", "ftp://x"), "a store is a folder"),
        (("--to", "x", "--what", "cooked"), "cooked"),
        (("--exporter", "archive", "--to", "LAKE/inside"), "lie in one another"),
        (("--exporter", "archive", "--to", "https://example.org/x"), "cannot be written to"),
    ],
)
def test_wrong_usage_is_one_sentence(demo: Path, more: tuple[str, ...], said: str) -> None:
    words = [str(demo / "inside") if word == "LAKE/inside" else word for word in more]
    ran = run("export", "demo", *words, "--lake", demo, *PLAIN, "--plan")
    assert ran.code == 2, ran.out + ran.err
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_a_secret_that_is_no_key_is_not_told(copy_of_demo: Callable[[], Path], tmp_path: Path) -> None:
    lake = copy_of_demo()
    ran = archive(lake, tmp_path / "a", "--sign", "env:ARCHIVE_KEY", env={"ARCHIVE_KEY": "hunter2hunter2"})
    assert ran.code != 0
    assert "the secret env:ARCHIVE_KEY is no key to sign with" in ran.out + ran.err
    assert "hunter2" not in ran.out + ran.err
    assert not any(b"hunter2" in p.read_bytes() for p in lake.rglob("*") if p.is_file())


# -- the way back --------------------------------------------------------------------------------------------


def test_a_run_comes_back_into_an_empty_lake(archived: Path, demo: Path, tmp_path: Path) -> None:
    ran = run("archive", "restore", archived, "--recipe", "demo", "--run", RUN, "--to", tmp_path / "new", "--json")
    assert ran.code == 0, ran.err
    assert_same_cubes(tmp_path / "new", demo)
    # It is a lake to go on with: what is on record is there.
    again = run("regrid", "demo", "--lake", tmp_path / "new", *PLAIN, "--json")
    assert again.json["status"] == "nothing to do", again.out + again.err


def test_what_a_lake_lost_comes_back(copy_of_archive: Path, demo: Path, tmp_path: Path) -> None:
    lake = Path(shutil.copytree(demo, tmp_path / "lake"))
    assert run("maintain", "demo", "--run", RUN, "--raw", "delete", "--lake", lake).code == 0
    assert not any(p.is_file() for p in (lake / "raw").rglob("*"))
    largest(lake).unlink()
    ran = run("archive", "restore", copy_of_archive, "--recipe", "demo", "--run", RUN, "--to", lake, "--json")
    assert ran.code == 0, ran.err
    assert_same_cubes(lake, demo)
    raw = {p.relative_to(demo): p.read_bytes() for p in (demo / "raw").rglob("*") if p.is_file()}
    assert {p.relative_to(lake): p.read_bytes() for p in (lake / "raw").rglob("*") if p.is_file()} == raw
    assert run("ingest", "demo", "--lake", lake, *PLAIN, "--json").json["status"] == "nothing to do"


def test_a_damaged_archive_does_not_come_back(copy_of_archive: Path, tmp_path: Path) -> None:
    flip(largest(copy_of_archive))
    lake = tmp_path / "new"
    ran = run("archive", "restore", copy_of_archive, "--recipe", "demo", "--run", RUN, "--to", lake, "--json")
    assert ran.code == 1
    assert "does not hold what is on record of it" in ran.json["error"]
    assert not list(lake.rglob("repo"))
    assert not list((lake / "ledger").rglob("*.json"))


# -- S3 ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_classes_by_age_lifecycle_and_the_cold(copy_of_demo: Callable[[], Path], s3: S3Server, tmp_path: Path) -> None:
    """A run that is old when it is archived goes to its class at once; asked for, it can be read again."""
    import boto3

    lake, url = copy_of_demo(), s3.lake("arch/ive")
    bucket = Objects(url).location.bucket
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text())
    document["storage"] = [{"after": "0d", "class": "GLACIER"}]
    recipe = tmp_path / "aging.yaml"
    recipe.write_text(yaml.safe_dump(document))
    ran = archive(lake, url, recipe=recipe)
    assert ran.code == 0, ran.err
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    cold = {o["Key"] for o in listed if o["StorageClass"] == "GLACIER"}
    assert cold
    # Large ones only, and nothing without which a cube does not open.
    assert all(o["Size"] >= 128 * 1024 for o in listed if o["Key"] in cold)
    assert all("/raw/" in k or "/chunks/" in k or "/exports/" in k for k in cold)

    asked = run("archive", "restore", url, "--recipe", "demo", "--run", RUN, "--days", "3", "--json")
    assert asked.code == 4
    assert asked.json["asked"] == len(cold)
    ready = run("archive", "restore", url, "--recipe", "demo", "--run", RUN, "--to", tmp_path / "new", "--json")
    assert ready.code == 0, ready.out + ready.err
    assert_same_cubes(tmp_path / "new", lake)

    other = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [other]})
    for _ in range(2):
        assert run("archive", "lifecycle", recipe, "--to", url, "--put", "--json").code == 0
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    moved = {r["Filter"]["And"]["Prefix"] for r in rules if "Transitions" in r}
    assert len(rules) == len(moved) + 2
    assert any(r["ID"] == "mine" for r in rules)
    assert all(k.startswith(tuple(moved)) for k in cold)
    assert not any(k.startswith(tuple(moved)) for o in listed if (k := o["Key"]).endswith(("/repo", "manifest.json")))


@pytest.mark.slow
def test_from_s3_to_s3_the_server_copies(copy_of_demo: Callable[[], Path], s3: S3Server) -> None:
    lake, place = s3.lake(), s3.lake("archive")
    local, store = copy_of_demo(), Objects(lake)
    for path in local.rglob("*"):
        if path.is_file() and not path.name.endswith(".lock"):
            store.put(path.relative_to(local).as_posix(), path.read_bytes())
    ran = archive(lake, place)
    assert ran.code == 0, ran.err
    assert verify(place).code == 0
    assert_same_cubes(place, local)


# -- faults --------------------------------------------------------------------------------------------------


@pytest.mark.fault
def test_the_command_is_killed_again_and_again(copy_of_demo: Callable[[], Path], tmp_path: Path) -> None:
    lake, place = copy_of_demo(), tmp_path / "archive"
    options = ("demo", "--exporter", "archive", "--to", place, "--lake", lake, *PLAIN, "--json")
    for number in range(5):
        process = start("export", *options)
        deadline = time.monotonic() + 60
        # From the first object on, a little later each time.
        while process.poll() is None and not (place / "raw").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.03 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (place / FOLDER / "manifest.json").exists():
            assert verify(place).code == 0
    ran = run("export", *options)
    assert ran.code == 0, ran.out + ran.err
    assert verify(place).code == 0
    assert_same_cubes(place, lake)
    assert not list(place.rglob("*#*"))
