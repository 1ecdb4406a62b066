"""Secrets are named by reference; errors never hold them."""

from pathlib import Path

import pytest

from tasks.lake import secrets
from tasks.lake.errors import AccessError, UsageError


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WL_KEY", "hush")
    found = secrets.reveal("env:WL_KEY")
    assert found.get_secret_value() == "hush"
    assert "hush" not in repr(found)
    monkeypatch.delenv("WL_KEY")
    with pytest.raises(AccessError, match="env:WL_KEY is not set"):
        secrets.reveal("env:WL_KEY")


def test_a_secret_comes_from_the_first_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hush \nmore\n")
    assert secrets.reveal(f"file:{path}").get_secret_value() == "hush"
    path.write_text("\n")
    with pytest.raises(AccessError, match="is empty"):
        secrets.reveal(f"file:{path}")
    with pytest.raises(AccessError, match="cannot be read"):
        secrets.reveal(f"file:{tmp_path}/none")


def test_a_secret_comes_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine urs.earthdata.nasa.gov login me password hush\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert secrets.reveal("netrc:urs.earthdata.nasa.gov/login").get_secret_value() == "me"
    assert secrets.reveal("netrc:urs.earthdata.nasa.gov/password").get_secret_value() == "hush"
    with pytest.raises(AccessError, match="knows no example"):
        secrets.reveal("netrc:example/login")
    with pytest.raises(UsageError, match="names a field"):
        secrets.reveal("netrc:example")


@pytest.mark.parametrize("text", ["hush", "hush:hush", "env:", "", "https://hush"])
def test_what_is_no_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="a secret is named by a reference") as caught:
        secrets.reveal(text)
    assert "hush" not in str(caught.value)


def test_a_scheme_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(secrets._SCHEMES, "block", lambda place: place.upper())
    assert secrets.reveal("block:a/b/c").get_secret_value() == "A/B/C"


def test_a_secret_in_the_parameter_store(s3, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", s3.endpoint)
    boto3.client("ssm").put_parameter(Name="/earthdata/password", Value="hush", Type="SecureString")
    assert secrets.reveal("ssm:/earthdata/password").get_secret_value() == "hush"
    with pytest.raises(AccessError, match="ParameterNotFound"):
        secrets.reveal("ssm:/none")
