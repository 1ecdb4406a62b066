"""Cuts: shards consist of chunks, blocks of shards and of whole chunks of the source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.scenes.layout import cut


@given(
    length=st.integers(1, 30_000), source=st.integers(1, 30_000),
    chunk=st.integers(16, 4096), shard=st.integers(16, 8192),
)  # fmt: skip
def test_no_source_chunk_is_split_and_shards_are_whole(length: int, source: int, chunk: int, shard: int) -> None:
    found = cut(length, source, chunk, shard)
    assert found.shard % found.chunk == 0
    if found.blocks > 1:
        assert found.block % found.shard == 0
        assert found.block % min(source, length) == 0
    else:
        assert found.block >= length


@pytest.mark.parametrize(
    ("length", "source", "chunk", "shard"),
    [(10980, 5490, 915, 5490), (10980, 10980, 915, 5490), (5490, 5490, 915, 5490), (1830, 1830, 915, 1830)],
)
def test_sentinel_2(length: int, source: int, chunk: int, shard: int) -> None:
    found = cut(length, source, 1024, 6144)
    assert (found.chunk, found.shard) == (chunk, shard)


def test_the_chunk_of_the_reference_pipeline() -> None:
    assert cut(10980, 5490, 4096, 6144).chunk == 2745
