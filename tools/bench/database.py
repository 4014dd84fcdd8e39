"""A private PostgreSQL server, and databases in it that the service reads."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch
from uuid import UUID

import psycopg2
from psycopg2.extensions import cursor

from live import ROOT
from service import create_app
from service.config import Settings
from tools.demo.demo import ADMIN, ADMIN_KEY, DEMO_SECRET, ORGANIZATION, READER, SQL, key_hash
from tools.demo.postgres import PostgresServer

DAYS = 365
# The first account of seed.sql, which has the most events.
ACCOUNT = UUID(hashlib.md5(b"account 1").hexdigest())  # noqa: S324 - as in seed.sql


@contextmanager
def private_server(options: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Run a server in a temporary folder of /var/tmp, which has more room than /tmp."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-bench-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        with PostgresServer(Path(name), options=options) as server:
            yield server


def seed(
    server: PostgresServer, name: str, events: int, accounts: int, days: int = DAYS, now: datetime | None = None
) -> str:
    """Make a database with the tables, role and indexes of production, and return the URI of the role.

    With ``now`` its clock is stopped at that instant, as in the tests.
    """
    server.psql("-c", f"CREATE DATABASE {name}")
    variables = {"events": events, "accounts": accounts, "days": days, "admin": ADMIN, "organization": ORGANIZATION}
    options = [f"--set={key}={value}" for key, value in (variables | {"key_hash": key_hash(ADMIN_KEY)}).items()]
    scripts = [*sorted((SQL / "schema").glob("*.sql")), SQL / "dba" / "reader_role.sql"]
    if now:
        scripts.append(ROOT / "tests" / "data" / "clock.sql")
    for script in scripts:
        server.psql("-f", script, database=name)
    if now:
        set_clock(server, name, now)
    server.psql(*options, "-f", Path(__file__).with_name("seed.sql"), database=name)
    server.psql("-f", SQL / "dba" / "indexes.sql", database=name)
    server.psql("-c", f"ALTER ROLE {READER} PASSWORD '{server.password}'")
    server.psql("-c", "VACUUM ANALYZE", database=name)
    return server.url(name, user=READER)


def set_clock(server: PostgresServer, name: str, now: datetime) -> None:
    server.psql("-c", f"DELETE FROM clock.fixed; INSERT INTO clock.fixed VALUES ('{now}')", database=name)


class RecordingCursor(cursor):
    """A cursor that keeps the messages it sends to the server."""

    sent: ClassVar[list[str]] = []

    def execute(self, query: str, vars: Any = None) -> None:
        self.sent.append(self.mogrify(query, vars).decode().strip().removesuffix(";"))
        super().execute(query, vars)


class Database:
    """A database, and a service in this process to ask what it holds and which SQL answers a request."""

    def __init__(self, url: str, spend_source: str = "events") -> None:
        self.url = url
        settings = Settings(database_url=url, api_key_secret=DEMO_SECRET, spend_source=spend_source)
        self._client = create_app(settings).test_client()

    def get(self, path: str) -> Any:
        with patch("psycopg2.connect", partial(psycopg2.connect, cursor_factory=RecordingCursor)):
            response = self._client.get(path, headers={"x-api-key": ADMIN_KEY})
        assert response.status_code == 200, response.text
        return response.get_json()

    def sql(self, path: str) -> str:
        r"""Return the messages that the service sends for a request; ``\;`` separates the statements of one."""
        self.get(path)
        RecordingCursor.sent.clear()
        self.get(path)
        return "".join(message.replace(";", "\\;") + "\n;\n" for message in RecordingCursor.sent)
