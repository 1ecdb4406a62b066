"""What `prefect.yaml`, the job templates and the automations say, without a server."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.events.schemas.automations import AutomationCore
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration
from prefect_aws.workers.ecs_worker import ECSJobConfiguration

from deployments import automations, deployed
from deployments.infrastructure import template
from deployments.register import main
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError
from tasks.lake.recipe import PHASES

ENTRIES = deployed.read()
ECS = {
    "cluster": "weatherlake", "task_definition_arn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/flow:1",
    "subnets": ["subnet-1"], "security_groups": ["sg-1"],
}  # fmt: skip


def test_every_recipe_has_a_deployment_of_every_phase_and_the_parent() -> None:
    names = [deployed.name_of(e) for e in ENTRIES]
    assert len(set(names)) == len(names)
    wanted = {f"{flow}/{name}" for name in recipes.names() for flow in ("pipeline", *PHASES, "maintain")}
    forecasts = [n for n in recipes.names() if recipes.kind_of(n) == "forecast"]
    wanted |= {f"backfill/{n}" for n in forecasts} | {f"watch/{n}" for n in forecasts if n != "demo"}
    assert set(names) == wanted


def test_prefect_reads_the_file() -> None:
    document = yaml.safe_load(deployed.FILE.read_text())
    model = PrefectYamlModel.model_validate(document)
    assert len(model.deployments) == len(ENTRIES)
    assert model.pull == []


@pytest.mark.parametrize("entry", ENTRIES, ids=deployed.name_of)
def test_a_deployment_fits_its_flow(entry: dict[str, Any]) -> None:
    """Its parameters are what the form takes, name its recipe, and hold no secret; it can run once at a time."""
    schema = parameter_schema(deployed._flow(entry)).model_dump()
    assert validate(entry["parameters"], schema) == []
    assert entry["parameters"]["recipe"] == entry["name"]
    assert entry["parameters"]["lake"].startswith("block:")
    assert {"weatherlake", entry["name"]} < set(entry["tags"])
    assert entry["concurrency_limit"]["limit"] == 1
    assert ":" not in entry["entrypoint"], "with a colon Prefect copies the working directory"
    for schedule in entry.get("schedules", ()):
        assert schedule["timezone"]


@pytest.mark.parametrize("entry", ENTRIES, ids=deployed.name_of)
def test_every_parameter_is_explained(entry: dict[str, Any]) -> None:
    for name, field in parameter_schema(deployed._flow(entry)).model_dump()["properties"].items():
        assert field.get("description"), f"{name} has no help text"
        if field.get("type") in ("string", "object", "array", "boolean", "number", "integer"):
            # The form sends the default that it shows, and the server would refuse null.
            assert field.get("default", "") is not None, f"the form cannot be sent as it is: {name}"


def job(kind: str, variables: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A job as Prefect makes it of a template (which asks a server for blocks, of which there are none here)."""
    made = template(kind, variables)
    given = {n: p["default"] for n, p in made["variables"]["properties"].items() if "default" in p} | values
    return apply_values(made["job_configuration"], given, remove_notset=True)


def test_a_run_on_ecs_uses_the_registered_task_definition() -> None:
    made = ECSJobConfiguration(**job("ecs", ECS, {"command": "prefect flow-run execute"}))
    request = made.task_run_request
    assert request["taskDefinition"] == ECS["task_definition_arn"]
    assert made.task_definition == {}
    assert request["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"
    }  # fmt: skip
    assert made.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert made.container_name == "flow"


def test_a_process_beats() -> None:
    made = ProcessJobConfiguration(**job("process", {}, {}))
    assert made.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_a_template_needs_its_values() -> None:
    with pytest.raises(UsageError, match="needs values for cluster, task_definition_arn"):
        template("ecs", {})
    with pytest.raises(UsageError, match="no variable 'clutser'"):
        template("ecs", {"clutser": "x"})
    with pytest.raises(UsageError, match="no such kind of work pool"):
        template("kubernetes", {})


def test_automations_leave_other_peoples_runs_alone() -> None:
    made = [automations.zombies(), automations.crashes(), automations.notice(uuid4())]
    for automation in made:
        related: Any = automation.trigger
        assert related.match_related.root == {
            "prefect.resource.role": "tag",
            "prefect.resource.id": "prefect.tag.weatherlake",
        }
        assert AutomationCore.model_validate(automation.model_dump()) == automation
    available: Any = automations.available("gfs", uuid4())
    assert available.trigger.match.root["prefect.resource.id"] == "weatherlake.run.gfs.*"


def test_without_a_server_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert main(["--plan"]) == 2
    assert "PREFECT_API_URL" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_said(tmp_path: Path) -> None:
    from ..flows.running import ROOT, environment

    ran = subprocess.run(
        [sys.executable, "-m", "deployments.register", "--lake", str(tmp_path)], cwd=ROOT, capture_output=True,
        text=True, check=False,
        env=environment(PREFECT_API_URL="http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES="0"),
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (4, "")
    assert ran.stderr.startswith("error: the Prefect server at http://127.0.0.1:9/api does not answer")
