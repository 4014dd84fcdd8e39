"""Prometheus metrics, summed over workers.

The numbers are in memory that the master allocates and its workers share. It belongs to no file, so it cannot be full,
deleted or left behind, and it outlives a worker.
"""

import mmap
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from itertools import accumulate, compress, product
from threading import RLock

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.version import VERSION

# For the master, and for each worker that lives at the same time: twice the largest WEB_CONCURRENCY, because a reload
# starts the new workers before it stops the old ones. A place that is not used takes no memory.
PLACES = 512
# The upper bounds of the buckets in seconds, as Prometheus writes them.
BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "15.0", "+Inf")
BOUNDS_S = [float(bucket) for bucket in BUCKETS]

_place = 0
_used = memoryview(mmap.mmap(-1, PLACES))
_used[_place] = 1
# Reentrant, because the handler of a signal may log.
_lock = RLock()


def free_place(taken: Collection[int]) -> int:
    """Return a free place for a new worker. Without one, return the master's, where two processes may lose counts."""
    return min(set(range(1, PLACES)).difference(taken), default=0)


def count_in(place: int) -> None:
    """Count in this place from now on, on top of what was counted there before."""
    global _place
    _place = place
    _used[place] = 1


class Shared:
    """Numbers in a place for each process, in memory that a fork shares."""

    def __init__(self, size: int = 1) -> None:
        memory = memoryview(mmap.mmap(-1, PLACES * size * 8)).cast("d")
        self._places = [memory[start : start + size] for start in range(0, len(memory), size)]

    def inc(self, amount: float = 1, index: int = 0) -> None:
        """Add to a number of this process."""
        with _lock:
            self._places[_place][index] += amount

    def sums(self) -> list[float]:
        """Return each number, added up over all processes."""
        return list(map(sum, zip(*compress(self._places, _used), strict=True)))


class Build:
    """The version, as a gauge that is 1."""

    def collect(self) -> Iterator[Metric]:
        """Return what Prometheus reads."""
        family = GaugeMetricFamily("admin_credits_build_info", "The version of the service.", labels=["version"])
        family.add_metric([VERSION], 1)
        yield family


class Number(Shared):
    """A counter or a gauge without labels."""

    def __init__(self, family: type[CounterMetricFamily | GaugeMetricFamily], name: str, meaning: str) -> None:
        super().__init__()
        self._family, self._name, self._meaning = family, name, meaning

    def forget(self, place: int) -> None:
        """Set the number of a process to 0."""
        self._places[place][0] = 0

    @contextmanager
    def track_inprogress(self) -> Iterator[None]:
        """Count the block while it runs."""
        self.inc()
        try:
            yield
        finally:
            self.inc(-1)

    @contextmanager
    def count_exceptions(self, exception: type[Exception]) -> Iterator[None]:
        """Count the exceptions of a class that leave the block."""
        try:
            yield
        except exception:
            self.inc()
            raise

    def collect(self) -> Iterator[Metric]:
        """Return what Prometheus reads."""
        yield self._family(self._name, self._meaning, value=self.sums()[0])


class Requests(Shared):
    """The durations of requests: for each endpoint and status the buckets, and two sums, in all and on the database."""

    def __init__(self, endpoints: Iterable[str]) -> None:
        labels = list(product(("none", *endpoints), map(int, HTTPStatus)))
        size = len(BUCKETS) + 2
        self._starts = {pair: row * size for row, pair in enumerate(labels)}
        super().__init__(len(labels) * size)

    def count(self, endpoint: str, status: int, total_s: float, database_s: float) -> None:
        """Count a request, unless its endpoint was registered later, as tests do."""
        start = self._starts.get((endpoint, status))
        if start is not None:
            self.inc(1, start + bisect_left(BOUNDS_S, total_s))
            self.inc(total_s, start + len(BUCKETS))
            self.inc(database_s, start + len(BUCKETS) + 1)

    def collect(self) -> Iterator[Metric]:
        """Return what Prometheus reads: the endpoints and statuses that have occurred."""
        requests = HistogramMetricFamily(
            "admin_credits_request_seconds",
            "Duration of requests by endpoint and status.",
            labels=["endpoint", "status"],
        )
        database = CounterMetricFamily(
            "admin_credits_database_seconds",
            "Part of the duration of requests spent on the database.",
            labels=["endpoint"],
        )
        numbers = iter(self.sums())
        in_database: dict[str, float] = defaultdict(float)
        for endpoint, status in self._starts:
            counts = list(accumulate(next(numbers) for _ in BUCKETS))
            total_s, database_s = next(numbers), next(numbers)
            if counts[-1]:
                requests.add_metric([endpoint, str(status)], list(zip(BUCKETS, counts, strict=True)), total_s)
                in_database[endpoint] += database_s
        for endpoint, database_s in in_database.items():
            database.add_metric([endpoint], database_s)
        yield from (requests, database)


CONNECTIONS_IN_USE = Number(GaugeMetricFamily, "admin_credits_connections_in_use", "Connections of the pool in use.")
REQUESTS_WAITING = Number(GaugeMetricFamily, "admin_credits_requests_waiting", "Requests that wait for a connection.")
REFUSALS = Number(
    CounterMetricFamily, "admin_credits_refusals", "Requests refused because no connection came free in time."
)
LINES_DROPPED = Number(
    CounterMetricFamily, "admin_credits_log_lines_dropped", "Lines of the logs that could not be written at once."
)


def forget_gauges(place: int) -> None:
    """Set the gauges of a worker that has ended to 0; its counts stay."""
    for gauge in (CONNECTIONS_IN_USE, REQUESTS_WAITING):
        gauge.forget(place)


def exposition(requests: Requests) -> bytes:
    """Return all metrics in the text format of Prometheus."""
    registry = CollectorRegistry()
    for collector in (Build(), requests, CONNECTIONS_IN_USE, REQUESTS_WAITING, REFUSALS, LINES_DROPPED):
        registry.register(collector)
    return generate_latest(registry)
