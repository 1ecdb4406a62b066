"""Numbers of a running server, as Prometheus reads them."""

import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tasks.serving.cache import Cache

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics:
    """Counters of one process; with several workers, of all of them (``PROMETHEUS_MULTIPROC_DIR``)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "weatherlake_requests_total", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "weatherlake_request_seconds", "Time until the last byte of the answer was handed over.", ["route"],
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self.sent = Counter("weatherlake_sent_bytes_total", "Bytes of bodies sent.", registry=self._registry)
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A number that is looked up when it is asked for; of several workers, their sum."""
        made = Gauge(f"weatherlake_{name}", text, registry=self._registry, multiprocess_mode="livesum")
        self._gauges.append((made, value))

    def cache(self, name: str, cache: Cache) -> None:
        """Use of a cache."""
        self.gauge(f"{name}_bytes", f"Bytes in the cache of {name}.", lambda: cache.used)
        self.gauge(f"{name}_hits", f"Looks at the cache of {name} that found something.", lambda: cache.hits)
        self.gauge(f"{name}_misses", f"Looks at the cache of {name} that found nothing.", lambda: cache.misses)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        for gauge, value in self._gauges:
            gauge.set(value())
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)
        return generate_latest(everybody)
