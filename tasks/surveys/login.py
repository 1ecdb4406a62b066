"""Earthdata Login: a bearer token, and the temporary S3 keys that the data centres give for it.

https://urs.earthdata.nasa.gov/documentation: a token lasts 60 days, S3 keys an hour.
"""

import threading
import time
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..lake.errors import AccessError, LakeError
from ..lake.http import Http
from ..lake.secrets import reveal
from . import recipe

_MARGIN = 600.0
_TOKEN_LASTS = 6 * 3600.0


class Keys(msgspec.Struct, frozen=True):
    """Temporary S3 keys."""

    access: str
    secret: str
    session: str


class Account:
    """One login, for one process. Asks for a token and for keys when they are first needed, and again in time."""

    def __init__(self, login: recipe.Login) -> None:
        self.login = login
        self._lock = threading.Lock()
        self._token: tuple[float, str] | None = None
        self._keys: dict[str, tuple[float, Keys]] = {}

    def may_see(self, url: str) -> bool:
        """Whether a host may be sent the token: no link in a catalogue can have it sent elsewhere."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        local = host in ("127.0.0.1", "localhost", "::1")
        if parts.scheme != "https" and not local:
            return False
        return any(host == known or host.endswith(f".{known}") for known in self.login.hosts)

    def token(self) -> str:
        """The bearer token. Raises ``AccessError`` when the login is refused."""
        with self._lock:
            if self._token is None or self._token[0] < time.monotonic():
                self._token = (time.monotonic() + _TOKEN_LASTS, self._ask())
            return self._token[1]

    def _ask(self) -> str:
        login = self.login
        if login.token is not None:
            return reveal(login.token).get_secret_value()
        assert login.username is not None
        assert login.password is not None
        who = (reveal(login.username).get_secret_value(), reveal(login.password).get_secret_value())
        with Http(login.url) as http:
            try:
                answer = http.request("POST", "api/users/find_or_create_token", auth=who)
                return str(answer.json()["access_token"])
            except AccessError:
                raise AccessError(f"{login.url} refuses the user name and password of the recipe's login") from None
            except (ValueError, KeyError, TypeError):
                raise LakeError(f"{login.url} answered the login with something else than a token") from None

    def keys(self, endpoint: str) -> Keys:
        """S3 keys from a data centre's credentials endpoint. Raises ``AccessError``."""
        if not self.may_see(endpoint):
            raise AccessError(
                f"S3 keys come from {endpoint}, which is none of the hosts that may see the login's token"
            )
        token = self.token()
        with self._lock:
            at, found = self._keys.get(endpoint, (0.0, None))
            if found is None or at < time.monotonic():
                lasts, found = _keys(endpoint, token)
                self._keys[endpoint] = (time.monotonic() + lasts, found)
            return found


def _keys(endpoint: str, token: str) -> tuple[float, Keys]:
    """Seconds for which the keys may be used, and the keys."""
    with Http(endpoint, headers={"Authorization": f"Bearer {token}"}) as http:
        try:
            said: Any = http.get("").json()
            found = Keys(said["accessKeyId"], said["secretAccessKey"], said["sessionToken"])
            ends = datetime.fromisoformat(said["expiration"])
        except (ValueError, KeyError, TypeError):
            raise AccessError(f"{endpoint} answered with something else than S3 keys") from None
    return max(0.0, (ends - datetime.now(ends.tzinfo)).total_seconds() - _MARGIN), found


@cache
def _open(login: str) -> Account:
    return Account(recipe.Login.model_validate_json(login))


def account(login: recipe.Login | None) -> Account | None:
    """The account of a recipe, one a process."""
    return None if login is None else _open(login.model_dump_json())
