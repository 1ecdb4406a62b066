"""The process that children are forked from: it imports what its children need once, and opens nothing itself.

Started by `children.Pool` as ``python -m tasks.lake.zygote MODULE:FUNCTION`` with a socket as standard input. It
has one thread, so that forking is safe, and answers two commands:

- ``fork MEMORY`` (with two file descriptors: the child's connection, and where its standard error goes) -> pid
- ``wait PID`` -> wait status and peak memory (KiB), once the child is over
"""

import gc
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

KEEP, RETIRE = b"+", b"-"
"""First byte of an answer: whether the child goes on, or has grown too much to."""

GRACE = 10.0
"""Seconds past the limit after which a child ends by itself, should nobody be left who could end it."""

_GROWTH = 0.25

Handler = Callable[[bytes], bytes]


def main(target: str) -> None:
    """Answer commands until the other side is gone."""
    handle = load(target)
    gc.collect()
    # What is there now is left alone by later collections, which makes them fast and keeps its pages shared.
    gc.freeze()
    control = socket.socket(fileno=os.dup(0))
    control.send(f"ready {len(os.listdir('/proc/self/task'))}".encode())
    while True:
        message, files, _, _ = socket.recv_fds(control, 64, 2)
        if not message:
            return
        command, number = message.decode().split()
        if command == "fork":
            pid = os.fork()
            if not pid:
                control.close()
                _serve(files[0], files[1], int(number), handle)
                os._exit(0)
            for file in files:
                os.close(file)
            control.send(str(pid).encode())
        else:
            control.send(_over(int(number)).encode())


def load(target: str) -> Handler:
    """The function that ``module:function`` names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _over(pid: int) -> str:
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:
        return "-1 0"
    return f"{status} {usage.ru_maxrss}"


def _serve(connection: int, errors: int, memory: int, handle: Handler) -> None:
    """Answer requests until the parent hangs up, or this process has grown too much."""
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.setsid()
    before = allocated()
    limit = before + memory
    # What is allocated and may be written to counts, mapped files do not: nearer to what a child needs than RLIMIT_AS.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link = Connection(connection)
    while True:
        try:
            seconds = float(link.recv_bytes())
            request = link.recv_bytes()
        except (EOFError, OSError):
            return
        # The default action of SIGALRM ends the process from outside of Python, whatever library it hangs in.
        signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
        answer = handle(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.collect()
        grown = allocated() - before > _GROWTH * memory
        try:
            link.send_bytes((RETIRE if grown else KEEP) + answer)
        except OSError:
            return
        if grown:
            return


def allocated() -> int:
    """Bytes of memory of this process that RLIMIT_DATA counts, as far as the kernel tells."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1])
