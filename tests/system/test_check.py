"""`python -m service.check` says before the start what holds and what does not."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from conftest import READER_PASSWORD, SQL, Tables, create_database
from live import ROOT
from tools.demo.postgres import PostgresServer

DATABASE = "checked"


@pytest.fixture(scope="module")
def owner(server: PostgresServer) -> Iterator[Tables]:
    """A database with the indexes and the sums."""
    create_database(server, DATABASE)
    for name in ("indexes", "sums", "reader_role"):
        server.psql("-f", SQL / "dba" / f"{name}.sql", database=DATABASE)
    tables = Tables(server.url(DATABASE))
    yield tables
    tables.connection.close()


def check(server: PostgresServer, password: str = READER_PASSWORD, **settings: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": server.url(DATABASE, user="credits_reader", password=password),
        "API_KEY_SECRET": "x",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "service.check"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


def test_a_database_that_has_everything(server: PostgresServer, owner: Tables) -> None:
    server.psql("-f", SQL / "dba" / "sums_refresh.sql", database=DATABASE)
    server.psql("-f", SQL / "dba" / "sums_refresh.sql", database=DATABASE)
    expected = [
        r"settings: ok",
        r"connection: ok: PostgreSQL [0-9.]+.*, without TLS",
        r"role: ok: credits_reader, of whose 32 connections \d+ are used; this host uses up to 10",
        r"privileges: ok",
        r"policies: ok",
        r"indexes: ok",
        r"spend_source: ok: sums, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        r"clock: ok: [+-]\d\.\d s from the database's",
    ]
    status, lines = check(server)
    assert status == 0
    assert [bool(re.fullmatch(*pair)) for pair in zip(expected, lines, strict=True)] == [True] * len(lines), lines


@pytest.mark.parametrize(
    ("fault", "remedy", "status", "line"),
    [
        pytest.param(
            "REVOKE SELECT (name) ON public.accounts FROM credits_reader",
            "GRANT SELECT (name) ON public.accounts TO credits_reader",
            1,
            "privileges: FAILED: table accounts: columns not readable, policy present",
            id="privilege",
        ),
        pytest.param(
            "DROP POLICY credits_reader ON public.accounts",
            "CREATE POLICY credits_reader ON public.accounts FOR SELECT TO credits_reader USING (true)",
            1,
            "policies: FAILED: table accounts: columns readable, policy absent",
            id="policy",
        ),
        pytest.param(
            "ALTER ROLE credits_reader CONNECTION LIMIT 9",
            "ALTER ROLE credits_reader CONNECTION LIMIT 32",
            0,
            r"role: warning: credits_reader, of whose 9 connections \d+ are used; this host uses up to 10",
            id="connection limit",
        ),
        pytest.param(
            "ALTER ROLE credits_reader BYPASSRLS",
            "ALTER ROLE credits_reader NOBYPASSRLS",
            0,
            "role: warning: credits_reader may do more than it needs: run reader_role.sql",
            id="rights",
        ),
        pytest.param(
            "ALTER INDEX public.account_api_keys_key_hash_idx RENAME TO another",
            "ALTER INDEX public.another RENAME TO account_api_keys_key_hash_idx",
            0,
            "indexes: warning: run indexes.sql: account_api_keys_key_hash_idx",
            id="index",
        ),
        pytest.param(
            "TRUNCATE usage_sums.watermark",
            "",
            0,
            "spend_source: warning: events, not sums: nothing is summed yet",
            id="sums",
        ),
        pytest.param(
            "REVOKE USAGE ON SCHEMA usage_sums FROM credits_reader",
            "GRANT USAGE ON SCHEMA usage_sums TO credits_reader",
            0,
            "spend_source: warning: events, not sums: table usage_sums.accounts: columns not readable, .*",
            id="sums that cannot be read",
        ),
    ],
)
def test_what_is_wrong_with_the_database_is_named(
    server: PostgresServer, owner: Tables, fault: str, remedy: str, status: int, line: str
) -> None:
    owner.execute(fault)
    try:
        found, lines = check(server)
    finally:
        owner.execute(remedy or "SELECT")
    wrong = [line for line in lines if ": ok" not in line]
    assert found == status
    assert len(wrong) == 1, lines
    assert re.fullmatch(line, wrong[0])


def test_what_is_wrong_with_the_settings_is_named(server: PostgresServer, owner: Tables) -> None:
    assert check(server, POOL_SIZE="0") == (1, ["settings: FAILED: POOL_SIZE must be an integer from 1 to 256"])
    status, (first, *_) = check(server, POLL_SIZE="3")
    assert (status, first) == (0, "settings: warning: POLL_SIZE is not a setting: is it POOL_SIZE?")
    reason = "OperationalError while connecting: password authentication failed"
    assert check(server, "wrong") == (1, ["settings: ok", f"connection: FAILED: {reason}"])
