"""AWS on this machine: moto's API, where RunTask and RunInstances really start what they are told to.

Not covered: images (every image is this checkout), decisions of IAM, security groups as firewalls, limits of sizes.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import boto3
import yaml
from moto.core.exceptions import JsonRESTError
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.responses.instances import InstanceResponse
from moto.ecs.models import EC2ContainerServiceBackend, Task
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.server import ThreadedMotoServer

from .machines import Loopback, Machine, Network, docker_run

REGION = "us-east-1"
AMI = "ami-0b301ce3ce347599c"
PROFILE = "weatherlake-nodes"
ROLE = "arn:aws:iam::123456789012:role/weatherlake-nodes"
KEY = "AKIAEMULATOR"
NO_ROOM = "Capacity is unavailable at this time. Please try again later or in a different availability zone"


class Aws:
    """The emulated cloud, as long as the block."""

    def __init__(self, network: Network | None = None) -> None:
        self.network = network or Loopback()
        self.tasks: dict[str, Machine] = {}
        """By ARN."""
        self.instances: dict[str, Machine] = {}
        """By id."""
        self.run_task: list[dict[str, Any]] = []
        """Calls, as they arrived."""
        self.run_instances: list[dict[str, Any]] = []
        self.spot = True
        """Whether there is any spot capacity."""
        self.broken: str | None = None
        """Role (scheduler, worker) whose container dies at once."""
        self.refusals: dict[str, list[str]] = {}
        """Operation of ECS -> the errors that it answers with, one a call, before it does what it should."""
        self.hosts: list[str] = []
        """Instances that are part of the scenery: nobody has to remove them."""
        self.notices: set[str] = set()
        """Instances that are told that they will be taken away."""
        self._moto = ThreadedMotoServer(self.network.host, 0, verbose=False)
        self._metadata = ThreadingHTTPServer((self.network.metadata, 0), self._metadata_handler())
        self._patches: list[Any] = []
        self._lock = threading.RLock()

    def __enter__(self) -> "Aws":
        self._patch()
        self._moto.start()
        threading.Thread(target=self._metadata.serve_forever, daemon=True).start()
        self.endpoint = "http://{}:{}".format(*self._moto.get_host_and_port())
        host, port = self._metadata.server_address[:2]
        self.metadata = f"http://{host}:{port}"
        iam = self.client("iam")
        iam.create_instance_profile(InstanceProfileName=PROFILE)
        self.client("ecs").put_account_setting(name="taskLongArnFormat", value="enabled")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.kill()
        self._metadata.shutdown()
        self._metadata.server_close()
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")).close()
        self._moto.stop()
        # A method that is wrapped twice is unwrapped from without.
        for patch in reversed(self._patches):
            patch.stop()
        for machine in self.machines:
            if machine.process is not None:
                machine.process.wait()
            machine.log.unlink()
        self.network.close()

    # -- what a test asks ------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What the one who opens clusters needs in the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "emulator-secret",
            "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def client(self, service: str) -> Any:
        """A client of the emulated AWS."""
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key="x"
        )

    @property
    def machines(self) -> list[Machine]:
        """All that ever ran."""
        return [*self.tasks.values(), *self.instances.values()]

    def of_role(self, role: str) -> list[Machine]:
        """Machines that run a scheduler, or workers."""
        return [m for m in self.machines if role in m.command[:4]]

    def processes(self) -> list[int]:
        """Ids of the processes that are left of all machines."""
        return [p.pid for m in self.machines if m.process is not None for p in m.family()]

    def left(self) -> list[str]:
        """Everything of clusters that is still there: processes, tasks, instances and what was made for them."""
        found = [f"process {pid}" for pid in self.processes()]
        found += [f"task {a}" for a, m in self.tasks.items() if m.running]
        ec2, ecs = self.client("ec2"), self.client("ecs")
        for reservation in ec2.describe_instances()["Reservations"]:
            for i in reservation["Instances"]:
                if i["State"]["Name"] != "terminated" and i["InstanceId"] not in self.hosts:
                    found.append(f"instance {i['InstanceId']}")
        found += [
            f"security group {g['GroupName']}"
            for g in ec2.describe_security_groups()["SecurityGroups"]
            if g["GroupName"].startswith("weatherlake")
        ]
        found += [a for a in ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"] if "weatherlake-" in a]
        clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        found += [c["clusterArn"] for c in clusters if c["status"] == "ACTIVE" and "weatherlake-" in c["clusterArn"]]
        parameters = self.client("ssm").describe_parameters()["Parameters"]
        found += [p["Name"] for p in parameters if p["Name"].startswith("/weatherlake/")]
        return found

    def wait_until_no_process(self, seconds: float) -> bool:
        """Whether all machines end by themselves in time."""
        end = time.monotonic() + seconds
        while self.processes() and time.monotonic() < end:
            time.sleep(0.2)
        return not self.processes()

    def ecs_host(self, name: str) -> None:
        """An ECS cluster with an instance in it."""
        ecs, ec2 = self.client("ecs"), self.client("ec2")
        ecs.create_cluster(clusterName=name)
        host = ec2.run_instances(ImageId=AMI, MinCount=1, MaxCount=1, InstanceType="m6i.large")["Instances"][0]
        self.hosts.append(host["InstanceId"])
        document = json.dumps({"instanceId": host["InstanceId"]})
        ecs.register_container_instance(cluster=name, instanceIdentityDocument=document)

    # -- ECS -------------------------------------------------------------------------------------------------

    def _patch(self) -> None:
        self._wrap(EC2ContainerServiceResponse, "run_task", self._on_run_task)
        self._wrap(EC2ContainerServiceBackend, "run_task", self._start_tasks)
        self._wrap(EC2ContainerServiceBackend, "run_task", self._refuse("run_task"))
        self._wrap(EC2ContainerServiceBackend, "stop_task", self._stop_task)
        self._wrap(EC2ContainerServiceBackend, "describe_tasks", self._describe_tasks)
        self._wrap(EC2ContainerServiceBackend, "list_tasks", self._list_tasks)
        self._wrap(InstanceResponse, "run_instances", self._on_run_instances)
        self._wrap(EC2Backend, "run_instances", self._start_instances)
        self._wrap(EC2Backend, "terminate_instances", self._terminate)

        for operation in ("delete_cluster", "list_clusters", "list_task_definitions"):
            self._wrap(EC2ContainerServiceBackend, operation, self._refuse(operation))
        # moto's own states go on by themselves; these are set.
        state = property(lambda t: t.emulated, lambda t, value: setattr(t, "emulated", value))
        patch = mock.patch.object(Task, "last_status", state)
        patch.start()
        self._patches.append(patch)

    def _wrap(self, cls: Any, name: str, around: Callable[..., Any]) -> None:
        original = getattr(cls, name)

        def wrapped(this: Any, *args: Any, **kwargs: Any) -> Any:
            # A task is there with its process, or not at all.
            with self._lock:
                return around(original, this, *args, **kwargs)

        patch = mock.patch.object(cls, name, wrapped)
        patch.start()
        self._patches.append(patch)

    def _refuse(self, operation: str) -> Callable[..., Any]:
        def around(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
            if reasons := self.refusals.get(operation):
                raise JsonRESTError(reasons.pop(0), "refused")
            return original(backend, *args, **kwargs)

        return around

    def _on_run_task(self, original: Any, response: Any) -> Any:
        from moto.core.responses import ActionResult

        asked = {k: response._get_param(k) for k in (
            "cluster", "taskDefinition", "overrides", "startedBy", "tags", "launchType", "networkConfiguration",
            "capacityProviderStrategy",
        )}  # fmt: skip
        self.run_task.append(asked)
        providers = [s["capacityProvider"] for s in asked["capacityProviderStrategy"] or ()]
        if "FARGATE_SPOT" in providers and not self.spot:
            return ActionResult({"tasks": [], "failures": [{"reason": NO_ROOM}]})
        return original(response)

    def _start_tasks(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        tasks = original(backend, *args, **kwargs)
        for task in tasks:
            definition = backend.describe_task_definition(task.task_definition_arn)
            container = definition.container_definitions[0]
            (override,) = task.overrides["containerOverrides"]
            assert override["name"] == container["name"], "the override is for another container"
            variables = (*container.get("environment", ()), *override.get("environment", ()))
            environment = {v["name"]: v["value"] for v in variables}
            address = self.network.connect()
            for detail in task.attachments[0]["details"]:
                if detail["name"] == "privateIPv4Address":
                    detail["value"] = address
            role = {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.metadata}/credentials",
                "ECS_CONTAINER_METADATA_URI_V4": f"{self.metadata}/task/{address}",
            }  # fmt: skip
            task.last_status = "PROVISIONING"
            task.polled = 0
            self.tasks[task.task_arn] = self._machine(address, override["command"], environment | role)
        return tasks

    def _stop_task(self, original: Any, backend: Any, cluster: str, task: str, reason: str) -> Any:
        stopped = original(backend, cluster, task, reason)
        self.tasks[stopped.task_arn].stop()
        stopped.last_status = "DEACTIVATING"
        return stopped

    def _describe_tasks(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        tasks = original(backend, *args, **kwargs)
        for task in tasks:
            self._state(task)
        return tasks

    def _list_tasks(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        for tasks in backend.tasks.values():
            for task in tasks.values():
                self._state(task)
        return original(backend, *args, **kwargs)

    def _state(self, task: Any) -> None:
        """A task's state is that of its process; it takes a few looks until it runs."""
        machine = self.tasks[task.task_arn]
        task.polled += 1
        if not machine.running:
            task.last_status = task.desired_status = "STOPPED"
            if not machine.stopped:
                task.stopped_reason = "Essential container in task exited"
        elif machine.stopped:
            task.last_status, task.desired_status = "DEACTIVATING", "STOPPED"
        else:
            task.last_status = ("PENDING", "ACTIVATING")[task.polled - 1] if task.polled < 3 else "RUNNING"

    # -- EC2 -------------------------------------------------------------------------------------------------

    def _on_run_instances(self, original: Any, response: Any) -> Any:
        asked = {k: response._get_param(k) for k in (
            "InstanceType", "ImageId", "BlockDeviceMappings", "MetadataOptions", "TagSpecifications", "KeyName",
            "InstanceMarketOptions", "NetworkInterfaces", "IamInstanceProfile", "InstanceInitiatedShutdownBehavior",
        )}  # fmt: skip
        asked["UserData"] = base64.b64decode(response._get_param("UserData") or "").decode()
        self.run_instances.append(asked)
        if asked["InstanceMarketOptions"] and not self.spot:
            raise EC2ClientError("InsufficientInstanceCapacity", "There is no Spot capacity available")
        return original(response)

    def _start_instances(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = original(backend, *args, **kwargs)
        (instance,) = reservation.instances
        address = self.network.connect()
        nic = instance.nics[0]
        nic.private_ip_address = address
        nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
        for line in (yaml.safe_load(self.run_instances[-1]["UserData"]) or {}).get("runcmd", ()):
            if found := docker_run(line):
                _image, command, environment = found
                environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"{self.metadata}/instance/{instance.id}/{address}"
                machine = self._machine(address, command, environment)
                machine.ended = lambda: None if instance.state == "terminated" else instance.terminate()
                self.instances[instance.id] = machine
        return reservation

    def _terminate(self, original: Any, backend: Any, instance_ids: list[str]) -> Any:
        for instance in instance_ids:
            if instance in self.instances:
                self.instances[instance].stop(grace=1.0)
        return original(backend, instance_ids)

    def _machine(self, address: str, command: list[str], environment: dict[str, str]) -> Machine:
        words = ["false"] if self.broken is not None and self.broken in command[:4] else command
        machine = Machine(address, words, {"AWS_ENDPOINT_URL": self.endpoint, **environment})
        machine.start(self.network.inside(address))
        return machine

    # -- metadata --------------------------------------------------------------------------------------------

    def _metadata_handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            """Task metadata version 4, container credentials, and instance metadata version 2."""

            def do_PUT(self) -> None:
                self._answer("token" if self.path.endswith("/latest/api/token") else None)

            def do_GET(self) -> None:
                parts = self.path.strip("/").split("/")
                if parts[0] == "credentials":
                    self._answer(json.dumps(_CREDENTIALS | {"RoleArn": ROLE}))
                elif parts[0] == "task":
                    self._answer(json.dumps({"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [parts[1]]}]}))
                elif self.headers.get("X-aws-ec2-metadata-token") != "token":
                    self._answer(None, 401)
                else:
                    self._answer(cloud._instance_metadata(parts[1], parts[2], "/".join(parts[5:])))

            def _answer(self, text: str | None, code: int = 200) -> None:
                data = (text or "").encode()
                self.send_response(code if text is not None or code != 200 else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _instance_metadata(self, instance: str, address: str, path: str) -> str | None:
        if path == "local-ipv4":
            return address
        if path == "iam/security-credentials":
            return PROFILE
        if path.startswith("iam/security-credentials"):
            return json.dumps(_CREDENTIALS | {"Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z"})
        if path == "spot/instance-action" and instance in self.notices:
            return json.dumps({"action": "terminate", "time": "2030-01-01T00:00:00Z"})
        return None


_CREDENTIALS = {
    "AccessKeyId": "ASIAROLE", "SecretAccessKey": "role-secret", "Token": "role-token",
    "Expiration": "2099-01-01T00:00:00Z",
}  # fmt: skip
