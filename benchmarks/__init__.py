"""Speed and memory, measured side by side; never asserted. ``python -m benchmarks`` regenerates docs/performance.md."""

import tasks  # noqa: F401  (loads PROJ before anything can load ecCodes)
