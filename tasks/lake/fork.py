"""What a worker writes the chunks of a run through: a forked session of a cube's branch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zarr


class Fork:
    """A forked session at work: ``group[name]`` are its arrays to write to, ``data`` the pickled fork afterwards."""

    def __init__(self, group: "zarr.Group") -> None:
        self.group = _Writable(group)
        self.data = b""


class _Writable:
    """Arrays that also write what is nothing but NaN: a shard that is there says its field was looked at.

    Zarr does not store that wish with an array, and its global configuration is no place for it: batches in
    other threads set and reset that one too.
    """

    def __init__(self, group: "zarr.Group") -> None:
        self._group = group

    def __getitem__(self, name: str) -> "zarr.Array[Any]":
        return self._group[name].with_config({"write_empty_chunks": True})  # type: ignore[union-attr]


@contextmanager
def fast_codecs() -> Iterator[None]:
    """Zarr's fused codec pipeline: less than half the CPU of the default for sharded writes."""
    import zarr

    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}):
        yield
