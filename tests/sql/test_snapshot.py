"""One snapshot per request, and nothing is ever sent but the query files and the transaction's own statements."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from conftest import ADMIN_KEY, NOVA, ORGANIZATION, Tables, admin_client, in_snapshot, key_hash
from service import create_app
from service.config import Settings
from service.database.pool import Database
from service.database.snapshot import ALONE, BEGIN, DECLARE, FETCH, ROLLBACK, SET_STATEMENT_TIMEOUT, Snapshot
from service.queries import Query, load_queries
from tools.demo.postgres import PostgresServer

ALL = {"search": "", "since": "-infinity", "until": "infinity", "filters": "{}"}
NEWEST = {"sort": "created_at", "limit": 1, "offset": 0}


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(settings)


def test_the_instant_of_a_request_is_not_before_an_event_that_it_reads(database: Database, tables: Tables) -> None:
    """An event is committed after BEGIN and before the snapshot is taken by the first query."""
    tables.account(NOVA)

    def work(snapshot: Snapshot) -> tuple[datetime, list[Any]]:
        tables.execute("INSERT INTO public.usage_events (account_id) VALUES (%s)", (NOVA,))
        (caller,) = snapshot.records("caller", key_hash=key_hash(ADMIN_KEY), organization_id=str(NOVA))
        return caller["now"], snapshot.records("credits_events", account_id=str(NOVA), **ALL, **NEWEST)

    now, (event,) = in_snapshot(database, work)
    assert event["created_at"] < now


def test_all_queries_of_a_request_read_one_moment(database: Database, tables: Tables) -> None:
    """Another connection commits between two queries."""
    tables.account(NOVA)

    def work(snapshot: Snapshot) -> list[Any]:
        counted = snapshot.records("credits_rollup_count", **ALL)
        tables.event(NOVA, 1, "2026-11-22 00:00:00+00")
        return counted + snapshot.records("credits_rollup_count", **ALL)

    assert in_snapshot(database, work) == [{"total_count": 0}] * 2
    assert in_snapshot(database, work) == [{"total_count": 1}] * 2


def test_an_export_is_planned_for_all_rows_not_for_the_first_ones(database: Database) -> None:
    probe = Query("probe", "SELECT current_setting('cursor_tuple_fraction')", {}, ("fraction",))
    assert in_snapshot(database, lambda snapshot: list(snapshot.stream("probe", {})), {"probe": probe}) == [("1",)]


def test_of_several_owners_of_a_key_the_smallest_admin_is_the_caller(database: Database, tables: Tables) -> None:
    stranger, *admins = (UUID(int=number) for number in (1, 2, 3))
    for account in (*reversed(admins), stranger):
        tables.account(account)
        tables.key("shared", account)
    for account in admins:
        tables.member(account)
    known = {"key_hash": key_hash("shared"), "organization_id": str(ORGANIZATION)}
    (caller,) = in_snapshot(database, lambda snapshot: snapshot.records("caller", **known))
    assert (caller["account_id"], caller["is_admin"]) == (str(admins[0]), True)


def pattern(text: str) -> re.Pattern[str]:
    """What the server logs of a text of psycopg2's, whatever its parameters."""
    pieces = re.split(r"%\(\w+\)s", text.replace("%%", "%"))
    return re.compile("(?s:.*?)".join(re.escape(piece) for piece in pieces))


def test_only_known_statements_are_sent(server: PostgresServer, settings: Settings, tables: Tables) -> None:
    """The server's own log of every statement of the service's role, over all that the service does."""
    queries = load_queries()
    declared = {name: DECLARE.format(name=name, text=query.text) for name, query in queries.items()}
    fetched = [FETCH.format(name=name) for name in queries]
    own = [BEGIN, SET_STATEMENT_TIMEOUT, *(form.format(text=queries["fingerprint"].text) for form in (ALONE, ROLLBACK))]
    known = [
        pattern(text) for text in (*own, *fetched, *declared.values(), *(query.text for query in queries.values()))
    ]
    tables.execute("ALTER ROLE credits_reader SET log_statement = 'all'")
    start = server.log_path.stat().st_size
    try:
        client = admin_client(create_app(settings))
        for path in ("rollup", f"events?account_id={NOVA}", "days", "changes", "breakdown?by=model", "rollup?limit=x"):
            for accept in ("application/json", "text/csv"):
                client.get(f"/api/admins/credits/{path}", headers={"Accept": accept})
        assert client.get("/health/ready").status_code == 200
    finally:
        tables.execute("ALTER ROLE credits_reader RESET log_statement")
    with server.log_path.open("rb") as log:
        log.seek(start)
        entries = re.split(r"^\d{4}-.*? LOG:  ", log.read().decode().replace("\n\t", "\n"), flags=re.MULTILINE)
    sent = [entry.removeprefix("statement: ").rstrip("\n") for entry in entries if entry.startswith("statement: ")]
    assert len(sent) > 30
    for statement in sent:
        assert any(text.fullmatch(statement) or text.fullmatch(statement + "\n") for text in known), statement
