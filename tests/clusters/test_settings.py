"""What clusters can be told: safe unless somebody says otherwise, and refused in one sentence when it cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.clusters.protocol import Cluster, build, clusters, from_file
from flows.runtime import open_cluster
from tasks.lake.errors import UsageError
from tasks.lake.prices import prices

from .conftest import SMALL


@pytest.mark.parametrize("name", list(clusters))
def test_every_field_is_described(name: str):
    undescribed = [k for k, field in clusters[name].model_fields.items() if not field.description]
    assert undescribed == []


@pytest.mark.parametrize("kind", list(SMALL))
def test_defaults_are_safe(kind: str):
    cluster: Any = build(SMALL[kind], kind)
    assert cluster.tls
    assert not cluster.public_addresses
    assert not cluster.allow_open_ports
    assert cluster.security_groups == cluster.allow_from == ()
    assert 0 < cluster.idle_minutes <= 60
    assert 0 < cluster.max_hours <= 24


def test_what_is_unsafe_says_so():
    unsafe = {"tls", "public_addresses", "allow_open_ports"}
    for kind in SMALL:
        fields = clusters[kind].model_fields
        assert {k for k, f in fields.items() if "UNSAFE" in (f.description or "")} == unsafe


@pytest.mark.parametrize("kind", list(SMALL))
def test_there_is_no_field_for_a_credential(kind: str):
    schema = json.dumps(clusters[kind].model_json_schema()["properties"]).lower()
    names = set(clusters[kind].model_fields)
    assert not {n for n in names if any(word in n for word in ("secret", "access_key", "password", "token", "env"))}
    assert "access_key" not in schema


FARGATE = SMALL["fargate"]
EC2 = SMALL["ec2"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (FARGATE | {"allow_from": ["0.0.0.0/0"]}, "needs allow_open_ports"),
        (FARGATE | {"allow_from": ["::/0"]}, "needs allow_open_ports"),
        (FARGATE | {"allow_from": ["8.8.8.0/24"]}, "needs allow_open_ports"),
        (FARGATE | {"allow_from": ["somewhere"]}, "allow_from"),
        (FARGATE | {"allow_from": ["10.0.0.0/8"], "security_groups": ["sg-1"]}, "allow_from is for the security group"),
        (FARGATE | {"memory": 16384}, "with 1024 CPU units Fargate gives 2048 to 8192 MiB, not 16384"),
        (FARGATE | {"cpu": 1000}, "no tasks of 1000 CPU units"),
        (FARGATE | {"tags": {"weatherlake:expires": "never"}}, "not yours to set"),
        (FARGATE | {"image": None}, "image is missing"),
        (FARGATE | {"task_role": None}, "task_role is missing"),
        (FARGATE | {"worker_task_definition": "w:1"}, "go together"),
        (FARGATE | {"worker_task_definition": "w", "scheduler_task_definition": "s"}, "those of the task definitions"),
        (FARGATE | {"workers": 0}, "workers"),
        (FARGATE | {"memmory": 1}, "unknown key 'memmory'"),
        (FARGATE | {"region": "Frankfurt"}, "region"),
        (EC2 | {"instance_profile": None}, "instance_profile is missing"),
        ({"type": "ecs", "region": "us-east-1", "cluster": "c", "spot": True} | {k: FARGATE[k] for k in
         ("image", "execution_role", "task_role")}, "spot is up to the instances"),
        ({"type": "existing", "address": "localhost:8786"}, "address"),
        ({"type": "existing", "address": "tcp://h:1", "ca_file": "a", "cert_file": "b", "key_file": "c"}, "tls://"),
        ({"type": "existing", "address": "tls://h:1", "ca_file": "a"}, "go together"),
        ({"type": "laptop"}, "there is no cluster named 'laptop'"),
        ("laptop", "there is no cluster named 'laptop'"),
        ({}, "needs a 'type'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(document: Any, said: str):
    with pytest.raises(UsageError, match=said) as refused:
        build(document, "here")
    assert "\n" not in str(refused.value)


def test_what_was_said_to_be_unsafe_is_taken():
    build(
        FARGATE | {"allow_from": ["0.0.0.0/0"], "allow_open_ports": True, "public_addresses": True, "tls": False}, "h"
    )


def test_a_cluster_is_read_from_a_file(tmp_path: Path):
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(FARGATE))
    assert from_file(path) == build(FARGATE, "here")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.yaml", "cannot be read"),
        ("broken.yml", "is no YAML"),
        ("laptop", "there is no cluster 'laptop'"),
        ("laptop-cluster/mine", "there is no cluster 'laptop-cluster/mine'"),
    ],
)
def test_a_cluster_that_is_not_there(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.yml").write_text("{")
    with pytest.raises(UsageError, match=said), open_cluster(name):
        pass


class Store:
    """Answers what the size of a worker is asked for."""

    def client(self, service: str) -> "Store":
        del service
        return self

    def describe_instance_types(self, InstanceTypes: list[str]) -> Any:
        del InstanceTypes
        return {"InstanceTypes": [{"VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 8192}}]}


def test_the_price_of_a_worker_is_the_list_price_or_what_spot_costs_of_it():
    cluster: Any = build(FARGATE, "here")
    size = cluster.worker_size(Store())
    assert size.price_hour == pytest.approx(prices().vcpu_hour + 2 * prices().gib_hour)
    spot: Any = build(FARGATE | {"spot": True}, "here")
    assert spot.worker_size(Store()).price_hour == pytest.approx(size.price_hour * prices().spot_share)
    assert spot.worker_size(Store()).scheduler_hour == size.scheduler_hour
    ec2: Any = build(EC2, "here")
    assert ec2.worker_size(Store()).price_hour == prices().instance_hour["m6i.large"]
    unknown: Any = build(EC2 | {"instance_type": "x99.metal"}, "here")
    assert unknown.worker_size(Store()).price_hour is None


def test_every_cluster_is_a_block_that_holds_the_same_fields():
    from blocks.cluster_blocks import BLOCKS

    of_type: dict[str, Any] = {block.__mro__[1].model_fields["type"].default: block for block in BLOCKS}
    assert sorted(of_type) == list(clusters)
    for name, block in of_type.items():
        assert issubclass(block, Cluster)
        assert set(block.model_fields) == set(clusters[name].model_fields)
        assert block._block_type_slug == f"{name}-cluster"
