"""The blocks of providers' logins ask a real server on loopback, and say no more than that it refuses."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr, ValidationError

import blocks
from blocks.credentials import EarthdataCredentials, KnmiCredentials
from tasks.lake.errors import AccessError, LakeError

KEY = "planted-api-key-1234"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """A server that takes `KEY` as a KNMI key, as an Earthdata token, and as user ``me``'s password."""
    basic = "Basic " + base64.b64encode(f"me:{KEY}".encode()).decode()
    accepted = {
        ("GET", "/collections"): {KEY}, ("GET", "/api/users/user"): {f"Bearer {KEY}"},
        ("POST", "/api/users/find_or_create_token"): {basic},
    }  # fmt: skip

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers["Authorization"] in accepted.get((self.command, self.path), ())
            self.send_response(200 if good else 401)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_good_login_passes(provider: str) -> None:
    KnmiCredentials(api_key=SecretStr(KEY), url=provider).check()
    EarthdataCredentials(token=SecretStr(KEY), url=provider).check()
    EarthdataCredentials(username="me", password=SecretStr(KEY), url=provider).check()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda url: KnmiCredentials(api_key=SecretStr("planted-wrong"), url=url),
        lambda url: EarthdataCredentials(token=SecretStr("planted-wrong"), url=url),
        lambda url: EarthdataCredentials(username="me", password=SecretStr("planted-wrong"), url=url),
    ],
)
def test_a_wrong_login_is_refused_in_one_sentence(provider: str, wrong) -> None:
    block = wrong(provider)
    with pytest.raises(AccessError, match=r"refuses the (key|login)$") as raised:
        block.check()
    assert "planted" not in str(raised.value) + repr(block)


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(LakeError, match="could not be asked"):
        KnmiCredentials(api_key=SecretStr(KEY), url="http://127.0.0.1:9").check()


@pytest.mark.parametrize(
    "fields",
    [{}, {"username": "me"}, {"password": "x"}, {"token": "x", "username": "me"}, {"token": "x", "password": "y"}],
)
def test_half_a_login_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="either a token"):
        EarthdataCredentials.model_validate(fields)


@pytest.mark.parametrize("name", sorted(blocks.BLOCKS))
def test_every_block_is_described_and_can_check_itself(name: str) -> None:
    cls = getattr(blocks, name)
    assert cls.get_description()
    assert callable(cls.check)
    for field, info in cls.model_fields.items():
        assert info.description, f"{name}.{field} has no description"
