"""The reaper removes what has outlived its tag, and nothing else."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from blocks.clusters import reaper
from blocks.clusters.aws.tags import Mark, as_dict, expires
from tasks.lake.errors import AccessError, UsageError

from .aws import REGION, ROLE, Aws
from .machines import ROOT

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def tags(hours: float, spoilt: bool = False) -> dict[str, str]:
    made = Mark(f"cluster{hours:g}".replace("-", "m"), "run-1", NOW + timedelta(hours=hours)).tags()
    return made | {"weatherlake:expires": "tomorrow"} if spoilt else made


def make_one_of_each(aws: Aws, name: str, tagged: dict[str, str]) -> set[tuple[str, str]]:
    """A resource of each kind that is made for clusters; kinds and identifiers."""
    lower = [{"key": k, "value": v} for k, v in tagged.items()]
    upper = [{"Key": k, "Value": v} for k, v in tagged.items()]
    ecs, ec2, ssm = (aws.client(service) for service in ("ecs", "ec2", "ssm"))
    vpc, subnets = ec2.describe_vpcs()["Vpcs"][0]["VpcId"], ec2.describe_subnets()["Subnets"]
    group = ec2.create_security_group(
        GroupName=f"weatherlake-{name}", Description="d", VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": upper}],
    )["GroupId"]  # fmt: skip
    cluster = ecs.create_cluster(clusterName=f"weatherlake-{name}", tags=lower)["cluster"]["clusterArn"]
    definition = ecs.register_task_definition(
        family=f"weatherlake-{name}-worker", networkMode="awsvpc", taskRoleArn=ROLE, tags=lower,
        containerDefinitions=[{"name": "dask-worker", "image": "i", "cpu": 256, "memory": 512}],
    )["taskDefinition"]["taskDefinitionArn"]  # fmt: skip
    network = {"subnets": [subnets[0]["SubnetId"]], "securityGroups": [group]}
    task = ecs.run_task(
        cluster=cluster, taskDefinition=definition, launchType="FARGATE", tags=lower,
        overrides={"containerOverrides": [{"name": "dask-worker", "command": ["sleep", "600"]}]},
        networkConfiguration={"awsvpcConfiguration": network},
    )["tasks"][0]["taskArn"]  # fmt: skip
    instance = ec2.run_instances(
        ImageId="ami-1", MinCount=1, MaxCount=1, InstanceType="m6i.large", SubnetId=subnets[0]["SubnetId"],
        UserData="#cloud-config\nruncmd:\n  - docker run i sleep 600\n",
        TagSpecifications=[{"ResourceType": "instance", "Tags": upper}],
    )["Instances"][0]["InstanceId"]  # fmt: skip
    parameter = f"/weatherlake/clusters/{name}/tls"
    ssm.put_parameter(Name=parameter, Value="key", Type="SecureString", Tags=upper)
    return {
        ("task", task), ("instance", instance), ("task definition", definition), ("security group", group),
        ("ECS cluster", cluster), ("parameter", parameter),
    }  # fmt: skip


def test_it_removes_what_has_outlived_its_tag_and_nothing_else(aws: Aws):
    old = make_one_of_each(aws, "old", tags(-1))
    make_one_of_each(aws, "young", tags(1))
    make_one_of_each(aws, "spoilt", tags(-1, spoilt=True))
    make_one_of_each(aws, "strange", {"owner": "somebody"})
    before = aws.left()

    planned = reaper.reap(dry_run=True, now=NOW)
    assert {(r.kind, r.identifier) for r in planned} == old
    assert {r.expires for r in planned} == {NOW - timedelta(hours=1)}
    assert aws.left() == before

    reaped = reaper.reap(dry_run=False, now=NOW)
    assert {(r.kind, r.identifier) for r in reaped} == old
    assert [r.problem for r in reaped] == [None] * len(old)
    left = aws.left()
    assert not [name for name in left if "old" in name]
    for name in ("young", "spoilt", "strange"):
        assert len([x for x in left if f"weatherlake-{name}" in x or f"/{name}/" in x]) == 5, name
    assert len([x for x in left if x.startswith("instance")]) == 3
    assert reaper.reap(dry_run=False, now=NOW) == []


def test_what_cannot_be_removed_now_is_said_and_left_for_later(aws: Aws):
    ecs = aws.client("ecs")
    upper = [{"key": k, "value": v} for k, v in tags(-1).items()]
    cluster = ecs.create_cluster(clusterName="weatherlake-busy", tags=upper)["cluster"]["clusterArn"]
    # A task of somebody else runs in it.
    group = aws.client("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    subnet = aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    definition = ecs.register_task_definition(
        family="other", networkMode="awsvpc", containerDefinitions=[{"name": "c", "image": "i", "cpu": 1, "memory": 4}]
    )["taskDefinition"]["taskDefinitionArn"]
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
    override = {"containerOverrides": [{"name": "c", "command": ["sleep", "600"]}]}
    ecs.run_task(cluster=cluster, taskDefinition=definition, launchType="FARGATE", overrides=override,
                 networkConfiguration=network)  # fmt: skip
    aws.refusals["delete_cluster"] = ["ClusterContainsTasksException"]
    (found,) = reaper.reap(dry_run=False, now=NOW, wait=0)
    assert found.problem == "ClusterContainsTasksException"
    assert aws.left() != []
    (found,) = reaper.reap(dry_run=False, now=NOW)
    assert found.problem is None


def test_what_may_not_be_looked_through_does_not_keep_the_rest(aws: Aws, capsys: pytest.CaptureFixture[str]):
    ssm = aws.client("ssm")
    upper = [{"Key": k, "Value": v} for k, v in tags(-1).items()]
    ssm.put_parameter(Name="/weatherlake/clusters/a/tls", Value="key", Type="SecureString", Tags=upper)
    for operation in ("list_clusters", "list_task_definitions"):
        aws.refusals[operation] = ["AccessDeniedException"] * 9
    reaped = reaper.reap(dry_run=False, now=NOW)
    assert {r.kind: r.problem for r in reaped} == {
        "task": "AccessDeniedException", "task definition": "AccessDeniedException",
        "ECS cluster": "AccessDeniedException", "parameter": None,
    }  # fmt: skip
    aws.refusals.clear()
    assert aws.left() == []


def test_the_command_plans_and_removes(aws: Aws, capsys: pytest.CaptureFixture[str]):
    ssm = aws.client("ssm")
    upper = [{"Key": k, "Value": v} for k, v in tags(-24 * 365).items()]
    ssm.put_parameter(Name="/weatherlake/clusters/a/tls", Value="key", Type="SecureString", Tags=upper)
    assert reaper.main(["--plan", "--json", "--region", REGION]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["kind"] == "parameter"
    assert row["identifier"] == "/weatherlake/clusters/a/tls"
    assert reaper.main(["--plan"]) == 0
    assert "parameter /weatherlake/clusters/a/tls: would be removed" in capsys.readouterr().out
    assert aws.left() == ["/weatherlake/clusters/a/tls"]
    assert reaper.main([]) == 0
    assert "removed; weatherlake:expires 2025-11-21T12:00:00Z is over" in capsys.readouterr().out
    assert aws.left() == []
    assert reaper.main([]) == 0
    assert capsys.readouterr().out == "nothing has outlived its tag\n"


def test_without_a_region_or_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no region"):
        reaper.reap(dry_run=True)
    with pytest.raises(AccessError, match="no credentials for AWS"):
        reaper.reap(dry_run=True, regions=["eu-central-1"])


def test_a_tag_is_read_as_it_was_written():
    made = tags(1)
    assert expires(made) == NOW + timedelta(hours=1)
    assert expires({}) is None
    assert expires({"weatherlake:expires": "soon"}) is None
    assert as_dict([{"Key": "a", "Value": "b"}, {"key": "c", "value": "d"}]) == {"a": "b", "c": "d"}
    assert Mark("c", "r", NOW).tags({"weatherlake:expires": "never", "team": "x"})["weatherlake:expires"] != "never"


def test_it_is_a_command():
    assert (ROOT / "blocks/clusters/reaper.py").read_text().rstrip().endswith("raise SystemExit(main())")
