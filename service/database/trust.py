"""What must hold for a snapshot to be believed.

Without a policy, row-level security makes a table look empty; so does, in a snapshot, a table that was rewritten after
it was taken. So a snapshot is believed when tables, privileges and policies were checked before it, and the
fingerprint of the database is still the same after it. A policy that is created before a query and dropped after
it, within RECHECK_S of the last comparison, is not noticed. Each connection is checked by itself, because two
connections can lead to two standbys, and behind a pooler so can one.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from service.budget import Budget
from service.config import Settings
from service.database.connection import Connection
from service.database.snapshot import Fingerprint, Snapshot
from service.errors import (
    AnswerTooLarge,
    DatabaseChanged,
    DatabaseNotReady,
    DatabaseTimeout,
    QueryFailed,
    SeveralServers,
    SnapshotLost,
    Unavailable,
)
from service.queries import CREDITS_COLUMNS, SOURCES, Query

Result = TypeVar("Result")

# A connection that was not compared for so long is compared before a snapshot too.
RECHECK_S = 1.0

# The checks of each SPEND_SOURCE that read the catalogs.
CHECKS = {
    "auto": ("privileges", "policies"),
    "events": ("privileges", "policies"),
    "sums": ("privileges", "policies", "sums"),
}

log = logging.getLogger(__name__)


class Checked(NamedTuple):
    """What the check of a connection found.

    The fingerprint of the database, the name of the column of credits, and which of SOURCES the queries read.
    """

    fingerprint: Fingerprint
    credits_column: str
    source: str = SOURCES[0]


class Trust:
    """What the checks of the connections found.

    ``kept_at`` is when the last snapshot was found right. ``credits_column`` is the column of credits that the last
    check found, None before.
    """

    def __init__(self, settings: Settings, queries: Mapping[str, Mapping[str, Query]]) -> None:
        self._settings = settings
        self._queries = queries
        self._checked: WeakKeyDictionary[Connection, Checked] = WeakKeyDictionary()
        self._compared_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self.kept_at = -math.inf
        self.credits_column: str | None = None

    def read(self, connection: Connection, budget: Budget, work: Callable[[Snapshot], Result]) -> Result:
        """Return the result of ``work`` in a snapshot that can be believed.

        A failure of ``work``, such as an unknown key, is also believed only if the database has not changed.

        Raises:
            DatabaseNotReady: when the check fails.
            DatabaseChanged: when the database changed since the check, or another server answered.
        """
        if connection not in self._checked:
            self._require(connection, budget)
        elif time.monotonic() > self._compared_at[connection] + RECHECK_S:
            self._compare(connection, Fingerprint(*self.snapshot(connection, budget).alone("fingerprint")))
        replayed = None
        if self._checked[connection].fingerprint.is_standby:
            # Before the transaction begins: it may have advanced when the snapshot is taken.
            instant, server = self.snapshot(connection, budget).alone("replayed")
            self._compare(connection, self._checked[connection].fingerprint._replace(server=server))
            replayed = datetime.fromisoformat(instant)
        snapshot = self.snapshot(connection, budget, replayed)
        try:
            with snapshot:
                result = work(snapshot)
        except (AnswerTooLarge, DatabaseTimeout, Unavailable):
            raise
        except QueryFailed:
            self._compare(connection, snapshot.fingerprint_after)
            # A role that loses a privilege of a group is in no catalog that the fingerprint covers.
            self._require(connection, budget)
            raise
        except Exception:
            self._compare(connection, snapshot.fingerprint_after)
            raise
        self._compare(connection, snapshot.fingerprint_after)
        self.kept_at = time.monotonic()
        return result

    def check(self, connection: Connection, budget: Budget) -> dict[str, bool]:
        """Return the checks of CHECKS; if they pass, later snapshots on the connection can be believed.

        Raises what read() raises, but not DatabaseNotReady.
        """
        snapshot = self.snapshot(connection, budget)
        with snapshot:
            columns = [name for (name,) in snapshot.rows("credits_column", {})]
            credits_column = columns[0] if columns else CREDITS_COLUMNS[0]
            tables = snapshot.records(
                "privileges", spend_source=self._settings.spend_source, credits_column=credits_column
            )
            ((*fingerprint,),) = snapshot.rows("fingerprint", {})
        source = source_of(self._settings.spend_source, tables)
        self._checked[connection] = Checked(Fingerprint(*fingerprint), credits_column, source)
        self._compare(connection, snapshot.fingerprint_after)
        if source == "events":
            # With SPEND_SOURCE=auto, the tables of sums that are not read are no failure.
            sums = [table for table in tables if _is_of_sums(table)]
            tables = [table for table in tables if not _is_of_sums(table)]
            if any(table["is_present"] for table in sums):
                for table in sums:
                    _log_what_is_missing(table, has_credits=True)
        if len(columns) > 1:
            log.warning("table usage_events: %s exist: %s is read", " and ".join(columns), credits_column)
        for table in tables:
            _log_what_is_missing(table, has_credits=bool(columns))
        checks = dict.fromkeys(CHECKS[self._settings.spend_source], True)
        if "sums" in checks:
            checks["sums"] = all(table["is_present"] for table in tables)
            # The other checks say nothing of an absent table.
            tables = [table for table in tables if table["is_present"]]
        checks["privileges"] = all(table["can_read"] and not table["wrong_types"] for table in tables)
        checks["policies"] = all(table["can_see_rows"] for table in tables)
        if all(checks.values()):
            self.credits_column = credits_column
        else:
            del self._checked[connection]
        return checks

    def _require(self, connection: Connection, budget: Budget) -> None:
        """Check a connection; close it if a check fails, because the cause may be a setting of its session.

        Raises:
            DatabaseNotReady: when a check fails.
        """
        if not all(self.check(connection, budget).values()):
            connection.close()
            raise DatabaseNotReady

    def source(self, connection: Connection) -> str:
        """Return which of SOURCES is read on a connection whose checks have passed."""
        return self._checked[connection].source

    def snapshot(self, connection: Connection, budget: Budget, replayed: datetime | None = None) -> Snapshot:
        """Return a snapshot that has not begun. Only read() tells whether it can be believed."""
        checked = self._checked.get(connection)
        return Snapshot(
            connection,
            self._queries[checked.source if checked else SOURCES[0]],
            self._settings.statement_timeout_ms,
            budget,
            replayed,
            checked.credits_column if checked else CREDITS_COLUMNS[0],
        )

    def _compare(self, connection: Connection, fingerprint: Fingerprint | None) -> None:
        """Compare a fingerprint with the one of the last check on a connection; forget the check if they differ.

        Raises:
            SnapshotLost: when there is no fingerprint, because the connection was lost.
            SeveralServers: when another server has it.
            DatabaseChanged: when it differs otherwise.
        """
        if fingerprint is None:
            raise SnapshotLost
        checked = self._checked[connection].fingerprint
        if fingerprint == checked:
            self._compared_at[connection] = time.monotonic()
            return
        del self._checked[connection]
        if fingerprint.server != checked.server:
            log.error("%s", SeveralServers.sentence)
            raise SeveralServers
        raise DatabaseChanged


def source_of(spend_source: str, tables: list[dict[str, Any]]) -> str:
    """Return which of SOURCES the queries read; ``tables`` are the rows of ``privileges.sql``.

    With SPEND_SOURCE=auto these are the sums, if this role can read all of their tables.
    """
    if spend_source != "auto":
        return spend_source
    sums = filter(_is_of_sums, tables)
    are_readable = all(table["is_present"] and table["can_read"] and table["can_see_rows"] for table in sums)
    return "sums" if are_readable else "events"


def _is_of_sums(table: Mapping[str, Any]) -> bool:
    return bool(table["table_name"].startswith("usage_sums."))


def _log_what_is_missing(table: dict[str, Any], has_credits: bool) -> None:
    if table["wrong_types"]:
        log.error("table %s: wrong type: %s", table["table_name"], table["wrong_types"])
        if table["table_name"] == "usage_events" and not has_credits:
            log.error("table usage_events: it has neither %s nor %s", *CREDITS_COLUMNS)
    if not table["is_present"]:
        log.error("table %s: absent, or not a table", table["table_name"])
    elif not (table["can_read"] and table["can_see_rows"]):
        log.error(
            "table %s: columns %s, policy %s",
            table["table_name"],
            "readable" if table["can_read"] else "not readable",
            "present" if table["can_see_rows"] else "absent",
        )
