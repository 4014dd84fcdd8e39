"""What Prometheus reads: counted in each worker, added up over all workers."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # gunicorn.conf.py sets it

REQUEST_SECONDS = Histogram(
    "admin_credits_request_seconds",
    "Duration of requests by endpoint and status.",
    ["endpoint", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
DATABASE_SECONDS = Counter(
    "admin_credits_database_seconds", "Part of the duration of requests spent on the database.", ["endpoint"]
)
CONNECTIONS_IN_USE = Gauge(
    "admin_credits_connections_in_use", "Connections of the pool in use.", multiprocess_mode="livesum"
)
REQUESTS_WAITING = Gauge(
    "admin_credits_requests_waiting", "Requests that wait for a connection.", multiprocess_mode="livesum"
)
REFUSALS = Counter("admin_credits_refusals", "Requests refused because no connection came free in time.")


def exposition() -> bytes:
    """Return all metrics in the text format of Prometheus."""
    if FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no type for it
    return generate_latest(registry)
