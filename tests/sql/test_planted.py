"""sql/dba runs nothing of a role that may create objects in schema public, as every role may in older databases."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import NOVA, SQL, Tables, create_database
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
TRIGGER = "CREATE TRIGGER take BEFORE INSERT ON usage_sums.days FOR EACH ROW EXECUTE FUNCTION public.take_row()"
FORMER = (
    "CREATE TABLE public.usage_sums (day date CHECK (public.take()));"
    "INSERT INTO public.usage_sums VALUES ('2026-11-01')"
)
SCHEMA = "CREATE SCHEMA usage_sums AUTHORIZATION planter"
GRANTS_VIEW = (
    "CREATE VIEW public.credit_grants AS SELECT account_id AS id, account_id, 0 AS remaining_credits,"
    f" now() AS created_at FROM (VALUES ('{NOVA}'::uuid)) AS account (account_id) WHERE public.take()"
)
REFRESH = "CREATE FUNCTION usage_sums.refresh(integer) RETURNS boolean LANGUAGE sql AS 'SELECT public.take()'"
GRANT_ALL = "; ".join(
    f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {objects} TO planter" for objects in ("SCHEMAS", "TABLES", "FUNCTIONS")
)
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
            ["sums.sql", "sums_refresh.sql", planted(EQUALS), "sums_check.sql"],
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
        pytest.param([planted(FORMER), "sums.sql", "sums_refresh.sql"], "", id="a table of the former sums"),
        *(
            pytest.param([SCHEMA, script], "stopped: schema usage_sums belongs to planter", id=f"the schema, {script}")
            for script in ("sums.sql", "sums_refresh.sql", "sums_check.sql", "reader_role.sql")
        ),
        pytest.param(
            ["sums.sql", "GRANT ALL ON SCHEMA usage_sums TO planter", planted(REFRESH), "sums.sql"],
            "stopped: function usage_sums.refresh(integer) belongs to planter",
            id="a function in the schema",
        ),
        pytest.param(
            [planted("CREATE TABLE public.account_api_keys_key_hash_idx ()"), "indexes.sql"],
            "stopped: another relation has the name of an index that is not listed",
            id="a table with the name of an index",
        ),
        # in the place of what a script reads
        pytest.param(
            ["DROP TABLE public.credit_grants", planted(GRANTS_VIEW), "reconcile.sql"],
            "stopped: public.credit_grants belongs to planter",
            id="a view in the place of the grants",
        ),
        # what default privileges permit
        *(
            pytest.param([GRANT_ALL, "sums.sql", planted(statement)], "denied for schema usage_sums", id=case)
            for case, statement in {
                "a trigger on a table of the sums": TRIGGER,
                "a function in the schema of the sums": REFRESH,
                "a change through the view": "DELETE FROM usage_sums.late",
                "a call": "SELECT usage_sums.unusable()",
            }.items()
        ),
    ],
)
def test_a_role_that_may_create_in_public_does_not_become_superuser(
    server: PostgresServer, database: Tables, steps: list[str], error: str
) -> None:
    failure = run(server, *steps)
    assert database.execute(IS_SUPERUSER) == [(False,)]
    assert error in failure if error else failure == ""


def test_a_call_that_the_documents_give_runs_no_other_function(server: PostgresServer, database: Tables) -> None:
    calls = set(re.findall(r"\$\$(SELECT .*?)\$\$", DOCUMENTS))
    assert calls
    # in public, where the planter may create functions
    others = sql_function("refresh()", "boolean", "true")
    assert run(server, "sums.sql", planted(others), *calls) == ""
    assert database.execute(IS_SUPERUSER) == [(False,)]
