"""The manifest: a Parquet table with a row per field, what ingest makes and refine reads."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..lake.errors import CorruptInput

_NAME = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("param", _NAME, nullable=False),  # the source's own name: 2t, TMP
        pa.field("level_type", _NAME, nullable=False),  # ecCodes typeOfLevel, or the levtype of an ECMWF index
        pa.field("level", pa.float64()),  # hPa for isobaricInhPa, m for heights; null without a level
        pa.field("member", pa.int16()),  # 0 is the control; null for a single run
        pa.field("lead_time", pa.duration("s"), nullable=False),  # end of the window
        pa.field("window", _NAME, nullable=False),  # instant, accum, avg, max, min
        pa.field("window_start", pa.duration("s")),  # null for instant fields
        pa.field("url", _NAME, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("sub", pa.int16(), nullable=False),  # 0-based number of the field inside its message
        pa.field("etag", pa.string()),  # version of the object behind url; of a copy, the digest of the message
        pa.field("last_modified", pa.timestamp("s", tz="UTC")),
    ]
)
"""Columns of an index as a table; times are UTC, lead times count from the initialisation time."""

MANIFEST = SCHEMA.insert(0, pa.field("variable", _NAME, nullable=False))
"""Columns of a manifest: an index's, with the name of the variable each field belongs to in the cube."""


_PLAIN = pa.schema(
    [pa.field(f.name, pa.string(), f.nullable) if pa.types.is_dictionary(f.type) else f for f in MANIFEST]
)
"""A manifest's columns as they are in the file."""


def with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    """The table with one of the columns above replaced by plain values."""
    kind = MANIFEST.field(name)
    plain = kind.type.value_type if isinstance(kind.type, pa.DictionaryType) else kind.type
    return table.set_column(table.schema.get_field_index(name), kind, pa.array(values, plain).cast(kind.type))


def with_constant(table: pa.Table, name: str, value: object) -> pa.Table:
    """The table with one of the columns above holding the same value in every row."""
    kind = MANIFEST.field(name)
    if isinstance(kind.type, pa.DictionaryType):
        codes = pa.array(np.zeros(len(table), np.int32))
        column: pa.Array = pa.DictionaryArray.from_arrays(codes, pa.array([value], kind.type.value_type))
    else:
        column = pa.repeat(pa.scalar(value, kind.type), len(table))
    return table.set_column(table.schema.get_field_index(name), kind, column)


def write(table: pa.Table) -> bytes:
    """A manifest as Parquet (zstd), byte for byte the same for the same table."""
    sink = io.BytesIO()
    # Plain columns: pyarrow writes equal dictionary columns with different bytes now and then.
    pq.write_table(table.cast(_PLAIN), sink, compression="zstd", compression_level=3)
    return sink.getvalue()


def read(data: bytes, where: str = "manifest") -> pa.Table:
    """A manifest from Parquet bytes. Raises ``CorruptInput`` when it is none."""
    try:
        # Not read_table: that goes through pyarrow.dataset, which imports pandas.
        table = pq.ParquetFile(io.BytesIO(data)).read()
    except pa.ArrowInvalid as error:
        raise CorruptInput(f"{where} is not Parquet: {str(error).splitlines()[0]}") from None
    if table.schema.names != MANIFEST.names:
        raise CorruptInput(f"{where} is no manifest", expected=MANIFEST.names, found=table.schema.names)
    return table.cast(MANIFEST)


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Manifests as one."""
    return pa.concat_tables(tables).unify_dictionaries() if tables else MANIFEST.empty_table()
