"""Tables of observations in the lake: merging answers, years, and Parquet that is the same bytes each time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING

from ..lake.errors import CorruptInput
from ..lake.objects import Objects
from ..lake.partition import digest_bytes

if TYPE_CHECKING:
    import polars as pl


def empty() -> "pl.DataFrame":
    """A table with times and nothing else."""
    import polars as pl

    return pl.DataFrame(schema={"timestamp": pl.Datetime("us", "UTC")})


def merged(answers: "Sequence[pl.DataFrame]") -> "pl.DataFrame":
    """Tables with ``timestamp`` as one, sorted, each time once; of two values for one place the later table's counts.

    A later null counts too, where the later table has the column: then the provider took the value back.
    """
    import polars as pl

    if not answers:
        return empty()
    groups: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    for table in answers:
        groups.setdefault(tuple(sorted(table.columns)), []).append(table.select(sorted(table.columns)))
    # Answers with the same columns: the later row replaces the earlier.
    parts = [
        pl.concat(group).unique("timestamp", keep="last", maintain_order=True) if len(group) > 1 else group[0]
        for group in groups.values()
    ]
    result = parts[0]
    for part in parts[1:]:
        result = _over(result, part)
    names = [c for c in sorted(result.columns) if c != "timestamp"]
    result = result.select("timestamp", *names)
    return result if result["timestamp"].is_sorted() else result.sort("timestamp")


def _over(below: "pl.DataFrame", above: "pl.DataFrame") -> "pl.DataFrame":
    """Two tables with other columns joined on time; in columns of both, rows of ``above`` count."""
    import polars as pl

    marked = above.with_columns(pl.lit(True).alias("_above"))
    joined = below.join(marked, on="timestamp", how="full", coalesce=True, suffix="_new")
    shared = [c for c in above.columns if c in below.columns and c != "timestamp"]
    chosen = [pl.when(pl.col("_above")).then(pl.col(f"{c}_new")).otherwise(pl.col(c)).alias(c) for c in shared]
    return joined.with_columns(chosen).drop("_above", *[f"{c}_new" for c in shared])


def of_year(table: "pl.DataFrame", year: int) -> "pl.DataFrame":
    """The rows of a calendar year (UTC)."""
    inside = table["timestamp"].is_between(
        datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC), closed="left"
    )
    return table if inside.all() else table.filter(inside)


def write(table: "pl.DataFrame", metadata: Mapping[str, str] | None = None) -> bytes:
    """A table as Parquet (zstd), with statistics so that readers skip what they do not want."""
    buffer = BytesIO()
    table.write_parquet(buffer, compression="zstd", compression_level=1, statistics=True, metadata=dict(metadata or {}))
    return buffer.getvalue()


def read(objects: Objects, key: str, digest: str | None = None, columns: Sequence[str] | None = None) -> "pl.DataFrame":
    """A table of the lake, or those of ``columns`` that it has. Raises ``CorruptInput`` when it was changed."""
    import polars as pl

    data = objects.get(key)
    if digest is not None and (found := digest_bytes(data)) != digest:
        raise CorruptInput(f"{key} was changed since it was written", expected=digest[:19], found=found[:19])
    try:
        if columns is not None:
            names = pl.read_parquet_schema(BytesIO(data))
            columns = [c for c in columns if c in names]
        return pl.read_parquet(BytesIO(data), columns=columns, hive_partitioning=False)  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise CorruptInput(f"{key} cannot be read ({str(error).splitlines()[0]})") from None
