"""The CloudFormation templates: linted, deployed against moto, and with policies that allow no more than they say."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tasks.lake.lake import Lake

from ..servers import CREDENTIALS, S3Server

FOLDER = Path(__file__).resolve().parents[2] / "deployments" / "aws"
TEMPLATES = sorted(FOLDER.glob("*.yaml"))
POOL = FOLDER.parent / "pools" / "ecs.json"

ANYWHERE = {
    "ecr:GetAuthorizationToken", "ecs:ListTasks", "ecs:ListClusters", "ecs:ListTaskDefinitions",
    "ecs:DescribeTaskDefinition", "ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes", "ssm:DescribeParameters",
}  # fmt: skip
"""Actions that IAM knows no resources for (Service Authorization Reference): all of them read."""

_numbers = itertools.count()


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, kept as ``{name: value}``."""


def _function(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    return {suffix: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


def template(name: str) -> Any:
    return yaml.load((FOLDER / name).read_text(), _Loader)


def statements(document: Any) -> Iterator[dict[str, Any]]:
    """Every statement of every policy of a template."""
    if isinstance(document, dict):
        if "Effect" in document:
            yield document
        for value in document.values():
            yield from statements(value)
    elif isinstance(document, list):
        for value in document:
            yield from statements(value)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_cfn_lint_has_nothing_to_say(path: Path):
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "W", "I", "--", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_no_policy_allows_more_than_it_names(path: Path):
    found = list(statements(template(path.name)))
    assert found
    for statement in found:
        if statement["Effect"] == "Deny" or "Principal" in statement:
            continue
        actions, resources = listed(statement["Action"]), listed(statement["Resource"])
        assert not [a for a in actions if "*" in a], statement
        if "*" in resources:
            assert set(actions) <= ANYWHERE, statement
        for resource in resources:
            text = resource if isinstance(resource, str) else next(iter(resource.values()))
            assert not str(text).endswith((":::*", ":*:*")), statement


def test_a_policy_that_allows_all_would_be_found():
    wide = {"Policies": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    assert [s["Action"] for s in statements(wide)] == ["s3:*"]


def test_trust_is_for_services_of_this_account_only():
    trusts = [s for s in statements(template("compute.yaml")) if "Principal" in s]
    assert len(trusts) == 4
    for trust in trusts:
        service = trust["Principal"]["Service"]
        assert service in ("ecs-tasks.amazonaws.com", "ec2.amazonaws.com")
        # EC2 assumes the role of an instance profile without saying for which account.
        assert service == "ec2.amazonaws.com" or "aws:SourceAccount" in trust["Condition"]["StringEquals"]


@pytest.fixture
def aws(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes clients of the emulated AWS."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return lambda service: boto3.client(service, region_name="us-east-1", endpoint_url=s3.endpoint)


def deploy(aws: Any, name: str, **parameters: str) -> dict[str, str]:
    """Create a stack; its outputs."""
    stack = f"weatherlake-{next(_numbers)}"
    given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
    formation = aws("cloudformation")
    formation.create_stack(
        StackName=stack, TemplateBody=(FOLDER / name).read_text(), Parameters=given, Capabilities=["CAPABILITY_IAM"]
    )
    found = formation.describe_stacks(StackName=stack)["Stacks"][0]
    assert found["StackStatus"] == "CREATE_COMPLETE"
    return {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}


def test_the_bucket_is_private_and_keeps_house(aws: Any, s3: S3Server):
    bucket = f"weatherlake-{next(_numbers)}"
    outputs = deploy(aws, "lake.yaml", BucketName=bucket)
    client = aws("s3")
    rules = client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert client.get_bucket_versioning(Bucket=bucket).get("Status") is None
    # The stack's output is a lake that works.
    assert outputs["Lake"] == f"s3://{bucket}/lake?region=us-east-1"
    Lake(f"{outputs['Lake']}&endpoint={s3.endpoint}").prepare()


def test_the_rules_of_the_bucket_reach_the_zones_they_mean():
    """By the template: moto does not take over lifecycle rules from CloudFormation."""
    rules = {
        r["Id"]: r
        for r in template("lake.yaml")["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    }
    assert {r["Status"] for r in rules.values()} == {"Enabled"}
    prefixes = {n: r["Prefix"]["Sub"].removeprefix("${Prefix}") for n, r in rules.items() if "Prefix" in r}
    assert prefixes == {n: f"/{n}/" for n in ("staging", "raw", "quarantine", "reports")}
    # Nothing that is published, on record, or the only copy of something is ever removed.
    kept = ("ledger", "cubes", "manifests", "verdicts", "exports", "references", "catalogue")
    assert not [p for p in prefixes.values() if p.strip("/") in kept]
    assert [n for n, r in rules.items() if "ExpirationInDays" in r] == ["staging", "quarantine", "reports"]
    assert [t["StorageClass"] for t in rules["raw"]["Transitions"]] == ["STANDARD_IA", "GLACIER_IR"]
    assert rules["uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}


@pytest.fixture
def compute(aws: Any) -> dict[str, str]:
    ec2 = aws("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]]
    # Names of groups, logs and task definitions are fixed, and the emulated account is shared by tests.
    return deploy(
        aws, "compute.yaml", BucketName="weatherlake-lake", VpcId=vpc, SubnetIds=",".join(subnets[:2]),
        Image="123456789012.dkr.ecr.us-east-1.amazonaws.com/weatherlake:1",
        RepositoryArn="arn:aws:ecr:us-east-1:123456789012:repository/weatherlake",
        PrefectApiUrl="https://prefect.internal/api", AllowEc2="true",
    )  # fmt: skip


def test_compute_is_deployed_as_it_is_meant(aws: Any, compute: dict[str, str]):
    _ports(aws, compute)
    _tasks(aws, compute)
    _roles(aws, compute)
    assert _pool_variables() >= {"cluster", "task_definition_arn", "task_role_arn", "execution_role_arn", "subnets"}
    assert {k.replace("_", "") for k in _pool_variables()} & set(compute) >= {
        "cluster", "taskdefinitionarn", "taskrolearn", "executionrolearn", "subnets", "securitygroups",
    }  # fmt: skip


def _ports(aws: Any, compute: dict[str, str]) -> None:
    """The scheduler's ports are open to flow runs, every other to members of the cluster only; none to the world."""
    ec2 = aws("ec2")
    flow, cluster = compute["securitygroups"], compute["clustersecuritygroups"]
    groups = {g["GroupId"]: g for g in ec2.describe_security_groups(GroupIds=[flow, cluster])["SecurityGroups"]}
    assert groups[flow]["IpPermissions"] == []
    inward = groups[cluster]["IpPermissions"]
    assert not [p for p in inward if p.get("IpRanges") or p.get("Ipv6Ranges")]
    who = {(p["FromPort"], p["ToPort"], p["UserIdGroupPairs"][0]["GroupId"]) for p in inward}
    assert who == {(8786, 8787, flow), (1024, 65535, cluster)}
    # What goes out, by the template: moto leaves a group's own outward rules as they are.
    resources = template("compute.yaml")["Resources"]
    for name in ("FlowGroup", "ClusterGroup"):
        outward = resources[name]["Properties"]["SecurityGroupEgress"]
        assert [r["FromPort"] for r in outward] == [443, {"Ref": "PrefectApiPort"}]


def _tasks(aws: Any, compute: dict[str, str]) -> None:
    """Containers are called what those who start them call them; roles fit; no secret is in the environment."""
    ecs = aws("ecs")
    wanted = {
        "taskdefinitionarn": "flow", "schedulertaskdefinition": "dask-scheduler", "workertaskdefinition": "dask-worker",
    }  # fmt: skip
    for output, container in wanted.items():
        found = ecs.describe_task_definition(taskDefinition=compute[output])["taskDefinition"]
        assert [c["name"] for c in found["containerDefinitions"]] == [container]
        assert {e["name"] for e in found["containerDefinitions"][0].get("environment", [])} <= {"PREFECT_API_URL"}
    assert ecs.describe_clusters(clusters=[compute["cluster"]])["clusters"][0]["status"] == "ACTIVE"
    # Roles, by the template: moto's CloudFormation leaves them out of task definitions.
    resources = template("compute.yaml")["Resources"]
    roles = {"FlowTask": "FlowRole", "SchedulerTask": "ClusterRole", "WorkerTask": "ClusterRole"}
    for name, role in roles.items():
        given = resources[name]["Properties"]
        assert given["TaskRoleArn"] == {"GetAtt": f"{role}.Arn"}
        assert given["ExecutionRoleArn"] == {"GetAtt": "ExecutionRole.Arn"}


def _roles(aws: Any, compute: dict[str, str]) -> None:
    """Workers can neither start nor stop anything, nor leave the lake's prefix; a flow run cannot pass on its role."""
    iam = aws("iam")
    lake, keys = (_allowed(_managed(iam, name)) for name in ("LakePolicy", "KeysPolicy"))
    assert {a.partition(":")[0] for a, _ in lake | keys} == {"s3", "ssm"}
    assert {r for a, r in lake if a == "s3:PutObject"} == {"arn:aws:s3:::weatherlake-lake/lake/*"}
    role = compute["taskrolearn"].rpartition("/")[2]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert sorted(names) == ["clusters", "instances"]
    mine = set().union(*(_allowed(iam.get_role_policy(RoleName=role, PolicyName=n)["PolicyDocument"]) for n in names))
    assert {"ecs:RunTask", "ecs:StopTask", "iam:PassRole", "ec2:RunInstances"} <= {a for a, _ in mine}
    passed = {r for a, r in mine if a == "iam:PassRole"}
    assert {compute["clustertaskrole"], compute["executionrolearn"]} < passed
    assert compute["taskrolearn"] not in passed
    assert len(passed) == 3
    # Which role has which policy, by the template: moto's CloudFormation does not attach managed ones.
    resources = template("compute.yaml")["Resources"]
    attached = {n: [p["Ref"] for p in r["Properties"]["ManagedPolicyArns"]] for n, r in resources.items()
                if r["Type"] == "AWS::IAM::Role"}  # fmt: skip
    assert attached == {
        "ExecutionRole": ["ImagePolicy"],
        "ClusterRole": ["LakePolicy", "KeysPolicy"],
        "InstanceRole": ["LakePolicy", "KeysPolicy", "ImagePolicy"],
        "FlowRole": ["LakePolicy", "KeysPolicy"],
    }


def _managed(iam: Any, name: str) -> Any:
    """The document of a managed policy, as deployed."""
    policies = iam.list_policies(Scope="Local", MaxItems=1000)["Policies"]
    found = next(p for p in policies if f"-{name}-" in p["PolicyName"])
    version = iam.get_policy_version(PolicyArn=found["Arn"], VersionId=found["DefaultVersionId"])["PolicyVersion"]
    return version["Document"]


def _allowed(document: Any) -> set[tuple[str, str]]:
    """(action, resource) of every statement of a policy."""
    # moto gives the documents of managed policies back as text, with single quotes.
    document = yaml.safe_load(document) if isinstance(document, str) else document
    return {
        (action, resource)
        for statement in document["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def _pool_variables() -> set[str]:
    return set(json.loads(POOL.read_text())["variables"]["properties"])


def test_policies_cover_the_calls_that_clusters_make():
    """Every AWS call of `blocks/clusters` with given task definitions and groups is allowed to the flow's role."""
    root = FOLDER.parents[1] / "blocks" / "clusters"
    source = "\n".join(p.read_text() for p in root.rglob("*.py"))
    known = (
        "run_task stop_task describe_tasks list_tasks describe_clusters put_parameter delete_parameter "
        "describe_parameters list_tags_for_resource describe_instances describe_subnets describe_vpcs "
        "describe_instance_types describe_images"
    )
    calls = {call for call in known.split() if re.search(rf"\b{call}\b", source)}
    names = {"".join(w.title() for w in call.split("_")) for call in calls}
    allowed = {a.partition(":")[2] for s in statements(template("compute.yaml")) for a in listed(s["Action"])}
    assert len(names) > 8
    assert names <= allowed
