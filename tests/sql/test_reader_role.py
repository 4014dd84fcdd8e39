"""sql/dba/reader_role.sql: the service's role can read what the queries need, and the rest is revoked or listed."""

import re
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from conftest import ADMIN, CREDITS_COLUMN, READER_PASSWORD, SQL, Tables, create_database
from service.database.snapshot import BEGIN, IDENTIFIERS
from service.queries import load_queries
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

NAME = "reader_role"
SCRIPT = SQL / "dba" / "reader_role.sql"
ROLE = "'credits_reader'::regrole"
HERE = "(SELECT oid FROM pg_database WHERE datname = current_database())"
VALUES = {
    "uuid": "04e3aba9-c130-4fb8-8b92-34e95d43e66b",
    "timestamptz": "2026-11-01",
    "bigint": "1",
    "date": "2026-11-22",
    "text": "",
    "uuid[]": "{}",
    "jsonb": "{}",
    "boolean": "true",
    "identifier": IDENTIFIERS[CREDITS_COLUMN],
}
# The values of parameters that do not take every value of their type.
CHOSEN = {"by": "model", "bucket": "day", "sort": "created_at", "credits_column": CREDITS_COLUMN}
NEEDED = (SQL / "queries" / "privileges.sql").read_text().replace("'credits_column'", f"'{CREDITS_COLUMN}'")
READ = {
    table: sorted(re.findall(r"'(\w+)'", columns))
    for table, columns in sorted(re.findall(r"'([\w.]+)',\s+ARRAY\[(.*?)\]", NEEDED, re.DOTALL))
}
# A view has no policy.
TABLES = [table for table in READ if table != "usage_sums.late"]
COLUMN_RIGHTS = [("column", table, column, "SELECT", False) for table, columns in READ.items() for column in columns]
POLICIES = [("policy", table, "credits_reader", "PERMISSIVE", "{credits_reader}", "SELECT", "true") for table in TABLES]


def qualified(table: str) -> str:
    return table if "." in table else f"public.{table}"


REFILL = (
    "CREATE FUNCTION public.refill() RETURNS void LANGUAGE sql SECURITY DEFINER "
    f"AS 'INSERT INTO public.credits_usage (account_id, remaining_credits) VALUES (''{ADMIN}'', 777)'"
)


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> Iterator[Tables]:
    """A database whose privileges and policies these tests change."""
    create_database(server, NAME)
    # The second script takes back what the clock of the tests needs.
    for script in (SQL / "dba" / "sums.sql", SCRIPT):
        server.psql("-f", script, database=NAME)
    owner = Tables(server.url(NAME))
    owner.seed_admin()
    yield owner
    owner.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def repaired(server: PostgresServer, database: Tables) -> Iterator[Tables]:
    """The same database; the script repairs it after the test."""
    yield database
    server.psql("-f", SCRIPT, database=NAME)


@pytest.fixture
def reader(server: PostgresServer, database: Tables) -> Iterator[psycopg2.extensions.cursor]:
    """A session of the role with read-write transactions, which the service does not use."""
    url = server.url(NAME, user="credits_reader", password=READER_PASSWORD)
    with closing(psycopg2.connect(url)) as raw, raw.cursor() as cursor:
        raw.autocommit = True
        cursor.execute("SET default_transaction_read_only = off")
        yield cursor


def rights(database: Tables) -> list[tuple[object, ...]]:
    """Return all attributes, settings, memberships, privileges and policies of the role in the catalogs."""
    return [
        *database.execute(
            "SELECT 'role', rolcanlogin, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, "
            f"rolbypassrls, rolconnlimit FROM pg_roles WHERE oid = {ROLE}"
        ),
        *database.execute(
            f"SELECT 'settings', setdatabase, setconfig FROM pg_db_role_setting WHERE setrole = {ROLE} "
            f"AND setdatabase IN (0, {HERE})"
        ),
        *database.execute(f"SELECT 'member', roleid::regrole::text FROM pg_auth_members WHERE member = {ROLE}"),
        *database.execute(
            "SELECT 'column', attrelid::regclass::text, attname, privilege_type, is_grantable "
            f"FROM pg_attribute, aclexplode(attacl) WHERE grantee = {ROLE} ORDER BY 2, 3, 4"
        ),
        *database.execute(
            f"SELECT 'object', pg_describe_object(classid, objid, 0) FROM pg_shdepend WHERE refobjid = {ROLE} "
            f"AND deptype IN ('a', 'o') AND objsubid = 0 AND dbid IN (0, {HERE}) ORDER BY 2"
        ),
        *database.execute(
            "SELECT 'policy', polrelid::regclass::text, polname, "
            "CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, "
            "ARRAY(SELECT unnest(polroles)::regrole)::text, CASE polcmd WHEN 'r' THEN 'SELECT' ELSE polcmd::text END, "
            "pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 2, 3"
        ),
    ]


def test_the_role_has_exactly_these_rights_and_limits(database: Tables) -> None:
    assert rights(database) == [
        ("role", True, False, False, False, False, False, False, 32),
        ("settings", 0, [
            "statement_timeout=60s",
            "idle_in_transaction_session_timeout=60s",
            "default_transaction_read_only=on",
            "default_transaction_isolation=read committed",
            "default_transaction_deferrable=off",
            "standard_conforming_strings=on",
            "tcp_keepalives_idle=3s",
            "tcp_keepalives_interval=1s",
            "tcp_keepalives_count=3",
            "tcp_user_timeout=6s",
        ]),
        *COLUMN_RIGHTS,
        ("object", "function usage_sums.cover(timestamp with time zone,timestamp with time zone,text)"),
        ("object", "function usage_sums.unusable()"),
        ("object", "schema public"),
        ("object", "schema usage_sums"),
        *POLICIES,
    ]  # fmt: skip


def test_the_script_restores_all_rights_and_limits(server: PostgresServer, repaired: Tables) -> None:
    """It does not change the rights of others."""
    repaired.execute(
        "GRANT SELECT ON public.accounts TO pg_monitor; GRANT SELECT (name) ON public.accounts TO pg_monitor;"
        "CREATE POLICY theirs ON public.accounts TO pg_monitor USING (true)"
    )
    others = (
        "SELECT unnest(relacl)::text FROM pg_class WHERE relname = 'accounts' UNION ALL "
        "SELECT unnest(attacl)::text FROM pg_attribute WHERE attrelid = 'public.accounts'::regclass ORDER BY 1"
    )
    expected, of_others = rights(repaired), repaired.execute(others)
    for statement in (
        "GRANT SELECT, INSERT ON public.accounts, public.credits_usage TO credits_reader",
        "GRANT SELECT (name), UPDATE (name) ON public.account_api_keys TO credits_reader",
        "GRANT SELECT (day) ON usage_sums.days TO credits_reader WITH GRANT OPTION",
        "GRANT ALL ON SCHEMA clock TO credits_reader",
        f"GRANT CREATE, TEMPORARY ON DATABASE {NAME} TO credits_reader",
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO credits_reader",
        "SELECT lo_create(4711); GRANT UPDATE ON LARGE OBJECT 4711 TO credits_reader",
        "GRANT SET ON PARAMETER session_replication_role TO credits_reader",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO credits_reader",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON ROUTINES TO credits_reader",
        f"ALTER ROLE credits_reader IN DATABASE {NAME} SET default_transaction_read_only = off",
        "ALTER ROLE credits_reader SUPERUSER CREATEDB CREATEROLE BYPASSRLS",
        "ALTER ROLE credits_reader NOLOGIN CONNECTION LIMIT -1; ALTER ROLE credits_reader SET row_security = off",
        "GRANT pg_read_all_data, pg_write_all_data TO credits_reader",
        "DROP POLICY credits_reader ON public.accounts",
        "ALTER POLICY credits_reader ON public.account_emails TO PUBLIC",
        "ALTER POLICY credits_reader ON public.usage_events USING (source = 'web')",
        "DROP POLICY credits_reader ON public.credit_grants",
        "CREATE POLICY credits_reader ON public.credit_grants TO credits_reader USING (true)",  # not only for SELECT
    ):
        before = rights(repaired)
        repaired.execute(statement)
        assert rights(repaired) != before, statement
    server.psql("-f", SCRIPT, database=NAME)
    assert sorted(map(repr, rights(repaired))) == sorted(map(repr, expected))
    assert repaired.execute(others) == of_others
    repaired.execute("DROP POLICY theirs ON public.accounts; REVOKE ALL ON public.accounts FROM pg_monitor")


def test_a_function_that_writes_is_refused_to_the_service(repaired: Tables, reader: psycopg2.extensions.cursor) -> None:
    repaired.execute(REFILL)
    for attempt, refusal in (
        ("SELECT public.refill()", errors.ReadOnlySqlTransaction),
        # after the first query a transaction stays read-only
        ("SELECT 1; SET TRANSACTION READ WRITE", errors.ActiveSqlTransaction),
    ):
        reader.execute(BEGIN, {"milliseconds": 10_000})
        with pytest.raises(refusal):
            reader.execute(attempt)
        reader.execute("ROLLBACK")
    # but not to the role
    reader.execute("SELECT public.refill()")
    assert repaired.execute("SELECT remaining_credits FROM public.credits_usage") == [(777,)]


# What every role may do


@pytest.fixture(scope="module")
def untouched(server: PostgresServer) -> Iterator[Tables]:
    """A database with every extension, and without the clock, whose functions every role may execute."""
    server.psql("-c", "CREATE DATABASE untouched")
    for script in (*sorted((SQL / "schema").glob("*.sql")), SCRIPT):
        server.psql("-f", script, database="untouched")
    owner = Tables(server.url("untouched"))
    for (name,) in owner.execute("SELECT name FROM pg_available_extensions"):
        owner.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}" CASCADE')
    yield owner
    owner.connection.close()
    server.psql("-c", "DROP DATABASE untouched")


def listed(server: PostgresServer) -> list[str]:
    return server.psql("-A", "-t", "-f", SCRIPT, database="untouched").splitlines()


CREATED = f"""
    CREATE SEQUENCE public.numbers;
    SELECT lo_create(4712);
    CREATE FOREIGN DATA WRAPPER far;
    CREATE SERVER "Far" FOREIGN DATA WRAPPER far;
    {REFILL};
    CREATE FUNCTION pg_catalog.own() RETURNS integer LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
    CREATE FUNCTION public.pid() RETURNS integer LANGUAGE internal AS 'pg_backend_pid';
    -- not listed
    CREATE FUNCTION public.one() RETURNS integer LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE public.total(integer) (SFUNC = int4pl, STYPE = integer);
    CREATE TYPE public.span AS RANGE (SUBTYPE = integer);
    ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO pg_monitor;
"""
GRANTED = [
    "TEMPORARY ON DATABASE untouched",
    "CREATE ON SCHEMA public",
    "INSERT, SELECT ON TABLE public.credits_usage",
    "SELECT (id) ON TABLE public.credit_grants",
    "SELECT ON TABLE pg_catalog.pg_authid",
    "SELECT (subconninfo) ON TABLE pg_catalog.pg_subscription",  # every role may read its other columns
    "INSERT ON TABLE pg_catalog.pg_class",  # every role may read it
    "USAGE ON SEQUENCE public.numbers",
    "EXECUTE ON ROUTINE pg_catalog.pg_read_file(pg_catalog.text)",
    "EXECUTE ON ROUTINE pg_catalog.pg_advisory_lock(bigint)",
    "SELECT ON LARGE OBJECT 4712",
    "USAGE ON FOREIGN DATA WRAPPER far",
    'USAGE ON FOREIGN SERVER "Far"',
    "CREATE ON TABLESPACE pg_default",
    "SET ON PARAMETER session_replication_role",
]
EXECUTABLE = [f"EXECUTE ON ROUTINE {function}()" for function in ("public.refill", "pg_catalog.own", "public.pid")]


def test_what_every_role_may_do_is_listed_as_statements_that_revoke_it(
    server: PostgresServer, untouched: Tables
) -> None:
    """Nothing is listed before, whatever extensions there are."""
    assert listed(server) == []
    untouched.execute(CREATED)
    for privilege in GRANTED:
        untouched.execute(f"GRANT {privilege} TO PUBLIC")
    untouched.execute(
        "GRANT SELECT ON public.accounts TO pg_monitor WITH GRANT OPTION; SET ROLE pg_monitor;"
        "GRANT SELECT ON public.accounts TO PUBLIC; RESET ROLE;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC"
    )
    found = listed(server)
    assert sorted(found) == sorted(
        [
            *(f"REVOKE {privilege} FROM PUBLIC;" for privilege in GRANTED + EXECUTABLE),
            "SET ROLE pg_monitor; REVOKE SELECT ON TABLE public.accounts FROM PUBLIC; RESET ROLE;",
            "ALTER DEFAULT PRIVILEGES for role postgres in schema public REVOKE ALL ON tables FROM PUBLIC;",
        ]
    )
    untouched.execute("".join(found))
    assert listed(server) == []


def test_the_listed_statements_restore_the_functions_that_every_role_may_execute(
    server: PostgresServer, untouched: Tables
) -> None:
    public = "SELECT oid FROM pg_catalog.pg_proc WHERE has_function_privilege('public', oid, 'EXECUTE') ORDER BY oid"
    before = untouched.execute(public)
    untouched.execute("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA pg_catalog TO PUBLIC")
    untouched.execute("".join(listed(server)))
    assert untouched.execute(public) == before


def test_the_script_stops_at_what_it_cannot_take(server: PostgresServer, repaired: Tables) -> None:
    repaired.execute(
        "CREATE ROLE somebody; GRANT SELECT ON public.accounts TO somebody WITH GRANT OPTION; SET ROLE somebody; "
        "GRANT SELECT ON public.accounts TO credits_reader; RESET ROLE; "
        "ALTER TABLE public.credits_usage OWNER TO credits_reader"
    )
    try:
        with pytest.raises(
            EmbeddedPostgresError, match=r"privileges: table public.accounts, table public.credits_usage$"
        ):
            server.psql("-f", SCRIPT, database=NAME)
    finally:
        repaired.execute(
            "ALTER TABLE public.credits_usage OWNER TO postgres; DROP OWNED BY somebody; DROP ROLE somebody"
        )


def test_a_second_run_takes_only_access_share_locks(server: PostgresServer, repaired: Tables) -> None:
    with closing(psycopg2.connect(server.url(NAME))) as other, other.cursor() as cursor:
        # conflicts with every mode but ACCESS SHARE
        cursor.execute(f"LOCK TABLE {', '.join(READ)} IN EXCLUSIVE MODE")
        server.psql("-f", SCRIPT, database=NAME)


def test_after_a_lock_timeout_the_next_run_continues(server: PostgresServer, repaired: Tables) -> None:
    expected = rights(repaired)
    repaired.execute("DROP POLICY credits_reader ON public.accounts; DROP POLICY credits_reader ON public.usage_events")
    with closing(psycopg2.connect(server.url(NAME))) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE public.usage_events IN ACCESS SHARE MODE")
        with pytest.raises(EmbeddedPostgresError, match="lock timeout"):
            server.psql("-f", SCRIPT, database=NAME)
    assert ("accounts",) in repaired.execute("SELECT tablename FROM pg_policies")
    server.psql("-f", SCRIPT, database=NAME)
    assert rights(repaired) == expected


def test_an_owner_without_superuser_can_run_the_script(server: PostgresServer) -> None:
    server.psql("-c", "CREATE ROLE landlord LOGIN CREATEROLE PASSWORD 'landlord'")
    # PostgreSQL 16 and newer require ADMIN OPTION.
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
        assert found == [*COLUMN_RIGHTS, *POLICIES]
    finally:
        server.psql("-c", "DROP DATABASE estate WITH (FORCE)")
        server.psql("-c", "REVOKE credits_reader FROM landlord", "-c", "DROP ROLE landlord")


def insufficient(database: Tables, *changes: str) -> list[tuple[str, bool, bool]]:
    """Return what the query ``privileges`` finds missing after changes: the table, can_read and can_see_rows."""
    database.execute("BEGIN")
    try:
        for statement in (*changes, "SET LOCAL SESSION AUTHORIZATION credits_reader"):
            database.execute(statement)
        parameters = {"spend_source": "sums", "credits_column": CREDITS_COLUMN}
        rows = database.execute(load_queries()["privileges"].text, parameters)
    finally:
        database.execute("ROLLBACK")
    return [(table, read, see) for table, _, read, see, _ in rows if not (read and see)]


def refused(reader: psycopg2.extensions.cursor) -> list[str]:
    """Return the queries that the role cannot run."""
    names = []
    for query in [*load_queries().values(), *load_queries("sums").values()]:
        try:
            reader.execute(
                query.text,
                {
                    name: VALUES[type_] if type_ == "identifier" else CHOSEN.get(name, VALUES[type_])
                    for name, type_ in query.parameters.items()
                },
            )
        except errors.InsufficientPrivilege:
            names.append(query.name)
    return names


def test_a_query_needs_each_column_and_privileges_reports_each(
    repaired: Tables, reader: psycopg2.extensions.cursor
) -> None:
    assert (refused(reader), insufficient(repaired)) == ([], [])
    for table, columns in READ.items():
        for column in columns:
            revoked = f"SELECT ({column}) ON {qualified(table)}"
            repaired.execute(f"REVOKE {revoked} FROM credits_reader")
            assert refused(reader) != [], (table, column)
            assert insufficient(repaired) == [(table, False, True)], column
            repaired.execute(f"GRANT {revoked} TO credits_reader")


def test_privileges_reports_each_missing_policy(database: Tables) -> None:
    for table in TABLES:
        assert insufficient(database, f"DROP POLICY credits_reader ON {qualified(table)}") == [(table, True, False)]


@pytest.mark.parametrize(
    ("is_only_one", "policy", "hides_rows"),
    [
        pytest.param(True, "USING (true)", False, id="for every role"),
        pytest.param(True, "TO readers USING (true)", True, id="of a group, whose policies ALTER ROLE can switch off"),
        pytest.param(True, "TO credits_reader USING (id IS NOT NULL)", True, id="with a condition"),
        pytest.param(True, "AS RESTRICTIVE TO credits_reader USING (true)", True, id="no permissive one"),
        pytest.param(True, "FOR INSERT TO credits_reader WITH CHECK (true)", True, id="for INSERT"),
        pytest.param(False, "AS RESTRICTIVE USING (false)", True, id="restrictive for all roles"),
        pytest.param(False, "AS RESTRICTIVE TO readers USING (false)", True, id="restrictive for a group"),
        pytest.param(False, "AS RESTRICTIVE FOR UPDATE USING (false)", False, id="restrictive for UPDATE"),
        pytest.param(False, "AS RESTRICTIVE TO strangers USING (false)", False, id="restrictive for another role"),
        pytest.param(False, "AS RESTRICTIVE USING (true)", False, id="restrictive that hides nothing"),
    ],
)
def test_privileges_reports_what_a_policy_may_hide(
    database: Tables, is_only_one: bool, policy: str, hides_rows: bool
) -> None:
    changes = ["CREATE ROLE strangers; CREATE ROLE readers; GRANT readers TO credits_reader"]
    changes += ["DROP POLICY credits_reader ON public.accounts"] * is_only_one
    changes += [f"CREATE POLICY theirs ON public.accounts {policy}"]
    assert insufficient(database, *changes) == [("accounts", True, False)] * hides_rows
