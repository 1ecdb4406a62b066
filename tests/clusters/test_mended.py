"""What is mended of dask-cloudprovider: a test for each row of the tables in `blocks.clusters.aws.ecs` and `.ec2`."""

import asyncio
import copy
import socket
from dataclasses import dataclass
from typing import Any

import dask
import pytest
import yaml
from dask_cloudprovider.aws import ecs as upstream

from blocks.clusters.aws import ec2, ecs, groups
from blocks.clusters.aws.nodes import answers
from blocks.clusters.protocol import Place, build
from tasks.lake.errors import LakeError, TransientError

from .aws import AMI, REGION, Aws
from .conftest import SMALL, emulated


@dataclass
class Opened:
    """A cluster that was opened and closed, on spot capacity that was not there."""

    aws: Aws
    place: Place
    before: dict[str, Any]
    """Dask's configuration before, and while it was open."""
    within: dict[str, Any]
    printed: str
    left: list[str]
    """What was there afterwards."""
    roles: list[Any]
    definitions: list[str]
    root: str
    """Device of the root disk of the machine image."""


def after(aws: Aws, place: Place, before: dict[str, Any], within: dict[str, Any], printed: str) -> Opened:
    """Look at what there is, before the cloud is gone."""
    assert aws.wait_until_no_process(15)
    roles = aws.client("iam").list_roles()["Roles"]
    definitions = aws.client("ecs").list_task_definitions(status="ACTIVE")["taskDefinitionArns"]
    root = aws.client("ec2").describe_images(ImageIds=[AMI])["Images"][0]["RootDeviceName"]
    return Opened(aws, place, before, within, printed, aws.left(), roles, definitions, root)


_DEFINITION: dict[str, Any] = {
    "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
}  # fmt: skip


@pytest.fixture(scope="module")
def on_fargate() -> Opened:
    """A cluster of given task definitions in a given ECS cluster, with one small worker."""
    with pytest.MonkeyPatch.context() as patch, emulated() as aws:
        patch.setattr(ecs.MendedTask, "RETRY", 0.5)
        client = aws.client("ecs")
        client.create_cluster(clusterName="house", capacityProviders=["FARGATE", "FARGATE_SPOT"])
        for role in ("scheduler", "worker"):
            containers = [{"name": f"dask-{role}", "image": "i", "cpu": 256, "memory": 512}]
            client.register_task_definition(family=f"house-{role}", containerDefinitions=containers, **_DEFINITION)
        aws.spot = False
        before = copy.deepcopy(dask.config.config)
        settings = {
            "type": "fargate", "region": REGION, "workers": 1, "spot": True, "cluster": "house", "start_minutes": 2,
            "scheduler_task_definition": "house-scheduler", "worker_task_definition": "house-worker",
        }  # fmt: skip
        with build(settings, "fargate").opened("run") as place:
            within = copy.deepcopy(dask.config.config)
        return after(aws, place, before, within, "")


def test_a_worker_below_a_gibibyte_has_a_limit_of_memory(on_fargate: Opened):
    options = {"client": None, "cluster_arn": "c", "task_definition_arn": "t", "vpc_subnets": [], "security_groups": [],
               "fargate": True, "environment": {}, "tags": {}}  # fmt: skip
    theirs = upstream.Worker("tcp://h:1", cpu=256, mem=512, gpu=0, nthreads=None, extra_args=[], **options)
    assert "0GB" in theirs._overrides["command"], "the library has mended it: the table needs one row less"
    command = on_fargate.aws.run_task[-1]["overrides"]["containerOverrides"][0]["command"]
    assert command[command.index("--memory") + 1] == "471MiB"


def test_workers_fall_back_from_spot_to_the_list_price(on_fargate: Opened):
    scheduler, *workers = on_fargate.aws.run_task
    assert scheduler["launchType"] == "FARGATE", "the scheduler is never on spot"
    assert workers[0]["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE_SPOT"}]
    assert workers[-1]["capacityProviderStrategy"] is None
    assert workers[-1]["launchType"] == "FARGATE"
    assert on_fargate.place.workers == 1


def test_no_roles_are_made_and_what_is_given_is_left(on_fargate: Opened):
    assert on_fargate.roles == []
    assert [a.split("/")[-1] for a in on_fargate.definitions] == ["house-scheduler:1", "house-worker:1"]
    assert on_fargate.left == []


def test_no_secret_is_in_the_command_or_the_environment(on_fargate: Opened):
    for call in on_fargate.aws.run_task:
        (container,) = call["overrides"]["containerOverrides"]
        assert set(container) == {"name", "command"}
        assert "BEGIN" not in str(container)
    for machine in on_fargate.aws.machines:
        assert not [name for name in machine.environment if "KEY" in name or "DASK" in name]


def test_tags_are_ours_alone(on_fargate: Opened):
    """With the library's own tag, its stale-resource sweep - account-wide - would take our tasks for its own."""
    for call in on_fargate.aws.run_task:
        assert {t["key"].split(":")[0] for t in call["tags"]} == {"weatherlake"}


def test_addresses_are_private(on_fargate: Opened):
    for call in on_fargate.aws.run_task:
        assert call["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"


def fails(said: str, kind: type[LakeError] = LakeError) -> Any:
    return pytest.raises(kind, match=said)


def small_fargate(**more: Any) -> Any:
    return build(SMALL["fargate"] | {"start_minutes": 0.5} | more, "fargate")


@pytest.mark.slow
def test_a_task_that_fails_to_start_says_why(aws: Aws):
    aws.broken = "scheduler"
    with fails("scheduler did not start: Essential container in task exited"), small_fargate().opened("run"):
        pytest.fail("it did not open")


def test_what_cannot_pass_is_raised_at_once(aws: Aws):
    aws.refusals["run_task"] = ["InvalidParameterException"] * 9
    with fails("ECS does not start the scheduler .InvalidParameterException: refused"), small_fargate().opened("run"):
        pytest.fail("it did not open")
    assert len(aws.run_task) == 1


@pytest.mark.slow
def test_what_passes_is_waited_for(aws: Aws):
    aws.refusals["run_task"] = ["BlockedException"] * 2
    aws.broken = "scheduler"
    with fails("scheduler did not start: Essential container"), small_fargate().opened("run"):
        pytest.fail("it did not open")
    assert len(aws.run_task) == 3


@pytest.mark.slow
def test_what_does_not_pass_in_time_is_for_later(aws: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ecs.MendedTask, "RETRY", 0.0)
    aws.refusals["run_task"] = ["BlockedException"] * 9
    with fails("no room for the scheduler .BlockedException", TransientError), small_fargate().opened("run"):
        pytest.fail("it did not open")


@pytest.fixture(scope="module")
def on_ec2() -> Opened:
    """A cluster on EC2 with one worker, for which there was no spot instance."""
    with emulated() as aws, pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(str(words)))
        aws.spot = False
        before = copy.deepcopy(dask.config.config)
        with build(SMALL["ec2"] | {"spot": True}, "ec2").opened("run") as place:
            within = copy.deepcopy(dask.config.config)
        return after(aws, place, before, within, "".join(printed))


@pytest.mark.slow
def test_user_data_holds_no_key_and_no_configuration(on_ec2: Opened):
    for call in on_ec2.aws.run_instances:
        assert "BEGIN" not in call["UserData"]
        assert "DASK_INTERNAL_INHERIT_CONFIG" not in call["UserData"]
        lines = yaml.safe_load(call["UserData"])["runcmd"]
        assert lines[0].startswith("shutdown -h +"), "an end at last, whatever becomes of the container"
        assert lines[-1] == "shutdown -h now"
        assert call["InstanceInitiatedShutdownBehavior"] == "terminate"


@pytest.mark.slow
def test_disks_are_encrypted_and_there_is_one(on_ec2: Opened):
    for call in on_ec2.aws.run_instances:
        (device,) = call["BlockDeviceMappings"]
        assert device["DeviceName"] == on_ec2.root
        assert device["Ebs"]["Encrypted"] is True


@pytest.mark.slow
def test_metadata_asks_for_a_token(on_ec2: Opened):
    for call in on_ec2.aws.run_instances:
        assert call["MetadataOptions"]["HttpTokens"] == "required"


@pytest.mark.slow
def test_instances_have_a_role_and_private_addresses(on_ec2: Opened):
    for call in on_ec2.aws.run_instances:
        assert call["IamInstanceProfile"] == {"Name": "weatherlake-nodes"}
        (interface,) = call["NetworkInterfaces"]
        assert interface["AssociatePublicIpAddress"] is False
        assert call["KeyName"] is None


def test_the_security_group_that_is_made_is_closed_to_the_world(aws: Aws):
    session = small_fargate().session()
    _, vpc = groups.network(session, None, ())
    made = groups.make(session, vpc, "c", (), {"weatherlake:cluster": "c"})
    (group,) = aws.client("ec2").describe_security_groups(GroupIds=[made])["SecurityGroups"]
    (among, others) = sorted(group["IpPermissions"], key=lambda p: len(p["IpRanges"]))
    assert [g["GroupId"] for g in among["UserIdGroupPairs"]] == [made]
    assert [r["CidrIp"] for r in others["IpRanges"]] == [aws.client("ec2").describe_vpcs()["Vpcs"][0]["CidrBlock"]]
    assert (others["FromPort"], others["ToPort"]) == (8786, 8787)


@pytest.mark.slow
def test_instances_fall_back_from_spot_to_the_list_price(on_ec2: Opened):
    markets = [bool(c["InstanceMarketOptions"]) for c in on_ec2.aws.run_instances]
    assert markets == [False, True, False]


@pytest.mark.slow
def test_keys_do_not_stay_in_the_configuration_of_this_process(on_ec2: Opened):
    assert on_ec2.within == on_ec2.before
    assert "BEGIN" not in str(on_ec2.within)


@pytest.mark.slow
def test_nothing_is_printed(on_ec2: Opened):
    assert on_ec2.printed == ""


def test_an_instance_that_never_began_is_closed():
    worker = object.__new__(ec2.Worker)
    worker.instance = None
    asyncio.run(worker.destroy_vm())


def test_waiting_for_a_port_can_be_ended_and_ends_when_it_answers():
    async def wait() -> None:
        with pytest.raises(TimeoutError):
            # Nobody answers there (RFC 5737), not even with a refusal.
            await asyncio.wait_for(answers("tls://192.0.2.1:8786"), 0.3)
        with socket.create_server(("127.0.0.1", 0)) as server:
            await asyncio.wait_for(answers(f"tcp://127.0.0.1:{server.getsockname()[1]}"), 5)

    asyncio.run(wait())
