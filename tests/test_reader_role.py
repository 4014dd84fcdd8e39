"""sql/dba/reader_role.sql: the service's role can read what the queries name, and do nothing else."""

import re
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from conftest import ADMIN, READER_PASSWORD, ROLLUP, SECRET, SQL, Tables, admin_client, create_database
from service import create_app
from service.config import Settings
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer
from service.queries import load_queries
from service.snapshot import BEGIN

NAME = "reader_role"
SCRIPT = SQL / "dba" / "reader_role.sql"
ROLE = "'credits_reader'::regrole"
VALUES = {
    "uuid": "04e3aba9-c130-4fb8-8b92-34e95d43e66b",
    "timestamptz": "2026-11-01",
    "bigint": "1",
    "date": "2026-11-22",
    "text": "",
}
READ = {
    ("account_api_keys", "account"),
    ("account_api_keys", "expires_at"),
    ("account_api_keys", "key_hash"),
    ("account_emails", "account_id"),
    ("account_emails", "email"),
    ("account_emails", "updated_at"),
    ("account_organization_ids", "account_id"),
    ("account_organization_ids", "organization_id"),
    ("accounts", "id"),
    ("accounts", "name"),
    ("credit_grants", "account_id"),
    ("credit_grants", "created_at"),
    ("credit_grants", "granted_by"),
    ("credit_grants", "id"),
    ("credit_grants", "previous_credits"),
    ("credit_grants", "reason"),
    ("credit_grants", "remaining_credits"),
    ("usage_sums", "account_id"),
    ("usage_sums", "credits_deducted_cents"),
    ("usage_sums", "day"),
    ("usage_sums", "event_count"),
    ("usage_sums_total", "account_id"),
    ("usage_sums_total", "credits_deducted_cents"),
    ("usage_sums_total", "event_count"),
    ("usage_sums_watermark", "day"),
    ("usage_events", "account_id"),
    ("usage_events", "agent_type"),
    ("usage_events", "cached_input_tokens"),
    ("usage_events", "created_at"),
    ("usage_events", "credits_deducted_cents"),
    ("usage_events", "id"),
    ("usage_events", "input_tokens"),
    ("usage_events", "model_id"),
    ("usage_events", "output_tokens"),
    ("usage_events", "provider"),
    ("usage_events", "source"),
    ("usage_events", "tool_call_count"),
}
ALL_WELL = {"database": "ok", "privileges": "ok", "policies": "ok", "sums": "ok"}
TABLES_READ = sorted({table for table, _ in READ})


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> Iterator[Tables]:
    """A database of this file's own, whose rights may be broken."""
    create_database(server, NAME)
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    owner = Tables(server.url(NAME))
    owner.seed_admin()
    yield owner
    owner.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def repaired(server: PostgresServer, database: Tables) -> Iterator[Tables]:
    """The same database, put right again after the test by the script under test."""
    yield database
    server.psql("-f", SCRIPT, database=NAME)


@pytest.fixture(scope="module")
def url(server: PostgresServer, database: Tables) -> str:
    return server.url(NAME, user="credits_reader", password=READER_PASSWORD)


@pytest.fixture
def reader(url: str) -> Iterator[psycopg2.extensions.connection]:
    """A connection of the role that asks for read-write transactions, which are not the service's."""
    with closing(psycopg2.connect(url)) as raw:
        raw.autocommit = True
        with raw.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
        yield raw


def rights(database: Tables) -> list[tuple[object, ...]]:
    """Everything in the catalogs that says what the role may do, in this database and in the whole cluster."""
    return [
        *database.execute(
            "SELECT 'role', rolcanlogin, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, "
            f"rolbypassrls, rolconnlimit, rolconfig FROM pg_roles WHERE oid = {ROLE}"
        ),
        *database.execute(f"SELECT 'member', roleid::regrole::text FROM pg_auth_members WHERE member = {ROLE}"),
        *database.execute(
            "SELECT 'table', oid::regclass::text, privilege_type, is_grantable "
            f"FROM pg_class, aclexplode(relacl) WHERE grantee = {ROLE} ORDER BY 2, 3"
        ),
        *database.execute(
            "SELECT 'column', attrelid::regclass::text, attname, privilege_type, is_grantable "
            f"FROM pg_attribute, aclexplode(attacl) WHERE grantee = {ROLE} ORDER BY 2, 3, 4"
        ),
        *database.execute(
            "SELECT 'schema', nspname, privilege_type "
            f"FROM pg_namespace, aclexplode(nspacl) WHERE grantee = {ROLE} ORDER BY 2, 3"
        ),
        *database.execute(
            "SELECT 'database', privilege_type FROM pg_database, aclexplode(datacl) "
            f"WHERE datname = current_database() AND grantee = {ROLE} ORDER BY 2"
        ),
        *database.execute(
            "SELECT 'policy', tablename, policyname, permissive, roles::text, cmd, qual FROM pg_policies ORDER BY 2, 3"
        ),
    ]


def test_the_role_has_these_rights_and_limits_alone(database: Tables) -> None:
    assert rights(database) == [
        ("role", True, False, True, False, False, False, False, 32, [
            "statement_timeout=60s",
            "idle_in_transaction_session_timeout=60s",
            "default_transaction_read_only=on",
        ]),
        *[("column", table, column, "SELECT", False) for table, column in sorted(READ)],
        ("schema", "clock", "USAGE"),  # the tests' own, see data/clock.sql
        ("schema", "public", "USAGE"),
        *[
            ("policy", table, "credits_reader", "PERMISSIVE", "{credits_reader}", "SELECT", "true")
            for table in TABLES_READ
        ],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("SELECT 1", id="run twice"),
        pytest.param("GRANT SELECT, INSERT ON public.accounts, public.credits_usage TO credits_reader", id="tables"),
        pytest.param("GRANT SELECT (name), UPDATE (name) ON public.account_api_keys TO credits_reader", id="columns"),
        pytest.param("GRANT SELECT (id) ON public.accounts TO credits_reader WITH GRANT OPTION", id="grant option"),
        pytest.param("GRANT CREATE ON SCHEMA public TO credits_reader", id="schema"),
        pytest.param(f"GRANT CREATE, TEMPORARY ON DATABASE {NAME} TO credits_reader", id="database"),
        pytest.param("ALTER ROLE credits_reader SUPERUSER CREATEDB CREATEROLE BYPASSRLS", id="attributes"),
        pytest.param("ALTER ROLE credits_reader NOLOGIN CONNECTION LIMIT -1", id="limits"),
        pytest.param("ALTER ROLE credits_reader SET statement_timeout = 0", id="timeout"),
        pytest.param("GRANT pg_read_all_data, pg_write_all_data TO credits_reader", id="memberships"),
        pytest.param("DROP POLICY credits_reader ON public.accounts", id="policy missing"),
        pytest.param("ALTER POLICY credits_reader ON public.accounts TO PUBLIC", id="policy for everybody"),
        pytest.param("ALTER POLICY credits_reader ON public.accounts USING (name <> '')", id="policy that hides"),
        pytest.param(
            "DROP POLICY credits_reader ON public.accounts; "
            "CREATE POLICY credits_reader ON public.accounts TO credits_reader USING (true)",
            id="policy for writes too",
        ),
    ],
)
def test_whatever_was_before_the_script_leaves_the_same_rights(
    server: PostgresServer, repaired: Tables, statement: str
) -> None:
    expected = rights(repaired)
    repaired.execute(statement)
    assert (rights(repaired) == expected) == (statement == "SELECT 1")
    server.psql("-f", SCRIPT, database=NAME)
    assert sorted(map(repr, rights(repaired))) == sorted(map(repr, expected))


def test_the_rights_of_other_roles_stay_as_they_are(server: PostgresServer, repaired: Tables) -> None:
    others = (
        "SELECT unnest(relacl)::text FROM pg_class WHERE relname = 'accounts' UNION ALL "
        "SELECT unnest(attacl)::text FROM pg_attribute WHERE attrelid = 'public.accounts'::regclass "
        "UNION ALL SELECT policyname FROM pg_policies WHERE tablename = 'accounts' ORDER BY 1"
    )
    repaired.execute(
        "CREATE ROLE somebody; GRANT SELECT ON public.accounts TO somebody, PUBLIC; "
        "GRANT SELECT (name) ON public.accounts TO somebody; "
        "CREATE POLICY theirs ON public.accounts TO somebody USING (true)"
    )
    try:
        before = repaired.execute(others)
        listed = server.psql("-A", "-t", "-f", SCRIPT, database=NAME)
        assert repaired.execute(others) == before
        # nothing is taken from PUBLIC, only told
        assert "REVOKE ALL ON accounts FROM PUBLIC;" in listed.splitlines()
    finally:
        repaired.execute("REVOKE SELECT ON public.accounts FROM PUBLIC; DROP OWNED BY somebody; DROP ROLE somebody")


def test_what_the_script_lists_once_done_is_listed_no_more(server: PostgresServer, repaired: Tables) -> None:
    repaired.execute(f"GRANT TEMPORARY ON DATABASE {NAME} TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC")
    listed = server.psql("-A", "-t", "-f", SCRIPT, database=NAME).splitlines()
    assert f"REVOKE TEMPORARY ON DATABASE {NAME} FROM PUBLIC;" in listed
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC;" in listed
    repaired.execute("".join(listed))
    assert server.psql("-A", "-t", "-f", SCRIPT, database=NAME) == ""


def test_a_second_run_takes_no_lock_but_a_reader_s(server: PostgresServer, repaired: Tables) -> None:
    with closing(psycopg2.connect(server.url(NAME))) as other, other.cursor() as cursor:
        # the mode that conflicts with every other but a reader's
        cursor.execute(f"LOCK TABLE {', '.join(TABLES_READ)} IN EXCLUSIVE MODE")
        server.psql("-f", SCRIPT, database=NAME)


def test_a_policy_that_must_wait_is_given_up_and_made_by_the_next_run(server: PostgresServer, repaired: Tables) -> None:
    expected = rights(repaired)
    repaired.execute("DROP POLICY credits_reader ON public.accounts; DROP POLICY credits_reader ON public.usage_events")
    with closing(psycopg2.connect(server.url(NAME))) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE public.usage_events IN ACCESS SHARE MODE")
        with pytest.raises(EmbeddedPostgresError, match="lock timeout"):
            server.psql("-f", SCRIPT, database=NAME)
    assert ("accounts",) in repaired.execute("SELECT tablename FROM pg_policies")
    server.psql("-f", SCRIPT, database=NAME)
    assert rights(repaired) == expected


def test_an_owner_who_is_no_superuser_can_run_the_script(server: PostgresServer) -> None:
    server.psql("-c", "CREATE ROLE landlord LOGIN CREATEROLE PASSWORD 'landlord'")
    # From PostgreSQL 16 on, a role that another has made is administered by who is told so.
    server.psql("-c", "GRANT credits_reader TO landlord WITH ADMIN OPTION")
    server.psql("-c", "CREATE DATABASE estate OWNER landlord")
    server.psql("-c", "ALTER SCHEMA public OWNER TO landlord", database="estate")
    try:
        schema = sorted((SQL / "schema").glob("0[12]*.sql"))
        for script in (*schema, SCRIPT, SQL / "dba" / "sums.sql", SCRIPT):
            server.psql("-c", "SET SESSION AUTHORIZATION landlord", "-f", script, database="estate")
        estate = Tables(server.url("estate"))
        found = [row for row in rights(estate) if row[0] in ("column", "policy")]
        estate.connection.close()
        assert found == [
            *[("column", table, column, "SELECT", False) for table, column in sorted(READ)],
            *[
                ("policy", table, "credits_reader", "PERMISSIVE", "{credits_reader}", "SELECT", "true")
                for table in TABLES_READ
            ],
        ]
    finally:
        server.psql("-c", "DROP DATABASE estate WITH (FORCE)")
        server.psql("-c", "REVOKE credits_reader FROM landlord", "-c", "DROP ROLE landlord")


@pytest.mark.parametrize(
    "statement",
    [
        *[f"INSERT INTO public.{table} DEFAULT VALUES" for table in [*TABLES_READ, "credits_usage"]],
        *[f"UPDATE public.{table} SET {column} = {column}" for table, column in sorted(READ)],
        *[f"DELETE FROM public.{table}" for table in [*TABLES_READ, "credits_usage"]],
        *[f"TRUNCATE public.{table} CASCADE" for table in [*TABLES_READ, "credits_usage"]],
        "CREATE TABLE public.mine (id integer)",
        "CREATE TEMPORARY TABLE mine (id integer)",
        "CREATE VIEW public.mine AS SELECT 1 AS one",
        "CREATE SEQUENCE public.mine",
        "CREATE TYPE public.mine AS (id integer)",
        "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX ON public.accounts (name)",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "CREATE POLICY mine ON public.accounts USING (true)",
        "ALTER TABLE public.accounts DISABLE ROW LEVEL SECURITY",
        "ALTER ROLE credits_reader CONNECTION LIMIT 1000",
        "ALTER ROLE credits_reader BYPASSRLS",
        "GRANT SELECT ON public.account_api_keys TO PUBLIC",
        "SET ROLE postgres",
        "COPY public.accounts (id) FROM STDIN",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT * FROM public.credits_usage",
        "SELECT * FROM public.account_api_keys",
    ],
)
def test_the_role_may_not(reader: psycopg2.extensions.connection, statement: str) -> None:
    with reader.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
        cursor.execute(statement)


def test_a_transaction_of_the_role_is_read_only_unless_it_asks_for_another(url: str) -> None:
    with closing(psycopg2.connect(url)) as raw, raw.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        assert cursor.fetchall() == [("on",)]


def test_the_role_owns_nothing(database: Tables) -> None:
    owned = f"SELECT classid::regclass, objid FROM pg_shdepend WHERE refobjid = {ROLE} AND deptype = 'o'"
    assert database.execute(owned) == []


def test_the_columns_it_can_read_are_those_and_no_others(database: Tables) -> None:
    readable = database.execute(
        "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
        "WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND NOT attisdropped "
        "AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast') "
        "AND has_column_privilege('credits_reader', pg_class.oid, attnum, 'SELECT')"
    )
    assert set(readable) == READ


@pytest.mark.parametrize(("table", "column"), sorted(READ))
def test_each_column_is_one_that_a_query_needs(
    repaired: Tables, reader: psycopg2.extensions.connection, table: str, column: str
) -> None:
    def refused() -> list[str]:
        names = []
        for query in [*load_queries().values(), *load_queries(source="sums").values()]:
            parameters = {name: VALUES[type_] for name, type_ in query.parameters.items()}
            with reader.cursor() as cursor:
                try:
                    cursor.execute(query.text, parameters)
                except errors.InsufficientPrivilege:
                    names.append(query.name)
        return names

    assert refused() == []
    repaired.execute(f"REVOKE SELECT ({column}) ON public.{table} FROM credits_reader")
    assert refused() != []


def test_not_even_a_function_of_the_owner_can_write_in_the_service_s_transactions(
    database: Tables, reader: psycopg2.extensions.connection
) -> None:
    database.execute(
        "CREATE FUNCTION public.rename() RETURNS void LANGUAGE sql SECURITY DEFINER "
        "AS 'UPDATE public.accounts SET name = ''renamed'''"
    )
    try:
        with reader.cursor() as cursor:
            cursor.execute(BEGIN, {"milliseconds": 10_000})
            with pytest.raises(errors.ReadOnlySqlTransaction):
                cursor.execute("SELECT public.rename()")
            cursor.execute("ROLLBACK")
            cursor.execute(BEGIN, {"milliseconds": 10_000})
            cursor.execute("SELECT 1")
            # once it has read, a transaction cannot become another
            with pytest.raises(errors.ActiveSqlTransaction):
                cursor.execute("SET TRANSACTION READ WRITE")
            cursor.execute("ROLLBACK")
        assert ("renamed",) not in database.execute("SELECT name FROM public.accounts")
    finally:
        database.execute("DROP FUNCTION public.rename()")


BROKEN = [
    *[
        pytest.param(f"DROP POLICY credits_reader ON public.{table}", "policies", table, id=f"no policy on {table}")
        for table in TABLES_READ
    ],
    *[
        pytest.param(
            f"REVOKE SELECT ({column}) ON public.{table} FROM credits_reader", "privileges", table,
            id=f"no {table}.{column}",
        )
        for table, column in sorted(READ)
    ],
    pytest.param("REVOKE USAGE ON SCHEMA public FROM PUBLIC, credits_reader", "privileges", "accounts", id="no schema"),
    pytest.param("ALTER POLICY credits_reader ON public.accounts TO postgres", "policies", "accounts", id="not for us"),
    pytest.param(
        "DROP POLICY credits_reader ON public.accounts; CREATE ROLE readers; ALTER ROLE credits_reader NOINHERIT; "
        "GRANT readers TO credits_reader; "
        "CREATE POLICY theirs ON public.accounts TO readers USING (true)",
        "policies", "accounts", id="for a role whose rights are not inherited",
    ),
    pytest.param(
        "DROP POLICY credits_reader ON public.accounts; "
        "CREATE POLICY theirs ON public.accounts AS RESTRICTIVE TO credits_reader USING (true)",
        "policies", "accounts", id="only a restrictive one",
    ),
    pytest.param(
        "DROP POLICY credits_reader ON public.accounts; "
        "CREATE POLICY theirs ON public.accounts FOR INSERT TO credits_reader WITH CHECK (true)",
        "policies", "accounts", id="only one for writing",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "check", "table"), BROKEN)
def test_a_right_that_is_missing_is_a_503_until_it_is_given_and_never_an_empty_table(
    server: PostgresServer,
    repaired: Tables,
    url: str,
    caplog: pytest.LogCaptureFixture,
    statement: str,
    check: str,
    table: str,
) -> None:
    repaired.execute("DELETE FROM public.usage_events")
    repaired.event(ADMIN, 7, "2026-11-22 10:00:00+00", id="one")
    repaired.execute(statement)
    try:
        admin = admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, spend_source="sums")))
        refused = admin.get(ROLLUP, query_string={"period": "all"})
        assert (refused.status_code, refused.get_json()) == (
            503,
            {"status": "error", "error": "The database does not let this service read what it needs."},
        )
        ready = admin.get("/health/ready")
        checks = {**ALL_WELL, check: "failed"}
        assert (ready.status_code, ready.get_json()) == (
            503,
            {"status": "error", "error": f"Not ready: {check}.", "checks": checks},
        )
        assert re.search(rf"\btable {table}: ", caplog.text)
    finally:
        repaired.execute(
            "DROP POLICY IF EXISTS theirs ON public.accounts; DROP ROLE IF EXISTS readers; "
            "ALTER ROLE credits_reader INHERIT; GRANT USAGE ON SCHEMA public TO PUBLIC"
        )
        server.psql("-f", SCRIPT, database=NAME)

    answer = admin.get(ROLLUP, query_string={"period": "all"})
    assert (answer.status_code, [row["account_id"] for row in answer.get_json()["rows"]]) == (200, [str(ADMIN)])
    assert admin.get("/health/ready").get_json()["checks"] == ALL_WELL


def test_a_policy_for_every_role_will_do(repaired: Tables, url: str) -> None:
    repaired.execute(
        "DROP POLICY credits_reader ON public.accounts; CREATE POLICY everybody ON public.accounts USING (true)"
    )
    try:
        assert create_app(Settings(database_url=url, api_key_secret=SECRET)).test_client().get(
            "/health/ready"
        ).get_json() == {
            "status": "success",
            "checks": {"database": "ok", "privileges": "ok", "policies": "ok"},
        }
    finally:
        repaired.execute("DROP POLICY everybody ON public.accounts")
