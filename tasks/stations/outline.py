"""The usual CoverageJSON read fast: its outline as objects, its arrays of numbers straight to columns.

Almost all of a document are numbers. An object for each of them takes most of the time of reading it; here the text of
each array goes to Polars as it is.
"""

from typing import TYPE_CHECKING, Any

import msgspec
import orjson

if TYPE_CHECKING:
    import polars as pl


class _Axis(msgspec.Struct):
    values: msgspec.Raw


class _Domain(msgspec.Struct):
    axes: dict[str, _Axis]


class _Array(msgspec.Struct):
    values: msgspec.Raw
    type: Any
    dataType: Any
    axisNames: list[str]
    shape: list[int]


class _Coverage(msgspec.Struct):
    domain: _Domain
    ranges: dict[str, _Array]
    parameters: dict[str, Any] = {}
    station: Any = msgspec.field(default=None, name="eumetnet:locationId")


class _Collection(msgspec.Struct):
    coverages: list[_Coverage]
    parameters: dict[str, Any] = {}
    type: str = ""


_COLLECTION = msgspec.json.Decoder(_Collection)


def outlined(data: bytes) -> dict[str, Any] | None:
    """A collection of coverages as `orjson.loads` gives it, as far as a series needs it, but with a Float64 series for
    the ``values`` of every range. None for anything else, such as a document that is not JSON or has other parts."""
    import polars as pl

    try:
        found = _COLLECTION.decode(data)
        return {
            "type": found.type,
            "parameters": found.parameters,
            "coverages": [_coverage(c) for c in found.coverages],
        }
    except (msgspec.MsgspecError, orjson.JSONDecodeError, pl.exceptions.PolarsError, ValueError):
        return None


def _coverage(coverage: _Coverage) -> dict[str, Any]:
    arrays = coverage.ranges
    numbers = _numbers([bytes(a.values) for a in arrays.values()])
    return {
        "eumetnet:locationId": coverage.station,
        "domain": {"axes": {n: {"values": orjson.loads(bytes(a.values))} for n, a in coverage.domain.axes.items()}},
        "parameters": coverage.parameters,
        "ranges": {
            name: {
                "type": array.type, "dataType": array.dataType, "axisNames": array.axisNames, "shape": array.shape,
                "values": values,
            }
            for (name, array), values in zip(arrays.items(), numbers, strict=True)
        },
    }  # fmt: skip


def _numbers(texts: list[bytes]) -> "list[pl.Series]":
    """Arrays of numbers and nulls, of which the decoder has seen that they are JSON. Raises ``ValueError`` when there
    is anything else in one."""
    import polars as pl

    if any(space in text for text in texts for space in (b" ", b"\n", b"\r", b"\t")):
        texts = [text.translate(None, b" \n\r\t") for text in texts]
    words = pl.Series([text[1:-1].decode() for text in texts], dtype=pl.String).str.split(",")
    found = list(words.cast(pl.List(pl.Float64), strict=False))
    for text, values in zip(texts, found, strict=True):
        # A word that is no number becomes null.
        if values.null_count() != text.count(b"null"):
            raise ValueError("not an array of numbers")
    return found
