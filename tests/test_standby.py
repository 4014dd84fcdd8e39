"""The service on a standby of PostgreSQL: it only reads."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from conftest import READER_PASSWORD, ROLLUP, SECRET, SQL, Tables, admin_client, create_database
from live import eventually
from service import create_app
from service.config import Settings
from service.embedded.postgres import PostgresServer
from test_representations import links

NAME = "replicated"


@pytest.fixture(scope="module")
def servers(server_folder: Path) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary, and a standby made from a copy of its files."""
    folders = [server_folder / "primary", server_folder / "standby"]
    folders[0].mkdir(mode=0o755)
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresServer(folders[0]))
        create_database(primary, NAME)
        primary.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
        primary.stop()
        shutil.copytree(*folders)
        for path in folders[0].rglob("*"):
            shutil.chown(folders[1] / path.relative_to(folders[0]), path.stat().st_uid, path.stat().st_gid)
        (cluster,) = folders[1].glob("server/*/cluster")
        (cluster / "standby.signal").touch()
        primary.start()
        connection = f"host=127.0.0.1 port={primary.port} user=postgres password={primary.password} sslmode=disable"
        standby = PostgresServer(folders[1], options={"primary_conninfo": connection})
        yield primary, stack.enter_context(standby)


def wait_for_replay(owner: Tables, replica: Tables) -> None:
    ((written,),) = owner.execute("SELECT pg_current_wal_lsn()")
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
    eventually(lambda: replica.execute(replayed, (written,)) == [(True,)], "the standby to replay everything")


@pytest.fixture
def pair(servers: tuple[PostgresServer, PostgresServer]) -> Iterator[tuple[Tables, Tables]]:
    """The owner of the primary, with three accounts of 1 to 3 credits, and of a standby that has replayed them."""
    owner, replica = (Tables(server.url(NAME)) for server in servers)
    owner.empty()
    owner.seed_admin()
    for number in range(1, 4):
        owner.account(UUID(int=number))
        owner.event(UUID(int=number), number, "2024-11-20 00:00:00+00")
    wait_for_replay(owner, replica)
    yield owner, replica
    for tables in (owner, replica):
        tables.connection.close()


@pytest.fixture
def admin(servers: tuple[PostgresServer, PostgresServer]) -> FlaskClient:
    """A client of a service on the standby."""
    return admin_of(servers[1])


def admin_of(standby: PostgresServer, source: str = "events") -> FlaskClient:
    url = standby.url(NAME, user="credits_reader", password=READER_PASSWORD)
    return admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, spend_source=source)))


def credits(answer: TestResponse) -> list[int]:
    return [row["total_credits_deducted_cents"] for row in answer.get_json()["rows"]]


def test_a_standby_answers_what_the_primary_has_committed(
    servers: tuple[PostgresServer, PostgresServer], pair: tuple[Tables, Tables]
) -> None:
    owner, replica = pair
    owner.execute("SELECT public.usage_sums_refresh(since => '-infinity')")
    owner.execute("INSERT INTO public.usage_events (account_id, credits_deducted_cents) VALUES (%s, 9)", (UUID(int=1),))
    wait_for_replay(owner, replica)
    for source in ("events", "sums"):
        admin = admin_of(servers[1], source)
        assert admin.get("/health/ready").status_code == 200
        assert credits(admin.get(f"{ROLLUP}?period=all")) == [10, 3, 2]


def test_the_pages_of_a_walk_agree_while_a_standby_catches_up(admin: FlaskClient, pair: tuple[Tables, Tables]) -> None:
    owner, replica = pair
    replica.execute("SELECT pg_wal_replay_pause()")
    eventually(lambda: replica.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)], "replay to pause")
    try:
        owner.event(UUID(int=1), 9, owner.execute("SELECT now()")[0][0])
        first = admin.get(f"{ROLLUP}?period=all&limit=2")
        later = admin.get(ROLLUP, query_string={"limit": "2", "as_of": datetime.now(UTC).isoformat()})
    finally:
        replica.execute("SELECT pg_wal_replay_resume()")
    wait_for_replay(owner, replica)
    second = admin.get(f"{ROLLUP}?period=all&limit=2&page=2&as_of={first.headers['As-Of']}")
    assert credits(first) + credits(second) == [3, 2, 1]
    assert "As-Of" in second.headers
    # as of an instant that the standby had not reached
    assert ("As-Of" in later.headers, links(later).keys()) == (False, {"describedby"})


def test_a_window_that_a_standby_has_not_reached_has_no_instant(
    admin: FlaskClient, pair: tuple[Tables, Tables]
) -> None:
    owner, replica = pair
    # Transactions of today, asked for tomorrow.
    owner.execute("INSERT INTO clock.fixed SELECT now() + interval '1 day'")
    wait_for_replay(owner, replica)
    response = admin.get(f"{ROLLUP}?period=daily")
    assert response.status_code == 200
    assert ("As-Of" in response.headers, links(response).keys()) == (False, {"describedby"})
    assert "Window-Start" in response.headers
