"""All rows of a survey as one Parquet table, and back."""

import io
from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from .probe import Row
from .reasons import COMPATIBLE

_TEXTS = pa.list_(pa.string())

SCHEMA = pa.schema(
    [
        pa.field("collection_concept_id", pa.string(), nullable=False),
        ("collection_short_name_and_version", pa.string()),
        ("concept_id", pa.string()),
        ("data_center", pa.string()),
        ("data_url", pa.string()),
        ("backend", pa.string()),
        ("format", pa.string()),
        ("extension", pa.string()),
        ("tiling_compatible", pa.bool_()),
        ("incompatible_reason", pa.string()),
        ("error_message", pa.string()),
        ("tiles_url", pa.string()),
        ("variable", pa.string()),
        ("data_variables", _TEXTS),
        ("num_granules", pa.int64()),
        ("processing_level", pa.string()),
        ("groups", _TEXTS),
        ("crs", pa.string()),
        ("dimensions", pa.map_(pa.string(), pa.int64())),
        ("seed", pa.int64()),
        ("granule_index", pa.int64()),
        ("tile", pa.string()),
        ("tile_valid", pa.float64()),
        ("versions", pa.map_(pa.string(), pa.string())),
        pa.field("state", pa.string(), nullable=False),
        ("attempt", pa.int64()),
        ("duration", pa.float64()),
    ]
)
"""Columns of the report; ``duration`` in seconds, ``tile`` as zoom/x/y of Web Mercator."""


def write(rows: Sequence[Row]) -> bytes:
    """The rows as a Parquet file."""
    table = pa.Table.from_pylist([msgspec.to_builtins(row) for row in rows], schema=SCHEMA)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def results(data: bytes) -> dict[str, str]:
    """Collection -> its result in one word (see `counting.result`), from a Parquet file of an earlier survey."""
    columns = ["collection_concept_id", "tiling_compatible", "incompatible_reason", "state"]
    found = pq.read_table(io.BytesIO(data), columns=columns).to_pydict()
    return {
        key: COMPATIBLE if compatible else reason or state
        for key, compatible, reason, state in zip(*(found[c] for c in columns), strict=True)
    }
