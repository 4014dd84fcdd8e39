"""The pool of connections, and the queues for them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from service.budget import Budget
from service.config import MAX_FIRST_LOOKUPS, Settings
from service.database.connection import Connection
from service.errors import Overloaded, SnapshotLost
from service.metrics import CONNECTIONS_IN_USE, REFUSALS, REQUESTS_WAITING

Result = TypeVar("Result")

# After this time a connection is replaced, so that a change of the host's address is noticed.
CONNECTION_LIFE_S = 1_800


class Database:
    """A pool of ``pool_size`` connections, opened when first needed, and a queue of ``queue_size`` requests for them.

    First lookups of keys have a queue of their own and one connection at a time, so that requests with unknown keys do
    not take the places of the others.

    psycopg2's ThreadedConnectionPool does not serve: it opens all connections at once, raises when all are in use, and
    after a restart of the server returns every dead connection before a good one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._places = threading.BoundedSemaphore(settings.pool_size + settings.queue_size)
        self._slots = threading.BoundedSemaphore(settings.pool_size)
        self._lookup_places = threading.BoundedSemaphore(MAX_FIRST_LOOKUPS)
        self._lookup_slot = threading.BoundedSemaphore(1)

    def run(self, work: Callable[[Connection], Result], budget: Budget, needs_place: bool = True) -> Result:
        """Return the result of ``work`` on a connection; call it again on a new one when its snapshot is lost.

        Without a place in the queue it waits for a connection all the same, beside those that have one.

        Raises:
            Overloaded: when the queue is full or no connection comes free in time.
            DatabaseUnavailable: when no connection can be opened, or the second snapshot is lost too.
            DatabaseTimeout: when the time of the request is over.
        """
        places = self._places if needs_place else None
        with self._slot(self._slots, places, budget), CONNECTIONS_IN_USE.track_inprogress():
            try:
                return self._attempt(work, self._idle_connection() or self.connect(budget))
            except SnapshotLost:
                # The other idle connections were most likely lost with it, or checked before the same change.
                while idle := self._idle_connection():
                    idle.close()
                return self._attempt(work, self.connect(budget))

    @contextmanager
    def first_lookup(self, budget: Budget) -> Iterator[None]:
        """Wait until no other first lookup is in its block.

        Raises:
            Overloaded: when the queue is full or the wait is too long.
        """
        with self._slot(self._lookup_slot, self._lookup_places, budget):
            yield

    def connect(self, budget: Budget) -> Connection:
        """Open a connection outside the pool; the caller closes it. Raises what Connection.open() raises."""
        return Connection.open(self._settings.database_url, self._settings.connect_timeout_s, budget)

    def _attempt(self, work: Callable[[Connection], Result], connection: Connection) -> Result:
        try:
            return work(connection)
        finally:
            if not connection.closed:
                self._idle.append(connection)

    @contextmanager
    def _slot(self, slots: threading.Semaphore, places: threading.Semaphore | None, budget: Budget) -> Iterator[None]:
        with ExitStack() as held:
            with REFUSALS.count_exceptions(Overloaded), REQUESTS_WAITING.track_inprogress():
                if places:
                    if not places.acquire(blocking=False):
                        raise Overloaded
                    held.callback(places.release)
                if not slots.acquire(timeout=min(self._settings.queue_timeout_ms, budget.left_ms()) / 1_000):
                    raise Overloaded
                held.callback(slots.release)
            yield

    def _idle_connection(self) -> Connection | None:
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if time.monotonic() < connection.opened + CONNECTION_LIFE_S:
            return connection
        connection.close()
        return self._idle_connection()
