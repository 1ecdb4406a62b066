"""What a flow is asked for, and what the command line makes of its arguments."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.command import main, parser
from flows.phase import Request
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError


def test_days_back_begins_with_a_day() -> None:
    window = Request("demo", days_back=2).window
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert window.start in (today - timedelta(days=2), today - timedelta(days=3))
    assert window.end is None


@pytest.mark.parametrize("more", [{"run": "2026-11-20T00"}, {"start": "2026-11-20"}, {"latest": True}])
def test_days_back_stands_alone(more: dict) -> None:
    with pytest.raises(UsageError, match="days back"):
        _ = Request("demo", days_back=1, **more).window
    with pytest.raises(UsageError, match="days back"):
        _ = Request("demo", days_back=-1).window


def test_settings_reach_the_recipe() -> None:
    assert Request("demo", settings={"title": "another"}).load().title == "another"


def test_flags_of_a_kind_are_refused_for_another(capsys: pytest.CaptureFixture[str]) -> None:
    flag = next(o.flag for kind, options in recipes.options().items() if kind != "forecast" for o in options)
    assert main("ingest", ["demo", flag, "1", "--plan"]) == 2
    assert f"{flag} is for" in capsys.readouterr().err


def test_a_flag_with_a_constant_takes_no_value() -> None:
    arguments = parser("ingest").parse_args(["demo", "--relearn", "--partial"])
    assert arguments.option_relearn == ["relearn"]
    assert arguments.option_partial == [True]


def test_a_setting_that_is_none_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("ingest", ["demo", "--set", "nonsense"]) == 2
    assert "a setting cannot be read" in capsys.readouterr().err
    assert main("ingest", ["demo", "--set", "select.nonsense=1"]) == 2
    assert "unknown key 'select.nonsense'" in capsys.readouterr().err
