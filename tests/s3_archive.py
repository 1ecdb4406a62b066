"""A read-only S3 server on loopback over a folder, in a process of its own: ListObjectsV2, GET with ranges, HEAD.

Unlike moto it is fast, serves sparse files of any size, adds latency and answers a share of the requests with 503
SlowDown. ``python -m tests.s3_archive FOLDER --latency 0.04 --errors 0.02`` prints its port and ends when its standard
input does.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import orjson
from aiohttp import web

ROOT = Path(__file__).resolve().parents[1]
_PAGE = 1000


class Server:
    """The handlers; bucket and key are a folder and a path below ``folder``."""

    def __init__(self, folder: Path, latency: float, errors: float) -> None:
        self.folder = folder
        self.latency = latency
        self.errors = errors
        self.counts: Counter[str] = Counter()
        self._random = random.Random(1)

    @web.middleware
    async def spoil(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Latency and 503s; what is answered properly is counted by method and path."""
        if request.path == "/-/counts":
            return await handler(request)
        await asyncio.sleep(self.latency)
        if self._random.random() < self.errors:
            self.counts["503"] += 1
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        self.counts[f"{request.method} {request.path}"] += 1
        return await handler(request)

    async def object(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD of one object, with ranges."""
        path = self.folder / request.match_info["key"]
        if not path.is_file():
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        return web.FileResponse(path, headers={"ETag": _etag(path)}, chunk_size=2**20)

    async def listing(self, request: web.Request) -> web.Response:
        """ListObjectsV2 with a delimiter: one folder, in pages."""
        base = self.folder / request.match_info["bucket"]
        prefix = request.query.get("prefix", "")
        found = sorted(p for p in (base / prefix).glob("*") if p.is_file())
        start = int(request.query.get("continuation-token", "0"))
        rows = [
            f"<Contents><Key>{escape(str(p.relative_to(base)))}</Key><Size>{p.stat().st_size}</Size>"
            f"<ETag>{escape(_etag(p))}</ETag><LastModified>2026-11-20T07:40:00.000Z</LastModified></Contents>"
            for p in found[start : start + _PAGE]
        ]
        more = start + _PAGE < len(found)
        token = f"<NextContinuationToken>{start + _PAGE}</NextContinuationToken>" if more else ""
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"<KeyCount>{len(rows)}</KeyCount>{''.join(rows)}</ListBucketResult>"
        )
        return web.Response(text=body, content_type="application/xml", headers={"Date": formatdate(usegmt=True)})

    async def told(self, request: web.Request) -> web.Response:
        """What was asked for so far."""
        return web.Response(body=orjson.dumps(dict(self.counts)))


def _etag(path: Path) -> str:
    stat = path.stat()
    return f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'


async def _serve(folder: Path, latency: float, errors: float) -> None:
    server = Server(folder, latency, errors)
    app = web.Application(middlewares=[server.spoil])
    app.router.add_get("/-/counts", server.told)
    app.router.add_get("/{bucket}", server.listing)
    app.router.add_get("/{bucket}/", server.listing)
    app.router.add_get("/{key:.+}", server.object)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def serving(folder: Path, latency: float = 0.0, errors: float = 0.0):
    """The server's address while the block lasts."""
    command = [sys.executable, "-m", "tests.s3_archive", str(folder), f"--latency={latency}", f"--errors={errors}"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)


def counts(endpoint: str) -> dict[str, int]:
    """How often what was asked for: ``GET /bucket/key`` -> number; ``503`` for the refusals."""
    with urllib.request.urlopen(f"{endpoint}/-/counts") as answer:
        return orjson.loads(answer.read())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--errors", type=float, default=0.0)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.folder, arguments.latency, arguments.errors))
