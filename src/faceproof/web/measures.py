"""What Prometheus may ask for."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from faceproof._version import VERSION
from faceproof.web.pool import Pool

__all__ = ["Measures"]

BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)


class Measures:
    """Counters of one server; names begin with `faceproof_`. No names of files, addresses or people are in them.

    Args:
        pool: whose queue is shown.
        held: gives the bytes of uploads in memory.
        maker: gives the dollars spent on pictures; None where none are made.
    """

    def __init__(self, pool: Pool, held: object, maker: object = None) -> None:
        own = CollectorRegistry()
        self._registry, self._pool, self._held = own, pool, held
        self.requests = Counter("faceproof_requests", "Answers.", ("verb", "status"), registry=own)
        self.outcomes = Counter(
            "faceproof_outcomes", "Verdicts and codes of errors.", ("verb", "outcome"), registry=own
        )
        self.seconds = Histogram(
            "faceproof_seconds",
            "From the first byte of a request to its answer.",
            ("verb",),
            buckets=BUCKETS,
            registry=own,
        )
        self.gone = Counter("faceproof_disconnects", "Who asked and left before the answer.", registry=own)
        Gauge("faceproof_info", "Always 1.", ("version",), registry=own).labels(VERSION).set(1)
        for name, about, value in (
            ("queued", "Jobs that wait for a worker.", lambda: pool.queued),
            ("running", "Jobs under way.", lambda: pool.running),
            ("workers_replaced", "Workers that died or were stopped.", lambda: pool.replaced),
            ("held_bytes", "Bytes of uploads in memory.", lambda: getattr(held, "now", 0)),
            ("spent_dollars", "Spent on pictures made.", lambda: getattr(maker, "spent", 0.0)),
            ("resident_bytes", "Memory of the server's own process.", _resident),
        ):
            Gauge(f"faceproof_{name}", about, registry=own).set_function(value)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return bytes(generate_latest(self._registry))


def _resident() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not this system
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
