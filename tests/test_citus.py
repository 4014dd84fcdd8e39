"""Citus, which is not to be had here: the queries keep to what runs on it, and sql/dba/citus.sql prepares the tables.

The forms are those that have been seen to run on Citus, or that its documentation and source allow; see sql/README.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from psycopg2.errors import ForeignKeyViolation

from conftest import ADMIN, SQL, Tables, create_database
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer

NAME = "spread"
SCRIPT = SQL / "dba" / "citus.sql"
QUERIES = sorted(path for path in (SQL / "queries").rglob("*.sql") if path.stem != "privileges")
# Distributed by account_id, or as accounts by id.
DISTRIBUTED = ("account_emails", "accounts", "usage_sums", "usage_sums_total", "usage_events")


def code(path: Path) -> str:
    """The statement without its comments."""
    return re.sub(r"--[^\n]*", "", path.read_text())


def enclosed(text: str, start: int) -> str:
    """What stands in the parentheses that open at the first one from ``start`` on."""
    start = text.index("(", start)
    depth = 0
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if not depth:
            return text[start + 1 : end]
    raise AssertionError("an open parenthesis")


def ctes(text: str) -> dict[str, str]:
    """The names and bodies of a statement's CTEs."""
    found = re.finditer(r"(?:\bWITH|\),)\s+(\w+) AS (?:MATERIALIZED )?\(", text)
    return {match[1]: enclosed(text, match.end() - 1) for match in found}


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
class TestForms:
    def test_nothing_that_only_one_node_could_do(self, path: Path) -> None:
        refused = r"\b(RECURSIVE|OVER|GROUPING SETS|CUBE|ROLLUP|TABLESAMPLE|FOR UPDATE|FOR SHARE|INTERSECT|EXCEPT)\b"
        assert re.findall(refused, code(path)) == []

    def test_a_lateral_subquery_correlates_on_no_cte(self, path: Path) -> None:
        text = code(path)
        for match in re.finditer(r"\bLATERAL\b", text):
            assert not set(ctes(text)) & set(re.findall(r"\b(\w+)\.", enclosed(text, match.end())))

    def test_a_day_is_a_utc_day_whatever_the_session_of_a_node_says(self, path: Path) -> None:
        text = code(path)
        assert re.findall(r"date_trunc|extract|to_char|localtimestamp|current_date|current_timestamp", text) == []
        # a timestamptz becomes a date, or a date an instant, through a timestamp of UTC only
        for cast in re.findall(r"(\S+(?: AT TIME ZONE '\w+'\))?)::(?:date|timestamp)\b", text):
            assert cast.endswith(("AT TIME ZONE 'UTC')", "bound.day", ":'last_day'")), cast

    def test_what_is_grouped_over_all_accounts_is_grouped_by_account_first_or_by_day(self, path: Path) -> None:
        for keys in re.findall(r"GROUP BY ([^\n]+)", code(path)):
            assert keys.startswith(("account_id", "day", "(created_at AT TIME ZONE 'UTC')::date"))

    def test_each_part_of_a_union_begins_with_the_column_that_distributes(self, path: Path) -> None:
        for body in [*ctes(code(path)).values(), code(path)]:
            if "UNION ALL" in body and "WITH" not in body:
                parts = re.split(r"\bUNION ALL\b", body)
                firsts = {re.search(r"SELECT\s+(\S+?),?\s", part)[1] for part in parts}  # type: ignore[index]
                assert firsts <= {"account_id", "id", "count(*)"} or path.stem == "credits_days"

    def test_names_and_addresses_are_joined_by_the_column_that_distributes(self, path: Path) -> None:
        if "public.account_emails" in (text := code(path)):
            assert "address.account_id = accounts.id" in text
            assert "SELECT DISTINCT ON (account_emails.account_id)" in text
            # both sides of the outer join with the page are results that are complete by then
            assert "identity AS MATERIALIZED" in text


def test_nothing_is_put_on_the_path_of_those_who_write() -> None:
    for path in SQL.rglob("*.sql"):
        assert not re.search(r"\bCREATE\b.*\b(TRIGGER|RULE)\b", code(path)), path.name


@pytest.fixture
def spread(server: PostgresServer) -> Iterator[Tables]:
    """A database with stand-ins for what citus.sql calls of Citus: they refuse what Citus would, and keep a list."""
    create_database(server, NAME)
    for script in ("sums.sql", "indexes.sql"):
        server.psql("-f", SQL / "dba" / script, database=NAME)
    tables = Tables(server.url(NAME))
    tables.execute("""
        CREATE TABLE public.pg_dist_partition (place serial, logicalrelid regclass, partkey text);

        CREATE FUNCTION public.create_distributed_table(relation regclass, key text, colocate_with text)
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
                    AND confrelid NOT IN (SELECT logicalrelid FROM public.pg_dist_partition)
                    OR confrelid = relation AND conrelid::regclass::text !~ '^(usage_|account_emails)')
            ) THEN
                RAISE EXCEPTION 'cannot create foreign key constraint';
            END IF;
            INSERT INTO public.pg_dist_partition (logicalrelid, partkey) VALUES (relation, key);
        END $$;

        CREATE FUNCTION public.create_reference_table(relation regclass) RETURNS void LANGUAGE sql
        AS 'INSERT INTO public.pg_dist_partition (logicalrelid) VALUES (relation)';
    """)
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


def test_the_tables_are_distributed_by_account_accounts_first(server: PostgresServer, spread: Tables) -> None:
    spread.seed_admin()
    spread.event(ADMIN, 5, "2026-11-22 00:00:00+00")
    for _ in range(2):
        server.psql("-f", SCRIPT, database=NAME)
        assert spread.execute("SELECT logicalrelid::text, partkey FROM public.pg_dist_partition ORDER BY place") == [
            ("accounts", "id"),
            ("account_emails", "account_id"),
            ("usage_events", "account_id"),
            ("usage_sums", "account_id"),
            ("usage_sums_total", "account_id"),
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
        ("usage_sums_total", "FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE"),
        ("usage_sums_total", "PRIMARY KEY (account_id)"),
    ]
    with pytest.raises(ForeignKeyViolation):
        spread.event(UUID(int=1), 1, "2026-11-22 00:00:00+00")


def test_an_address_of_nobody_is_listed_and_nothing_is_changed(server: PostgresServer, spread: Tables) -> None:
    spread.execute("INSERT INTO public.account_emails (email) VALUES ('of nobody')")
    with pytest.raises(EmbeddedPostgresError, match="stopped: there are addresses without an account, listed above"):
        server.psql("-f", SCRIPT, database=NAME)
    assert spread.execute(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'public.account_api_keys'::regclass"
    ) == [(1,)]
