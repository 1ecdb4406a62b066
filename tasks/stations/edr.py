"""The client of an OGC API - EDR: one per process and source, within the quota that the lake keeps."""

import atexit
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ..lake.errors import AccessError, QuotaError
from ..lake.http import Http
from ..lake.lake import Lake
from ..lake.quota import Impatient, Quota
from ..lake.secrets import reveal
from .pace import Pace
from .recipe import Source

if TYPE_CHECKING:
    from .catalogue import Catalogue

_REFUSALS = 5
"""How often one request is put off by a 429 before its partition is given back to the runner."""

_opening = threading.Lock()


class Edr:
    """Requests to one EDR. ``catalogue`` is what was read of it in this process."""

    def __init__(self, source: Source, lake: Lake, key: SecretStr | None) -> None:
        self.source = source
        self.quota = Quota(lake.objects, source.quota, [w.rate for w in source.windows], patience=source.patience)
        self.catalogue: Catalogue | None = None
        headers = {"Accept": "application/json, application/prs.coverage+json"}
        if key is not None:
            headers["Authorization"] = key.get_secret_value()
        self._plain = Http(source.url, headers=headers)
        self._headers = headers

    @cached_property
    def pace(self) -> Pace:
        """Places and tokens; looks into the lake the first time."""
        return Pace(self.quota, min(self.source.concurrency, self.source.workers), self.source.workers)

    @cached_property
    def _within_quota(self) -> Http:
        return Http(self.source.url, headers=self._headers, limit=self.pace)

    def get(self, path: str) -> bytes:
        """A document about the provider, outside the quota: planning must write nothing, also no quota.

        Raises ``AccessError`` for a wrong key, and whatever `Http.get` raises.
        """
        try:
            return self._plain.get(path).content
        except AccessError as error:
            raise self._refused(error) from None

    def data(self, path: str, parameters: dict[str, str]) -> bytes:
        """An answer with data, once the quota permits. Raises ``UsageError`` (400, 413), ``NotFound``, ``QuotaError``
        (a wait beyond the source's patience, or refused again and again), ``TransientError``."""
        with _opening:
            client = self._within_quota
        for number in range(_REFUSALS):
            try:
                return client.get(path, **parameters).content
            except QuotaError as error:
                # The quota knows (see `Quota.answered`): the next try waits as long as the provider said.
                if number == _REFUSALS - 1 or isinstance(error, Impatient):
                    raise
            except AccessError as error:
                raise self._refused(error) from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close its connections."""
        self._plain.close()
        if "_within_quota" in self.__dict__:
            self._within_quota.close()

    def _refused(self, error: AccessError) -> AccessError:
        what = self.source.key or "no key; set source.key"
        return AccessError(f"{error.message.rstrip('.')} (asked with {what})")


def open_edr(source: Source, lake: Lake) -> Edr:
    """The client of this process for a source. Raises ``AccessError`` when its key is not there."""
    key = reveal(source.key) if source.key is not None else None
    with _opening:
        known = (source, lake.url, key)
        if known not in _clients:
            _clients[known] = Edr(source, lake, key)
        return _clients[known]


def close_clients() -> None:
    """Close the connections of every client of this process."""
    with _opening:
        for client in _clients.values():
            client.close()
        _clients.clear()


_clients: dict[tuple[Source, str, SecretStr | None], Edr] = {}
atexit.register(close_clients)
