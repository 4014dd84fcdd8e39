"""The database goes away, is slow, or is cut off: a 200 is the whole truth, everything else an honest status."""

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from conftest import DATABASE, NOVA, READER_PASSWORD, SECRET, Tables, create_database, in_snapshot
from live import PATIENCE_S, ROLLUP_ALL, Answer, Asking, Cable, Gunicorn, Proxy, backends, eventually, locked
from service.config import Settings
from service.database import Database
from service.embedded.postgres import PostgresServer
from service.errors import DatabaseTimeout
from service.queries import Query

ACCOUNTS = [UUID(int=n) for n in range(1, 401)]
UNREACHABLE = {"status": "error", "error": "The database cannot be reached; try again shortly."}
TOO_LONG = {"status": "error", "error": "The database took too long to answer; try again."}
SHORTER = {"status": "error", "error": "The database took too long to answer; ask for a shorter period."}
# One worker, so that a test knows whose connections it cuts; limits that a test can wait for.
BRISK = {"CONNECT_TIMEOUT_S": 2, "STATEMENT_TIMEOUT_MS": 20_000, "REQUEST_TIMEOUT_MS": 25_000}


@pytest.fixture(scope="module")
def fragile(server_folder: Path) -> Iterator[PostgresServer]:
    """A server of this file's own, to be stopped and killed."""
    folder = server_folder / "fragile"
    folder.mkdir(mode=0o755)
    with PostgresServer(folder) as server:
        create_database(server, DATABASE)
        tables = Tables(server.url(DATABASE))
        tables.seed_admin()
        # An answer of some 60 kB, so that it can be cut in the middle; 3 credits each.
        tables.insert("accounts", "id, name", [(account, f"Account {account.int}") for account in ACCOUNTS])
        tables.insert("usage_events", "account_id, credits_deducted_cents", [(account, 3) for account in ACCOUNTS])
        tables.connection.close()
        yield server


@pytest.fixture
def database(fragile: PostgresServer) -> Iterator[Tables]:
    """The owner's hand in the fragile server, which is started when an earlier test left it stopped."""
    if fragile.process is None or fragile.process.poll() is not None:
        fragile.start()
    tables = Tables(fragile.url(DATABASE))
    tables.execute("DELETE FROM public.usage_events WHERE account_id = %s", (str(NOVA),))
    yield tables
    tables.connection.close()


def reader(server: PostgresServer, port: int | None = None, host: str = "127.0.0.1") -> str:
    url = server.url(DATABASE, user="credits_reader", password=READER_PASSWORD)
    return url.replace(f"127.0.0.1:{server.port}", f"{host}:{port or server.port}")


@pytest.fixture
def service(fragile: PostgresServer, database: Tables) -> Iterator[Gunicorn]:
    with Gunicorn(reader(fragile), **BRISK) as service:
        yield service


def is_whole(answer: Answer) -> bool:
    """Return whether this is a 200 with the one right body; anything between that and an honest 503 fails."""
    if answer.status == 503:
        assert answer.json()["status"] == "error"
        assert answer.headers["retry-after"] in ("1", "2")
        return False
    assert answer.status == 200, answer.body
    body = answer.json()
    assert body["total_count"] == len(ACCOUNTS)
    assert [(row["account_id"], row["total_credits_deducted_cents"], row["event_count"]) for row in body["rows"]] == [
        (str(account), 3, 1) for account in ACCOUNTS[:100]
    ]
    return True


def fill_the_pool(service: Gunicorn, database: Tables, owner_url: str, slots: int = 4) -> list[int]:
    """Have the service open all of its connections, return their backends; none is in use then."""
    with locked(owner_url) as release:
        asking = Asking(service, slots)
        eventually(lambda: len(backends(database, waiting=True)) == slots, "every slot to be used")
        release()
        assert all(is_whole(answer) for answer in asking.all())
    return backends(database)


def terminate(database: Tables, pids: list[int]) -> None:
    database.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,))
    eventually(lambda: not set(pids) & set(backends(database)), "the backends to end")


def answers(server: PostgresServer) -> bool:
    try:
        Tables(server.url(DATABASE)).connection.close()
    except Exception:  # noqa: BLE001 - whatever it says, it does not answer
        return False
    return True


def lost(service: Gunicorn) -> int:
    """Return how often the service noticed a dead connection."""
    return service.err().count("SQLSTATE None, in query")


def test_the_database_is_away_at_the_start_and_comes_later(fragile: PostgresServer, database: Tables) -> None:
    fragile.stop()
    with Gunicorn(reader(fragile), **BRISK) as service:
        assert service.get("/health/live").json() == {"status": "success"}
        ready = service.get("/health/ready", headers={})
        assert (ready.status, ready.json()) == (
            503,
            {
                "status": "error",
                "error": "Not ready: database, privileges, policies.",
                "checks": {"database": "failed", "privileges": "failed", "policies": "failed"},
            },
        )
        refused = service.get()
        assert (refused.status, refused.json(), refused.headers["retry-after"]) == (503, UNREACHABLE, "2")
        assert "OperationalError while connecting: Connection refused" in service.err()
        fragile.start()
        assert is_whole(service.get())
        ready = service.get("/health/ready", headers={})
        assert (ready.status, ready.json()) == (
            200,
            {"status": "success", "checks": {"database": "ok", "privileges": "ok", "policies": "ok"}},
        )
    fragile.stop()


def test_after_one_dead_connection_all_idle_ones_are_dropped_and_the_request_is_answered(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    pids = fill_the_pool(service, database, fragile.url(DATABASE))
    assert len(pids) == 4
    terminate(database, pids)
    assert is_whole(service.get())
    assert lost(service) == 1
    assert len(backends(database)) == 1
    # None of the other dead ones is met, though every slot is used again.
    fill_the_pool(service, database, fragile.url(DATABASE))
    assert lost(service) == 1


def test_a_connection_lost_in_mid_query_is_tried_again(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    with locked(fragile.url(DATABASE)) as release:
        asking = Asking(service)
        (first,) = eventually(lambda: backends(database, waiting=True), "the request to wait behind the lock")
        terminate(database, [first])
        (second,) = eventually(lambda: backends(database, waiting=True), "the request to try again")
        assert second != first
        release()
        assert is_whole(asking.one())


def test_a_backend_is_killed_and_the_server_recovers(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    """The server ends every other backend too, the holder of the lock among them, and starts anew."""
    with locked(fragile.url(DATABASE)):
        asking = Asking(service, 4)
        first, *_ = eventually(lambda: backends(database, waiting=True), "the requests to wait behind the lock")
        os.kill(first, signal.SIGKILL)
        for answer in asking.all():
            is_whole(answer)
    eventually(lambda: answers(fragile), "the server to recover")
    assert is_whole(service.get())


def test_the_retry_sees_what_was_committed_after_the_first_snapshot(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    with locked(fragile.url(DATABASE), "account_emails") as release:
        asking = Asking(service)
        (first,) = eventually(lambda: backends(database, waiting=True), "the rollup to wait")
        database.execute("INSERT INTO public.accounts (id) VALUES (%s) ON CONFLICT DO NOTHING", (str(NOVA),))
        database.event(str(NOVA), 1_000, "2026-11-22 00:00:00+00")  # type: ignore[arg-type]
        terminate(database, [first])
        eventually(lambda: backends(database, waiting=True), "the rollup to wait again")
        release()
        body = asking.one().json()
    assert (body["total_count"], body["rows"][0]["account_id"]) == (len(ACCOUNTS) + 1, str(NOVA))


def test_a_connection_lost_twice_is_a_503(service: Gunicorn, fragile: PostgresServer, database: Tables) -> None:
    with locked(fragile.url(DATABASE)) as release:
        asking = Asking(service)
        (first,) = eventually(lambda: backends(database, waiting=True), "the request to wait behind the lock")
        terminate(database, [first])
        (second,) = eventually(lambda: backends(database, waiting=True), "the request to try again")
        terminate(database, [second])
        answer = asking.one()
        assert (answer.status, answer.json(), answer.headers["retry-after"]) == (503, UNREACHABLE, "2")
        assert lost(service) == 2
        release()
    assert is_whole(service.get())


def test_the_postmaster_is_killed_under_a_request(service: Gunicorn, fragile: PostgresServer, database: Tables) -> None:
    with locked(fragile.url(DATABASE)):
        asking = Asking(service, 4)
        eventually(lambda: len(backends(database, waiting=True)) == 4, "the requests to wait behind the lock")
        os.kill(fragile.pid, signal.SIGKILL)
        assert [(answer.status, answer.json()) for answer in asking.all()] == [(503, UNREACHABLE)] * 4
    assert service.get("/health/ready").status == 503
    assert service.get("/health/live").status == 200
    fragile.start()
    assert is_whole(service.get())


@pytest.mark.parametrize(
    ("cuts", "status"), [pytest.param(1, 200, id="once: retried"), pytest.param(2, 503, id="twice: given up")]
)
def test_a_network_cut_in_the_middle_of_the_rows_never_gives_half_a_body(
    fragile: PostgresServer, database: Tables, cuts: int, status: int
) -> None:
    with Proxy(fragile.port) as proxy, Gunicorn(reader(fragile, proxy.port), **BRISK) as service:
        assert is_whole(service.get())
        proxy.cut_after = [5_000] * cuts
        answer = service.get()
        assert not proxy.cut_after
        assert answer.status == status
        assert is_whole(answer) == (status == 200)
        assert is_whole(service.get())


def test_a_cancel_by_a_standby_is_retried_on_a_newly_opened_connection(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    """PostgreSQL raises 40001 itself: in now(), on every connection that was opened before an instant."""
    database.execute(
        """
        CREATE TABLE clock.conflict (until timestamptz NOT NULL);
        ALTER FUNCTION clock.now() RENAME TO undisturbed;
        CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM clock.conflict, pg_stat_activity
                WHERE pid = pg_backend_pid() AND backend_start < conflict.until
            ) THEN
                RAISE 'canceling statement due to conflict with recovery' USING ERRCODE = '40001';
            END IF;
            RETURN pg_catalog.now();
        END $$
        """
    )
    try:
        pids = fill_the_pool(service, database, fragile.url(DATABASE))
        database.execute("INSERT INTO clock.conflict VALUES (clock_timestamp())")
        assert is_whole(service.get())
        assert "SQLSTATE 40001, in query caller" in service.err()
        assert not set(pids) & set(backends(database))
        database.execute("UPDATE clock.conflict SET until = 'infinity'")
        answer = service.get()
        assert (answer.status, answer.json()) == (503, UNREACHABLE)
    finally:
        database.execute(
            "DROP FUNCTION clock.now(); ALTER FUNCTION clock.undisturbed() RENAME TO now; DROP TABLE clock.conflict"
        )
    assert is_whole(service.get())


def test_cuts_leak_no_slot_thread_or_descriptor(fragile: PostgresServer, database: Tables) -> None:
    with Proxy(fragile.port) as proxy, Gunicorn(reader(fragile, proxy.port), **BRISK) as service:
        outcome = cut_often(service, proxy, fragile, database, cuts=30)
        assert outcome["200"] > 0


def cut_often(service: Gunicorn, proxy: Proxy, server: PostgresServer, database: Tables, cuts: int) -> Counter[str]:
    """Cut the network, and every other time the backends, under eight clients; check that nothing has leaked.

    Returns how often each status came.
    """
    (worker,) = service.workers()
    fill_the_pool(service, database, server.url(DATABASE))
    # All threads of gunicorn's pool are there, as they will be for good.
    eventually(lambda: Asking(service, 32).all() and worker.num_threads() >= 33, "every thread to be started")
    pids = fill_the_pool(service, database, server.url(DATABASE))
    threads, descriptors = worker.num_threads(), worker.num_fds()
    outcome: Counter[str] = Counter()
    done = threading.Event()

    def client() -> None:
        while not done.is_set():
            outcome[str(200 if is_whole(service.get()) else 503)] += 1

    with ThreadPoolExecutor(8) as clients:
        running = [clients.submit(client) for _ in range(8)]
        try:
            for number in range(cuts):

                def cut(by_network: int, before: int) -> bool:
                    # One that falls between two requests may go unnoticed: again, then.
                    proxy.cut() if by_network else terminate(database, backends(database))
                    return lost(service) > before

                eventually(partial(cut, number % 2, lost(service)), "a cut to be noticed")
        finally:
            done.set()
        for future in running:
            future.result(PATIENCE_S)
    # All four slots and all twenty places are still there.
    assert len(fill_the_pool(service, database, server.url(DATABASE))) == len(pids) == 4
    assert worker.num_threads() == threads
    eventually(lambda: worker.num_fds() <= descriptors, "the descriptors to be closed")
    return outcome


def test_under_32_clients_a_restarting_database_gives_only_right_answers_and_503s(
    fragile: PostgresServer, database: Tables
) -> None:
    with Gunicorn(reader(fragile), **BRISK, WEB_CONCURRENCY=2) as service:
        outcome: Counter[bool] = Counter()
        done = threading.Event()

        def client() -> None:
            while not done.is_set():
                outcome[is_whole(service.get())] += 1

        with ThreadPoolExecutor(32) as clients:
            running = [clients.submit(client) for _ in range(32)]
            try:
                for _ in range(3):
                    eventually(lambda: is_whole(service.get()), "a whole answer")
                    fragile.stop()
                    eventually(lambda: not is_whole(service.get()), "an honest refusal")
                    fragile.start()
                    eventually(lambda: service.get("/health/ready").status == 200, "readiness")
                    ready = time.monotonic()
                    # Promised within 2 seconds.
                    eventually(lambda: is_whole(service.get()), "a whole answer after readiness", patience_s=10)
                    print(f"a whole answer {time.monotonic() - ready:.2f} s after readiness")
            finally:
                done.set()
            for future in running:
                future.result(PATIENCE_S)
        print(f"{outcome[True]} whole answers, {outcome[False]} refusals, nothing else")
        assert outcome[True] > 0
        assert outcome[False] > 0


@pytest.mark.parametrize(
    ("table", "path", "body"),
    [
        pytest.param("usage_events", ROLLUP_ALL, SHORTER, id="the rollup"),
        pytest.param("usage_events", f"/api/admins/credits/events?account_id={ACCOUNTS[0]}", SHORTER, id="the events"),
        pytest.param("account_api_keys", ROLLUP_ALL, TOO_LONG, id="the key look-up, which no shorter window helps"),
    ],
)
def test_a_statement_past_its_limit_is_cut_on_the_server_and_a_504(
    fragile: PostgresServer, database: Tables, table: str, path: str, body: dict[str, str]
) -> None:
    with Gunicorn(reader(fragile), **{**BRISK, "STATEMENT_TIMEOUT_MS": 300}) as service:
        assert is_whole(service.get())
        with locked(fragile.url(DATABASE), table):
            (pid,) = backends(database)
            answer = service.get(path)
            assert (answer.status, answer.json()) == (504, body)
            # The server has ended the statement itself, and the connection is as good as before.
            assert backends(database, waiting=False) == [pid]
        assert is_whole(service.get())
        assert backends(database) == [pid]
        assert "QueryCanceled, SQLSTATE 57014, in query " in service.err()


def test_each_statement_gets_what_is_left_of_the_one_budget(fragile: PostgresServer, database: Tables) -> None:
    shows = Query(
        "shows", "SELECT setting::int AS milliseconds FROM pg_settings WHERE name = 'statement_timeout'", {}, ("ms",)
    )
    sleeps = Query("sleeps", "SELECT pg_sleep(0.2)::text AS slept", {}, ("slept",))
    pool = Database(Settings(database_url=reader(fragile), api_key_secret=SECRET))
    queries = {"shows": shows, "sleeps": sleeps}

    def work(snapshot: Any) -> list[int]:
        limits = []
        for _ in range(3):
            limits.append(snapshot.rows("shows")[0]["ms"])
            snapshot.rows("sleeps")
        return limits

    assert in_snapshot(pool, work, queries, 60_000, 2_000) == [2_000, 2_000, 2_000]
    first, second, third = in_snapshot(pool, work, queries, 1_500, 2_000)
    assert 1_500 >= first >= second + 200 >= third + 400
    with pytest.raises(DatabaseTimeout):
        in_snapshot(pool, work, queries, 300, 2_000)


def test_waiting_for_a_slot_is_taken_from_the_budget(fragile: PostgresServer, database: Tables) -> None:
    """Both wait behind the same lock: the second one's time began when it asked, not when it got the slot."""
    limits = {**BRISK, "POOL_SIZE": 1, "QUEUE_TIMEOUT_MS": 60_000}
    with Gunicorn(reader(fragile), **{**limits, "STATEMENT_TIMEOUT_MS": 1_500, "REQUEST_TIMEOUT_MS": 2_000}) as service:
        with locked(fragile.url(DATABASE)):
            assert [answer.status for answer in Asking(service, 2).all()] == [504, 504]
        # The first is cut after a statement's time, 1500, the other one after what is left to it.
        assert min(line["database_ms"] for line in service.access_lines() if line["status"] == 504) < 1_500


def test_a_server_that_falls_silent_is_given_up_though_every_packet_arrives(
    fragile: PostgresServer, database: Tables
) -> None:
    """No keepalive and no tcp_user_timeout helps here: something takes the packets, and nothing ever answers."""
    with (
        Proxy(fragile.port) as proxy,
        Gunicorn(reader(fragile, proxy.port), CONNECT_TIMEOUT_S=2, STATEMENT_TIMEOUT_MS=500) as service,
    ):
        assert is_whole(service.get())
        proxy.silent = True
        assert service.get("/health/ready").status == 503
        answer = service.get()
        assert (answer.status, answer.json()) == (503, UNREACHABLE)
        assert "NoAnswer, SQLSTATE None, in query caller" in service.err()
        assert "NoAnswer while connecting" in service.err()
        proxy.silent = False
        assert is_whole(service.get())
        assert service.get("/health/ready").status == 200


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="a network to swallow packets needs root and ip"
)
@pytest.mark.parametrize("idle", [True, False], ids=["under an idle connection", "under a query"])
def test_a_network_that_swallows_packets_is_cut_by_tcp(fragile: PostgresServer, database: Tables, idle: bool) -> None:
    """The statement's limit is far away: what ends the wait is tcp_user_timeout, or the keepalives."""
    limits = {"CONNECT_TIMEOUT_S": 2, "STATEMENT_TIMEOUT_MS": 600_000, "REQUEST_TIMEOUT_MS": 600_000}
    with ExitStack() as stack:
        cable = stack.enter_context(Cable())
        proxy = stack.enter_context(Proxy(fragile.port, cable.listener()))
        url = reader(fragile, proxy.port, cable.far)
        service = stack.enter_context(Gunicorn(url, **limits))
        assert is_whole(service.get())
        if idle:
            stack.enter_context(cable.swallowing())
            answer = service.get()
        else:
            stack.enter_context(locked(fragile.url(DATABASE)))
            asking = Asking(service)
            eventually(lambda: backends(database, waiting=True), "the request to wait behind the lock")
            stack.enter_context(cable.swallowing())
            answer = asking.one()
        assert (answer.status, answer.json()) == (503, UNREACHABLE)
        assert lost(service) == 1


@pytest.mark.parametrize(
    ("url", "between"),
    [
        pytest.param("", "admin-credits", id="a connection of its own"),
        pytest.param("&application_name=pooler", "pooler", id="a pooler's, which has a name"),
    ],
)
def test_what_a_dba_sees_of_a_request(fragile: PostgresServer, database: Tables, url: str, between: str) -> None:
    seen = "SELECT application_name, split_part(query, ':', 1) FROM pg_stat_activity WHERE usename = 'credits_reader'"
    with Gunicorn(reader(fragile) + url, **BRISK) as service:
        with locked(fragile.url(DATABASE)) as release:
            asking = Asking(service)
            eventually(lambda: backends(database, waiting=True), "the rollup to wait")
            assert database.execute(seen) == [("admin-credits", "-- credits_rollup")]
            release()
            asking.all()
        # Between requests nothing is open, and the connection still says whose it is.
        assert database.execute(seen) == [(between, "ROLLBACK")]
