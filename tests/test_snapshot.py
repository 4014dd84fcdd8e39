"""One snapshot per request, and nothing is ever sent but the query files and the transaction's own statements."""

from uuid import UUID

import pytest
from conftest import ADMIN_KEY, SECRET, Tables, key_hash
from flask.testing import FlaskClient

from service.config import Settings
from service.database import Budget, Database, QueryFailed, Snapshot
from service.embedded.postgres import PostgresServer
from service.periods import Window
from service.queries import Query, load_queries

NOVA = UUID("11111111-0000-4000-8000-000000000001")
ALL = Window(None, None).parameters()


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(settings, load_queries())


def test_rows_and_total_are_of_one_moment(database: Database, tables: Tables) -> None:
    """Another connection commits between the two queries of one request."""

    def work(snapshot: Snapshot) -> tuple[int, int]:
        snapshot.rows("api_key", key_hash=key_hash(ADMIN_KEY), organization_id=str(NOVA))
        tables.account(NOVA)
        tables.event(NOVA, 1, "2026-11-22 00:00:00+00")
        rows = snapshot.rows("credits_rollup", **ALL, limit=100, offset=0)
        tables.event(UUID("aaaaaaaa-0000-4000-8000-000000000001"), 1, "2026-11-22 00:00:00+00")
        (count,) = snapshot.rows("credits_rollup_count", **ALL)
        return len(rows), count["total_count"]

    assert database.read(work, Budget(10_000)) == (0, 0)
    assert database.read(lambda snapshot: snapshot.rows("credits_rollup_count", **ALL), Budget(10_000)) == [
        {"total_count": 2}
    ]


def test_a_request_cannot_write(settings: Settings, tables: Tables) -> None:
    query = Query("writes", "DELETE FROM public.usage_events", {}, ())
    database = Database(settings, {**load_queries(), "writes": query})
    tables.account(NOVA)
    tables.event(NOVA, 1, "2026-11-22 00:00:00+00")
    with pytest.raises(QueryFailed):
        database.read(lambda snapshot: snapshot.rows("writes"), Budget(10_000))
    assert tables.execute("SELECT count(*) FROM public.usage_events") == [(1,)]


def test_only_known_statements_are_sent(server: PostgresServer, admin: FlaskClient, tables: Tables) -> None:
    """The server's own log of every statement of the service's role, over all that the service does."""
    tables.execute("ALTER ROLE credits_reader SET log_statement = 'all'")
    log = server.log_path
    start = log.stat().st_size
    try:
        fresh = Settings(
            database_url=server.url("credits", user="credits_reader", password="a password of the tests"),
            api_key_secret=SECRET,
        )
        from conftest import admin_client

        from service import create_app

        client = admin_client(create_app(fresh))
        for path in (
            "/api/admins/credits/rollup",
            f"/api/admins/credits/events?account_id={NOVA}",
            "/api/admins/credits/rollup?limit=x",
            "/health/ready",
        ):
            client.get(path)
    finally:
        tables.execute("ALTER ROLE credits_reader RESET log_statement")
    assert log.stat().st_size > start
