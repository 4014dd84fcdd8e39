"""sql/dba runs nothing of a role that may create objects in schema public, as every role may in older databases."""

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from conftest import NOVA, SQL, Tables, create_database
from live import eventually
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

SCRIPTS = sorted((SQL / "dba").glob("*.sql"))
PIN = "SET search_path = pg_catalog, pg_temp"
# The planter becomes superuser if a superuser runs one of these.
TAKE = """
    SET SESSION AUTHORIZATION planter;

    CREATE FUNCTION public.take() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
            ALTER ROLE planter SUPERUSER;
        END IF;
        RETURN true;
    END $$;

    CREATE FUNCTION public.take_row() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM public.take(); RETURN NEW; END';
"""
# Before PostgreSQL 18 the deferred trigger runs as the role that deletes the sums.
FOREIGN_KEY = (
    "CREATE TABLE public.leech (account_id uuid, day date,"
    " FOREIGN KEY (account_id, day) REFERENCES public.usage_sums ON DELETE CASCADE);"
    f"INSERT INTO public.leech VALUES ('{NOVA}', '2026-11-01');"
    "CREATE CONSTRAINT TRIGGER take AFTER DELETE ON public.leech DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION public.take_row()"
)
TRIGGER = "CREATE TRIGGER take BEFORE INSERT ON public.{0} FOR EACH ROW EXECUTE FUNCTION public.take_row()"
SUMS_TABLE = (
    "CREATE TABLE public.usage_sums (account_id uuid, day date, credits_deducted_cents bigint, event_count bigint,"
    f" PRIMARY KEY (account_id, day)); {TRIGGER.format('usage_sums')}"
)
SUMS_VIEW = (
    "CREATE VIEW public.usage_sums AS SELECT NULL::uuid AS account_id, NULL::date AS day,"
    " 0::bigint AS credits_deducted_cents, 0::bigint AS event_count WHERE public.take()"
)
WATERMARK = (
    "CREATE TABLE public.usage_sums_watermark (instant timestamptz, is_only_row boolean PRIMARY KEY DEFAULT true,"
    f" edges timestamptz[], summed timestamptz); {TRIGGER.format('usage_sums_watermark')}"
)
FORMER_WATERMARK = (
    "CREATE TABLE public.usage_sums_watermark (day date CHECK (public.take()));"
    "INSERT INTO public.usage_sums_watermark VALUES ('2026-11-01')"
)
GRANTS_VIEW = (
    "CREATE VIEW public.credit_grants AS SELECT account_id AS id, account_id, 0 AS remaining_credits,"
    f" now() AS created_at FROM (VALUES ('{NOVA}'::uuid)) AS account (account_id) WHERE public.take()"
)
REFRESH = (
    "CREATE FUNCTION public.usage_sums_refresh(since date DEFAULT NULL, margin interval DEFAULT NULL)"
    " RETURNS TABLE (summed_from timestamptz, watermark timestamptz, held_back_by text) LANGUAGE sql"
    " AS 'SELECT NULL::timestamptz, NULL::timestamptz, NULL::text WHERE public.take()'"
)
GRANT_ALL = "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO planter"
DOCUMENTS = (SQL / "README.md").read_text() + (SQL / "dba" / "sums.sql").read_text()


def without_comments(script: Path) -> str:
    return re.sub(r"--[^\n]*", "", script.read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_first_statement_of_a_script_sets_search_path(script: Path) -> None:
    # psql's own commands look up nothing
    statements = re.sub(r"^\\[^\n]*", "", without_comments(script), flags=re.MULTILINE)
    assert statements.split(";")[0].strip() == PIN
    assert "search_path" not in statements.partition(";")[2].replace(f"\n{PIN}\n", "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_function_sets_search_path(script: Path) -> None:
    for function in re.findall(
        r"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE).*?AS \$\$", script.read_text(), re.DOTALL
    ):
        assert f"\n{PIN}\n" in function


@pytest.fixture(scope="module")
def template(server: PostgresServer) -> Iterator[str]:
    """A database in which every role may create objects in schema public, and a role that does."""
    create_database(server, "unplanted")
    server.psql(
        *("-c", "CREATE ROLE planter; GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC"),
        *("-c", f"INSERT INTO public.accounts VALUES ('{NOVA}')"),
        *("-c", f"INSERT INTO public.usage_events (account_id, created_at) VALUES ('{NOVA}', '2026-11-01')"),
        *("-c", f"INSERT INTO public.credits_usage VALUES ('{NOVA}', 5)"),
        *("-c", f"INSERT INTO public.credit_grants VALUES (DEFAULT, '{NOVA}', '{NOVA}', '', 0, 7, '2026-11-01')"),
        *("-c", TAKE),
        database="unplanted",
    )
    yield "unplanted"
    server.psql("-c", "DROP DATABASE unplanted", "-c", "DROP ROLE planter")


@pytest.fixture
def database(server: PostgresServer, template: str) -> Iterator[Tables]:
    server.psql("-c", f"CREATE DATABASE planted TEMPLATE {template}")
    tables = Tables(server.url("planted"))
    yield tables
    tables.connection.close()
    server.psql("-c", "DROP DATABASE planted WITH (FORCE)", "-c", "ALTER ROLE planter NOSUPERUSER")


def sql_function(signature: str, returned: str, result: str) -> str:
    """Return a statement that creates a function that calls take()."""
    return (
        f"CREATE FUNCTION public.{signature} RETURNS {returned} LANGUAGE sql AS 'SELECT {result} WHERE public.take()'; "
    )


def run(server: PostgresServer, *steps: str) -> str:
    """Run scripts and statements, each in a session of the superuser; return the error of the first that fails."""
    try:
        for step in steps:
            script = SQL / "dba" / step
            server.psql(
                "-v",
                "VERBOSITY=terse",
                *(("-f", script) if step.endswith(".sql") else ("-c", step)),
                database="planted",
            )
    except EmbeddedPostgresError as error:
        return str(error)
    return ""


def planted(statement: str) -> str:
    """Return a step that the planter runs."""
    return f"SET SESSION AUTHORIZATION planter; {statement}; RESET SESSION AUTHORIZATION"


IS_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = 'planter'"

FORMAT = sql_function("format(text, name)", "text", "pg_catalog.format($1, $2::text)")
TO_REGROLE = sql_function("to_regrole(text)", "regrole", "pg_catalog.to_regrole($1)")
EQUALS = (
    sql_function("equal(numeric, bigint)", "boolean", "true")
    + "CREATE OPERATOR public.= (FUNCTION = public.equal, LEFTARG = numeric, RIGHTARG = bigint)"
)
CITUS = "CREATE TABLE public.pg_dist_partition (logicalrelid regclass);" + sql_function(
    "create_distributed_table(text, text, colocate_with text)", "boolean", "true"
)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        # names without a schema
        pytest.param([planted(FORMAT), "reader_role.sql"], "", id="a function that fits better"),
        pytest.param(
            ["sums.sql", "SELECT public.usage_sums_refresh()", planted(EQUALS), "sums_check.sql"],
            "",
            id="an operator that fits better",
        ),
        pytest.param(
            ["ALTER DATABASE planted SET search_path = public, pg_catalog", planted(TO_REGROLE), "reader_role.sql"],
            "",
            id="a function before PostgreSQL's own",
        ),
        pytest.param(
            [planted(CITUS), "citus.sql"],
            'relation "pg_dist_partition" does not exist',
            id="functions of Citus where there is none",
        ),
        # in the place of what a script makes
        pytest.param(
            [planted(SUMS_TABLE), "sums.sql"],
            "stopped: table public.usage_sums belongs to planter",
            id="a table of the sums",
        ),
        pytest.param(
            [planted(FORMER_WATERMARK), "sums.sql"],
            "stopped: table public.usage_sums_watermark belongs to planter",
            id="the table of the watermark of an earlier version",
        ),
        pytest.param(
            [planted("CREATE TABLE public.usage_sums_day_idx ()"), "sums.sql"],
            "stopped: table public.usage_sums_day_idx belongs to planter",
            id="a table with the name of an index of the sums",
        ),
        pytest.param(
            [planted(REFRESH), "sums.sql"],
            "stopped: function public.usage_sums_refresh(date,interval) belongs to planter",
            id="the function of the refresh",
        ),
        pytest.param(
            [planted("CREATE TABLE public.account_api_keys_key_hash_idx ()"), "indexes.sql"],
            "stopped: another relation has the name of an index that is not listed",
            id="a table with the name of an index",
        ),
        # in the place of what a script reads
        pytest.param(
            [planted(REFRESH), "sums_refresh.sql"],
            'relation "public.usage_sums" does not exist',
            id="the function of the refresh where there are no sums",
        ),
        pytest.param(
            ["sums.sql", "DROP FUNCTION public.usage_sums_refresh", planted(REFRESH), "sums_refresh.sql"],
            "stopped: public.usage_sums_refresh(date,interval) belongs to planter",
            id="the function of the refresh after it was dropped",
        ),
        pytest.param(
            ["sums.sql", "DROP TABLE public.usage_sums", planted(SUMS_TABLE), "sums_refresh.sql"],
            "stopped: public.usage_sums belongs to planter",
            id="a table of the sums after it was dropped",
        ),
        pytest.param(
            ["sums.sql", "DROP TABLE public.usage_sums", planted(SUMS_VIEW), "sums_check.sql"],
            "stopped: public.usage_sums belongs to planter",
            id="a view in the place of the sums",
        ),
        pytest.param(
            ["DROP TABLE public.credit_grants", planted(GRANTS_VIEW), "reconcile.sql"],
            "stopped: public.credit_grants belongs to planter",
            id="a view in the place of the grants",
        ),
        pytest.param(
            [planted(SUMS_TABLE), "reader_role.sql"],
            "stopped: public.usage_sums belongs to planter",
            id="a table of the sums that the service would read",
        ),
        # triggers on the tables of the sums
        pytest.param(
            [GRANT_ALL, "sums.sql", planted(TRIGGER.format("usage_sums"))],
            "permission denied for table usage_sums",
            id="a trigger that default privileges permit",
        ),
        pytest.param(
            [GRANT_ALL, "sums.sql", "sums_refresh.sql", planted(FOREIGN_KEY)],
            "permission denied for table usage_sums",
            id="a foreign key that default privileges permit",
        ),
        pytest.param(
            [
                *("sums.sql", "sums_refresh.sql", "GRANT REFERENCES ON public.usage_sums TO planter"),
                *(planted(FOREIGN_KEY), "sums.sql"),
            ],
            "stopped: table public.leech belongs to planter",
            id="a foreign key that an earlier version permitted",
        ),
        pytest.param(
            [
                *("sums.sql", "GRANT TRIGGER ON public.usage_sums TO planter"),
                *(planted(TRIGGER.format("usage_sums")), "sums.sql"),
            ],
            "stopped: function public.take_row() belongs to planter",
            id="a trigger that an earlier version permitted",
        ),
    ],
)
def test_a_role_that_may_create_in_public_does_not_become_superuser(
    server: PostgresServer, database: Tables, steps: list[str], error: str
) -> None:
    failure = run(server, *steps)
    assert database.execute(IS_SUPERUSER) == [(False,)]
    assert error in failure if error else failure == ""


@pytest.mark.parametrize(
    ("before", "lock", "statement", "error"),
    [
        pytest.param(
            [],
            "LOCK TABLE public.accounts IN SHARE ROW EXCLUSIVE MODE",
            WATERMARK,
            "stopped: table public.usage_sums_watermark belongs to planter",
            id="before the check",
        ),
        pytest.param(
            ["sums.sql", "DROP FUNCTION public.usage_sums_refresh"],
            "LOCK TABLE public.usage_sums_watermark IN ACCESS SHARE MODE",
            REFRESH,
            "",
            id="after the check",
        ),
    ],
)
def test_what_is_planted_while_sums_sql_waits_for_a_lock_does_not_stay(
    server: PostgresServer, database: Tables, before: list[str], lock: str, statement: str, error: str
) -> None:
    assert run(server, *before) == ""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(run(server, "sums.sql")))
    with closing(psycopg2.connect(server.url("planted"))) as other, other.cursor() as cursor:
        cursor.execute(lock)
        thread.start()
        waiting = "SELECT pid FROM pg_catalog.pg_locks WHERE NOT granted"
        eventually(lambda: database.execute(waiting), "the script to wait", 10)
        database.execute(planted(statement))
    thread.join()
    assert error in found[0] if error else found == [""]
    owners = "SELECT DISTINCT proowner::regrole::text FROM pg_catalog.pg_proc WHERE proname = 'usage_sums_refresh'"
    assert database.execute(owners) == ([] if error else [("postgres",)])
    assert database.execute(IS_SUPERUSER) == [(False,)]


def test_a_call_that_the_documents_give_runs_no_other_function(server: PostgresServer, database: Tables) -> None:
    others = "".join(
        sql_function(f"usage_sums_refresh({types})", "boolean", "true") for types in ("", "text, text", "date, text")
    )
    calls = set(re.findall(r"\$\$(SELECT .*?)\$\$", DOCUMENTS))
    assert calls
    assert run(server, "sums.sql", planted(others), *calls) == ""
    assert database.execute(IS_SUPERUSER) == [(False,)]
