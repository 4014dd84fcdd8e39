"""sql/dba/citus.sql runs with a stand-in for a function of Citus; the queries contain no form that Citus refuses.

Citus is not available here. sql/README.md lists the forms that its documentation and source allow.
"""

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg2.errors import ForeignKeyViolation, RaiseException

from conftest import ADMIN, SQL, Tables, create_database
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

NAME = "spread"
SCRIPT = SQL / "dba" / "citus.sql"
DISTRIBUTED = ("account_emails", "accounts", "usage_events")
# The statements without comments. ``privileges`` reads only catalogs. On Citus no query of the sums is run.
QUERIES = {
    path.name: re.sub(r"--[^\n]*", "", path.read_text())
    for path in sorted((SQL / "queries").glob("*.sql"))
    if path.stem != "privileges"
}
REFUSED = r"\b(?:RECURSIVE|OVER|GROUPING SETS|CUBE|ROLLUP|TABLESAMPLE|FOR UPDATE|FOR SHARE|INTERSECT|EXCEPT)\b"
# date_trunc() of a time without a zone does not depend on the session's
ZONELESS = r"date_trunc(?!\([^;]*?,\s+created_at AT TIME ZONE 'UTC'\s+\))"
SESSION_ZONE = rf"\b(?:{ZONELESS}|extract(?!\(EPOCH)|to_char|localtimestamp|current_date|current_timestamp)\b"


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_contains_no_form_that_citus_refuses_or_runs_on_one_node(name: str) -> None:
    text = QUERIES[name]
    assert re.findall(f"{REFUSED}|{SESSION_ZONE}", text) == []
    assert re.findall(r"\(SELECT [^()]+\)(?:::\w+)? [-+*] (?:sum|count)\(", text) == []
    for keys in re.findall(r"GROUP BY ([^\n]+)", text):
        assert keys.startswith(
            ("account_id", "day", "key", "start", "spend.start", "(created_at AT TIME ZONE 'UTC')::date")
        )
    # the tables of this query stay on the coordinator
    assert "LATERAL" not in text or name == "caller.sql"


@pytest.fixture
def spread(server: PostgresServer) -> Iterator[Tables]:
    """A database with a stand-in for a function of Citus, which refuses what Citus refuses and records its calls."""
    create_database(server, NAME)
    server.psql("-f", SQL / "dba" / "indexes.sql", database=NAME)
    tables = Tables(server.url(NAME))
    tables.execute("""
        SET allow_system_table_mods = on;
        CREATE TABLE pg_catalog.pg_dist_partition (place serial, logicalrelid regclass, partkey text);

        CREATE FUNCTION pg_catalog.create_distributed_table(relation regclass, key text, colocate_with text)
        RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM pg_index
                WHERE indrelid = relation AND indisunique AND NOT (
                    SELECT attnum FROM pg_attribute WHERE attrelid = relation AND attname = key
                ) = ANY (indkey)
            ) THEN
                RAISE EXCEPTION 'a key that does not include the partition column';
            END IF;
            IF EXISTS (
                SELECT FROM pg_constraint
                WHERE contype = 'f' AND (conrelid = relation
                    AND confrelid NOT IN (SELECT logicalrelid FROM pg_catalog.pg_dist_partition)
                    OR confrelid = relation AND conrelid::regclass::text !~ '^public.(usage_events|account_emails)')
            ) THEN
                RAISE EXCEPTION 'cannot create foreign key constraint';
            END IF;
            INSERT INTO pg_catalog.pg_dist_partition (logicalrelid, partkey) VALUES (relation, key);
        END $$;
    """)
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


def test_citus_sql_distributes_accounts_first_and_changes_the_keys(server: PostgresServer, spread: Tables) -> None:
    spread.seed_admin()
    spread.event(ADMIN, 5, "2026-11-22 00:00:00+00")
    for _ in range(2):
        server.psql("-f", SCRIPT, database=NAME)
        assert spread.execute(
            "SELECT logicalrelid::text, partkey FROM pg_catalog.pg_dist_partition ORDER BY place"
        ) == [
            ("accounts", "id"),
            ("account_emails", "account_id"),
            ("usage_events", "account_id"),
        ]
    assert spread.execute(
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype IN ('p', 'u', 'f') AND conrelid::regclass::text = ANY (%s) ORDER BY 1, 2",
        (list(DISTRIBUTED),),
    ) == [
        ("account_emails", "FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE"),
        ("account_emails", "PRIMARY KEY (account_id, id)"),
        ("account_emails", "UNIQUE (account_id, email)"),
        ("accounts", "PRIMARY KEY (id)"),
        ("usage_events", "FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE"),
        ("usage_events", "PRIMARY KEY (account_id, id)"),
    ]
    with pytest.raises(ForeignKeyViolation):
        spread.event(UUID(int=1), 1, "2026-11-22 00:00:00+00")


def test_with_citus_there_are_no_sums(server: PostgresServer, spread: Tables) -> None:
    sums = SQL / "dba" / "sums.sql"
    with pytest.raises(EmbeddedPostgresError, match="stopped: Citus is installed"):
        server.psql("-f", sums, database=NAME)
    assert spread.execute("SELECT to_regclass('usage_sums.days')") == [(None,)]
    # sums from before Citus was installed
    spread.execute("ALTER TABLE pg_catalog.pg_dist_partition RENAME TO hidden")
    server.psql("-f", sums, database=NAME)
    spread.execute("ALTER TABLE pg_catalog.hidden RENAME TO pg_dist_partition")
    with pytest.raises(RaiseException, match="the sums cannot be used: Citus is installed"):
        spread.execute("SELECT usage_sums.refresh()")
    with pytest.raises(EmbeddedPostgresError, match="stopped: Citus supports no sums"):
        server.psql("-f", SCRIPT, database=NAME)
    server.psql("-v", "sums_only=1", "-f", SQL / "dba" / "remove.sql", database=NAME)
    server.psql("-f", SCRIPT, database=NAME)


def test_citus_sql_changes_nothing_if_an_address_has_no_account(server: PostgresServer, spread: Tables) -> None:
    spread.execute("INSERT INTO public.account_emails (email) VALUES ('unowned@nova.example')")
    with pytest.raises(EmbeddedPostgresError, match="stopped: there are addresses without an account, listed above"):
        server.psql("-f", SCRIPT, database=NAME)
    assert spread.execute(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'public.account_api_keys'::regclass"
    ) == [(1,)]
