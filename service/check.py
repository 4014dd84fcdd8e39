"""`python -m service.check`: what holds before the start, one line each; the exit status is 1 if something fails.

A warning is of what does not keep the service from right answers.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg2

from service.budget import Budget
from service.config import ConfigurationError, Settings, misspelt
from service.database.connection import Connection, find_certificates
from service.database.pool import Database
from service.database.trust import Trust
from service.errors import QueryFailed, ServiceError
from service.queries import SOURCES, QueryFileError, load_queries
from service.readiness import Sums, read_sums

INDEXES_FILE = Path(__file__).parent.parent / "sql" / "dba" / "indexes.sql"
INDEX = re.compile(r"^CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+)$", re.MULTILINE)
# How far the clocks may differ. No answer depends on this host's; log lines and certificates do.
CLOCK_S = 5
# As for a request. A check of the catalogs takes milliseconds.
TIMEOUT_MS = 10_000
ROLE = """
SELECT
    pg_catalog.current_setting('server_version'),
    coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), false),
    pg_roles.rolname,
    pg_roles.rolsuper OR pg_roles.rolbypassrls,
    pg_roles.rolconnlimit,
    (SELECT count(*) - 1 FROM pg_catalog.pg_stat_activity WHERE usename = pg_roles.rolname),
    extract(EPOCH FROM pg_catalog.now())::float8
FROM pg_catalog.pg_roles
WHERE pg_roles.rolname = CURRENT_USER
"""
INDEXES = """
SELECT pg_class.relname
FROM pg_catalog.pg_class
INNER JOIN pg_catalog.pg_index ON pg_index.indexrelid = pg_class.oid
WHERE pg_class.relname = ANY(%(names)s) AND pg_index.indisvalid
"""

Line = tuple[str, str, str]


class Kept(logging.Handler):
    """The messages of the service, which say what is missing."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self._messages.append(record.getMessage())

    def taken(self) -> str:
        """Return the messages since the last call."""
        messages, self._messages = self._messages, []
        return "; ".join(messages)


def lines(settings: Settings, kept: Kept) -> Iterator[Line]:
    """Check the database; yield the name of each check, ok, warning or FAILED, and a text."""
    database, trust = Database(settings), Trust(settings, {source: load_queries(source) for source in SOURCES})
    budget = Budget(TIMEOUT_MS)
    try:
        connection = database.connect(budget)
    except ServiceError as error:
        yield "connection", "FAILED", kept.taken() or error.sentence
        return
    with closing(connection):
        ((version, is_encrypted, role, is_super, limit, used, now),) = connection.execute(ROLE, {}, TIMEOUT_MS)
        apart_s = time.time() - now
        yield "connection", "ok", f"PostgreSQL {version}, {'with' if is_encrypted else 'without'} TLS"
        yield role_line(settings, role, is_super, limit, used)
        passed = trust.check(connection, budget)
        said = kept.taken()
        for name, ok in passed.items():
            yield name, "ok" if ok else "FAILED", "" if ok else said
        if all(passed.values()):
            yield indexes_line(connection)
            yield source_line(read_sums(trust, connection, budget), said)
            yield clock_line(apart_s)


def role_line(settings: Settings, role: str, is_super: bool, limit: int, used: int) -> Line:
    """Return the line of the role; this host needs a connection for each place in its pools, and one a worker."""
    need = settings.web_concurrency * (settings.pool_size + 1)
    text = f"{role}, of whose {limit} connections {used} are used; this host uses up to {need}"
    if is_super:
        return "role", "warning", f"{role} may do more than it needs: run reader_role.sql"
    if 0 <= limit < need:
        return "role", "warning", text
    return "role", "ok", text if limit >= 0 else f"{role}, without a limit of connections"


def indexes_line(connection: Connection) -> Line:
    """Return the line of the indexes that indexes.sql creates."""
    if not INDEXES_FILE.exists():
        return "indexes", "warning", "not checked: sql/dba is not here"
    names = INDEX.findall(INDEXES_FILE.read_text(encoding="utf-8"))
    found = {name for (name,) in connection.execute(INDEXES, {"names": names}, TIMEOUT_MS)}
    missing = ", ".join(name for name in names if name not in found)
    return ("indexes", "warning", f"run indexes.sql: {missing}") if missing else ("indexes", "ok", "")


def source_line(sums: Sums | None, said: str) -> Line:
    """Return the line of what answers come from; ``said`` is why sums that exist are not read."""
    if sums is None:
        return "spend_source", "warning" if said else "ok", f"events, not sums: {said}" if said else "events"
    if sums.unusable:
        return "spend_source", "warning", f"events, not sums: {sums.unusable}"
    return "spend_source", "ok", f"sums, until {datetime.fromtimestamp(sums.until, UTC):%Y-%m-%dT%H:%M:%SZ}"


def clock_line(apart_s: float) -> Line:
    """Return the line of this host's clock."""
    return "clock", "ok" if abs(apart_s) < CLOCK_S else "warning", f"{apart_s:+.1f} s from the database's"


def main() -> None:
    """Print the lines."""
    kept = Kept()
    logger = logging.getLogger("service")
    logger.addHandler(kept)
    logger.propagate = False
    is_wrong = False

    def say(name: str, state: str, text: str) -> None:
        nonlocal is_wrong
        is_wrong |= state == "FAILED"
        print(f"{name}: {state}{text and ': '}{text}", flush=True)

    try:
        settings = Settings.from_environment(os.environ)
        find_certificates()
        names = misspelt(os.environ)
        say("settings", "warning" if names else "ok", "; ".join(names))
        for line in lines(settings, kept):
            say(*line)
    except (ConfigurationError, QueryFileError) as error:
        say("settings", "FAILED", str(error))
    except (ServiceError, QueryFailed, psycopg2.Error):
        say("database", "FAILED", kept.taken())
    sys.exit(is_wrong)


if __name__ == "__main__":
    main()
