"""sql/dba/citus.sql runs with stand-ins for the functions of Citus; the queries contain no form that Citus refuses.

Citus is not available here. sql/README.md lists the forms that its documentation and source allow.
"""

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg2.errors import ForeignKeyViolation

from conftest import ADMIN, CREDITS_COLUMN, SQL, Tables, create_database
from service.database.snapshot import IDENTIFIERS
from service.queries import load_queries
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

NAME = "spread"
SCRIPT = SQL / "dba" / "citus.sql"
DISTRIBUTED = ("account_emails", "accounts", "usage_sums", "usage_sums_window", "usage_events")
# The statements without comments. ``privileges`` reads only catalogs.
QUERIES = {
    str(path.relative_to(SQL / "queries")): re.sub(r"--[^\n]*", "", path.read_text())
    for path in sorted((SQL / "queries").rglob("*.sql"))
    if path.stem != "privileges"
}
REFUSED = r"\b(?:RECURSIVE|OVER|GROUPING SETS|CUBE|ROLLUP|TABLESAMPLE|FOR UPDATE|FOR SHARE|INTERSECT|EXCEPT)\b"
SESSION_ZONE = r"\b(?:date_trunc|extract(?!\(EPOCH)|to_char|localtimestamp|current_date|current_timestamp)\b"


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_contains_no_form_that_citus_refuses_or_runs_on_one_node(name: str) -> None:
    text = QUERIES[name]
    assert re.findall(f"{REFUSED}|{SESSION_ZONE}", text) == []
    assert re.findall(r"\(SELECT [^()]+\)(?:::\w+)? [-+*] (?:sum|count)\(", text) == []
    for keys in re.findall(r"GROUP BY ([^\n]+)", text):
        assert keys.startswith(("account_id", "day", "key", "(created_at AT TIME ZONE 'UTC')::date"))
    # the tables of this query stay on the coordinator
    assert "LATERAL" not in text or name == "caller.sql"


@pytest.fixture
def spread(server: PostgresServer) -> Iterator[Tables]:
    """A database with stand-ins for the functions of Citus, which refuse what Citus refuses and record their calls."""
    create_database(server, NAME)
    for script in ("sums.sql", "indexes.sql"):
        server.psql("-f", SQL / "dba" / script, database=NAME)
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
                    OR confrelid = relation AND conrelid::regclass::text !~ '^public.(usage_|account_emails)')
            ) THEN
                RAISE EXCEPTION 'cannot create foreign key constraint';
            END IF;
            INSERT INTO pg_catalog.pg_dist_partition (logicalrelid, partkey) VALUES (relation, key);
        END $$;

        CREATE FUNCTION pg_catalog.create_reference_table(relation regclass) RETURNS void LANGUAGE sql
        AS 'INSERT INTO pg_catalog.pg_dist_partition (logicalrelid) VALUES (relation)';
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
            ("usage_sums", "account_id"),
            ("usage_sums_window", "account_id"),
            ("usage_sums_watermark", None),
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
        ("usage_sums", "FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE"),
        ("usage_sums", "PRIMARY KEY (account_id, day)"),
        ("usage_sums_window", "FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE"),
        ("usage_sums_window", "PRIMARY KEY (account_id, edge)"),
    ]
    with pytest.raises(ForeignKeyViolation):
        spread.event(UUID(int=1), 1, "2026-11-22 00:00:00+00")


def test_with_citus_the_watermark_is_a_midnight_and_published_one_refresh_late(spread: Tables) -> None:
    spread.seed_admin()
    for day in (20, 21, 22, 23):
        spread.event(ADMIN, day, f"2026-11-{day} 00:00:00+00")
    spread.fix_now("2026-11-22 10:15:00+00")
    # the first refresh is from before the tables were distributed
    spread.execute("ALTER TABLE pg_catalog.pg_dist_partition RENAME TO hidden; SELECT public.usage_sums_refresh()")
    spread.execute("ALTER TABLE pg_catalog.hidden RENAME TO pg_dist_partition")
    for today, published, summed in ((22, 22, 22), (23, 22, 23), (23, 23, 23)):
        spread.fix_now(f"2026-11-{today} 10:15:00+00")
        spread.execute("SELECT public.usage_sums_refresh()")
        assert spread.execute("SELECT instant::text, summed::text, edges FROM public.usage_sums_watermark") == [
            (f"2026-11-{published} 00:00:00+00", f"2026-11-{summed} 00:00:00+00", [])
        ]
        assert spread.execute("SELECT * FROM public.usage_sums_window") == []
        for since in ("-infinity", "2026-11-21 00:00:00+00"):
            window = {
                "since": since,
                "until": "infinity",
                "limit": 1,
                "offset": 0,
                "account_id": "",
                "last_day": "2026-11-23",
                "credits_column": IDENTIFIERS[CREDITS_COLUMN],
            }
            for name in ("credits_rollup", "credits_rollup_count", "credits_days"):
                expected, found = (
                    spread.execute(load_queries(source)[name].text, window) for source in ("events", "sums")
                )
                assert found == expected


def test_citus_sql_changes_nothing_if_an_address_has_no_account(server: PostgresServer, spread: Tables) -> None:
    spread.execute("INSERT INTO public.account_emails (email) VALUES ('unowned@nova.example')")
    with pytest.raises(EmbeddedPostgresError, match="stopped: there are addresses without an account, listed above"):
        server.psql("-f", SCRIPT, database=NAME)
    assert spread.execute(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'public.account_api_keys'::regclass"
    ) == [(1,)]
