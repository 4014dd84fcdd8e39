"""The service behind PgBouncer in transaction mode: it needs no state outside of its transactions."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extras import DictCursor

from conftest import ADMIN, DATABASE, ORGANIZATION, READER_PASSWORD, SECRET, Tables, admin_client
from live import eventually
from service import create_app
from service.config import Settings
from tools.demo.postgres import PostgresServer, free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
SERVER_CONNECTIONS = 2
API = "/api/admins/credits"
REQUESTS = [
    (f"{API}/rollup?period=all", "application/json"),
    (f"{API}/rollup?period=all&limit=1&page=2", "application/json"),
    (f"{API}/rollup?period=all", "text/csv"),
    (f"{API}/days?period=weekly", "application/json"),
    (f"{API}/events?period=all&account_id={ADMIN}", "application/json"),
    (f"{API}/events?period=all&account_id={ORGANIZATION}", "text/csv"),
    ("/health/ready", "application/json"),
]

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


class PgBouncer:
    """A pooler with fewer connections to PostgreSQL than the service has to the pooler, which it uses in turn."""

    def __init__(
        self, server: PostgresServer, folder: Path, database: str = DATABASE, hosts: str = "127.0.0.1"
    ) -> None:
        self._database = database
        self.port = free_port()
        folder.mkdir()
        (folder / "users").write_text(f'"credits_reader" "{READER_PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n"
            f"{database} = host={hosts} port={server.port}\n"
            f"[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\n"
            f"unix_socket_dir =\n"
            f"auth_type = scram-sha-256\n"
            f"auth_file = {folder}/users\n"
            f"admin_users = credits_reader\n"
            f"pool_mode = transaction\n"
            f"server_round_robin = 1\n"
            f"default_pool_size = {SERVER_CONNECTIONS}\n"
        )
        # PgBouncer refuses to run as root.
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.process = subprocess.Popen(
            [str(PROGRAM), "-q", folder / "pgbouncer.ini"], cwd="/", stderr=subprocess.DEVNULL, **user
        )

    def __enter__(self) -> Self:
        eventually(self.listens, "pgbouncer to listen")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def url(self, database: str = "") -> str:
        password = READER_PASSWORD.replace(" ", "%20")
        return f"postgresql://credits_reader:{password}@127.0.0.1:{self.port}/{database or self._database}"

    def listens(self) -> bool:
        assert self.process.poll() is None, "pgbouncer ended"
        try:
            psycopg2.connect(self.url()).close()
        except psycopg2.OperationalError:
            return False
        return True

    def server_connections(self) -> set[int]:
        """Return the local port of each of its connections to PostgreSQL, from SHOW SERVERS."""
        with closing(psycopg2.connect(self.url("pgbouncer"))) as raw:
            raw.autocommit = True
            with raw.cursor(cursor_factory=DictCursor) as cursor:
                cursor.execute("SHOW SERVERS")
                return {row["local_port"] for row in cursor.fetchall()}


@pytest.fixture(scope="module")
def pooler(server: PostgresServer, server_folder: Path) -> Iterator[PgBouncer]:
    with PgBouncer(server, server_folder / "pgbouncer") as pgbouncer:
        yield pgbouncer


@pytest.fixture(scope="module")
def pooled_app(pooler: PgBouncer) -> Flask:
    return create_app(
        Settings(
            database_url=pooler.url(),
            api_key_secret=SECRET,
            pool_size=2 * SERVER_CONNECTIONS,
            # The machine may be busy.
            queue_timeout_ms=20_000,
            request_timeout_ms=20_000,
        )
    )


@pytest.fixture
def spenders(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    for day in range(1, 23):
        tables.event(ADMIN, day, f"2026-11-{day:02} 09:00:00+00", id=f"event {day}")
        tables.event(ORGANIZATION, 10, f"2026-11-{day:02} 23:59:59.999999+00", id=f"another {day}")
    return tables


def answer(client: FlaskClient, request: tuple[str, str]) -> tuple[int, str]:
    path, media_type = request
    response = client.get(path, headers={"Accept": media_type})
    assert response.mimetype == media_type
    return response.status_code, response.text


def test_the_answers_are_those_without_a_pooler(
    admin: FlaskClient, pooler: PgBouncer, pooled_app: Flask, spenders: Tables
) -> None:
    expected = {request: answer(admin, request) for request in REQUESTS}
    assert {status for status, _ in expected.values()} == {200}

    def ask(number: int) -> dict[tuple[str, str], tuple[int, str]]:
        client = admin_client(pooled_app)
        # Each thread begins with another request, so that transactions of every kind share a connection.
        first = number % len(REQUESTS)
        return {request: answer(client, request) for request in REQUESTS[first:] + REQUESTS[:first]}

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(16))) == [expected] * 16
        before = pooler.server_connections()
        assert list(threads.map(ask, range(16))) == [expected] * 16
    # PgBouncer closes a connection whose client leaves in the middle of a transaction.
    assert pooler.server_connections() == before
    assert len(before) <= SERVER_CONNECTIONS


def test_no_state_stays_on_a_connection_of_the_pooler(pooler: PgBouncer, pooled_app: Flask, spenders: Tables) -> None:
    client = admin_client(pooled_app)
    assert {answer(client, request)[0] for request in REQUESTS} == {200}
    with ExitStack() as stack:
        found = set()
        # As many transactions at once as there are connections, so that each has another.
        for _ in range(SERVER_CONNECTIONS):
            raw = stack.enter_context(closing(psycopg2.connect(pooler.url(), application_name="another client")))
            cursor = stack.enter_context(raw.cursor())
            cursor.execute(
                "SELECT pg_backend_pid(), current_setting('application_name'), current_setting('TimeZone'), "
                "current_setting('statement_timeout'), current_setting('transaction_isolation'), "
                "current_setting('cursor_tuple_fraction'), "
                "(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors WHERE is_holdable)"
            )
            found.add(cursor.fetchone())
    assert len({row[0] for row in found}) == SERVER_CONNECTIONS
    # The settings of the role and the server, and the name that PgBouncer keeps for each client.
    assert {row[1:] for row in found} == {("another client", "UTC", "1min", "read committed", "0.1", 0, 0)}
