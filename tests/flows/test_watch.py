"""Watch: how far a run is at its provider, said once per stage, by looking, by a queue, by a webhook."""

import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from flows.watch_command import Pace, Watched, listening, main
from tasks.lake import recipe as recipes
from tasks.lake.errors import AccessError, Unreachable, UsageError
from tasks.lake.lake import Lake
from tasks.lake.objects import Objects
from tasks.lake.phase import Context
from tasks.watch.availability import Prober, candidates
from tasks.watch.notices import Queue, concerned, named
from tasks.watch.register import Available, Register
from tasks.watch.watching import Watch
from tasks.watch.webhook import application, serving

from ..forecasts.small_archive import PATTERN, RUN, SCOPE, STEPS, document
from ..servers import S3Server
from .running import ROOT, environment, run
from .test_prefect import server  # noqa: F401 (a fixture)

LAST = STEPS[-1]


class Provider:
    """An archive in which files appear: of a few bytes, because nobody reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def has(self, *steps: int, run: datetime = RUN) -> None:
        for step in steps:
            name = PATTERN.format(init=run, step=step)
            (self.folder / name).write_bytes(b"GRIB")
            (self.folder / name.replace(".grib2", ".index")).write_bytes(b"{}")


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path / "archive")


@pytest.fixture
def context(tmp_path: Path, provider: Provider) -> Context[Any]:
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    return Context(lake, recipes.parse(document(provider.folder)))


def watch(context: Context[Any], *usable_to: int) -> tuple[Watch, list[Available]]:
    told: list[Available] = []
    return Watch(context, usable_to, told.append), told


# -- how far a run is ----------------------------------------------------------------------------------


def test_a_run_is_usable_up_to_the_first_step_that_is_missing(context: Context[Any], provider: Provider) -> None:
    prober = Prober(context)
    reach = prober.reach(RUN)
    assert (reach.usable_to, reach.last, reach.complete) == (None, LAST, False)
    provider.has(0, 3, 9)
    reach = prober.reach(RUN)
    assert reach.usable_to == 3
    assert "6h-enfo" in str(reach.lacks)
    provider.has(6)
    assert prober.reach(RUN).usable_to == 9
    provider.has(*STEPS)
    assert prober.reach(RUN).complete
    assert Prober(context).reach(RUN).complete


def test_a_file_without_its_index_or_without_bytes_is_not_there(context: Context[Any], provider: Provider) -> None:
    provider.has(*STEPS)
    index = next(provider.folder.glob("*-6h-*.index"))
    index.unlink()
    assert Prober(context).reach(RUN).usable_to == 3
    index.write_bytes(b"{}")
    next(provider.folder.glob("*-3h-*.grib2")).write_bytes(b"")
    assert Prober(context).reach(RUN).usable_to == 0


def test_what_was_there_is_not_asked_for_again(tmp_path: Path, provider: Provider, http_archive: Any) -> None:
    served = http_archive(provider.folder)
    recipe = document(provider.folder)
    recipe["source"]["root"] = served.url
    prober = Prober(Context(Lake(str(tmp_path / "lake")), recipes.parse(recipe)))
    provider.has(0, 3, 6)
    assert prober.reach(RUN).usable_to == 6
    served.clear()
    assert prober.reach(RUN).usable_to == 6
    assert not [r for r in served.requests if any(f"-{s}h-" in r.path for s in (0, 3, 6))]
    provider.has(*STEPS)
    assert prober.reach(RUN).complete


def test_the_runs_that_may_become_complete(context: Context[Any]) -> None:
    found = candidates(context.recipe, timedelta(hours=24), RUN + timedelta(hours=7))
    assert found == [RUN, RUN - timedelta(hours=12)]


# -- said once -----------------------------------------------------------------------------------------


def test_each_stage_is_told_once(context: Context[Any], provider: Provider) -> None:
    looking, told = watch(context, 6)
    provider.has(0, 3)
    looking.look([RUN])
    assert told == []
    provider.has(6)
    looking.look([RUN])
    looking.look([RUN])
    assert [(a.usable_to, a.complete, a.stage) for a in told] == [(6, False, "to-006")]
    provider.has(*STEPS)
    looking.look([RUN])
    assert [a.stage for a in told] == ["to-006", "complete"]
    assert told[1].as_json() == {
        "recipe": "small", "run": SCOPE, "lake": context.lake.url, "usable_to": LAST, "complete": True,
        "stage": "complete",
    }  # fmt: skip
    assert told[0].resource == f"weatherlake.run.small.{SCOPE}"
    again, nothing = watch(context, 6)
    again.look([RUN])
    assert nothing == []
    assert again.complete(RUN)


def test_stages_reached_at_once_are_one(context: Context[Any], provider: Provider) -> None:
    provider.has(*STEPS)
    looking, told = watch(context, 3, 6)
    looking.look([RUN])
    assert [a.stage for a in told] == ["complete"]
    assert Register(context.lake.objects, "small").told(SCOPE) == {"to-003", "to-006", "complete"}


def _look_many(lake: str, recipe: dict[str, Any], start: Any, out: Any) -> None:
    told: list[str] = []
    looking = Watch(Context(Lake(lake), recipes.parse(recipe)), (), lambda one: told.append(one.run))
    start.wait(60)
    looking.look([RUN + n * timedelta(hours=12) for n in range(8)])
    out.put(told)


def test_several_watchers_tell_of_each_run_once(context: Context[Any], provider: Provider) -> None:
    for number in range(8):
        provider.has(*STEPS, run=RUN + number * timedelta(hours=12))
    spawn = multiprocessing.get_context("spawn")
    start, out = spawn.Barrier(2), spawn.Queue()
    arguments = (context.lake.url, context.recipe.model_dump(mode="json", by_alias=True), start, out)
    watchers = [spawn.Process(target=_look_many, args=arguments) for _ in range(2)]
    for process in watchers:
        process.start()
    told = [run for _ in watchers for run in out.get(timeout=90)]
    for process in watchers:
        process.join(30)
        assert process.exitcode == 0
    assert len(told) == len(set(told)) == 8


def test_what_could_not_be_told_is_told_later(context: Context[Any], provider: Provider) -> None:
    provider.has(*STEPS)
    told: list[Available] = []
    broken = True

    def tell(one: Available) -> None:
        if broken:
            raise Unreachable("the server is gone")
        told.append(one)

    looking = Watch(context, (), tell)
    said: list[str] = []
    looking.look([RUN], said.append)
    assert said == [f"{SCOPE}: the server is gone"]
    broken = False
    looking.look([RUN])
    assert [a.stage for a in told] == ["complete"]


def test_a_claim_of_somebody_dead_is_taken_over(context: Context[Any]) -> None:
    one = Available("small", SCOPE, context.lake.url, LAST, True, "complete")
    register = Register(context.lake.objects, "small")
    assert register.claim(one)
    assert register.claim(one) is None, "its holder is alive"
    assert register.claim(one, datetime.now(UTC) + timedelta(minutes=11)), "or hangs"
    code = (
        "import tasks, sys\nfrom tasks.lake.lake import Lake\nfrom tasks.watch.register import *\n"
        f"a = Available('small', 'r', {context.lake.url!r}, 1, True, 'complete')\n"
        "assert Register(Lake(a.lake).objects, 'small').claim(a)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)
    assert register.claim(Available("small", "r", context.lake.url, 1, True, "complete"))
    assert one.id == Available("small", SCOPE, context.lake.url, LAST, True, "complete").id


# -- the queue -----------------------------------------------------------------------------------------


def notification(bucket: str, key: str) -> dict[str, Any]:
    """As S3 writes it (event version 2.1), shortened."""
    record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    return {"Records": [record | {"s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 4}}}]}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda b, k: notification(b, k),
        lambda b, k: {"Type": "Notification", "Message": orjson.dumps(notification(b, k)).decode()},
        lambda b, k: {"detail-type": "Object Created", "detail": {"bucket": {"name": b}, "object": {"key": k}}},
    ],
    ids=["s3", "sns", "eventbridge"],
)
def test_every_form_of_a_notification_names_its_object(wrap: Any) -> None:
    assert list(named(wrap("bucket", "a/b.grib2"))) == [("bucket", "a/b.grib2")]


def test_keys_are_decoded_and_a_test_event_is_about_nothing() -> None:
    assert list(named(notification("bucket", "a+b%3D1"))) == [("bucket", "a b=1")]
    assert list(named({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"})) == []
    with pytest.raises((KeyError, ValueError)):
        list(named({"something": "else"}))


@pytest.fixture
def sqs(s3: S3Server) -> Iterator[tuple[Any, str]]:
    """A client of SQS, and the URL of a queue."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client("sqs", endpoint_url=s3.endpoint, region_name="us-east-1")
    url = client.create_queue(QueueName=f"notices-{datetime.now().timestamp():.6f}".replace(".", "-"))["QueueUrl"]
    yield client, url
    client.delete_queue(QueueUrl=url)


def test_a_queue_says_when_to_look(tmp_path: Path, s3: S3Server, sqs: tuple[Any, str]) -> None:
    client, url = sqs
    root = s3.lake("ecmwf")
    store, bucket = Objects(root), Objects(root).location.bucket
    recipe = document(tmp_path)
    recipe["source"]["root"] = root
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    looking, told = watch(Context(lake, recipes.parse(recipe)))
    path = tmp_path / "small.yaml"
    path.write_bytes(orjson.dumps(recipe))
    from flows.request import Request

    watched = Watched(Request(recipe=str(path), start="2026-11-20", end="2026-11-20", lake=lake.url))
    queue = Queue(url, s3.endpoint)
    for step in STEPS:
        name = PATTERN.format(init=RUN, step=step)
        for key in (name, name.replace(".grib2", ".index")):
            store.put(key, b"GRIB")
            client.send_message(QueueUrl=url, MessageBody=orjson.dumps(notification(bucket, f"ecmwf/{key}")).decode())
    client.send_message(QueueUrl=url, MessageBody="no JSON at all")
    client.send_message(QueueUrl=url, MessageBody=orjson.dumps(notification("another", "x")).decode())
    assert concerned(frozenset({("another", "x")}), {RUN: looking.prober.keys(RUN)}) == []
    assert concerned(frozenset({(bucket, f"ecmwf/{name}")}), {RUN: looking.prober.keys(RUN)}) == [RUN]
    said: list[str] = []
    listening(watched, looking, Pace(True), queue, said.append)
    assert [(a.run, a.stage) for a in told] == [(SCOPE, "complete")]
    assert any("cannot be read and are left in it" in s for s in said)
    client.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0"})
    left = client.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    )["Attributes"]
    assert sum(map(int, left.values())) == 1, "only the one that nobody can read"


def test_a_queue_that_refuses_is_named(s3: S3Server) -> None:
    with pytest.raises(AccessError, match="refuses"):
        Queue(f"{s3.endpoint}/123456789012/none", s3.endpoint).receive(0)
    with pytest.raises(UsageError, match="named by its URL"):
        Queue("arn:aws:sqs:eu-central-1:123456789012:x")


# -- the webhook ---------------------------------------------------------------------------------------


@pytest.fixture
def hook(context: Context[Any]) -> Iterator[tuple[str, list[Available]]]:
    """The webhook's address, and what is told."""
    looking, told = watch(context)
    with serving(application(looking, SecretStr("open sesame"), lambda _: None), "127.0.0.1", 0) as address:
        yield address, told


def post(address: str, body: Any, secret: str = "open sesame") -> httpx.Response:
    return httpx.post(address, content=orjson.dumps(body), headers={"Authorization": f"Bearer {secret}"})


def test_the_webhook_tells_what_is_there_and_only_that(hook: tuple[str, list[Available]], provider: Provider) -> None:
    address, told = hook
    early = post(address, {"run": SCOPE})
    assert (early.status_code, early.json()) == (202, {"announced": [], "complete": False})
    provider.has(*STEPS)
    answer = post(address, {"run": SCOPE})
    assert answer.status_code == 200
    assert [a["run"] for a in answer.json()["announced"]] == [SCOPE]
    assert post(address, {"run": SCOPE}).json() == {"announced": [], "complete": True}
    assert len(told) == 1


def test_the_webhook_tells_once_however_many_call(hook: tuple[str, list[Available]], provider: Provider) -> None:
    address, told = hook
    provider.has(*STEPS)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: post(address, {"run": SCOPE}).status_code, range(16)))
    assert set(codes) == {200}
    assert len(told) == 1


@pytest.mark.parametrize("secret", ["x", "open", "open sesame!", "Open sesame"])
def test_a_wrong_secret_is_refused(hook: tuple[str, list[Available]], provider: Provider, secret: str) -> None:
    address, told = hook
    provider.has(*STEPS)
    answer = post(address, {"run": SCOPE}, secret)
    assert answer.status_code == 401
    assert "sesame" not in answer.text
    assert httpx.post(address, content=b'{"run": "2026-11-20T00"}').status_code == 401
    assert told == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"not json", b'{"run": "yesterday"}', b'{"run": "2026-11-20T05"}', b'{"run": null}']
)
def test_a_body_that_is_none_is_refused(hook: tuple[str, list[Available]], body: bytes) -> None:
    answer = httpx.post(hook[0], content=body, headers={"Authorization": "Bearer open sesame"})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_large_body_and_other_methods_are_refused(hook: tuple[str, list[Available]]) -> None:
    headers = {"Authorization": "Bearer open sesame"}
    assert httpx.post(hook[0], content=b" " * 70_000, headers=headers).status_code == 413
    assert httpx.get(hook[0], headers=headers).status_code == 405


def test_a_port_that_is_taken_is_named(hook: tuple[str, list[Available]], context: Context[Any]) -> None:
    port = int(hook[0].rsplit(":", 1)[1].split("/")[0])
    app = application(watch(context)[0], SecretStr("x"), lambda _: None)
    with pytest.raises(AccessError, match="nothing can listen"), serving(app, "127.0.0.1", port):
        pass


# -- the command ---------------------------------------------------------------------------------------


def cli(context: Context[Any], tmp_path: Path, *arguments: str) -> int:
    path = tmp_path / "small.yaml"
    path.write_bytes(orjson.dumps(context.recipe.model_dump(mode="json", by_alias=True)))
    return main([str(path), "--lake", context.lake.url, "--no-prefect", *arguments])


def test_the_command_prints_a_line_for_every_run(
    context: Context[Any], tmp_path: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.has(0, 3)
    assert cli(context, tmp_path, "--run", SCOPE, "--once") == 4
    assert "usable to +3 h of +15 h" in capsys.readouterr().err
    assert cli(context, tmp_path, "--start", "2026-11-20", "--end", "2026-11-20", "--once", "--usable-to", "3") == 0
    assert capsys.readouterr().out == f"small {SCOPE} is usable to +3 h\n"
    provider.has(*STEPS)
    assert cli(context, tmp_path, "--run", SCOPE, "--json") == 0
    told = orjson.loads(capsys.readouterr().out)
    assert (told["event"], told["run"], told["complete"]) == ("weatherlake.run.available", SCOPE, True)
    assert cli(context, tmp_path, "--run", SCOPE, "--once") == 0
    assert capsys.readouterr().out == ""


def test_the_command_waits_until_the_run_is_there(
    context: Context[Any], tmp_path: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    appears = threading.Timer(0.3, provider.has, STEPS)
    appears.start()
    assert cli(context, tmp_path, "--run", SCOPE, "--every", "0.1", "--until", "1") == 0
    appears.join()
    assert f"small {SCOPE} is complete" in capsys.readouterr().out


@pytest.mark.slow
def test_a_flow_follows(context: Context[Any], tmp_path: Path, provider: Provider) -> None:
    from ..forecasts.small_archive import Run

    Run().write(provider.folder)
    arguments = ("--run", SCOPE, "--once", "--then", "ingest", "--cluster", "none")
    assert cli(context, tmp_path, *arguments) == 0
    assert f"{SCOPE}/step-{LAST:03d}" in context.ledger.read_all("ingest")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["knmi-hourly"], "for runs of a forecast"),
        (["demo", "--webhook", "8000"], "a webhook has a secret"),
        (["demo", "--webhook", "x", "--secret", "env:X"], "listens at a port"),
        (["demo", "--webhook", "0", "--secret", "hunter2"], "named by a reference"),
        (["demo", "--every", "0"], "some time apart"),
        (["demo", "--usable-to", "-3"], "0 or more"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--lake", str(tmp_path / "lake"), "--no-prefect", "--once"]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "hunter2" not in captured.err


def test_events_need_a_server_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert main(["demo", "--lake", str(tmp_path / "lake"), "--once"]) == 2
    assert "none is configured" in capsys.readouterr().err


# -- with Prefect --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_events_artifacts_and_runs_of_the_three_flows(server: str, tmp_path: Path) -> None:  # noqa: F811
    """`watch` tells each run once, `backfill` runs a flow run per run, `maintain` leaves artifacts and events."""
    env = environment(PREFECT_HOME=str(tmp_path / "client"), PREFECT_API_URL=server)
    lake = tmp_path / "lake"
    where = ("--start", "2026-11-20", "--end", "2026-11-20T06", "--lake", lake)
    for _ in range(2):
        ran = run("watch", "demo", "--once", *where, env=env)
        assert ran.code == 0, ran.err
    assert ran.out == "", "both were told before"
    ran = run("backfill", "demo", *where, "--phase", "ingest", "--cluster", "none", "--json", env=env)
    assert ran.code == 0, ran.err
    assert [r["phases"] for r in ran.json["runs"]] == [{"ingest": "done"}] * 2
    code = f"from flows.maintain import maintain; maintain('demo', ['leases', 'audit', 'cost'], {str(lake)!r})"
    code += "\nfrom flows.events import available\nfrom tasks.watch.register import Available"
    code += "\nfor _ in range(2): available(Available('demo', '2026-11-21T00', 'elsewhere', 24, True, 'complete'))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=env, capture_output=True, timeout=120)

    def found(what: str, **body: Any) -> Any:
        return httpx.post(f"{server}/{what}/filter", json=body).json()

    runs = {(r["name"], r["state_type"], r["parent_task_run_id"] is not None) for r in found("flow_runs")}
    assert runs == {
        ("demo 2026-11-20..2026-11-20T06 backfill", "COMPLETED", False),
        ("demo 2026-11-20T00 ingest", "COMPLETED", True),
        ("demo 2026-11-20T06 ingest", "COMPLETED", True),
        ("demo maintain", "COMPLETED", False),
    }
    artifacts = {a["key"]: a for a in found("artifacts")}
    assert {"demo-backfill", "demo-maintain-leases", "demo-maintain-audit", "demo-maintain-cost"} <= set(artifacts)
    table = orjson.loads(artifacts["demo-backfill"]["data"])
    assert [(r["run"], r["ingest"]) for r in table] == [("2026-11-20T00", "done"), ("2026-11-20T06", "done")]
    wanted = {"filter": {"event": {"prefix": ["weatherlake."]}}}
    for _ in range(50):
        events = found("events", **wanted)["events"]
        if len(events) >= 6:
            break
        time.sleep(0.2)
    told = sorted(e["resource"]["prefect.resource.id"] for e in events if e["event"] == "weatherlake.run.available")
    assert told == [f"weatherlake.run.demo.{r}" for r in ("2026-11-20T00", "2026-11-20T06", "2026-11-21T00")]
    assert {e["event"] for e in events} >= {f"weatherlake.maintain.{n}" for n in ("leases", "audit", "cost")}
