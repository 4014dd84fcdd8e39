"""One PostgreSQL server for the run; the service connects to it as credits_reader."""

import hashlib
import hmac
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extras import execute_values, register_uuid
from werkzeug.test import TestResponse

from live import ADMIN_KEY, LOGGED, SECRET
from service import create_app
from service.budget import Budget
from service.config import Settings
from service.database.connection import Connection
from service.database.pool import Database
from service.database.snapshot import Snapshot
from service.queries import Query, load_queries
from tools.demo.postgres import PostgresServer

# The fixtures of the tests of the page.
pytest_plugins = ("browser",)

SQL = Path(__file__).parent.parent / "sql"
DATABASE = "credits"
READER_PASSWORD = "a password of the tests"
ORGANIZATION = UUID("04e3aba9-c130-4fb8-8b92-34e95d43e66b")
ADMIN = UUID("aaaaaaaa-0000-4000-8000-000000000001")
CREDITS_COLUMN = "credits_deducted_cents"
ROLLUP = "/api/admins/credits/rollup"
EVENTS = "/api/admins/credits/events"
DAYS = "/api/admins/credits/days"
# Accounts of the examples.
NOVA = UUID("11111111-0000-4000-8000-000000000001")
ORBIT = UUID("22222222-0000-4000-8000-000000000002")
TABLES = (
    "account_emails",
    "account_api_keys",
    "account_organization_ids",
    "usage_events",
    "credits_usage",
    "credit_grants",
    "accounts",
)

# A libpq variable of the caller's environment must not reach the service.
for _name in [name for name in os.environ if name.startswith("PG")]:
    del os.environ[_name]


def key_hash(key: str) -> str:
    return hmac.new(SECRET.encode(), key.encode(), hashlib.sha256).hexdigest()


class LogKeeper(logging.Handler):
    """Keep the log of this process in LOGGED."""

    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage() + str(record.exc_info or ""))


@pytest.fixture(scope="session", autouse=True)
def nothing_secret_is_logged() -> Iterator[None]:
    """Fail the run if a key, a hash, a secret, an e-mail address or a name was logged."""
    keeper, logger = LogKeeper(), logging.getLogger("service")
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(keeper)
    secrets = (ADMIN_KEY, SECRET, READER_PASSWORD, quote(READER_PASSWORD), "Ada Admin")
    # A random path such as /queries/a@b.sql is no address.
    pattern = re.compile(
        "|".join([*map(re.escape, secrets), r"[\w.+-]+@[\w-]+\.(?!sql)[a-z]{2,}", r"\b[0-9a-f]{64}\b"])
    )
    assert not [text for text in LOGGED if pattern.search(text)]


class Tables:
    """A superuser's connection to a test database, in autocommit mode, with methods that fill its tables."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True
        self.credits_column = CREDITS_COLUMN
        register_uuid(conn_or_curs=self.connection)

    def execute(self, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        """Insert rows; CREDITS_COLUMN stands for the column of credits, whatever its name."""
        if rows:
            columns = columns.replace(CREDITS_COLUMN, self.credits_column)
            with self.connection.cursor() as cursor:
                execute_values(cursor, f"INSERT INTO public.{table} ({columns}) VALUES %s", rows, page_size=10_000)

    def empty(self) -> None:
        self.execute("; ".join(f"DELETE FROM public.{table}" for table in TABLES) + "; DELETE FROM clock.fixed")

    def fix_now(self, instant: datetime | str | None) -> None:
        self.execute("DELETE FROM clock.fixed")
        if instant is not None:
            self.execute("INSERT INTO clock.fixed VALUES (%s)", (instant,))

    def account(self, id_: UUID, name: str | None = None) -> None:
        self.insert("accounts", "id, name", [(id_, name)])

    def key(self, key: str, account: UUID | None, expires_at: str | None = None) -> None:
        self.insert(
            "account_api_keys", "name, account, key_hash, expires_at", [("key", account, key_hash(key), expires_at)]
        )

    def member(self, account: UUID, organization: UUID = ORGANIZATION) -> None:
        self.insert("account_organization_ids", "account_id, organization_id", [(account, organization)])

    def seed_admin(self) -> None:
        """Add the admin organisation, a member of it, and the member's key."""
        self.account(ORGANIZATION, "The platform")
        self.account(ADMIN, "Ada Admin")
        self.member(ADMIN)
        self.key(ADMIN_KEY, ADMIN)

    def event(self, account: UUID, credits: int, created_at: str | datetime, **columns: Any) -> None:
        columns = {"account_id": account, CREDITS_COLUMN: credits, "created_at": created_at, **columns}
        self.insert("usage_events", ", ".join(columns), [tuple(columns.values())])

    def set_credits_type(self, type_: str) -> None:
        """Change the type of the column of credits; production has had integer and bigint."""
        self.execute(f"ALTER TABLE public.usage_events ALTER COLUMN {self.credits_column} TYPE {type_}")

    def rename_credits(self, name: str) -> None:
        """Rename the column of credits."""
        if name != self.credits_column:
            self.execute(f"ALTER TABLE public.usage_events RENAME {self.credits_column} TO {name}")
            self.credits_column = name


class BufferedClient(FlaskClient):
    """A client that reads and closes every response at once."""

    def open(self, *args: Any, **options: Any) -> TestResponse:
        return super().open(*args, **{"buffered": True, **options})


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that the server's user can enter when the tests run as root; only root can enter pytest's own."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-test-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def server(server_folder: Path) -> Iterator[PostgresServer]:
    """A server with the test database. It lacks the indexes of sql/dba; no answer depends on them."""
    # PREPARE TRANSACTION is off by default.
    with PostgresServer(server_folder, options={"max_prepared_transactions": "4"}) as server:
        create_database(server, DATABASE)
        yield server


def create_database(server: PostgresServer, name: str, sql: Path = SQL, options: str = "") -> None:
    """Create a database with the tables, the policies and the role of production, and a clock that tests can set."""
    server.psql("-c", f"CREATE DATABASE {name} {options}", database="postgres")
    scripts = [*sorted((sql / "schema").glob("*.sql")), sql / "dba" / "reader_role.sql"]
    scripts += [Path(__file__).parent / "data" / name for name in ("clock.sql", "collation.sql")]
    # in one process; what a script sets must not reach the next one
    steps = [step for script in scripts for step in ("-f", str(script), "-c", "RESET ALL")]
    server.psql(*steps, "-c", f"ALTER ROLE credits_reader PASSWORD '{READER_PASSWORD}'", database=name)


@pytest.fixture(scope="session")
def owner_url(server: PostgresServer) -> str:
    return server.url(DATABASE)


@pytest.fixture(scope="session")
def reader_url(server: PostgresServer) -> str:
    return server.url(DATABASE, user="credits_reader", password=READER_PASSWORD)


@pytest.fixture(scope="session")
def owner(owner_url: str) -> Iterator[Tables]:
    tables = Tables(owner_url)
    yield tables
    tables.connection.close()


@pytest.fixture
def tables(owner: Tables) -> Tables:
    """The tables, with the admin in them and nothing else; the clock runs."""
    owner.empty()
    owner.seed_admin()
    return owner


@pytest.fixture(scope="session")
def settings(reader_url: str) -> Settings:
    # The name tells its idle connections from those of a gunicorn under test.
    return Settings(database_url=f"{reader_url}&application_name=tests", api_key_secret=SECRET)


@pytest.fixture(scope="session")
def app(settings: Settings) -> Flask:
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without a key."""
    return BufferedClient(app)


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    """A client that sends the admin's key with every request."""
    return admin_client(app)


@pytest.fixture
def fresh_admin(settings: Settings) -> FlaskClient:
    """Such a client of an application that has no connection yet."""
    return admin_client(create_app(settings))


def admin_client(app: Flask) -> FlaskClient:
    client = BufferedClient(app)
    client.environ_base["HTTP_X_API_KEY"] = ADMIN_KEY
    return client


def in_snapshot(
    database: Database,
    work: Callable[[Snapshot], Any],
    queries: Mapping[str, Query] | None = None,
    milliseconds: int = 60_000,
    statement_timeout_ms: int = 60_000,
    credits_column: str = CREDITS_COLUMN,
) -> Any:
    """Return what ``work`` reads in one snapshot of the service."""
    budget = Budget(milliseconds)

    def on(connection: Connection) -> Any:
        files = {**load_queries(), **(queries or {})}
        with Snapshot(connection, files, statement_timeout_ms, budget, None, credits_column) as snapshot:
            return work(snapshot)

    return database.run(on, budget)


def self_signed(folder: Path, subject: str) -> tuple[Path, Path]:
    """Make a certificate for a subject such as ``IP:127.0.0.1``; return the paths of it and its key."""
    certificate, key = folder / "ca-certificates.crt", folder / "key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"),
            *("-addext", f"subjectAltName={subject}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def answered(client: FlaskClient, path: str, **arguments: Any) -> dict[str, Any]:
    """Return the body of a 200."""
    response = client.get(path, query_string={name: str(value) for name, value in arguments.items()})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.get_json()
    return body
