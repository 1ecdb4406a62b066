"""The notification blocks send what they are given to real servers on loopback, and keep their secrets."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import orjson
import pytest
from moto.server import ThreadedMotoServer
from prefect.blocks.abstract import NotificationError
from pydantic import SecretStr, ValidationError

from blocks.notifications import AppriseTarget, SnsTopic
from tasks.lake.errors import LakeError

# Apprise asks for a module that Python 3.13 has no more.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "very-secret"}


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """An AWS on loopback; its endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[bytes]]]:
    """A web hook on loopback: its place, and the bodies it was sent."""
    got: list[bytes] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_sns_topic_takes_the_message(aws: str) -> None:
    sns, sqs = (boto3.client(s, region_name="eu-west-1", endpoint_url=aws, **KEYS) for s in ("sns", "sqs"))
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    block = SnsTopic(
        topic_arn=topic, endpoint_url=aws, access_key_id="testing", secret_access_key=SecretStr("very-secret")
    )
    block.publish("run 2026-11-20T00 is held back", "weatherlake: Höhe\nheld " + 200 * "x")
    message = orjson.loads(sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"])
    assert message["Message"] == "run 2026-11-20T00 is held back"
    assert message["Subject"] == "weatherlake: H?he"


def test_what_sns_refuses_is_said_without_the_secret(aws: str) -> None:
    block = SnsTopic(
        topic_arn="arn:aws:sns:eu-west-1:123456789012:nobody", endpoint_url=aws, access_key_id="testing",
        secret_access_key=SecretStr("very-secret"),
    )  # fmt: skip
    with pytest.raises(NotificationError) as raised:
        block.publish("x")
    assert raised.value.log == "SNS refuses the message (NotFound)"
    assert "very-secret" not in repr(block) + str(block.model_dump())


def test_an_arn_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="topic_arn"):
        SnsTopic(topic_arn="alerts")


def test_an_apprise_target_is_reached(inbox: tuple[str, list[bytes]]) -> None:
    place, got = inbox
    block = AppriseTarget(url=SecretStr(f"json://user:very-secret@{place}/hook"))
    with block.raise_on_failure():
        block.notify("run 2026-11-20T00 is flagged", "weatherlake")
    sent = orjson.loads(got[0])
    assert (sent["title"], sent["message"]) == ("weatherlake", "run 2026-11-20T00 is flagged")
    assert "very-secret" not in repr(block)


def test_a_target_that_does_not_answer_is_an_error() -> None:
    block = AppriseTarget(url=SecretStr("json://127.0.0.1:9/hook"))
    with block.raise_on_failure(), pytest.raises(NotificationError):
        block.notify("x", "y")


def test_blocks_say_whether_somebody_can_be_told(aws: str, inbox: tuple[str, list[bytes]]) -> None:
    place, got = inbox
    AppriseTarget(url=SecretStr(f"json://user:very-secret@{place}/hook")).check()
    assert b"This is a test" in got[-1]
    with pytest.raises(LakeError, match=r"^the json target takes no message$"):
        AppriseTarget(url=SecretStr("json://user:very-secret@127.0.0.1:9/hook")).check()
    arn = boto3.client("sns", region_name="eu-west-1", endpoint_url=aws, **KEYS).create_topic(Name="seen")["TopicArn"]
    keys = {"access_key_id": "testing", "secret_access_key": SecretStr("very-secret"), "endpoint_url": aws}
    SnsTopic.model_validate({"topic_arn": arn, **keys}).check()
    with pytest.raises(LakeError, match=r"nobody: SNS refuses the message \(NotFound\)$"):
        SnsTopic.model_validate({"topic_arn": "arn:aws:sns:eu-west-1:123456789012:nobody", **keys}).check()
