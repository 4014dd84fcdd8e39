"""Whether requests can be answered now, for /health/ready and /metrics."""

import threading
import time
from contextlib import closing
from typing import NamedTuple

from service.budget import Budget
from service.database.connection import Connection
from service.database.pool import Database
from service.database.trust import Trust
from service.errors import DatabaseNotReady, DatabaseUnavailable, Overloaded, QueryFailed, ServiceError, SeveralServers

# How long a check may take, and how long a request waits for the check of another; less than Prometheus waits.
CHECK_MS = 2_000
# For how long after a right answer requests tell that the database can be read: the longest statement by default.
TRUSTED_S = 10


class Sums(NamedTuple):
    """Up to when events are summed, in seconds since 1970, and why the sums are not used; None if they are."""

    until: float
    unusable: str | None


class Checks(NamedTuple):
    """Whether each check passes, and a sentence about those that do not; empty where only the log says why.

    ``sums`` is None where the events alone are read, or if a check fails.
    """

    passed: dict[str, bool]
    sentence: str = ""
    sums: Sums | None = None

    @property
    def spend_source(self) -> str:
        """What answers come from now: events or sums."""
        return "sums" if self.sums and not self.sums.unusable else "events"


class Readiness:
    """The checks of /health/ready, by name, in the order of the answer. There is one check at a time."""

    def __init__(self, database: Database, trust: Trust, names: tuple[str, ...]) -> None:
        self._database = database
        self._trust = trust
        self._lock = threading.Lock()
        self._failed = Checks(dict.fromkeys(("database", *names), False))
        # The last result of checks(), and when it was complete.
        self._checks, self._checked_at = self._failed, 0.0

    def checks(self, budget: Budget) -> Checks:
        """Check the database now and return the result; the time counts as database time of ``budget``.

        There is one check at a time, which takes about CHECK_MS at most: others wait for it so long, and share its
        result.
        """
        arrived = time.monotonic()
        if not self._lock.acquire(timeout=CHECK_MS / 1_000):
            return self._failed
        try:
            if self._checked_at < arrived:
                own = Budget(CHECK_MS)
                self._checks = self._checks_now(own)
                budget.database_ms += own.database_ms
                self._checked_at = time.monotonic()
            return self._checks
        finally:
            self._lock.release()

    def _checks_now(self, budget: Budget) -> Checks:
        """Check on a connection of its own, which does not wait behind slow queries; without one, on one of the pool.

        Where neither is to be had, the requests that use the pool tell whether the database can be read.
        """
        try:
            try:
                connection = self._database.connect(budget)
            except DatabaseNotReady:
                raise
            except DatabaseUnavailable:
                return self._database.run(lambda pooled: self._checks_on(pooled, budget), budget, needs_place=False)
            with closing(connection):
                return self._checks_on(connection, budget)
        except Overloaded:
            is_used = time.monotonic() < self._trust.kept_at + TRUSTED_S
            return Checks(dict.fromkeys(self._failed.passed, is_used))
        except (DatabaseNotReady, SeveralServers) as error:
            return self._failed._replace(sentence=error.sentence)
        except (ServiceError, QueryFailed):
            return self._failed

    def _checks_on(self, connection: Connection, budget: Budget) -> Checks:
        checks = {"database": True, **self._trust.check(connection, budget)}
        sums = read_sums(self._trust, connection, budget) if all(checks.values()) else None
        return Checks(checks, sums=sums)


def read_sums(trust: Trust, connection: Connection, budget: Budget) -> Sums | None:
    """Read an event and the state of the sums on a checked connection; None where the events alone are read.

    Raises:
        DatabaseUnavailable: when the connection is lost, or the server is short of a resource.
        DatabaseTimeout: when a statement exceeds its time limit.
        QueryFailed: when PostgreSQL refuses a statement.
    """
    # The catalogs do not tell whether a node of Citus is lost, or the table is locked.
    with trust.snapshot(connection, budget) as snapshot:
        snapshot.rows("reachable", {})
        if trust.source(connection) != "sums":
            return None
        ((until, unusable),) = snapshot.rows("watermark", {})
        return Sums(float(until), unusable)
