"""Decoding in a child process, for messages that may crash a decoder, hang it or eat the memory of the machine.

Both decoders do that on some broken data sections: ecCodes writes past its buffers, gribberish allocates what a broken
length asks for. What happens in a child is an exception here (`lake.children`).
"""

import importlib

import msgspec
import numpy as np

from ..lake import children
from ..lake.errors import CorruptInput, LakeError
from . import decode_eccodes
from .decode_eccodes import Header, Layout
from .message import Undecodable

SECONDS = 120.0
"""After which a decoder is taken to hang: a JPEG 2000 field of 9 km takes two."""

MEMORY = 2 * 2**30
"""Bytes that decoding a message may allocate."""

_TARGET = "tasks.forecasts.isolated:answer"
_HEADER, _LAYOUT = "header", "layout"
_CLASSES: dict[str, type[LakeError]] = {"CorruptInput": CorruptInput, "Undecodable": Undecodable}


class _Request(msgspec.Struct, frozen=True):
    """What a child is asked for: header or layout of a message of one field, or its values by ``module:function``."""

    what: str
    message: bytes
    size: int = 0


class _Refusal(msgspec.Struct, frozen=True):
    """A typed error on its way back."""

    kind: str
    message: str


class _Answer(msgspec.Struct, frozen=True):
    """What a child found: one of these."""

    header: Header | None = None
    layout: Layout | None = None
    values: bytes | None = None
    refusal: _Refusal | None = None


_decode_request = msgspec.msgpack.Decoder(_Request).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


def header(message: bytes) -> Header:
    """Header of a message of one field. Raises as ecCodes does here, and `children.Died`."""
    answer = _ask(_Request(_HEADER, message))
    assert answer.header is not None
    return answer.header


def layout(message: bytes) -> Layout:
    """How the values of a message of one field lie. Raises as ecCodes does here, and `children.Died`."""
    answer = _ask(_Request(_LAYOUT, message))
    assert answer.layout is not None
    return answer.layout


def unpack(target: str, message: bytes, flat: np.ndarray) -> None:
    """Values of a message of one field by ``target`` (a ``module:function`` like `decode_gribberish.unpack`).

    Raises what that raises, and `children.Died`: the child crashed, hung or ate too much.
    """
    answer = _ask(_Request(target, message, flat.size))
    assert answer.values is not None
    flat[:] = np.frombuffer(answer.values, np.float32)


def _ask(request: _Request) -> _Answer:
    data = children.pool(_TARGET).run(msgspec.msgpack.encode(request), SECONDS, MEMORY)
    answer = _decode_answer(data)
    if answer.refusal is not None:
        raise _CLASSES[answer.refusal.kind](answer.refusal.message)
    return answer


def answer(data: bytes) -> bytes:
    """Answer a request, in the child."""
    request = _decode_request(data)
    try:
        found = _found(request)
    except (CorruptInput, Undecodable) as error:
        found = _Answer(refusal=_Refusal(type(error).__name__, str(error)))
    return msgspec.msgpack.encode(found)


def _found(request: _Request) -> _Answer:
    if request.what in (_HEADER, _LAYOUT):
        with decode_eccodes.opened(request.message) as handle:
            if request.what == _HEADER:
                return _Answer(header=decode_eccodes.header(handle))
            return _Answer(layout=decode_eccodes.layout(handle))
    module, _, name = request.what.partition(":")
    flat = np.empty(request.size, np.float32)
    getattr(importlib.import_module(module), name)(request.message, flat)
    return _Answer(values=flat.tobytes())
