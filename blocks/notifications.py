"""Notification blocks beyond Prefect's own: an SNS topic, and anything that Apprise reaches (e-mail among it).

Slack, Teams, PagerDuty and others are Prefect's (`prefect.blocks.notifications`). A recipe names a block by
``TYPE/NAME`` (``checks.notify``); secrets stay in the block and the role of the machine.
"""

import asyncio
from typing import Any, ClassVar

from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.notifications import AppriseNotificationBlock
from pydantic import Field, SecretStr

from tasks.lake.errors import LakeError

SUBJECT = 100
"""Characters of a subject that SNS takes."""

PROBE = "This is a test: weatherlake can reach you here."
"""What is sent to see whether somebody can be told."""


class AppriseTarget(AppriseNotificationBlock):
    """Anything Apprise knows by a URL: ``mailto://``, ``slack://``, ``json://``, ``ntfy://``..."""

    _block_type_name: ClassVar[str] = "Apprise target"
    _block_type_slug: ClassVar[str] = "apprise-target"
    _description: ClassVar[str] = "Notifications through anything that Apprise knows by a URL, e-mail among it."

    url: SecretStr = Field(
        default=..., title="Apprise URL", description="mailto://user:password@host?to=ops@example.org"
    )

    def check(self) -> None:
        """Send a message that says what it is. Raises ``LakeError``: one sentence, without the URL."""
        with self.raise_on_failure():
            try:
                self.notify(body=PROBE, subject="weatherlake")
            except NotificationError:
                kind = self.url.get_secret_value().partition("://")[0]
                raise LakeError(f"the {kind} target takes no message") from None


class SnsTopic(NotificationBlock):
    """An AWS SNS topic. Without keys, the machine's role (or the environment) says who publishes."""

    _block_type_name: ClassVar[str] = "SNS topic"
    _block_type_slug: ClassVar[str] = "sns-topic"
    _description: ClassVar[str] = "Notifications to a topic of AWS's Simple Notification Service."

    topic_arn: str = Field(
        pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+(\.fifo)?$",
        description="The topic: arn:aws:sns:REGION:ACCOUNT:NAME.",
    )
    endpoint_url: str | None = Field(default=None, description="Another endpoint than AWS's own, such as a VPC's.")
    access_key_id: str | None = Field(default=None, description="A key, where the machine has no role.")
    secret_access_key: SecretStr | None = Field(default=None, description="The secret of that key.")

    def check(self) -> None:
        """Publish a message that says what it is. Raises ``LakeError``: one sentence, without the keys."""
        try:
            self.publish(PROBE, "weatherlake")
        except NotificationError as error:
            raise LakeError(f"{self.topic_arn}: {error.log}") from None

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Publish. Raises ``NotificationError``, which holds no secret."""
        await asyncio.to_thread(self.publish, body, subject)

    def publish(self, body: str, subject: str | None = None) -> None:
        """`notify` for those who are not asynchronous."""
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise NotificationError("an SNS topic needs the extra 'aws'") from None
        keys: dict[str, Any] = {}
        if self.access_key_id and self.secret_access_key:
            secret = self.secret_access_key.get_secret_value()
            keys = {"aws_access_key_id": self.access_key_id, "aws_secret_access_key": secret}
        try:
            client = boto3.client(
                "sns", region_name=self.topic_arn.split(":")[3], endpoint_url=self.endpoint_url, **keys
            )
            message: dict[str, Any] = {"TopicArn": self.topic_arn, "Message": body}
            if subject:
                # One line of printable ASCII, as SNS wants it.
                plain = subject.encode("ascii", "replace").decode().splitlines()[0]
                message["Subject"] = plain[:SUBJECT]
            client.publish(**message)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "an error")
            raise NotificationError(f"SNS refuses the message ({code})") from None
        except BotoCoreError as error:
            raise NotificationError(f"SNS is not to be reached ({type(error).__name__})") from None
