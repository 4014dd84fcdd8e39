"""Whether the database lets the service read what its queries need."""

import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import NamedTuple

from service.budget import Budget
from service.config import Settings
from service.database import Connection, Database
from service.errors import (
    DatabaseChanged,
    DatabaseNotReady,
    DatabaseTimeout,
    DatabaseUnavailable,
    Overloaded,
    QueryFailed,
    ServiceError,
    SeveralServers,
    SnapshotLost,
)
from service.queries import Query
from service.snapshot import Fingerprint, Row, Snapshot

# The checks of each SPEND_SOURCE.
CHECKS = {
    "events": ("database", "privileges", "policies"),
    "sums": ("database", "privileges", "policies", "sums"),
}
# How long a request waits for the check of another, and GET /metrics for its own; less than Prometheus waits.
CHECK_MS = 2_000
# For how long after a right answer requests tell that the database can be read: the longest statement by default.
TRUSTED_S = 10
# The column of credits has one of two names; `make adapt` adapts the SQL files to it.
OTHER_NAMES = {"credits_deducted_cents": "credits_deducted", "credits_deducted": "credits_deducted_cents"}

log = logging.getLogger(__name__)


class Checks(NamedTuple):
    """Whether each check of CHECKS passes, and a sentence about those that do not, empty where the log has more."""

    passed: dict[str, bool]
    sentence: str = ""


class Readiness:
    """Guard answers against changes by the owner of the database.

    Without a policy, row-level security makes a table look empty; so does, in a snapshot, a table that was rewritten
    after it was taken. So a snapshot is trusted when tables, privileges and policies were checked before it, and the
    fingerprint of the database after it is the one from before that check. Each connection has its own check, because
    two connections can lead to two standbys.
    """

    def __init__(self, settings: Settings, queries: Mapping[str, Query], database: Database) -> None:
        self._settings = settings
        self._queries = queries
        self._database = database
        self._lock = threading.Lock()
        self._failed = Checks(dict.fromkeys(CHECKS[settings.spend_source], False))
        # The last result of checks(), and when it was complete.
        self._checks, self._checked_at = self._failed, 0.0
        # When the last snapshot was found right.
        self._trusted_at = -math.inf
        # Read by the last checks that passed, in seconds since 1970; None with SPEND_SOURCE=events.
        self.summed_until: float | None = None

    @contextmanager
    def snapshot(self, connection: Connection, budget: Budget) -> Iterator[Snapshot]:
        """Open a snapshot, and after it make sure that what was read in it is right.

        A failure in the block, such as an unknown key, is also reported only if the database has not changed.

        Raises:
            DatabaseNotReady: when the check fails.
            DatabaseChanged: when the database changed since the check, or another server answered.
        """
        if connection.checked is None and not all(self._check(connection, budget).values()):
            raise DatabaseNotReady
        snapshot = self._snapshot_on(connection, budget)
        if connection.checked.is_standby:
            _compare(connection, connection.checked._replace(server=snapshot.read_replayed()))
        try:
            with snapshot:
                yield snapshot
        except (DatabaseTimeout, DatabaseUnavailable):
            raise
        except Exception:
            _compare(connection, snapshot.fingerprint_after)
            raise
        _compare(connection, snapshot.fingerprint_after)
        self._trusted_at = time.monotonic()

    def checks(self, budget: Budget) -> Checks:
        """Check the database now and return the result.

        There is one check at a time: others wait for it, at most CHECK_MS, and share its result.
        """
        arrived = time.monotonic()
        if not self._lock.acquire(timeout=CHECK_MS / 1_000):
            return self._failed
        try:
            if self._checked_at < arrived:
                self._checks = self._checks_now(budget)
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
            is_used = time.monotonic() < self._trusted_at + TRUSTED_S
            return Checks(dict.fromkeys(self._failed.passed, is_used))
        except (DatabaseNotReady, SeveralServers) as error:
            return self._failed._replace(sentence=error.sentence)
        except (ServiceError, QueryFailed):
            return self._failed

    def _checks_on(self, connection: Connection, budget: Budget) -> Checks:
        checks = self._check(connection, budget)
        if all(checks.values()):
            # The catalogs do not tell whether a node of Citus is lost, or the table is locked.
            with self._snapshot_on(connection, budget) as snapshot:
                snapshot.rows("reachable")
                if self._settings.spend_source == "sums":
                    (watermark,) = snapshot.rows("watermark")
                    self.summed_until = float(watermark["summed_until"])
        return Checks(checks)

    def _snapshot_on(self, connection: Connection, budget: Budget) -> Snapshot:
        return Snapshot(connection, self._queries, self._settings.statement_timeout_ms, budget)

    def _check(self, connection: Connection, budget: Budget) -> dict[str, bool]:
        """Return the checks; if they pass, the connection keeps the fingerprint from before them."""
        snapshot = self._snapshot_on(connection, budget)
        fingerprint = snapshot.fingerprint()
        with snapshot:
            rows = snapshot.rows("privileges", spend_source=self._settings.spend_source)
        connection.checked = fingerprint
        _compare(connection, snapshot.fingerprint_after)
        checks = dict.fromkeys(CHECKS[self._settings.spend_source], True)
        for row in rows:
            _log_what_is_missing(row)
        if "sums" in checks:
            checks["sums"] = all(row["is_present"] for row in rows)
            # The other checks say nothing of an absent table.
            rows = [row for row in rows if row["is_present"]]
        checks["privileges"] = all(row["can_read"] and not row["wrong_types"] for row in rows)
        checks["policies"] = all(row["can_see_rows"] for row in rows)
        if not all(checks.values()):
            connection.checked = None
        return checks


def _compare(connection: Connection, fingerprint: Fingerprint | None) -> None:
    """Make sure that a fingerprint is that of the last check on a connection; forget the check if it is not.

    Raises:
        SnapshotLost: when there is no fingerprint, because the connection was lost.
        SeveralServers: when it is that of another server.
        DatabaseChanged: when it differs otherwise.
    """
    if fingerprint is None:
        raise SnapshotLost
    checked, connection.checked = connection.checked, None
    if fingerprint.server != checked.server:
        log.error("%s", SeveralServers.sentence)
        raise SeveralServers
    if fingerprint != checked:
        raise DatabaseChanged
    connection.checked = checked


def _log_what_is_missing(row: Row) -> None:
    if row["wrong_types"]:
        log.error("table %s: wrong type: %s", row["table_name"], row["wrong_types"])
        for absent, other in OTHER_NAMES.items():
            if row["table_name"] == "usage_events" and f"{absent} absent" in row["wrong_types"]:
                log.error("if usage_events has %s instead of %s: make adapt CREDITS_COLUMN=%s", other, absent, other)
    if not row["is_present"]:
        log.error("table %s: absent, or not a table", row["table_name"])
    elif not (row["can_read"] and row["can_see_rows"]):
        log.error(
            "table %s: columns %s, policy %s",
            row["table_name"],
            "readable" if row["can_read"] else "not readable",
            "present" if row["can_see_rows"] else "absent",
        )
