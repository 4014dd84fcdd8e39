"""The owner of the database changes it while it is read: no answer is wrong."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from conftest import (
    ADMIN_KEY,
    DAYS,
    EVENTS,
    NOVA,
    ORGANIZATION,
    READER_PASSWORD,
    ROLLUP,
    SECRET,
    SQL,
    Tables,
    admin_client,
    create_database,
    key_hash,
)  # fmt: skip
from live import KEY, Answer, Gunicorn, backends, eventually
from service import create_app
from service.budget import Budget
from service.config import Settings
from service.database.connection import Connection
from service.database.snapshot import Row, Snapshot
from service.errors import DatabaseChanged
from service.queries import SOURCES
from tools.demo.postgres import PostgresServer

ANSWERS = 400
ALL_TIME = f"{ROLLUP}?period=all"
ALL = {"search": "", "since": "-infinity", "until": "infinity", "filters": "{}", "limit": 100, "offset": 0}
NOT_READY = {"status": "error", "error": "The database does not let this service read what it needs."}
READ_EVENTS = """
    ALTER TABLE public.usage_events ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON public.usage_events TO credits_reader;
    CREATE POLICY credits_reader ON public.usage_events FOR SELECT TO credits_reader USING (true);
"""
RELOAD_EVENTS = """
    CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM public.usage_events;
    TRUNCATE public.usage_events;
    INSERT INTO public.usage_events SELECT * FROM kept;
"""
REPLACE_COLUMN = """
    ALTER TABLE public.usage_events ADD COLUMN n bigint NOT NULL DEFAULT 0;
    UPDATE public.usage_events SET n = credits_deducted_cents;
    ALTER TABLE public.usage_events DROP COLUMN credits_deducted_cents;
    ALTER TABLE public.usage_events RENAME COLUMN n TO credits_deducted_cents;
    GRANT SELECT (credits_deducted_cents) ON public.usage_events TO credits_reader;
"""
REWRITE = "ADD c uuid DEFAULT gen_random_uuid()"
RECREATE_EVENTS = f"""
    ALTER TABLE public.usage_events RENAME TO retired;
    CREATE TABLE public.usage_events (LIKE public.retired INCLUDING ALL);
    INSERT INTO public.usage_events SELECT * FROM public.retired;
    DROP TABLE public.retired;
    {READ_EVENTS}
"""
REPLACE_BY_VIEW = """
    ALTER TABLE public.usage_events RENAME TO below;
    CREATE VIEW public.usage_events AS SELECT * FROM public.below;
    GRANT SELECT ON public.usage_events TO credits_reader;
"""
PARTITION_EVENTS = f"""
    ALTER TABLE public.usage_events RENAME TO retired;
    CREATE TABLE public.usage_events (LIKE public.retired INCLUDING DEFAULTS) PARTITION BY RANGE (created_at);
    CREATE TABLE public.leaf PARTITION OF public.usage_events DEFAULT;
    INSERT INTO public.usage_events SELECT * FROM public.retired;
    DROP TABLE public.retired;
    {READ_EVENTS}
"""


def retyped(table: str, column: str, type_: str, former: str) -> tuple[str, str, str, str]:
    """Return a row of HIDING for a column that gets a type which the queries cannot read."""
    alter = f"ALTER TABLE public.{table} ALTER {column} TYPE"
    back = f"{alter} {former} USING {column}::{former}"
    return f"{alter} {type_}", back, "privileges", f"table {table}: wrong type: {column} {type_}"


# A change after which the service is not ready, what undoes it, the checks that fail, and what the log says.
HIDING = [
    *(
        (
            f"DROP POLICY credits_reader ON public.{table}",
            f"CREATE POLICY credits_reader ON public.{table} FOR SELECT TO credits_reader USING (true)",
            "policies",
            f"table {table}: columns readable, policy absent",
        )
        for table in ("accounts", "account_api_keys", "account_organization_ids", "account_emails", "usage_events")
    ),
    (
        "REVOKE SELECT (key_hash) ON public.account_api_keys FROM credits_reader",
        "GRANT SELECT (key_hash) ON public.account_api_keys TO credits_reader",
        "privileges",
        "table account_api_keys: columns not readable, policy present",
    ),
    (
        "REVOKE USAGE ON SCHEMA public FROM public, credits_reader",
        "GRANT USAGE ON SCHEMA public TO public, credits_reader",
        "privileges",
        "table usage_events: columns not readable, policy present",
    ),
    (
        "ALTER TABLE public.usage_events RENAME credits_deducted_cents TO credits",
        "ALTER TABLE public.usage_events RENAME credits TO credits_deducted_cents",
        "privileges",
        "table usage_events: it has neither credits_deducted_cents nor credits_deducted",
    ),
    (
        "ALTER TABLE public.accounts RENAME TO elsewhere",
        "ALTER TABLE public.elsewhere RENAME TO accounts",
        "privileges, policies",
        "table accounts: absent, or not a table",
    ),
    (
        REPLACE_BY_VIEW,
        "DROP VIEW public.usage_events; ALTER TABLE public.below RENAME TO usage_events",
        "privileges, policies",
        "table usage_events: absent, or not a table",
    ),
    retyped("usage_events", "credits_deducted_cents", "numeric(20,2)", "integer"),
    retyped("usage_events", "created_at", "timestamp without time zone", "timestamptz"),
    retyped("usage_events", "model_id", "name", "varchar"),
    retyped("account_organization_ids", "organization_id", "text", "uuid"),
]


@contextmanager
def owned(server: PostgresServer, name: str) -> Iterator[Tables]:
    """Create a database with one account that has spent credits."""
    create_database(server, name)
    tables = Tables(server.url(name))
    tables.seed_admin()
    tables.account(NOVA, "Nova Records")
    tables.insert("account_emails", "account_id, email", [(NOVA, "ops@nova.example")])
    for number in range(1, 4):
        tables.event(NOVA, number, f"2026-11-2{number} 00:00:00+00", id=f"event {number}")
    # so that the type of its column can be changed
    tables.execute(
        "ALTER TABLE public.account_organization_ids DROP CONSTRAINT account_organization_ids_organization_id_fkey"
    )
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {name} WITH (FORCE)", database="postgres")


@pytest.fixture(scope="module")
def owner(server: PostgresServer) -> Iterator[Tables]:
    """The owner of a database in which tests undo their changes."""
    with owned(server, "owned") as tables:
        yield tables


@pytest.fixture
def fresh(server: PostgresServer) -> Iterator[Tables]:
    """The owner of a database that a test may change as it likes."""
    with owned(server, "fresh") as tables:
        yield tables


def url_of(server: PostgresServer, owner: Tables) -> str:
    return server.url(owner.connection.info.dbname, user="credits_reader", password=READER_PASSWORD)


def app_of(server: PostgresServer, owner: Tables, **settings: Any) -> Flask:
    return create_app(Settings(database_url=url_of(server, owner), api_key_secret=SECRET, **settings))


@pytest.fixture
def app(server: PostgresServer, owner: Tables) -> Flask:
    return app_of(server, owner)


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    return admin_client(app)


def read_during(app: Flask, owner: Tables, change: str = "") -> list[Row]:
    """Take a snapshot, let the owner make a change, and return the rows that are read after it, if they are trusted."""
    connection: Connection = app.extensions["database"].connect(Budget(60_000))

    def work(snapshot: Snapshot) -> list[Row]:
        snapshot.records("caller", key_hash=key_hash(ADMIN_KEY), organization_id=str(ORGANIZATION))
        if change:
            owner.execute(change)
        return snapshot.rows("credits_rollup", ALL)

    with closing(connection):
        rows: list[Row] = app.extensions["trust"].read(connection, Budget(60_000), work)
    return rows


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(RELOAD_EVENTS, id="truncated and loaded again"),
        pytest.param(REPLACE_COLUMN, id="column replaced by another of its name"),
        pytest.param(
            "ALTER POLICY credits_reader ON public.usage_events USING (false);"
            "ALTER POLICY credits_reader ON public.usage_events USING (true)",
            id="policy altered and altered back",
        ),
        pytest.param(
            "REVOKE USAGE ON SCHEMA public FROM public; GRANT USAGE ON SCHEMA public TO public",
            id="schema revoked and granted again",
        ),
        pytest.param(
            "ALTER POLICY credits_reader ON public.usage_events USING (false);"
            "ALTER POLICY credits_reader ON public.usage_events USING (true);"
            # would hide the tables from the fingerprint if it were found
            "CREATE FUNCTION public.differ (oid, regnamespace) RETURNS boolean LANGUAGE sql AS 'SELECT false';"
            "CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regnamespace, FUNCTION = public.differ)",
            id="with an operator that the fingerprint must not use",
        ),
        pytest.param("GRANT pg_monitor TO credits_reader", id="membership"),
        pytest.param("ALTER ROLE credits_reader BYPASSRLS", id="role"),
    ],
)
def test_no_row_is_trusted_that_was_read_during_a_change(app: Flask, owner: Tables, change: str) -> None:
    assert len(read_during(app, owner)) == 1
    try:
        with pytest.raises(DatabaseChanged):
            read_during(app, owner, f"BEGIN; {change}; COMMIT")
        assert len(read_during(app, owner)) == 1
    finally:
        owner.execute(
            "ALTER ROLE credits_reader NOBYPASSRLS; REVOKE pg_monitor FROM credits_reader;"
            "DROP FUNCTION IF EXISTS public.differ CASCADE"
        )


def test_a_partition_that_is_loaded_again_is_a_change(server: PostgresServer, fresh: Tables) -> None:
    fresh.execute(f"BEGIN; {PARTITION_EVENTS} COMMIT")
    app = app_of(server, fresh)
    before = read_during(app, fresh)
    reload_leaf = RELOAD_EVENTS.replace("TRUNCATE public.usage_events", "TRUNCATE public.leaf")
    with pytest.raises(DatabaseChanged):
        read_during(app, fresh, f"BEGIN; {reload_leaf} COMMIT")
    assert read_during(app, fresh) == before


def test_maintenance_and_writers_are_no_change(server: PostgresServer, fresh: Tables) -> None:
    fresh.execute("INSERT INTO public.accounts SELECT gen_random_uuid() FROM generate_series(1, 1000)")
    app = app_of(server, fresh)
    for statement in (
        "VACUUM public.usage_events, public.accounts",
        "VACUUM FREEZE pg_catalog.pg_class, pg_catalog.pg_attribute",
        "ANALYZE",
        "CREATE INDEX ON public.usage_events (id)",
        "REINDEX TABLE public.usage_events",
        "INSERT INTO public.usage_events (account_id) SELECT id FROM public.accounts",
    ):
        assert len(read_during(app, fresh, statement)) == 1


@pytest.mark.parametrize(("change", "undo", "checks", "logged"), HIDING, ids=[log for *_, log in HIDING])
def test_what_can_no_longer_be_read_is_a_503_that_the_log_explains(
    admin: FlaskClient,
    owner: Tables,
    change: str,
    undo: str,
    checks: str,
    logged: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = admin.get(ALL_TIME).get_json()
    owner.execute(change)
    try:
        refused, ready = admin.get(ALL_TIME), admin.get("/health/ready")
    finally:
        owner.execute(undo)
    assert (refused.status_code, refused.get_json()) == (503, NOT_READY)
    assert (ready.status_code, ready.get_json()["error"]) == (503, f"Not ready: {checks}.")
    assert logged in caplog.text
    assert admin.get(ALL_TIME).get_json() == expected
    assert admin.get("/health/ready").status_code == 200


def test_a_setting_of_the_role_has_no_effect(server: PostgresServer, admin: FlaskClient, owner: Tables) -> None:
    paths = (f"{EVENTS}?account_id={NOVA}&period=all", "/health/ready")
    expected = [admin.get(path).get_json() for path in paths]
    owner.execute(
        "CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO public;"
        "CREATE FUNCTION elsewhere.statement_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT to_timestamp(0)'"
    )
    try:
        for setting in (
            "row_security = off",
            "TimeZone = 'Asia/Kolkata'",
            "search_path = elsewhere, pg_catalog",
            "default_transaction_isolation = serializable",
        ):
            owner.execute(f"ALTER ROLE credits_reader SET {setting}")
        connected_later = admin_client(app_of(server, owner))
        assert [connected_later.get(path).get_json() for path in paths] == expected
    finally:
        for name in ("row_security", "TimeZone", "search_path", "default_transaction_isolation"):
            owner.execute(f"ALTER ROLE credits_reader RESET {name}")


@pytest.mark.parametrize(
    ("change", "path", "accept"),
    [
        pytest.param(REPLACE_COLUMN, ALL_TIME, "*/*", id="rollup"),
        pytest.param(RELOAD_EVENTS, ALL_TIME, "text/csv", id="csv"),
        pytest.param(RECREATE_EVENTS, f"{DAYS}?period=all&as_of=2026-11-24T00:00:00Z", "*/*", id="days"),
        pytest.param(f"ALTER TABLE public.accounts {REWRITE}", ALL_TIME, "*/*", id="names"),
        pytest.param(f"ALTER TABLE public.account_api_keys {REWRITE}", ALL_TIME, "*/*", id="key"),
    ],
)
def test_a_request_that_waits_for_a_rewrite_reads_again(
    admin: FlaskClient, owner: Tables, change: str, path: str, accept: str
) -> None:
    expected = admin.get(path, headers={"Accept": accept})
    assert expected.status_code == 200
    owner.execute(f"BEGIN; {change}")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(admin.get, path, headers={"Accept": accept})
        eventually(lambda: backends(owner, waiting=True), "the request to wait")
        owner.execute("COMMIT")
        answer = asked.result()
    assert (answer.status_code, answer.data) == (200, expected.data)


@pytest.fixture(scope="module")
def failing(server: PostgresServer) -> Iterator[Tables]:
    """Functions that the queries use raise the error that the table ``failing`` has for a connection, or for all."""
    with owned(server, "failing") as tables:
        tables.execute(
            "CREATE TABLE public.failing AS SELECT 0 AS pid, text '' AS sqlstate;"
            "CREATE FUNCTION public.works() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$"
            "DECLARE state text := (SELECT sqlstate FROM public.failing WHERE pid IN (pg_backend_pid(), -1));"
            "BEGIN IF state IS NOT NULL THEN RAISE 'failed' USING ERRCODE = state; END IF; RETURN true; END $$;"
            # of caller.sql and privileges.sql
            "ALTER FUNCTION pg_catalog.statement_timestamp() RENAME TO works;"
            "CREATE FUNCTION pg_catalog.statement_timestamp() RETURNS timestamptz LANGUAGE sql"
            "    AS 'SELECT pg_catalog.works() WHERE public.works()';"
            "ALTER FUNCTION pg_catalog.starts_with(text, text) RENAME TO works;"
            "CREATE FUNCTION pg_catalog.starts_with(text, text) RETURNS boolean LANGUAGE sql"
            "    AS 'SELECT pg_catalog.works($1, $2) AND public.works()'"
        )
        yield tables


@pytest.mark.parametrize(
    "sqlstate", [pytest.param("40001", id="cancelled by a standby"), pytest.param("08006", id="lost node of Citus")]
)
def test_a_failure_of_the_server_is_retried_once_on_a_new_connection(
    server: PostgresServer, failing: Tables, sqlstate: str
) -> None:
    failing.execute("UPDATE public.failing SET pid = 0, sqlstate = %s", (sqlstate,))
    others = set(backends(failing))
    admin = admin_client(app_of(server, failing))
    expected = admin.get(ALL_TIME).get_json()
    (first,) = set(backends(failing)) - others
    failing.execute("UPDATE public.failing SET pid = %s", (first,))
    assert admin.get(ALL_TIME).get_json() == expected
    eventually(lambda: first not in backends(failing), "the connection to be closed")
    failing.execute("UPDATE public.failing SET pid = -1")
    answer, ready = admin.get(ALL_TIME), admin.get("/health/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert (ready.status_code, ready.get_json()["checks"]["database"]) == (503, "failed")


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        pytest.param("53100", 503, id="disk full"),
        pytest.param("54001", 503, id="stack depth"),
        pytest.param("55000", 503, id="shared memory of parallel workers cannot be mapped"),
        pytest.param("57P05", 503, id="idle session"),
        pytest.param("58030", 503, id="I/O error"),
        pytest.param("XX001", 503, id="damaged page"),
        pytest.param("22012", 500, id="a fault of the query"),
    ],
)
def test_what_the_server_lacks_is_a_503(server: PostgresServer, failing: Tables, sqlstate: str, status: int) -> None:
    failing.execute("UPDATE public.failing SET pid = 0")
    admin = admin_client(app_of(server, failing))
    assert admin.get(ALL_TIME).status_code == 200
    failing.execute("UPDATE public.failing SET pid = -1, sqlstate = %s", (sqlstate,))
    answer = admin.get(ALL_TIME)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, "2" if status == 503 else None)


def test_the_names_in_a_query_are_postgresqls_own(server: PostgresServer, fresh: Tables) -> None:
    """Also in the sums, where an account with an event since the refresh is looked up in a list."""
    server.psql("-f", SQL / "dba" / "sums.sql", database="fresh")
    for _ in range(2):
        fresh.execute("SELECT usage_sums.refresh()")
    fresh.event(NOVA, 4, datetime.now(UTC) - timedelta(minutes=1))
    paths = (ALL_TIME, f"{ALL_TIME}&q=nova", f"{DAYS}?period=all", f"{EVENTS}?account_id={NOVA}")

    def answers() -> list[str]:
        clients = [admin_client(app_of(server, fresh, spend_source=source)) for source in SOURCES]
        assert [client.get(ALL_TIME, headers={"x-api-key": "nonsense"}).status_code for client in clients] == [401] * 2
        return [client.get(path).text for client in clients for path in paths]

    expected = answers()
    assert all('"total_count":1,' in answer for answer in expected[:2] + expected[4:6])
    # Objects of a schema in which every role may create, that fit the types of a query better than PostgreSQL's own.
    fresh.execute(
        "CREATE FUNCTION public.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE sql AS 'SELECT null::uuid WHERE false';"
        "ALTER TABLE public.account_api_keys ALTER key_hash TYPE varchar;"
        "CREATE FUNCTION public.always(varchar, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
        "CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = public.always);"
        "ALTER TABLE public.accounts ALTER name TYPE varchar;"
        "CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS $$SELECT text 'nothing'$$"
    )
    assert answers() == expected


def test_a_reload_under_open_connections_has_no_effect(server: PostgresServer, fresh: Tables) -> None:
    admin = admin_client(app_of(server, fresh))
    fresh.execute("INSERT INTO public.accounts (name) SELECT 'Super 50% \\ ' || n FROM generate_series(1, 2000) AS n")
    fresh.execute(
        "INSERT INTO public.usage_events (account_id, created_at) SELECT id, '2026-11-22' FROM public.accounts;"
        "CREATE EXTENSION pg_trgm; CREATE INDEX ON public.accounts USING gin (lower(name) gin_trgm_ops);"
        "ANALYZE public.accounts"
    )
    fresh.execute("ALTER ROLE credits_reader SET enable_seqscan = off")  # use the index
    paths = [
        f"{ALL_TIME}&q=super",
        f"{ALL_TIME}&q=50%25",
        f"{ALL_TIME}&q=%5C",
        f"{EVENTS}?account_id={NOVA}&period=all",
    ]
    expected = [admin.get(path).get_json() for path in paths]
    assert expected[0]["total_count"] == 2000
    settings = {"DateStyle": "SQL, DMY", "standard_conforming_strings": "off", "gin_fuzzy_search_limit": "1"}
    try:
        for name, value in settings.items():
            fresh.execute(f"ALTER SYSTEM SET {name} = {value}")
        fresh.execute("SELECT pg_reload_conf()")
        eventually(
            lambda: [fresh.execute(f"SHOW {name}") for name in settings] == [[(value,)] for value in settings.values()],
            "the reload",
        )
        assert [admin.get(path).get_json() for path in paths] == expected
        assert admin.get("/health/ready").status_code == 200
    finally:
        fresh.execute("ALTER SYSTEM RESET ALL")
        fresh.execute("SELECT pg_reload_conf()")
        fresh.execute("ALTER ROLE credits_reader RESET enable_seqscan")


def test_a_session_whose_quoting_could_be_misunderstood_is_refused(server: PostgresServer, owner: Tables) -> None:
    sentence = "The role must have standard_conforming_strings on: run reader_role.sql again."
    owner.execute("ALTER ROLE credits_reader SET standard_conforming_strings = off")
    try:
        client = admin_client(app_of(server, owner))
        answer, ready = client.get(ALL_TIME), client.get("/health/ready")
    finally:
        owner.execute("ALTER ROLE credits_reader SET standard_conforming_strings = on")
    assert (answer.status_code, answer.get_json()["error"]) == (503, sentence)
    failed = f"Not ready: database, privileges, policies. {sentence}"
    assert (ready.status_code, ready.get_json()["error"]) == (503, failed)


def test_a_connection_whose_session_is_wrong_is_not_used_again(admin: FlaskClient, owner: Tables) -> None:
    expected = admin.get(ALL_TIME).get_json()
    owner.execute("CREATE ROLE another; GRANT another TO credits_reader; ALTER ROLE credits_reader SET role = another")
    try:
        owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'credits_reader'")
        refused = admin.get(ALL_TIME)
        assert (refused.status_code, refused.get_json()) == (503, NOT_READY)
    finally:
        owner.execute("ALTER ROLE credits_reader RESET role; DROP ROLE another")
    assert admin.get(ALL_TIME).get_json() == expected


def test_a_privilege_that_ends_with_the_inheritance_from_a_group_is_a_503(
    server: PostgresServer, admin: FlaskClient, owner: Tables
) -> None:
    """On PostgreSQL 15 ALTER ROLE ends it under open connections, without a change of another catalog."""
    owner.execute(
        "CREATE ROLE readers; GRANT SELECT ON public.accounts TO readers; ALTER ROLE credits_reader INHERIT;"
        "GRANT readers TO credits_reader; REVOKE SELECT (name) ON public.accounts FROM credits_reader"
    )
    try:
        assert admin.get(ALL_TIME).status_code == 200
        owner.execute("ALTER ROLE credits_reader NOINHERIT")
        answer = admin.get(ALL_TIME)
        is_15 = server.psql("-At", "-c", "SHOW server_version").startswith("15")
        assert (answer.status_code, "rows" in answer.get_json()) == ((503, False) if is_15 else (200, True))
    finally:
        owner.execute(
            "ALTER ROLE credits_reader NOINHERIT; DROP OWNED BY readers; DROP ROLE readers;"
            "GRANT SELECT (name) ON public.accounts TO credits_reader"
        )


# Each leaves the content as it was. A tuple is several transactions, between which the service may not be ready.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    *((change, undo) for change, undo, *_ in HIDING),
    *(
        (f"ALTER TABLE public.{table} {REWRITE}", f"ALTER TABLE public.{table} DROP c")
        for table in ("account_api_keys", "account_emails")
    ),
    ("ALTER TABLE public.usage_events ALTER credits_deducted_cents TYPE integer",),
    ("ALTER TABLE public.usage_events ALTER credits_deducted_cents TYPE bigint",),
    (RELOAD_EVENTS,),
    (RECREATE_EVENTS,),
    (REPLACE_COLUMN,),
    ("VACUUM FULL public.usage_events",),
)
PATHS = (
    ALL_TIME,
    f"{ALL_TIME}&as_of=2026-11-23T00:00:00Z&limit=1",
    f"{EVENTS}?account_id={NOVA}&period=all",
    f"{DAYS}?period=all&as_of=2026-11-24T00:00:00Z",
)


def test_eight_clients_get_only_right_answers_and_503s_while_the_owner_changes_everything(
    server: PostgresServer, fresh: Tables
) -> None:
    with Gunicorn(url_of(server, fresh), POOL_SIZE=4, QUEUE_TIMEOUT_MS=10_000) as service:
        requests = [(path, KEY | accept) for path in PATHS for accept in ({}, {"Accept": "text/csv"})]
        right = [service.get(*request) for request in requests]
        requests += [
            (path, headers | {"If-None-Match": answer.headers["etag"]})
            for (path, headers), answer in zip(requests, right, strict=True)
        ]
        right += [Answer(304, {}, b"")] * len(right)
        asked = count()
        outcomes: Counter[int] = Counter()
        wrong: list[tuple[str, Answer]] = []

        def ask_often(seed: int) -> None:
            choice = random.Random(seed)
            while next(asked) < ANSWERS and not wrong:
                number = choice.randrange(len(requests))
                answer = service.get(*requests[number])
                outcomes[answer.status] += 1
                if answer.status != 503 and (answer.status, answer.body) != (right[number].status, right[number].body):
                    wrong.append((requests[number][0], answer))

        with ThreadPoolExecutor(8) as clients:
            done = [clients.submit(ask_often, seed) for seed in range(8)]
            choice = random.Random(0)
            while not all(future.done() for future in done):
                answered = outcomes.total() + 8
                eventually(
                    lambda answered=answered: outcomes.total() >= answered or any(future.done() for future in done),
                    "answers between two migrations",
                )
                for statement in choice.choice(MIGRATIONS):
                    fresh.execute(statement if statement.startswith("VACUUM") else f"BEGIN; {statement}; COMMIT")
            for future in done:
                future.result()
    assert not wrong, outcomes
    assert outcomes[200] > ANSWERS / 10, outcomes
