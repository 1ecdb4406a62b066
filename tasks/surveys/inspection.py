"""The function that child processes run: a question in, an answer out. It imports what checks need, once.

Every way in which a library says no becomes a reason here; what it does not survive is found out by the parent.
"""

import re
import warnings
from collections.abc import Callable
from importlib.metadata import version

import h5netcdf
import h5py
import msgspec
import numpy as np
import rasterio
import rioxarray
import scipy.io
import xarray as xr
import zarr.storage

from .question import Answer, Question
from .reasons import Finding, Passing, Reason
from .redact import redact
from .structure import structure
from .tile import tile

_MEMORY = re.compile(
    r"bad_alloc|out of memory|cannot allocate|can't allocate|unable to allocate|memory allocation|ENOMEM"
    r"|can't start new thread|memory exhausted",
    re.IGNORECASE,
)
# By what clients say of an answer's status; a bare number may be anything: a port, a size, a part of a name.
_FORBIDDEN = re.compile(r"(response|status) code: 40[13]|\b(forbidden|unauthorized|access ?denied)\b", re.IGNORECASE)
_PASSING = re.compile(
    r"(response|status) code: (408|429|5\d\d)|could not resolve|couldn't resolve|connection (reset|refused|closed)"
    r"|could not connect|failed to connect|error sending request|timed? ?out|broken pipe",
    re.IGNORECASE,
)
_DECODING = re.compile(r"failed to decode|unable to decode|can only convert an array of size 1|cftime", re.IGNORECASE)


def versions() -> dict[str, str]:
    """Versions of everything that has a say in a verdict."""
    return {
        "rio-tiler": version("rio-tiler"),
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
        "xarray": xr.__version__,
        "rioxarray": rioxarray.__version__,
        "h5netcdf": h5netcdf.__version__,
        "hdf5": h5py.version.hdf5_version,
        "zarr": zarr.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
    }


def inspect(request: bytes) -> bytes:
    """Answer a `Question` (MessagePack) with an `Answer`."""
    question = msgspec.msgpack.decode(request, type=Question)
    # Warnings of libraries about a stranger's file are nobody's concern.
    warnings.simplefilter("ignore")
    answer = answered(question, structure if question.what == "structure" else tile)
    return msgspec.msgpack.encode(answer)


def answered(question: Question, work: Callable[[Question], object]) -> Answer:
    """The answer to a question, whatever happens on the way to it."""
    try:
        found = work(question)
    except Finding as finding:
        return _no(question, finding.reason, finding.message)
    except Passing as passing:
        return Answer(passing=True, message=redact(str(passing), question.secrets), versions=versions())
    except MemoryError as error:
        return _no(question, Reason.OUT_OF_MEMORY, f"it wanted more memory than it may have: {error}")
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if _MEMORY.search(_chain(error)):
            return _no(question, Reason.OUT_OF_MEMORY, text)
        if _FORBIDDEN.search(text):
            return _no(question, Reason.FORBIDDEN, text)
        if _PASSING.search(text):
            return Answer(passing=True, message=_text(question, text), versions=versions())
        if _DECODING.search(text):
            return _no(question, Reason.DECODE_ERROR, text)
        failed = Reason.TILE_GENERATION_FAILED if question.what == "tile" else Reason.CANT_OPEN_FILE
        return _no(question, failed, text)
    if question.what == "structure":
        return Answer(structure=found, versions=versions())  # type: ignore[arg-type]
    return Answer(tile=found, versions=versions())  # type: ignore[arg-type]


def _chain(error: BaseException | None) -> str:
    """An exception and what caused it, as text: libraries wrap each other's."""
    parts: list[str] = []
    while error is not None and len(parts) < 8:
        parts.append("out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def _no(question: Question, reason: Reason, message: str) -> Answer:
    return Answer(reason=reason, message=_text(question, message), versions=versions())


def _text(question: Question, message: str) -> str:
    return redact(" ".join(message.split()), question.secrets)[:1000]
