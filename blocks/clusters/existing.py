"""A Dask scheduler that somebody else runs: used, never ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.lake.errors import Unreachable, UsageError

from .protocol import Cluster, Place, clusters

_TIMEOUT = 5


@clusters.register("existing")
class Existing(Cluster):
    """A running cluster by its address. With ``tls://`` the files, or else Dask's configuration, say how to get in."""

    type: Literal["existing"] = Field("existing", description="Kind of cluster.")
    address: str = Field(pattern=r"^(tcp|tls)://\S+$", description="Of the scheduler: tls://HOST:8786.")
    ca_file: Path | None = Field(
        None, description="PEM file with the authority that signed the cluster's certificates."
    )
    cert_file: Path | None = Field(None, description="PEM file with the certificate of this client.")
    key_file: Path | None = Field(None, description="PEM file with its key.")
    price_hour: float | None = Field(None, ge=0, description="USD an hour for all of it, for estimates.")

    @model_validator(mode="after")
    def _whole(self) -> "Existing":
        given = [f for f in (self.ca_file, self.cert_file, self.key_file) if f]
        if given and len(given) < 3:
            raise ValueError("ca_file, cert_file and key_file go together")
        if given and not self.address.startswith("tls://"):
            raise ValueError("certificates are for a tls:// address")
        return self

    @contextmanager
    def opened(self, flow_run: str) -> Iterator[Place]:
        """Look whether it answers. Raises ``Unreachable``, ``UsageError``."""
        del flow_run
        security = self._security()
        from distributed import Client

        try:
            with Client(self.address, timeout=_TIMEOUT, security=security, set_as_default=False) as client:
                found = client.scheduler_info(n_workers=-1)["workers"].values()
                dashboard = client.dashboard_link
        except OSError as error:
            raise Unreachable(f"no Dask scheduler answers at {self.address} ({type(error).__name__})") from None
        slots = sum(w["nthreads"] for w in found)
        yield Place(
            self.address, max(1, slots), f"the Dask cluster at {self.address}", security, dashboard,
            max(1, len(found)), "", self.price_hour,
        )  # fmt: skip

    def check(self) -> None:
        """Whether it answers."""
        with self.opened("check"):
            pass

    def _security(self) -> Any:
        if not self.address.startswith("tls://"):
            return None
        import dask
        from distributed import Security

        if not self.ca_file:
            if not dask.config.get("distributed.comm.tls.ca-file"):
                raise UsageError(
                    f"{self.address} needs certificates: ca_file, cert_file and key_file of an existing cluster, or "
                    "distributed.comm.tls in Dask's configuration"
                )
            return Security(require_encryption=True)
        for path in (self.ca_file, self.cert_file, self.key_file):
            if path is not None and not path.is_file():
                raise UsageError(f"there is no file {path}, which the cluster {self.address} needs")
        return Security(
            require_encryption=True, tls_ca_file=str(self.ca_file),
            tls_client_cert=str(self.cert_file), tls_client_key=str(self.key_file),
        )  # fmt: skip
