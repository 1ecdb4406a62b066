"""Events of a validation: once each, to whom the recipe says, without secrets, on record in the lake."""

from pathlib import Path

import orjson
import pytest

import flows.notify as notify
from flows.notify import Event, events, scrubbed, tell
from tasks.checks.acceptance import CheckConfig
from tasks.checks.check import Cell, Finding
from tasks.checks.verdict import judge
from tasks.lake.errors import ExitCode
from tasks.lake.lake import Lake
from tasks.report import Report

EVENT = Event("mine", "2026-11-20T00", "held", "weatherlake: held", "because", "0123456789ab")


class Outbox:
    """Stands for the blocks: what was sent through which, and which of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *failing: str) -> None:
        self.sent: list[tuple[str, str]] = []
        self.failing = set(failing)
        monkeypatch.setattr(notify, "_send", self._send)

    def _send(self, block: str, event: Event) -> None:
        if block in self.failing:
            raise RuntimeError("https://hooks.example.org/very-secret does not answer")
        self.sent.append((block, event.what))


def report(**counts: int) -> Report:
    partitions = {"planned": 3, "done": 3, "lost": 0} | counts
    return Report("mine", "validate", "held", ExitCode.HELD, partitions, (), 1.0, (), "", ("2026-11-20T00",))


def lake_with(tmp_path: Path, score: float, **config: object) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    found = [Finding("jump", "10u", score, "10u: https://user:pw@host/a?sig=abc is bad.", (Cell(6),))]
    verdict = judge(found, CheckConfig.model_validate(config))
    lake.objects.put("verdicts/mine/2026-11-20T00/verdict.json", verdict.to_json())
    return lake


def test_told_once_whoever_asks_again(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, objects = Outbox(monkeypatch), Lake(store_url).objects
    for _ in range(3):
        assert tell(objects, EVENT, ["slack-webhook/ops", "sns-topic/alerts"]) == []
    assert outbox.sent == [("slack-webhook/ops", "held"), ("sns-topic/alerts", "held")]
    record = orjson.loads(objects.get("notifications/mine/2026-11-20T00/held-0123456789ab.json"))
    assert set(record["sent"]) == {"slack-webhook/ops", "sns-topic/alerts"}
    assert all(record["sent"].values())


def test_what_could_not_be_sent_is_tried_again_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, objects = Outbox(monkeypatch, "sns-topic/alerts"), Lake(str(tmp_path / "lake")).objects
    problems = tell(objects, EVENT, ["slack-webhook/ops", "sns-topic/alerts"])
    assert problems == ["held of 2026-11-20T00 could not be sent through sns-topic/alerts (RuntimeError)"]
    assert b"very-secret" not in objects.get(EVENT.key)
    outbox.failing.clear()
    assert tell(objects, EVENT, ["slack-webhook/ops", "sns-topic/alerts"]) == []
    assert outbox.sent == [("slack-webhook/ops", "held"), ("sns-topic/alerts", "held")]


def test_a_claim_whose_holder_was_killed_is_taken_over_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, objects = Outbox(monkeypatch), Lake(str(tmp_path / "lake")).objects
    claim = notify._record(EVENT, None, [])
    objects.put(EVENT.key, orjson.dumps(claim))
    assert tell(objects, EVENT, ["slack-webhook/ops"]) == []
    assert outbox.sent == [], "somebody may be sending it now"
    objects.put(EVENT.key, orjson.dumps(claim | {"at": "2026-01-01T00:00:00+00:00"}))
    tell(objects, EVENT, ["slack-webhook/ops"])
    assert outbox.sent == [("slack-webhook/ops", "held")]


@pytest.mark.parametrize(
    ("score", "config", "what"),
    [
        (1.0, {}, None),
        (0.9, {}, "flagged"),
        (0.9, {"policy": {"flagged": "hold"}}, "held"),
        (0.1, {}, "quarantined"),
        (0.1, {"run": [{"type": "jump", "action": "reject"}]}, "rejected"),
    ],
)
def test_what_became_of_a_run_is_an_event(tmp_path: Path, score: float, config: dict, what: str | None) -> None:
    found = events(lake_with(tmp_path, score, **config), "mine", report())
    assert [e.what for e in found] == ([] if what is None else [what])
    for event in found:
        assert "10u: https://host/a is bad." in event.body
        assert "pw" not in event.body
        assert "sig" not in event.body


def test_the_same_verdict_again_is_the_same_event_and_another_is_not(tmp_path: Path) -> None:
    one, same, other = (
        events(lake_with(tmp_path / n, s), "mine", report())[0] for n, s in zip("abc", (0.9, 0.9, 0.1), strict=True)
    )
    assert one.key == same.key
    assert one.key != other.key


def test_lost_partitions_are_an_event_of_any_phase(tmp_path: Path) -> None:
    (event,) = events(Lake(str(tmp_path / "lake")), "mine", report(lost=2))
    assert event.what == "lost"
    assert "2 partition(s) of validate" in event.body


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("https://h/a?X-Amz-Signature=ab12&b=c is not there", "https://h/a is not there"),
        ("nothing? nothing at all", "nothing? nothing at all"),
    ],
)
def test_texts_lose_what_may_be_a_secret(text: str, clean: str) -> None:
    assert scrubbed(text) == clean
