"""Speed and memory, measured side by side; never asserted. ``python -m benchmarks`` regenerates docs/performance.md."""
