"""The processes of a cluster as seen by the one who opens it: their commands, and whether they answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

Commands = Callable[[str, str | None, str], list[str]]
"""Role, the scheduler's address, name -> command of a container."""

_POLL = 0.5
_CONNECT = 5.0


@dataclass(frozen=True, slots=True)
class NodeCommands:
    """Writes the command of a scheduler or worker: `blocks.clusters.node` reads it."""

    platform: str
    region: str
    idle: float
    alone: float
    start: float
    lifetime: float
    threads: int
    memory: str
    tls: str | None

    def __call__(self, role: str, address: str | None, name: str) -> list[str]:
        command = ["python", "-m", "blocks.clusters.node", role]
        if role == "scheduler":
            command += ["--idle", f"{self.idle:g}", "--alone", f"{self.alone:g}", "--start", f"{self.start:g}"]
        else:
            command += [str(address), "--name", name, "--threads", str(self.threads), "--memory", self.memory]
        command += ["--lifetime", f"{self.lifetime:g}", "--on", self.platform]
        return [*command, "--tls", self.tls, "--region", self.region] if self.tls else command


async def answers(address: str) -> None:
    """Wait until a port answers. Can be cancelled at any time, and blocks nothing meanwhile."""
    url = urlsplit(address)
    while True:
        try:
            async with asyncio.timeout(_CONNECT):
                _, writer = await asyncio.open_connection(url.hostname, url.port)
        except OSError:
            await asyncio.sleep(_POLL)
        else:
            writer.close()
            return
