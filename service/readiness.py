"""Whether the database lets the service read what its queries need."""

import logging
import threading
from collections.abc import Mapping
from contextlib import closing

from service.budget import Budget
from service.config import Settings
from service.database import Database
from service.errors import DatabaseNotReady, QueryFailed, ServiceError
from service.queries import Query
from service.snapshot import Row, Snapshot

# The checks of each SPEND_SOURCE.
CHECKS = {
    "events": ("database", "privileges", "policies"),
    "sums": ("database", "privileges", "policies", "sums"),
}

log = logging.getLogger(__name__)


class Readiness:
    """The result of the last check of tables, privileges and policies by this process.

    Without a policy, row-level security makes a table look empty, so nothing is answered before the check has passed.
    """

    def __init__(self, settings: Settings, queries: Mapping[str, Query], database: Database) -> None:
        self._settings = settings
        self._queries = queries
        self._database = database
        self._lock = threading.Lock()
        self._ready = False

    def require(self, snapshot: Snapshot) -> None:
        """Check the database unless the last check passed.

        Raises:
            DatabaseNotReady: when the check fails.
        """
        if not self._ready and not all(self._check(snapshot).values()):
            raise DatabaseNotReady

    def checks(self, budget: Budget) -> dict[str, bool]:
        """Check the database now and return whether each check passes: those of CHECKS.

        The check has a connection of its own, so that it does not wait behind slow queries. There is one at a time:
        others wait for it as long as for a connection of the pool.
        """
        failed = dict.fromkeys(CHECKS[self._settings.spend_source], False)
        if not self._lock.acquire(timeout=self._settings.queue_timeout_ms / 1_000):
            return failed
        try:
            with (
                closing(self._database.connect(budget)) as connection,
                Snapshot(connection, self._queries, self._settings.statement_timeout_ms, budget) as snapshot,
            ):
                return self._check(snapshot)
        except (ServiceError, QueryFailed):
            return failed
        finally:
            self._lock.release()

    def _check(self, snapshot: Snapshot) -> dict[str, bool]:
        rows = snapshot.rows("privileges", spend_source=self._settings.spend_source)
        checks = dict.fromkeys(CHECKS[self._settings.spend_source], True)
        for row in rows:
            _log_what_is_missing(row)
        if "sums" in checks:
            checks["sums"] = all(row["is_present"] for row in rows)
            # The other checks say nothing of an absent table.
            rows = [row for row in rows if row["is_present"]]
        checks["privileges"] = all(row["can_read"] for row in rows)
        checks["policies"] = all(row["can_see_rows"] for row in rows)
        # A policy that is dropped later is noticed by the next readiness check.
        self._ready = all(checks.values())
        return checks


def _log_what_is_missing(row: Row) -> None:
    if not row["is_present"]:
        log.error("table %s: absent", row["table_name"])
    elif not (row["can_read"] and row["can_see_rows"]):
        log.error(
            "table %s: columns %s, policy %s",
            row["table_name"],
            "readable" if row["can_read"] else "not readable",
            "present" if row["can_see_rows"] else "absent",
        )
