"""The service on a standby of PostgreSQL: it only reads."""

import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from conftest import READER_PASSWORD, ROLLUP, SECRET, SQL, Tables, admin_client, create_database
from live import Proxy, eventually
from service import create_app
from service.config import Settings
from service.representations.response import spelled
from test_pgbouncer import PROGRAM, PgBouncer
from tools.demo.postgres import PostgresServer

NAME = "replicated"


@pytest.fixture(scope="module")
def servers(server_folder: Path) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary, and a standby made from a copy of its files."""
    folders = [server_folder / "primary", server_folder / "standby"]
    folders[0].mkdir(mode=0o755)
    with ExitStack() as stack:
        # no commit but those of the tests
        primary = stack.enter_context(PostgresServer(folders[0], options={"autovacuum": "off"}))
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
        # by default it waits five seconds before it connects again
        options = {"primary_conninfo": connection, "wal_retrieve_retry_interval": "100ms"}
        standby = PostgresServer(folders[1], options=options)
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
    for _ in range(2):
        owner.execute("SELECT usage_sums.refresh()")
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
        later = [admin.get(ROLLUP, query_string={edge: datetime.now(UTC).isoformat()}) for edge in ("as_of", "since")]
    finally:
        replica.execute("SELECT pg_wal_replay_resume()")
    wait_for_replay(owner, replica)
    second = admin.get(f"{ROLLUP}?period=all&limit=2&page=2&as_of={first.headers['As-Of']}")
    assert credits(first) + credits(second) == [3, 2, 1]
    assert "As-Of" in second.headers
    # instants that the standby had not reached
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in later] == [(503, "2")] * 2
    assert {answer.get_json()["error"] for answer in later} == {
        "The database is a standby that has not reached this instant yet; try again shortly."
    }


def test_the_answer_of_a_standby_is_as_of_what_it_has_replayed(admin: FlaskClient, pair: tuple[Tables, Tables]) -> None:
    """Its own clock does not matter, nor which day it is there."""
    owner, replica = pair
    for shift in ("1 day", "-1 day"):
        owner.execute(f"DELETE FROM clock.fixed; INSERT INTO clock.fixed SELECT system_now() + interval '{shift}'")
        wait_for_replay(owner, replica)
        ((committed,),) = replica.execute("SELECT pg_last_xact_replay_timestamp()")
        headers = admin.get(f"{ROLLUP}?period=daily").headers
        assert headers["As-Of"] == headers["Window-End"] == spelled(committed)
        assert headers["Window-Start"] == f"{committed.astimezone(UTC):%F}T00:00:00.000000Z"
        assert admin.get(f"{ROLLUP}?period=daily&as_of={headers['As-Of']}").status_code == 200


def test_before_its_first_replay_the_answer_of_a_standby_is_as_of_a_checkpoint(
    servers: tuple[PostgresServer, PostgresServer], pair: tuple[Tables, Tables]
) -> None:
    owner, _ = pair
    primary, standby = servers
    owner.execute("CHECKPOINT")
    owner.connection.close()
    standby.stop()
    primary.stop()
    standby.start()
    try:
        replica = Tables(standby.url(NAME))
        assert replica.execute("SELECT pg_last_xact_replay_timestamp()") == [(None,)]
        ((checkpoint,),) = replica.execute("SELECT checkpoint_time FROM pg_control_checkpoint()")
        replica.connection.close()
        assert admin_of(standby).get(ROLLUP).headers["As-Of"] == spelled(checkpoint)
    finally:
        primary.start()


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
def test_several_servers_behind_one_name_never_answer_one_request_together(
    servers: tuple[PostgresServer, PostgresServer], pair: tuple[Tables, Tables], server_folder: Path
) -> None:
    """A pooler uses a primary and its standby, which has stopped replaying, in turn."""
    owner, replica = pair
    primary, standby = servers
    replica.execute("SELECT pg_wal_replay_pause()")
    eventually(lambda: replica.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)], "replay to pause")
    ((replayed,),) = replica.execute("SELECT pg_last_xact_replay_timestamp()")
    owner.event(UUID(int=1), 9, "2024-11-21 00:00:00+00")
    try:
        with (
            Proxy(standby.port, socket.create_server(("127.0.0.2", primary.port))),
            PgBouncer(primary, server_folder / "two servers", NAME, "127.0.0.1,127.0.0.2") as pooler,
        ):
            settings = Settings(database_url=pooler.url(), api_key_secret=SECRET, queue_timeout_ms=20_000)
            app = create_app(settings)
            with ThreadPoolExecutor(4) as threads:
                answers = list(threads.map(lambda _: admin_client(app).get(f"{ROLLUP}?period=all"), range(60)))
    finally:
        replica.execute("SELECT pg_wal_replay_resume()")
    found = {
        (*credits(answer), answer.headers["As-Of"] == spelled(replayed))
        if answer.status_code == 200
        else answer.get_json()["error"]
        for answer in answers
    }
    refusal = "The address of the database leads to several servers, which cannot answer a request together."
    assert refusal in found
    assert found <= {refusal, (3, 2, 1, True), (10, 3, 2, False)}
