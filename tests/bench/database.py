"""A private PostgreSQL server, and databases in it that the service reads."""

import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import psutil
import psycopg2
from psycopg2.extensions import cursor

from service import create_app
from service.config import Settings
from service.embedded.demo import ADMIN, ADMIN_KEY, DEMO_SECRET, ORGANIZATION, READER, SQL, key_hash
from service.embedded.postgres import STOP_SIGNALS, PostgresServer

DAYS = 365


def leave(number: int, _: object) -> None:
    """Exit, and let no second signal interrupt the cleanup."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    sys.exit(128 + number)


@contextmanager
def private_server(options: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Run a server in a temporary folder of /var/tmp, which has more room than /tmp; leave nothing when signalled."""
    for number in STOP_SIGNALS:
        signal.signal(number, leave)
    with tempfile.TemporaryDirectory(prefix="admin-credits-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            with PostgresServer(folder, options=options) as server:
                yield server
        finally:
            for child in psutil.Process().children(recursive=True):
                child.kill()


def seed(server: PostgresServer, name: str, events: int, accounts: int) -> str:
    """Make a database with the tables, role and indexes of production, and return the URI of the role."""
    server.psql("-c", f"CREATE DATABASE {name}")
    variables = {"events": events, "accounts": accounts, "days": DAYS, "admin": ADMIN, "organization": ORGANIZATION}
    options = [f"--set={key}={value}" for key, value in (variables | {"key_hash": key_hash(ADMIN_KEY)}).items()]
    scripts = [*sorted((SQL / "schema").glob("*.sql")), SQL / "dba" / "reader_role.sql"]
    for script in (*scripts, Path(__file__).with_name("seed.sql"), SQL / "dba" / "indexes.sql"):
        server.psql(*options, "-f", script, database=name)
    server.psql("-c", f"ALTER ROLE {READER} PASSWORD '{server.password}'")
    server.psql("-c", "VACUUM ANALYZE", database=name)
    return server.url(name, user=READER)


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

    def events(self, period: str, account: str | None = None) -> int:
        """Return the number of events in a period, of one account or of all."""
        path = f"/api/admins/credits/days?period={period}" + (f"&account_id={account}" if account else "")
        return sum(day["event_count"] for day in self.get(path)["days"])
