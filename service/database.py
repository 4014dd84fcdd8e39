"""The pool, and one read-only snapshot per request.

Every statement the service sends is either a query file's or one of the few here, the transaction's own. What they
set is set inside the transaction, because a transaction pooler keeps no session. The transaction begins in the message
that brings its first query: a message less to wait for.
"""

import logging
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, TransactionRollbackError, connection, parse_dsn

from service.config import SILENCE_MS, Settings
from service.errors import (
    DatabaseNotReady,
    DatabaseTimeout,
    DatabaseUnavailable,
    Overloaded,
    ServiceError,
    WindowTooLong,
    own_frames,
)
from service.queries import Query

Result = TypeVar("Result")
Row = dict[str, Any]

APPLICATION_NAME = "admin-credits"
# All of it is read: the plan must be the one that is fast for the whole, not for the first tenth.
DECLARE = "SET LOCAL cursor_tuple_fraction = 1; DECLARE {name} NO SCROLL CURSOR FOR\n{text}"
FETCH = "FETCH 2000 FROM {name}"
SET_STATEMENT_TIMEOUT = "SET LOCAL statement_timeout = %(milliseconds)s"
BEGIN = f"""\
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL application_name = '{APPLICATION_NAME}';
SET LOCAL TimeZone = 'UTC';
{SET_STATEMENT_TIMEOUT}
"""
# The name first: it is what pg_stat_activity shows.
BEGIN_WITH = "-- {name}: the first of its snapshot\n{begin};\n{text}"
ROLLBACK = "ROLLBACK"
# What readiness looks at, by SPEND_SOURCE.
CHECKS = {
    "events": ("database", "privileges", "policies"),
    "sums": ("database", "privileges", "policies", "sums"),
}
INSUFFICIENT_RESOURCES = "53"  # the class of SQLSTATEs: out of connections, memory, disk
# A refused connection has no SQLSTATE, and libpq's text names roles and addresses: these words of it may be logged.
WHY_NOT_CONNECTED = (
    "Connection refused",
    "Connection timed out",
    "No route to host",
    "could not translate host name",
    "server closed the connection unexpectedly",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not accepting connections",
    "too many clients already",
    "too many connections",
    "remaining connection slots are reserved",
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not support SSL",
    "certificate verify failed",
    "does not exist",
)

log = logging.getLogger(__name__)


class ConnectionLost(DatabaseUnavailable):
    """The attempt failed for a reason that a new connection, or a new snapshot, may not meet again."""


class NoAnswer(psycopg2.OperationalError):
    """The server kept silent for longer than it may: it, or the network, is gone."""


class QueryFailed(Exception):
    """PostgreSQL refused a statement for a reason nobody foresaw."""


class Budget:
    """The time one request may take, counted from its creation, and how much of it went to the database."""

    def __init__(self, milliseconds: int) -> None:
        self._started = time.monotonic()
        self._milliseconds = milliseconds
        self.database_ms = 0.0

    def spent_ms(self) -> float:
        """Return the milliseconds since the start."""
        return (time.monotonic() - self._started) * 1_000

    def left_ms(self) -> int:
        """Return the whole milliseconds that are left, at least 1.

        Raises:
            DatabaseTimeout: when none is left.
        """
        left = int(self._milliseconds - self.spent_ms())
        if left < 1:
            raise DatabaseTimeout
        return left


class Snapshot:
    """One REPEATABLE READ READ ONLY transaction: everything read through it is of one moment."""

    def __init__(
        self, raw: connection, queries: Mapping[str, Query], statement_timeout_ms: int, budget: Budget
    ) -> None:
        self._raw = raw
        self._queries = queries
        self._budget = budget
        self._timeout_ms = min(statement_timeout_ms, budget.left_ms())
        self._begun = False

    def rows(self, query_name: str, **parameters: object) -> list[Row]:
        """Run a query file and return its rows, each a dict in the order of the file's columns.

        Raises:
            DatabaseTimeout: when the statement or the request ran past its limit.
            DatabaseUnavailable: when the connection was lost or the server is short of a resource.
        """
        query = self._queries[query_name]
        self._keep_to_budget()
        return [dict(zip(query.columns, row, strict=True)) for row in self._execute(query_name, query.text, parameters)]

    def stream(self, query_name: str, **parameters: object) -> Iterator[tuple[Any, ...]]:
        """Run a query file through a cursor of its name and yield its rows, some thousand in memory at a time.

        Raises what rows() raises, at any row.
        """
        query = self._queries[query_name]
        self._keep_to_budget()
        self._execute(query_name, DECLARE.format(name=query_name, text=query.text), parameters)
        while rows := self._execute(query_name, FETCH.format(name=query_name), {}):
            yield from rows
            self._keep_to_budget()

    def _keep_to_budget(self) -> None:
        """Have the server cut the next statement when the request's time is over."""
        left = self._budget.left_ms()
        if left < self._timeout_ms:
            self._timeout_ms = left
            self._execute("SET LOCAL", SET_STATEMENT_TIMEOUT, {"milliseconds": left})

    def _execute(self, name: str, text: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        if not self._begun:
            self._begun = True
            text = BEGIN_WITH.format(name=name, begin=BEGIN, text=text)
            parameters = {**parameters, "milliseconds": self._timeout_ms}
        started = time.monotonic()
        try:
            cursor = self._raw.cursor()
            cursor.execute(text, parameters)
            # The server cuts the statement; only one that cannot be heard any more is given up from here.
            _wait(self._raw, self._timeout_ms + SILENCE_MS)
            return cursor.fetchall() if cursor.description else []
        except psycopg2.Error as error:
            raise self._failure(name, error) from None
        finally:
            self._budget.database_ms += (time.monotonic() - started) * 1_000

    def _failure(self, name: str, error: psycopg2.Error) -> Exception:
        """Return the failure that stands for a driver's error; its text, which quotes values, goes no further."""
        log.warning("%s, SQLSTATE %s, in query %s: %s", type(error).__name__, error.pgcode, name, own_frames(error))
        if isinstance(error, psycopg2.errors.QueryCanceled | psycopg2.errors.LockNotAvailable):
            windowed = name in self._queries and "since" in self._queries[name].parameters
            return WindowTooLong() if windowed else DatabaseTimeout()
        # A standby cancels what stands in the way of replay with class 40. That the connection was lost, the driver
        # says by its state, or by an error without SQLSTATE that is not a complaint about how it was called.
        nameless = error.pgcode is None and not isinstance(error, psycopg2.ProgrammingError | psycopg2.DataError)
        if self._raw.closed or nameless or isinstance(error, TransactionRollbackError):
            return ConnectionLost()
        if error.pgcode and error.pgcode.startswith(INSUFFICIENT_RESOURCES):
            return DatabaseUnavailable()
        return QueryFailed(name)


class Database:
    """A pool of ``pool_size`` connections, opened when first needed, with ``queue_size`` places to wait for one.

    A list of idle connections and two semaphores: psycopg2's ThreadedConnectionPool opens all of its connections at
    once, raises when they are in use, and after a restart of the server hands out each dead one before a good one.
    """

    def __init__(self, settings: Settings, queries: Mapping[str, Query]) -> None:
        self._settings = settings
        self._queries = queries
        self._idle: list[connection] = []
        self._places = threading.BoundedSemaphore(settings.pool_size + settings.queue_size)
        self._slots = threading.BoundedSemaphore(settings.pool_size)
        self._readiness_lock = threading.Lock()
        self._ready = False

    def read(self, work: Callable[[Snapshot], Result], budget: Budget) -> Result:
        """Return what ``work`` makes of a snapshot; it is run once more, on a new connection, when the first is lost.

        Raises:
            Overloaded: when no place to wait, or no connection in time, could be had.
            DatabaseUnavailable: when the database could not be reached, or was lost twice.
            DatabaseTimeout: when a statement or the whole request ran past its limit.
        """
        with self._slot(budget):
            try:
                return self._attempt(work, budget, self._idle_connection() or self._connect(budget))
            except ConnectionLost:
                # What killed one connection has most likely killed those that lay idle beside it.
                while idle := self._idle_connection():
                    idle.close()
                return self._attempt(work, budget, self._connect(budget))

    def readiness(self, budget: Budget) -> dict[str, bool]:
        """Return whether each check passes now: database, privileges, policies, and sums where SPEND_SOURCE is that.

        It has a connection of its own, so that a pool full of slow queries does not make it wait. There is one of
        these: whoever asks meanwhile waits as long as for the pool's, not for a database that has gone silent.
        """
        failed = dict.fromkeys(CHECKS[self._settings.spend_source], False)
        if not self._readiness_lock.acquire(timeout=self._settings.queue_timeout_ms / 1_000):
            return failed
        try:
            with closing(self._connect(budget)) as raw:
                checks = self._check(Snapshot(raw, self._queries, self._settings.statement_timeout_ms, budget))
                # A transaction pooler throws a connection away that is left in the middle of a transaction.
                _roll_back(raw)
                return checks
        except (ServiceError, QueryFailed, psycopg2.Error):
            return failed
        finally:
            self._readiness_lock.release()

    def _check(self, snapshot: Snapshot) -> dict[str, bool]:
        rows = snapshot.rows("privileges", spend_source=self._settings.spend_source)
        for row in rows:
            if not row["is_present"]:
                log.error("table %s: absent", row["table_name"])
            elif not (row["can_read"] and row["can_see_rows"]):
                log.error(
                    "table %s: columns %s, policy %s",
                    row["table_name"],
                    "readable" if row["can_read"] else "not readable",
                    "present" if row["can_see_rows"] else "absent",
                )
        checks = dict.fromkeys(CHECKS[self._settings.spend_source], True)
        if "sums" in checks:
            checks["sums"] = all(row["is_present"] for row in rows)
            # of a table that is not there the other checks say nothing
            rows = [row for row in rows if row["is_present"]]
        checks["privileges"] = all(row["can_read"] for row in rows)
        checks["policies"] = all(row["can_see_rows"] for row in rows)
        # A policy that is dropped later shows at the next readiness check, and from then on at each request.
        self._ready = all(checks.values())
        return checks

    def _attempt(self, work: Callable[[Snapshot], Result], budget: Budget, raw: connection) -> Result:
        try:
            snapshot = Snapshot(raw, self._queries, self._settings.statement_timeout_ms, budget)
            if not self._ready and not all(self._check(snapshot).values()):
                raise DatabaseNotReady
            return work(snapshot)
        finally:
            self._hand_back(raw)

    @contextmanager
    def _slot(self, budget: Budget) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Overloaded
        try:
            if not self._slots.acquire(timeout=min(self._settings.queue_timeout_ms, budget.left_ms()) / 1_000):
                raise Overloaded
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._places.release()

    def _idle_connection(self) -> connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self, budget: Budget) -> connection:
        started = time.monotonic()
        address = parse_dsn(self._settings.database_url)
        patience_s = self._settings.connect_timeout_s
        parameters = {
            "fallback_application_name": APPLICATION_NAME,
            # A network that swallows packets is noticed after this silence, by what was sent or by probes.
            "tcp_user_timeout": patience_s * 1_000,
            "keepalives_idle": patience_s,
            "keepalives_interval": 1,
            **address,
            "client_encoding": "UTF8",
            # Waiting is done here, where it has an end: libpq waits for an answer for ever. Such a connection begins no
            # transaction by itself either: no statement is sent that is not written in this file or in a query file.
            "async_": True,
        }
        hosts = address.get("host", "").count(",") + 1
        try:
            raw: connection = psycopg2.connect(**parameters)
            _wait(raw, min(patience_s * hosts * 1_000, budget.left_ms()))
        except psycopg2.Error as error:
            reason = next((words for words in WHY_NOT_CONNECTED if words in str(error)), "no known reason")
            log.warning("%s while connecting: %s", type(error).__name__, reason)
            raise DatabaseUnavailable from None
        finally:
            budget.database_ms += (time.monotonic() - started) * 1_000
        return raw

    def _hand_back(self, raw: connection) -> None:
        try:
            _roll_back(raw)
        except psycopg2.Error:
            raw.close()
        else:
            self._idle.append(raw)


def _roll_back(raw: connection) -> None:
    """End a transaction in which nothing was written; raises what _wait raises."""
    cursor = raw.cursor()  # kept until it is done: the driver refuses to go on without it
    cursor.execute(ROLLBACK)
    _wait(raw, SILENCE_MS)


def _wait(raw: connection, milliseconds: float) -> None:
    """Wait until a connection has done what it was asked to do.

    Raises:
        NoAnswer: when the server says nothing in time; the connection is closed.
        psycopg2.Error: the failure of what was asked.
    """
    deadline = time.monotonic() + milliseconds / 1_000
    while (state := raw.poll()) != POLL_OK:
        # The descriptor is another one when the next host is tried.
        ready = select.poll()
        ready.register(raw.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not ready.poll(max(0.0, deadline - time.monotonic()) * 1_000):
            raw.close()
            raise NoAnswer
