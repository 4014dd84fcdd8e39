"""sql/dba/remove.sql takes away all that the other scripts have created, and nothing else."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import SQL
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer, libpq_free_environment

DBA = SQL / "dba"
NAME = "removed"
AS_OWNER = ("-c", "SET SESSION AUTHORIZATION keeper")
OTHERS = ("reader_role.sql", "indexes.sql", "sums.sql", "sums_refresh.sql", "sums_refresh.sql")
# What the version before the ledger made.
FORMER = """
    CREATE TABLE public.usage_sums (
        account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE, day date NOT NULL,
        credits_deducted_cents bigint NOT NULL, event_count bigint NOT NULL, PRIMARY KEY (account_id, day)
    );
    CREATE TABLE public.usage_sums_window (
        account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE, edge timestamptz NOT NULL,
        credits_deducted_cents bigint NOT NULL, event_count bigint NOT NULL, PRIMARY KEY (account_id, edge)
    );
    CREATE TABLE public.usage_sums_watermark (
        instant timestamptz NOT NULL CHECK (instant < 'infinity'), is_only_row boolean PRIMARY KEY DEFAULT true,
        edges timestamptz[] NOT NULL DEFAULT '{}', summed timestamptz
    );
    CREATE INDEX usage_sums_day_idx ON public.usage_sums (day);
    COMMENT ON COLUMN public.usage_sums.credits_deducted_cents IS 'credits_deducted_cents';
    INSERT INTO public.usage_sums_watermark (instant) VALUES ('-infinity');
    CREATE FUNCTION public.usage_sums_refresh(since date DEFAULT NULL, margin interval DEFAULT '5 minutes')
    RETURNS TABLE (summed_from timestamptz, watermark timestamptz, held_back_by text)
    LANGUAGE sql AS 'SELECT now(), now(), NULL';
    ALTER TABLE public.usage_sums ENABLE ROW LEVEL SECURITY;
    GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON public.usage_sums TO credits_reader;
    CREATE POLICY credits_reader ON public.usage_sums FOR SELECT TO credits_reader USING (true);
"""
# Functions that fit better than PostgreSQL's own.
PLANTED = """
    CREATE ROLE planter;
    GRANT CREATE, USAGE ON SCHEMA public TO planter;
    SET SESSION AUTHORIZATION planter;
    CREATE FUNCTION public.take(text, text) RETURNS text LANGUAGE plpgsql
    AS 'BEGIN ALTER ROLE planter SUPERUSER; RETURN $1; END';
    CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT public.take($1, $2)';
    CREATE FUNCTION public.format(text, regclass) RETURNS text LANGUAGE sql AS 'SELECT public.take($1, $2::text)';
"""


@pytest.fixture(scope="module")
def own_server(server_folder: Path) -> Iterator[PostgresServer]:
    """A server of its own: on the shared one, other databases need the role."""
    folder = server_folder / "removed"
    folder.mkdir(mode=0o755)
    with PostgresServer(folder) as server:
        server.psql("-c", "CREATE ROLE keeper CREATEROLE; GRANT pg_read_all_stats TO keeper")
        yield server


@pytest.fixture
def untouched(own_server: PostgresServer) -> Iterator[PostgresServer]:
    """A database of an owner who is no superuser, with an event and none of the scripts run."""
    own_server.psql("-c", f"CREATE DATABASE {NAME} OWNER keeper")
    schema = [part for script in sorted((SQL / "schema").glob("*.sql")) for part in ("-f", script)]
    own_server.psql(
        *AS_OWNER,
        *schema,
        *("-c", "INSERT INTO public.accounts VALUES ('11111111-0000-4000-8000-000000000001')"),
        *("-c", "INSERT INTO public.usage_events (account_id) SELECT id FROM public.accounts"),
        database=NAME,
    )
    yield own_server
    own_server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


def run(server: PostgresServer, *scripts: str, database: str = NAME, arguments: tuple[str, ...] = ()) -> str:
    """Run scripts as the owner of the tables, each in a session of its own; return the output of the last."""
    for script in scripts:
        written = server.psql("-A", "-t", *arguments, *AS_OWNER, "-f", DBA / script, database=database)
    return written


def dumped(server: PostgresServer) -> str:
    """Return what pg_dump -s prints, without the key that is different in each dump."""
    done = subprocess.run(
        [server.binaries / "pg_dump", "-s", NAME],
        env=libpq_free_environment()
        | {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGPASSWORD": server.password},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"^\\(un)?restrict .*", "", done.stdout, flags=re.MULTILINE)


def roles(server: PostgresServer) -> str:
    return server.psql("-A", "-t", "-c", "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname")


def test_what_the_other_scripts_created_is_gone(untouched: PostgresServer) -> None:
    before, roles_before = dumped(untouched), roles(untouched)
    for _ in range(2):
        run(untouched, *OTHERS)
        assert "usage_sums_delete" in dumped(untouched)
        assert "credits_reader" in roles(untouched)
        for _ in range(2):
            run(untouched, "remove.sql")
            assert dumped(untouched) == before
            assert roles(untouched) == roles_before
        events = "SELECT count(*) FROM public.usage_events"
        assert untouched.psql("-A", "-t", "-c", events, database=NAME) == "1\n"


@pytest.mark.parametrize("upgraded", [False, True], ids=["as it was", "upgraded"])
def test_sums_of_the_version_before_the_ledger_are_gone(untouched: PostgresServer, upgraded: bool) -> None:
    before = dumped(untouched)
    run(untouched, "reader_role.sql", "indexes.sql")
    without_sums = dumped(untouched)
    untouched.psql(*AS_OWNER, "-c", FORMER, database=NAME)
    if upgraded:
        run(untouched, *OTHERS)
    run(untouched, "remove.sql", arguments=("-v", "sums_only=1"))
    assert dumped(untouched) == without_sums
    run(untouched, "remove.sql")
    assert dumped(untouched) == before


def test_the_indexes_that_were_dropped_are_printed_as_statements(untouched: PostgresServer) -> None:
    run(untouched, "reader_role.sql", "indexes.sql")
    indexed = dumped(untouched)
    statements = run(untouched, "remove.sql").splitlines()
    assert [re.findall(r"^CREATE INDEX (\w+) ON", statement) for statement in statements] == [
        ["account_api_keys_key_hash_idx"],
        ["account_emails_account_id_updated_at_email_idx"],
        ["account_organization_ids_account_id_organization_id_idx"],
        ["usage_events_created_at_account_id_idx"],
    ]
    run(untouched, "reader_role.sql")
    untouched.psql(*AS_OWNER, *[part for text in statements for part in ("-c", text)], database=NAME)
    assert dumped(untouched) == indexed
    run(untouched, "remove.sql")


def test_the_role_stays_while_another_database_needs_it(untouched: PostgresServer) -> None:
    before = dumped(untouched)
    run(untouched, "reader_role.sql")
    untouched.psql("-c", "CREATE DATABASE another", "-c", "GRANT CONNECT ON DATABASE another TO credits_reader")
    sentence = "The role credits_reader stays, because it has privileges or objects in: another\n"
    try:
        assert run(untouched, "remove.sql") == sentence
        assert dumped(untouched) == before
        assert "credits_reader" in roles(untouched)
        untouched.psql("-c", "REVOKE CONNECT ON DATABASE another FROM credits_reader")
        untouched.psql("-c", "GRANT USAGE ON SCHEMA public TO credits_reader", database="another")
        assert run(untouched, "remove.sql") == sentence
    finally:
        untouched.psql("-c", "DROP DATABASE another")
    assert run(untouched, "remove.sql") == ""
    assert "credits_reader" not in roles(untouched)


def test_what_depends_on_the_sums_stops_the_script_before_they_are_dropped(untouched: PostgresServer) -> None:
    before = dumped(untouched)
    run(untouched, *OTHERS)
    untouched.psql(*AS_OWNER, "-c", "CREATE VIEW public.days AS SELECT day FROM usage_sums.days", database=NAME)
    with pytest.raises(EmbeddedPostgresError, match="HINT"):
        run(untouched, "remove.sql")
    untouched.psql(*AS_OWNER, "-c", "SELECT FROM usage_sums.days", "-c", "DROP VIEW public.days", database=NAME)
    run(untouched, "remove.sql")
    assert dumped(untouched) == before


def test_a_superuser_who_removes_runs_no_code_of_other_roles(untouched: PostgresServer) -> None:
    run(untouched, *OTHERS)
    untouched.psql("-c", PLANTED, database=NAME)
    untouched.psql("-f", DBA / "remove.sql", database=NAME)
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'planter'"
    assert untouched.psql("-A", "-t", "-c", is_superuser, database=NAME) == "f\n"
    untouched.psql("-c", "DROP OWNED BY planter; DROP ROLE planter", database=NAME)
