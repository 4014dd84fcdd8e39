"""The column of credits has one of two names, which the service and the scripts find out."""

import logging
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient

from conftest import (
    ADMIN,
    CREDITS_COLUMN,
    DAYS,
    READER_PASSWORD,
    ROLLUP,
    SECRET,
    SQL,
    BufferedClient,
    Tables,
    admin_client,
    answered,
    create_database,
    in_snapshot,
)
from service import create_app
from service.budget import Budget
from service.config import Settings
from service.database.pool import Database
from service.queries import CREDITS_COLUMNS, load_queries
from test_psql import records
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer
from tools.psql import command_of

EXAMPLES = (SQL.parent / "tests" / "data" / "examples.sql").read_text()
NAME = "renamed"
# The other name. Its column has another unit.
NEWER = "credits_deducted"
WINDOW = {"search": "", "since": "-infinity", "until": "infinity", "filters": "{}", "limit": 10, "offset": 0}
ARGUMENTS = {
    "account_id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
    "account_ids": "{3c90c3cc-0d44-4b50-8888-8dd25736052a}",
    "filters": "{}",
    "bucket": "day",
    "top": 8,
    "totals": True,
    "since": "-infinity",
    "until": "infinity",
    "previous_since": "-infinity",
    "previous_until": "infinity",
    "by": "model",
    "sort": "created_at",
    "only": "",
    "search": "nova",
    "last_day": "2026-11-19",
    "limit": 10,
    "offset": 0,
    "spend_source": "sums",
}
RENAME = f"ALTER TABLE public.usage_events RENAME {CREDITS_COLUMN} TO {NEWER}"
ADD = f"ALTER TABLE public.usage_events ADD {NEWER} bigint NOT NULL DEFAULT 0"
ALL_TIME = f"{ROLLUP}?period=all"


@pytest.fixture
def movable(server: PostgresServer) -> Iterator[Tables]:
    """A database with the admin, whose column of credits a test may rename."""
    create_database(server, NAME)
    tables = Tables(server.url(NAME))
    tables.seed_admin()
    tables.fix_now("2026-11-19 00:10:00+00")
    tables.event(ADMIN, 7, "2026-11-18 00:00:00+00")
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)", database="postgres")


@pytest.fixture
def url(server: PostgresServer, movable: Tables) -> str:
    return server.url(NAME, user="credits_reader", password=READER_PASSWORD)


def client_of(url: str, **settings: Any) -> FlaskClient:
    return admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, **settings)))


@pytest.fixture
def admin(url: str) -> FlaskClient:
    return client_of(url)


def credits_of(client: FlaskClient) -> list[int]:
    """Return the credits of the only account, by two ways."""
    (row,), days = answered(client, ROLLUP, period="all")["rows"], answered(client, DAYS, period="all")["days"]
    return [row["total_credits_deducted_cents"], sum(day["total_credits_deducted_cents"] for day in days)]


def results(server: PostgresServer, name: str, column: str) -> dict[str, Any]:
    """Return what the scripts for the DBA print, and what the queries return.

    The results of some contain the time or object ids and are left out.
    """
    create_database(server, name)
    try:
        server.psql("-c", f"ALTER TABLE public.usage_events RENAME {CREDITS_COLUMN} TO other", database=name)
        server.psql("-c", f"ALTER TABLE public.usage_events RENAME other TO {column}", database=name)
        examples = EXAMPLES.replace(CREDITS_COLUMN, column)
        server.psql("-c", examples, "-c", "INSERT INTO clock.fixed VALUES ('2026-11-19')", database=name)
        scripts = ("indexes", "sums", "reader_role", "sums_refresh", "sums_check", "reconcile")
        found: dict[str, Any] = {
            script: server.psql("--tuples-only", "-f", SQL / "dba" / f"{script}.sql", database=name)
            for script in scripts
        }
        url = server.url(name, user="credits_reader", password=READER_PASSWORD)
        database = Database(Settings(database_url=url, api_key_secret=SECRET))
        parameters = {**ARGUMENTS, "credits_column": column}
        for source in ("events", "sums"):
            queries = load_queries(source)
            for query in queries.values():
                if query.name in ("caller", "credits_column", "fingerprint", "replayed"):
                    continue
                given = {parameter: parameters[parameter] for parameter in query.parameters}
                found[f"{source} {query.name}"] = in_snapshot(
                    database, partial(records, query.name, given), queries, credits_column=column
                )
        del found["sums_refresh"]
        return found
    finally:
        server.psql("-c", f"DROP DATABASE {name} WITH (FORCE)")


def test_queries_and_scripts_give_the_same_results_under_both_names(server: PostgresServer) -> None:
    found, expected = (results(server, f"named_{column}", column) for column in (NEWER, CREDITS_COLUMN))
    assert found == expected
    assert all(found[name] for name in ("indexes", "reconcile", "sums credits_rollup", "events credits_events"))
    assert found["sums_check"].strip() == ""
    assert not any(table["wrong_types"] for table in found["sums privileges"])


def test_a_rename_is_noticed_on_open_connections(admin: FlaskClient, movable: Tables) -> None:
    assert credits_of(admin) == [7, 7]
    movable.execute(f"BEGIN; {RENAME}; UPDATE public.usage_events SET {NEWER} = 10000 * {NEWER}; COMMIT")
    assert credits_of(admin) == [70_000, 70_000]
    for path in (ALL_TIME, "/queries/credits_rollup.sql"):
        assert admin.get(path).headers["Credits-Column"] == NEWER
    movable.execute(f"ALTER TABLE public.usage_events RENAME {NEWER} TO {CREDITS_COLUMN}")
    assert credits_of(admin) == [70_000, 70_000]
    assert admin.get(ALL_TIME).headers["Credits-Column"] == CREDITS_COLUMN


def test_during_a_migration_the_older_column_is_read_and_the_log_says_so(
    server: PostgresServer, admin: FlaskClient, movable: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    movable.execute(f"{ADD}; UPDATE public.usage_events SET {NEWER} = 10000 * {CREDITS_COLUMN}")
    for script in ("reader_role", "indexes", "reconcile"):
        server.psql("-f", SQL / "dba" / f"{script}.sql", database=NAME)
    with caplog.at_level(logging.WARNING):
        assert credits_of(admin) == [7, 7]
        assert credits_of(admin) == [7, 7]
    said = f"table usage_events: {CREDITS_COLUMN} and {NEWER} exist: {CREDITS_COLUMN} is read"
    assert [record.message for record in caplog.records].count(said) == 1
    # The role may read both, so the migration can end without a script.
    movable.execute(f"ALTER TABLE public.usage_events DROP {CREDITS_COLUMN}")
    assert credits_of(admin) == [70_000, 70_000]


def test_each_connection_has_its_own_name(
    admin: FlaskClient, movable: Tables, tables: Tables, url: str, settings: Settings
) -> None:
    """Two connections of one service can lead to two servers, of which one was renamed."""
    movable.execute(RENAME)
    tables.event(ADMIN, 3, "2026-11-18 00:00:00+00")
    trust = admin.application.extensions["trust"]
    databases = [Database(given) for given in (settings, Settings(database_url=url, api_key_secret=SECRET))]
    connections = [database.connect(Budget(60_000)) for database in databases]
    work = partial(records, "credits_rollup", WINDOW)
    for _ in range(2):
        found = [trust.read(connection, Budget(60_000), work) for connection in connections]
        assert [row["total_credits_deducted_cents"] for (row,) in found] == [3, 7]
    for connection in connections:
        connection.close()


def test_a_parameter_cannot_be_the_name(admin: FlaskClient, movable: Tables) -> None:
    database = admin.application.extensions["database"]
    window = {**WINDOW, "credits_column": "id) FROM x; --"}
    rows = in_snapshot(database, lambda snapshot: snapshot.rows("credits_rollup", window))
    assert [row[3] for row in rows] == [7]


def test_sums_of_another_column_are_not_read(server: PostgresServer, movable: Tables, url: str) -> None:
    refresh = "SELECT usage_sums.refresh()"
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    for _ in range(2):
        movable.execute(refresh)
    summed = client_of(url, spend_source="sums")
    assert credits_of(summed) == [7, 7]
    movable.execute(f"{RENAME}; UPDATE public.usage_events SET {NEWER} = 10000 * {NEWER}")
    assert credits_of(summed) == credits_of(client_of(url)) == [70_000, 70_000]
    movable.execute(refresh)
    assert movable.execute("SELECT usage_sums.unusable(), sum(credits_deducted_cents) FROM usage_sums.days") == [
        (None, 70_000)
    ]
    assert credits_of(summed) == [70_000, 70_000]
    assert server.psql("--tuples-only", "-f", SQL / "dba" / "sums_check.sql", database=NAME).strip() == ""


def test_scripts_fail_without_either_column(server: PostgresServer, movable: Tables) -> None:
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    movable.execute(f"ALTER TABLE public.usage_events RENAME {CREDITS_COLUMN} TO credits")
    for script in ("reader_role", "indexes", "reconcile", "sums_check"):
        with pytest.raises(EmbeddedPostgresError, match=f'"?{CREDITS_COLUMN}"?.* does not exist'):
            server.psql("-v", "VERBOSITY=terse", "-f", SQL / "dba" / f"{script}.sql", database=NAME)


def test_make_psql_and_the_page_find_the_name(movable: Tables, url: str) -> None:
    """A dollar is as many credits as the column says unless it is set."""
    variables = {"Q": "credits_rollup", "PERIOD": "all", "UNTIL": "infinity", "DATABASE_URL": url}
    found = []
    for column in CREDITS_COLUMNS:
        movable.rename_credits(column)
        command, environment = command_of(variables, ["--csv", "-t"])
        assert f"credits_column={column}" in command
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith(",7,1")
        for setting in (None, "250"):
            app = create_app(Settings(database_url=url, api_key_secret=SECRET, credits_per_usd=setting))
            page = BufferedClient(app).get("/").text
            found += re.findall(r'data-credits-per-usd="(\d+)"', page)
    assert found == ["100", "250", "1000000", "250"]


def test_without_the_database_the_page_has_100_credits_to_a_dollar() -> None:
    app = create_app(Settings(database_url="postgresql://reader@127.0.0.1:1/none", api_key_secret=SECRET))
    response = BufferedClient(app).get("/")
    assert (response.status_code, 'data-credits-per-usd="100"' in response.text) == (200, True)
