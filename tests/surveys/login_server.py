"""Earthdata Login on loopback: a token for a name and a password, S3 keys for the token."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ..listening import Answering, listening

NAME, PASSWORD, TOKEN, SECRET = "ada", "sesame-password", "sesame-token-0123456789", "sesame-secret-key"


@dataclass
class Login:
    """What was asked for: (path, status). ``lasts`` is how long S3 keys hold."""

    url: str = ""
    lasts: timedelta = timedelta(hours=1)
    asked: list[tuple[str, int]] = field(default_factory=list)


@contextmanager
def login() -> Iterator[Login]:
    """Serve until the block is left."""
    served = Login()

    class Handler(Answering):
        def do_POST(self) -> None:
            basic = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
            right = self.path == "/api/users/find_or_create_token" and self.headers["Authorization"] == f"Basic {basic}"
            self._send({"access_token": TOKEN, "token_type": "Bearer", "expiration_date": "01/20/2027"}, right)

        def do_GET(self) -> None:
            right = self.path == "/s3credentials" and self.headers["Authorization"] == f"Bearer {TOKEN}"
            ends = (datetime.now(UTC) + served.lasts).strftime("%Y-%m-%d %H:%M:%S+00:00")
            keys = {"accessKeyId": "testing", "secretAccessKey": SECRET, "sessionToken": "sesame-session"}
            self._send(keys | {"expiration": ends}, right)

        def _send(self, body: dict[str, str], right: bool) -> None:
            data = json.dumps(body if right else {"error": "invalid_credentials"}).encode()
            served.asked.append((self.path, 200 if right else 401))
            self.send_response(200 if right else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with listening(Handler) as url:
        served.url = url
        yield served
