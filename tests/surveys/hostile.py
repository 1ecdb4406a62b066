"""A function for child processes that does what it is told: wait, eat memory, crash, ..."""

import ctypes
import json
import os
import signal
import sys
import threading
import time

_kept: list[bytearray] = []


def answer(request: bytes) -> bytes:
    """Do what the request says and answer with its last word."""
    command, _, rest = request.decode().partition(" ")
    match command:
        case "wait":
            time.sleep(float(rest))
        case "hang":
            # In C and with the interpreter's lock held: nothing in Python can interrupt it.
            ctypes.PyDLL(None).sleep(int(rest))
        case "eat":
            _eat(int(rest))
        case "eat-and-die":
            try:
                _eat(int(rest))
            except MemoryError:
                print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
                os.abort()
        case "keep":
            _kept.append(bytearray(int(rest) * 2**20))
        case "crash":
            ctypes.string_at(0)
        case "exit":
            print("nobody told me to go on", file=sys.stderr, flush=True)
            os._exit(int(rest))
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "environment":
            return json.dumps(dict(os.environ)).encode()
        case "pid":
            return f"{os.getpid()} {threading.active_count()}".encode()
    return rest.encode()


def _eat(megabytes: int) -> None:
    eaten = [bytearray(2**20) for _ in range(megabytes)]
    del eaten


def by_name(request: bytes) -> bytes:
    """Do what the name of a question's file says (``eat-and-die.nc``)."""
    for word in (b"eat-and-die", b"hang", b"crash"):
        if word + b".nc" in request:
            return answer(word + b" 600")
    return b""
