"""What the C library's allocator may keep of memory that was let go of.

Scenes are made in pieces of megabytes. Left alone, glibc raises the size from which it asks the kernel for memory of
its own (and gives it back) to 32 MB, and keeps an arena for each thread in which holes of that size stay: a conversion
held 1.5 times the memory that it needed. A fixed size just above a chunk keeps the small pieces, which are used again
at once, and gives back the large ones; two arenas are enough for threads that leave Python's lock to compress.
Other C libraries do without.
"""

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From malloc.h of glibc."""

_LARGE = 2**23
_KEPT = 2**25
_ARENAS = 2


@cache
def bound() -> None:
    """Bound this process's allocator, once; nothing happens where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for name, value in ((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _KEPT), (_M_ARENA_MAX, _ARENAS)):
        mallopt(name, value)
