"""CoverageJSON time series as tables: one per coverage, column by column.

Source: OGC 21-069r2, CoverageJSON Community Standard 1.0. Understood are coverages of one place with a time axis
(PointSeries, or any domain whose other axes have one value), in any order of axes, with nulls; `NdArray` ranges inline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from ..lake.errors import CorruptInput
from .outline import outlined

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Series:
    """One coverage: the station as it names it (or None), where it is, units, and a table.

    ``table`` has ``timestamp`` (UTC, microseconds), sorted, each once, and a Float64 column per parameter; nulls are
    values the provider does not have.
    """

    station: str | None
    longitude: float | None
    latitude: float | None
    units: Mapping[str, str]
    table: "pl.DataFrame"


def parse(data: bytes, where: str) -> list[Series]:
    """The coverages of a document. Raises ``CorruptInput``, which names ``where``, for anything it cannot be."""
    document = outlined(data)
    try:
        # What is in no form that is read fast is read slowly, and that says what is wrong with it.
        document = orjson.loads(data) if document is None else document
    except orjson.JSONDecodeError as error:
        raise CorruptInput(f"{where} is not JSON ({error})") from None
    if not isinstance(document, dict) or document.get("type") not in ("Coverage", "CoverageCollection"):
        found = document.get("type") if isinstance(document, dict) else type(document).__name__
        raise CorruptInput(
            f"{where} is no CoverageJSON with data", expected="Coverage or CoverageCollection", found=found
        )
    coverages = [document] if document["type"] == "Coverage" else document.get("coverages")
    if not isinstance(coverages, list):
        raise CorruptInput(f"{where} is a collection without coverages")
    shared = document.get("parameters", {})
    try:
        return [_series(c, shared, f"{where}, coverage {n}") for n, c in enumerate(coverages, 1)]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise CorruptInput(f"{where} is no valid CoverageJSON ({type(error).__name__}: {error})") from None


def _series(coverage: Any, shared: Mapping[str, Any], where: str) -> Series:
    import polars as pl

    domain = coverage["domain"]
    if not isinstance(domain, dict):
        raise CorruptInput(f"{where} refers to its domain", expected="a domain in the document", found=str(domain)[:80])
    axes = {name: _axis(axis, name, where) for name, axis in domain["axes"].items()}
    if "t" not in axes:
        raise CorruptInput(f"{where} has no time axis", expected="an axis t", found=", ".join(axes) or "no axis")
    long = [name for name, values in axes.items() if name != "t" and len(values) != 1]
    if long:
        raise CorruptInput(
            f"{where} is more than a series at one place", expected="one value on every axis but t",
            found=f"{len(axes[long[0]])} on {long[0]}",
        )  # fmt: skip
    sizes = {name: len(values) for name, values in axes.items()}
    columns = [_times(axes["t"], where)]
    for name, array in coverage.get("ranges", {}).items():
        columns.append(_values(array, sizes, f"{where}, {name}").alias(name))
    table = pl.DataFrame(columns)
    if not table["timestamp"].is_sorted():
        table = table.sort("timestamp", maintain_order=True)
    if not np.diff(table["timestamp"].to_physical().to_numpy()).all():
        raise CorruptInput(f"{where} has a time twice")
    parameters = {**shared, **coverage.get("parameters", {})}
    return Series(
        station=coverage.get("eumetnet:locationId"),
        longitude=_number(axes.get("x")),
        latitude=_number(axes.get("y")),
        units={name: _unit(parameters.get(name)) for name in coverage.get("ranges", {})},
        table=table,
    )


def _axis(axis: Any, name: str, where: str) -> list[Any]:
    """The values of an axis, of the regular form (start, stop, num) too."""
    if "values" in axis:
        return axis["values"]
    if {"start", "stop", "num"} <= set(axis):
        return np.linspace(axis["start"], axis["stop"], axis["num"]).tolist()
    raise CorruptInput(
        f"{where}: axis {name} has no values",
        expected="values, or start, stop and num",
        found=", ".join(axis) or "nothing",
    )


def _times(values: list[Any], where: str) -> "pl.Series":
    import polars as pl

    texts = pl.Series("timestamp", values, dtype=pl.String)
    try:
        # Many times faster than parsing any ISO 8601; what is in another form is parsed below.
        return texts.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", exact=True)
    except pl.exceptions.PolarsError:
        pass
    try:
        return texts.str.to_datetime("%+", time_unit="us", time_zone="UTC")
    except pl.exceptions.PolarsError:
        bad = texts.filter(texts.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False).is_null())
        found = bad[0] if len(bad) else "none"
        raise CorruptInput(f"{where} has a time that is none", expected="ISO 8601 with a zone", found=found) from None


def _values(array: Any, sizes: Mapping[str, int], where: str) -> "pl.Series":
    """Values of a range along t, Float64."""
    import polars as pl

    if not isinstance(array, dict):
        raise CorruptInput(
            f"{where} refers to its values", expected="an NdArray in the document", found=str(array)[:80]
        )
    if array.get("type") == "TiledNdArray":
        raise CorruptInput(f"{where} is tiled over other documents", expected="NdArray", found="TiledNdArray")
    if array.get("type") != "NdArray" or array.get("dataType") not in ("float", "integer"):
        raise CorruptInput(
            f"{where} holds no numbers", expected="NdArray of float or integer",
            found=f"{array.get('type')} of {array.get('dataType')}",
        )  # fmt: skip
    values = array["values"]
    if not isinstance(values, pl.Series):
        values = pl.Series(np.array(values, dtype="float64").reshape(-1), nan_to_null=True)
    if sizes["t"] == 1 and "axisNames" not in array and len(values) == 1:
        return values
    names, shape = list(array["axisNames"]), list(array["shape"])
    expected = [sizes.get(name, -1) for name in names]
    if "t" not in names or shape != expected or int(np.prod(shape)) != len(values):
        raise CorruptInput(
            f"{where} does not fit its domain", expected=f"{expected} along {names}",
            found=f"shape {shape} and {len(values)} values",
        )  # fmt: skip
    # Every axis but t has one value, so the order of axes does not change that of the values.
    return values


def _number(values: list[Any] | None) -> float | None:
    return float(values[0]) if values and isinstance(values[0], int | float) else None


def _unit(parameter: Any) -> str:
    symbol = ((parameter or {}).get("unit") or {}).get("symbol", "")
    return str(symbol.get("value", "") if isinstance(symbol, dict) else symbol)
