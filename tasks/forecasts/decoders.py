"""Which decoder reads a message, what happens when it cannot, and whether the other one agrees.

By packing the quicker decoder goes first (`ORDER`; measured by ``python -m benchmarks decode``). What it refuses goes
to the other one, in a child process, because what one decoder refuses often crashes the other. Of what it reads, one
message in `CHECKED` is read by the other one too. After a worker was lost with a partition (`guarded`), everything is
read in child processes, so that a message which crashes a decoder is found by name.
"""

import importlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import xxhash

from ..lake import children
from ..lake.errors import CorruptInput, LakeError, ResourceError
from ..lake.partition import Partition
from . import decode_eccodes, isolated, product
from .decode_eccodes import Header, Layout
from .message import Buffer, Undecodable, cut, plausible, template

CHECKED = 128
"""One message in so many is read by both decoders."""

_TAIL = 4096
_SLACK = 2.0**-22
"""Relative difference of two float32 numbers that were rounded from nearly the same one."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder: how it is called in messages to people, and its ``module:function`` (message, flat float32 array)."""

    name: str
    target: str


ECCODES = Decoder("ecCodes", "tasks.forecasts.decoders:by_eccodes")
GRIBBERISH = Decoder("gribberish", "tasks.forecasts.decode_gribberish:unpack")

PACKINGS: Mapping[int | None, str] = {
    None: "edition 1", 0: "simple packing", 2: "complex packing", 3: "complex packing and spatial differencing",
    4: "IEEE floats", 40: "JPEG 2000", 41: "PNG", 42: "CCSDS", 40000: "JPEG 2000", 40010: "PNG",
}  # fmt: skip
"""Names of data representation templates (code table 5.0), for people."""

_PNG, _PNG_LOCAL, _IEEE = 41, 40010, 4
DEFAULT = (ECCODES, GRIBBERISH)
ORDER: Mapping[int | None, tuple[Decoder, ...]] = {
    _PNG: (GRIBBERISH, ECCODES),
    _PNG_LOCAL: (GRIBBERISH, ECCODES),
    _IEEE: (ECCODES,),
}
"""Data representation template (None: edition 1) -> decoders in the order they are tried, where not `DEFAULT`.

ecCodes unpacks CCSDS, simple and complex packing two to four times as fast as gribberish and lets other threads
run; gribberish unpacks PNG half as fast again, and has no way to read IEEE floats."""


def order(single: Buffer) -> tuple[Decoder, ...]:
    """The decoders of a message of one field, in the order they are to be tried."""
    return ORDER.get(template(single), DEFAULT)


def by_eccodes(message: bytes, flat: np.ndarray) -> None:
    """Values of a message of one field by ecCodes, in file order. Raises as `decode_eccodes.unpack` does."""
    with decode_eccodes.opened(message) as handle:
        decode_eccodes.unpack(handle, flat)


class Decoders:
    """Reads messages for one piece of work, from as many threads as it likes, and counts what it did.

    ``isolated``: everything in child processes. ``checked``: one message in so many is read twice; None for never.
    """

    def __init__(self, *, isolated: bool = False, checked: int | None = CHECKED) -> None:
        self.isolated = isolated
        self.checked = checked
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def metrics(self) -> dict[str, float | int | str]:
        """Numbers of messages: read by each decoder, ``fallback`` (by the second of them), ``cross_checked`` (by both),
        ``isolated`` (in child processes). What is zero is left out."""
        with self._lock:
            return {f"decode_{k}": n for k, n in sorted(self._counts.items())}

    def read(
        self, message: Buffer, sub: int = 0, out: np.ndarray | None = None, where: str = ""
    ) -> tuple[Header, np.ndarray]:
        """Header and values of field number ``sub`` (from 0) of one message; values as `decode.decode` has them.

        ``where`` says in errors which message it is (URL, offset). Raises `CorruptInput` for a message that is broken,
        or on whose values the decoders disagree by more than the packing allows; `Undecodable` for one that no decoder
        knows how to read; both name what each decoder said. ``ResourceError`` when memory does not suffice;
        ``ValueError`` for an ``out`` that does not fit.
        """
        header, values = self._read(message, sub, out, where, with_header=True)
        assert header is not None
        return header, values

    def decode(self, message: Buffer, sub: int = 0, out: np.ndarray | None = None, where: str = "") -> np.ndarray:
        """The values alone, see `read`."""
        return self._read(message, sub, out, where, with_header=False)[1]

    def header(self, message: Buffer, sub: int = 0) -> Header:
        """The header alone, of a message whose data section may be cut off (`message.without_data`), see `read`."""
        single = bytes(cut(message, sub))
        if not self.isolated:
            with decode_eccodes.opened(single) as handle:
                return decode_eccodes.header(handle, product.of(single))
        try:
            return isolated.header(single)
        except children.Died as error:
            raise CorruptInput(f"ecCodes cannot read the header of the message: {error}") from None

    def _read(
        self, message: Buffer, sub: int, out: np.ndarray | None, where: str, *, with_header: bool
    ) -> tuple[Header | None, np.ndarray]:
        single = bytes(cut(message, sub))
        choice = order(single)
        said: dict[str, Exception] = {}
        used: Decoder | None = None
        header: Header | None = None
        apart = self.isolated or not plausible(single)
        try:
            if self.isolated:
                header = isolated.header(single) if with_header else None
                layout = isolated.layout(single)
                target, flat = _targets(layout, out)
            else:
                with decode_eccodes.opened(single) as handle:
                    header = decode_eccodes.header(handle, product.of(single)) if with_header else None
                    layout = decode_eccodes.layout(handle)
                    target, flat = _targets(layout, out)
                    if not apart:
                        used = _unpacked_here(choice[0], handle, single, flat, said)
        except (CorruptInput, Undecodable, children.Died) as error:
            raise _failure(where, single, {"ecCodes": error}) from None
        if used is None:
            used = self._apart(choice if apart else choice[1:], single, flat, said)
        if used is None:
            raise _failure(where, single, said)
        self._count(used.name, *(["fallback"] if said else []), *(["isolated"] if apart or said else []))
        if not said and len(choice) > 1 and self._is_sampled(single):
            self._cross_check(choice[1], single, where, used.name, flat, layout)
        if layout.scan:
            target[...] = layout.straightened(flat)
        return header, target

    def _apart(
        self, choice: Sequence[Decoder], single: bytes, flat: np.ndarray, said: dict[str, Exception]
    ) -> Decoder | None:
        """Unpack in a child process by the first decoder that can; None, and why in ``said``, when none can."""
        for decoder in choice:
            try:
                isolated.unpack(decoder.target, single, flat)
            except (CorruptInput, Undecodable, children.Died) as error:
                said[decoder.name] = error
            else:
                return decoder
        return None

    def _is_sampled(self, single: bytes) -> bool:
        # By its last bytes, which are packed values: the same message is in the sample always or never.
        return self.checked is not None and xxhash.xxh3_64_intdigest(single[-_TAIL:]) % self.checked == 0

    def _cross_check(
        self, other: Decoder, single: bytes, where: str, name: str, flat: np.ndarray, layout: Layout
    ) -> None:
        second = np.empty(flat.size, np.float32)
        try:
            if self.isolated:
                isolated.unpack(other.target, single, second)
            else:
                _function(other.target)(single, second)
        except (CorruptInput, Undecodable, children.Died):
            # It does not know this packing or grid: no second opinion, and no doubt of the first.
            return
        self._count("cross_checked")
        at = _difference(flat, second, layout.step)
        if at is not None:
            place = f"point {at}"
            if len(layout.shape) == 2 and not layout.scan:
                place = f"row {at // layout.shape[1]}, column {at % layout.shape[1]}"
            raise CorruptInput(
                f"the decoders disagree on {_said_of(where, single)} at {place} by more than a step of its packing",
                expected=f"{flat[at]:.9g} ({name})",
                found=f"{second[at]:.9g} ({other.name})",
            )

    def _count(self, *names: str) -> None:
        with self._lock:
            self._counts.update(names)


def guarded(partition: Partition) -> Decoders:
    """Decoders for the work on a partition: in child processes once a worker was lost with it."""
    return Decoders(isolated=partition.lost > 0)


def _targets(layout: Layout, out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Where values go in the end, and the flat array that is filled in file order: the same memory where it can be."""
    target = np.empty(layout.shape, np.float32) if out is None else out
    flags = target.flags
    if target.shape != layout.shape or target.dtype != np.float32 or not flags.c_contiguous or not flags.writeable:
        raise ValueError(
            f"out must be writeable C-contiguous float32 of shape {layout.shape}, "
            f"found {target.dtype} of shape {target.shape}"
        )
    return target, np.empty(target.size, np.float32) if layout.scan else target.reshape(-1)


def _unpacked_here(
    decoder: Decoder, handle: int, single: bytes, flat: np.ndarray, said: dict[str, Exception]
) -> Decoder | None:
    """Unpack in this process; None, and why in ``said``, when the decoder refuses."""
    try:
        if decoder is ECCODES:
            decode_eccodes.unpack(handle, flat)
        else:
            _function(decoder.target)(single, flat)
    except (CorruptInput, Undecodable) as error:
        said[decoder.name] = error
        return None
    return decoder


@cache
def _function(target: str) -> Callable[[bytes, np.ndarray], None]:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _difference(first: np.ndarray, second: np.ndarray, step: float) -> int | None:
    """Position of the worst disagreement beyond a step of the packing; None when there is none."""
    holes = np.isnan(first) != np.isnan(second)
    if holes.any():
        return int(holes.argmax())
    with np.errstate(invalid="ignore"):
        beyond = np.abs(first - second) - (step + np.abs(first) * np.float32(_SLACK))
    beyond[~np.isfinite(beyond)] = -1
    at = int(beyond.argmax()) if beyond.size else 0
    return at if beyond.size and beyond[at] > 0 else None


def _said_of(where: str, single: bytes) -> str:
    number = template(single)
    return f"the message{f' at {where}' if where else ''} ({PACKINGS.get(number, f'template 5.{number}')})"


def _failure(where: str, single: bytes, said: Mapping[str, Exception]) -> LakeError:
    """What to raise for a message that no decoder reads: what each of them said, in one sentence."""
    words = [f"{name}: {e}" if isinstance(e, children.Died) else str(e) for name, e in said.items()]
    text = f"{_said_of(where, single)} cannot be decoded: {'; '.join(words)}"
    if all(isinstance(e, children.OutOfMemory) for e in said.values()):
        return ResourceError(text)
    return Undecodable(text) if all(isinstance(e, Undecodable) for e in said.values()) else CorruptInput(text)
