"""Decoders that go wrong in the ways decoders do, to be put in the place of a real one; also in child processes."""

import ctypes
import time

import numpy as np

from tasks.forecasts.decoders import by_eccodes
from tasks.forecasts.message import Undecodable


def refuse(message: bytes, flat: np.ndarray) -> None:
    raise Undecodable("it does not know this")


def fail(message: bytes, flat: np.ndarray) -> None:
    raise ZeroDivisionError("a defect of the decoder")


def crash(message: bytes, flat: np.ndarray) -> None:
    ctypes.string_at(0)


def hang(message: bytes, flat: np.ndarray) -> None:
    time.sleep(600)


def eat(message: bytes, flat: np.ndarray) -> None:
    np.ones(2**34, np.float64)


def differ(message: bytes, flat: np.ndarray) -> None:
    by_eccodes(message, flat)
    flat[11] += 1


def lose(message: bytes, flat: np.ndarray) -> None:
    by_eccodes(message, flat)
    flat[11] = np.nan


def round_otherwise(message: bytes, flat: np.ndarray) -> None:
    by_eccodes(message, flat)
    flat[:] = np.nextafter(flat, np.float32(np.inf))


MARKED = 99
"""Sub-centre of messages that `crash_on_marked` crashes on."""


def crash_on_marked(message: bytes, flat: np.ndarray) -> None:
    if int.from_bytes(message[23:25], "big") == MARKED:
        ctypes.string_at(0)
    by_eccodes(message, flat)


def refuse_marked(message: bytes, flat: np.ndarray) -> None:
    if int.from_bytes(message[23:25], "big") == MARKED:
        raise Undecodable("it does not know this either")
    by_eccodes(message, flat)
