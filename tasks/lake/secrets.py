"""Secrets by reference: a recipe says where a secret is to be found, never what it is.

| reference | where |
|---|---|
| ``env:NAME`` | an environment variable of the process that uses it |
| ``file:/run/secrets/x`` | the first line of a file |
| ``netrc:HOST/login`` or ``netrc:HOST/password`` | ``~/.netrc``, or the file that ``NETRC`` names |
| ``ssm:/path/of/parameter`` | AWS Systems Manager Parameter Store, decrypted (extra ``aws``) |
| ``block:SLUG/NAME/FIELD`` | a field of a Prefect block, in flow and task runs |
"""

import netrc
import os
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from .errors import AccessError, UsageError


def reveal(reference: str) -> SecretStr:
    """The secret behind a reference. Raises ``UsageError`` for a reference that is none, ``AccessError`` for a
    secret that is not there or not to be had; neither holds the secret."""
    scheme, colon, place = reference.partition(":")
    if not colon or scheme not in _SCHEMES or not place:
        # A value without a scheme may be the secret itself, put where the reference belongs: it is not repeated.
        raise UsageError(
            "a secret is named by a reference",
            expected=" or ".join(f"{s}:..." for s in _SCHEMES),
            found="something else",
        )
    value = _SCHEMES[scheme](place)
    if not value:
        raise AccessError(f"the secret {reference} is empty")
    return SecretStr(value)


def scheme(name: str, reader: Callable[[str], str]) -> None:
    """Make references ``name:...`` known in this process."""
    _SCHEMES[name] = reader


def _environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise AccessError(f"the secret env:{name} is not set in the environment") from None


def _file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"the secret file:{path} cannot be read ({type(error).__name__})") from None


def _netrc(place: str) -> str:
    host, _, field = place.partition("/")
    if field not in ("login", "password"):
        raise UsageError("a netrc reference names a field", expected="netrc:HOST/login or netrc:HOST/password")
    file = os.environ.get("NETRC")
    try:
        found = netrc.netrc(file).authenticators(host)
    except (OSError, netrc.NetrcParseError) as error:
        raise AccessError(f"the secret netrc:{place} cannot be read ({type(error).__name__})") from None
    if found is None:
        raise AccessError(f"the netrc file knows no {host}")
    return found[0 if field == "login" else 2] or ""


def _parameter_store(name: str) -> str:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise UsageError("secrets in AWS Parameter Store need the extra 'aws'") from None
    try:
        answer = boto3.client("ssm").get_parameter(Name=name, WithDecryption=True)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        raise AccessError(f"the secret ssm:{name} is not to be had ({code})") from None
    except BotoCoreError as error:
        raise AccessError(f"the secret ssm:{name} is not to be had ({type(error).__name__})") from None
    return str(answer["Parameter"]["Value"])


def _no_prefect(place: str) -> str:
    raise UsageError(f"the secret block:{place} is in a Prefect block, which only flow and task runs can load")


_SCHEMES: dict[str, Callable[[str], str]] = {
    "env": _environment,
    "file": _file,
    "netrc": _netrc,
    "ssm": _parameter_store,
    "block": _no_prefect,
}
