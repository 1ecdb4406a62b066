"""How much memory a partition may take where this process runs: its share of the Dask worker, or of the machine."""

import os
import sys
from pathlib import Path

PROCESS = 400 * 10**6
"""What a worker takes before it has done anything: Python and the libraries, as measured (bytes)."""

_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def share() -> int:
    """Bytes for one partition: the worker's limit, less what it takes idle, by the partitions it works on at once."""
    total, at_once = _of_worker() or (machine(), max(1, len(os.sched_getaffinity(0))))
    return max(total // at_once - PROCESS, total // at_once // 2)


def machine() -> int:
    """Bytes of memory of this machine, or of the container (control group) that this process is in."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP:
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            # No such control group, or "max".
            continue
    return min(found)


def _of_worker() -> tuple[int, int] | None:
    """Memory limit and threads of the Dask worker that runs this thread's task; None outside one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    limit = worker.memory_manager.memory_limit
    return (int(limit), max(1, worker.state.nthreads)) if limit else None
