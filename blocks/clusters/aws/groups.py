"""Network of a cluster: its subnets, and the security group that is made when none is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.lake.errors import UsageError

from .resources import PREFIX

_SCHEDULER = (8786, 8787)


def network(session: Any, vpc: str | None, subnets: Sequence[str]) -> tuple[list[str], str]:
    """Subnets and VPC that were meant. Raises ``UsageError``, ``ClientError``."""
    ec2 = session.client("ec2")
    if subnets:
        found = ec2.describe_subnets(SubnetIds=list(subnets))["Subnets"]
        vpcs = sorted({s["VpcId"] for s in found})
        if len(vpcs) > 1 or (vpc and vpcs != [vpc]):
            raise UsageError("the subnets are not in one VPC", expected=vpc or "one VPC", found=", ".join(vpcs))
        return list(subnets), vpcs[0]
    if vpc is None:
        default = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not default:
            raise UsageError("the region has no default VPC: name a vpc or subnets")
        vpc = default[0]["VpcId"]
    found = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    if not found:
        raise UsageError(f"the VPC {vpc} has no subnets")
    return [s["SubnetId"] for s in found], vpc


def make(session: Any, vpc: str, cluster: str, allow_from: Sequence[str], tags: Mapping[str, str]) -> str:
    """A security group for one cluster. Its members reach each other on every TCP port, others the scheduler only."""
    ec2 = session.client("ec2")
    if not allow_from:
        blocks = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]
        allow_from = [blocks["CidrBlock"]]
    made = ec2.create_security_group(
        GroupName=f"{PREFIX}{cluster}", Description="A Dask cluster of weatherlake", VpcId=vpc,
        TagSpecifications=[
            {"ResourceType": "security-group", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        ],
    )  # fmt: skip
    group = made["GroupId"]
    among: dict[str, Any] = {
        "IpProtocol": "tcp",
        "FromPort": 0,
        "ToPort": 65535,
        "UserIdGroupPairs": [{"GroupId": group}],
    }
    first, last = _SCHEDULER
    others: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": first, "ToPort": last}
    groups = [{"GroupId": s} for s in allow_from if s.startswith("sg-")]
    ranges = [{"CidrIp": s} for s in allow_from if not s.startswith("sg-") and ":" not in s]
    ranges6 = [{"CidrIpv6": s} for s in allow_from if not s.startswith("sg-") and ":" in s]
    sources = {"UserIdGroupPairs": groups, "IpRanges": ranges, "Ipv6Ranges": ranges6}
    others |= {key: value for key, value in sources.items() if value}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[among, others])
    return group
