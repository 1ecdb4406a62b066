"""One tar of a finished store, with a list of SHA-256 digests; the same bytes for the same store."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ..lake.errors import CorruptInput
from ..lake.lake import Lake
from ..lake.partition import Output, digest_bytes


def write(
    lake: Lake, prefix: str, outputs: Iterable[Output], documents: dict[str, bytes], name: str, path: Path
) -> str:
    """Write the tar to ``path``; its digest. Objects are checked against their records on the way.

    Members are ``<name>.zarr/...`` in order and ``<name>.sha256`` at the end, which ``sha256sum -c`` understands.
    Raises ``CorruptInput`` for an object that is not what was recorded.
    """
    digests = {o.uri.removeprefix(f"{prefix}/"): o.digest for o in outputs}
    lines = []
    # No times, no owners: two tars of one store are the same file.
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key in sorted([*digests, *documents]):
            data = documents.get(key) or lake.objects.get(f"{prefix}/{key}")
            digest = digest_bytes(data)
            if key in digests and digest != digests[key]:
                raise CorruptInput(f"{prefix}/{key} is not what was recorded", expected=digests[key], found=digest)
            _add(tar, f"{name}.zarr/{key}", data)
            lines.append(f"{digest.removeprefix('sha256:')}  {name}.zarr/{key}\n")
        _add(tar, f"{name}.sha256", "".join(lines).encode())
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))
