"""The database is stopped, slow or cut off: every answer is a complete 200, or a 503 or 504."""

import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from conftest import DATABASE, NOVA, READER_PASSWORD, SECRET, Tables, create_database, in_snapshot
from live import PATIENCE_S, ROLLUP_ALL, Answer, Asking, Cable, Gunicorn, Proxy, backends, eventually, locked
from service.budget import Budget
from service.config import Settings
from service.database import Database
from service.embedded.postgres import PostgresServer
from service.errors import DatabaseTimeout
from service.queries import Query

ACCOUNTS = [UUID(int=n) for n in range(1, 401)]
# `make soak` cuts more often.
CUTS = int(os.environ.get("CUTS", "16"))
UNREACHABLE = {"status": "error", "error": "The database cannot be reached; try again shortly."}
TOO_LONG = {"status": "error", "error": "The database took too long to answer; try again."}
SHORTER = {"status": "error", "error": "The database took too long to answer; ask for a shorter period."}
# The shortest CONNECT_TIMEOUT_S, because some tests wait for it.
LIMITS = {"CONNECT_TIMEOUT_S": 2, "STATEMENT_TIMEOUT_MS": 20_000, "REQUEST_TIMEOUT_MS": 25_000}


@pytest.fixture(scope="module")
def fragile(server_folder: Path) -> Iterator[PostgresServer]:
    """A server for this file alone, which stops and kills it."""
    folder = server_folder / "fragile"
    folder.mkdir(mode=0o755)
    # On every address, for the end of a Cable; pg_hba.conf allows only 127.0.0.1.
    with PostgresServer(folder, options={"listen_addresses": "*"}) as server:
        create_database(server, DATABASE)
        tables = Tables(server.url(DATABASE))
        tables.seed_admin()
        # The answer has about 60 kB, so that it can be cut in the middle.
        tables.insert("accounts", "id, name", [(account, f"Account {account.int}") for account in ACCOUNTS])
        tables.insert("usage_events", "account_id, credits_deducted_cents", [(account, 3) for account in ACCOUNTS])
        tables.connection.close()
        yield server


@pytest.fixture
def database(fragile: PostgresServer) -> Iterator[Tables]:
    """The owner's access to the fragile server, which is started if an earlier test stopped it."""
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
    with Gunicorn(reader(fragile), **LIMITS) as service:
        yield service


def is_whole(answer: Answer) -> bool:
    """Return True for a 200 with the right body and False for a 503 with the envelope; fail for anything else."""
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
    """Make the service open all of its connections; return their backends, which are idle then."""
    with locked(owner_url) as release:
        asking = Asking(service, slots)
        eventually(lambda: len(backends(database, waiting=True)) == slots, "every slot to be used")
        release()
        assert all(is_whole(answer) for answer in asking.all())
    return backends(database)


def terminate(database: Tables, pids: list[int]) -> None:
    database.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,))
    eventually(lambda: not set(pids) & set(backends(database)), "the backends to end")


def lost(service: Gunicorn) -> int:
    """Return how many lost connections the service has noticed."""
    return service.err().count("SQLSTATE None, in query")


def test_the_service_starts_without_its_database_and_answers_once_that_is_up(
    fragile: PostgresServer, database: Tables
) -> None:
    fragile.stop()
    with Gunicorn(reader(fragile), **LIMITS) as service:
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


def test_after_one_lost_connection_all_idle_ones_are_dropped_and_the_request_is_answered(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    pids = fill_the_pool(service, database, fragile.url(DATABASE))
    assert len(pids) == 4
    terminate(database, pids)
    assert is_whole(service.get())
    assert lost(service) == 1
    assert len(backends(database)) == 1
    # No other lost connection is used, although the whole pool is.
    fill_the_pool(service, database, fragile.url(DATABASE))
    assert lost(service) == 1


def test_the_service_recovers_from_the_crash_of_a_backend(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    """PostgreSQL then ends all backends, including the one that holds the lock, and restarts."""
    with locked(fragile.url(DATABASE)):
        asking = Asking(service, 4)
        first, *_ = eventually(lambda: backends(database, waiting=True), "the requests to wait behind the lock")
        os.kill(first, signal.SIGKILL)
        for answer in asking.all():
            is_whole(answer)
    eventually(lambda: is_whole(service.get()), "a complete answer")


def test_a_request_that_loses_its_connection_is_run_again_in_a_new_snapshot(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    with locked(fragile.url(DATABASE), "account_emails") as release:
        asking = Asking(service)
        (first,) = eventually(lambda: backends(database, waiting=True), "the rollup to wait behind the lock")
        database.execute("INSERT INTO public.accounts (id) VALUES (%s) ON CONFLICT DO NOTHING", (str(NOVA),))
        database.event(str(NOVA), 1_000, "2026-11-22 00:00:00+00")  # type: ignore[arg-type]
        terminate(database, [first])
        (second,) = eventually(lambda: backends(database, waiting=True), "the rollup to wait again")
        assert second != first
        release()
        body = asking.one().json()
    # The account was added after the first snapshot was taken.
    assert (body["total_count"], body["rows"][0]["account_id"]) == (len(ACCOUNTS) + 1, str(NOVA))


def test_a_connection_is_replaced_when_it_is_old(
    fragile: PostgresServer, database: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Database(Settings(database_url=reader(fragile), api_key_secret=SECRET))

    def backend() -> Any:
        return pool.run(lambda connection: connection.execute("SELECT pg_backend_pid()", {}, 60_000), Budget(60_000))

    first = backend()
    assert backend() == first
    monkeypatch.setattr("service.database.CONNECTION_LIFE_S", 0)
    assert backend() != first
    eventually(lambda: len(backends(database)) == 1, "the old connection to end")


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


def test_the_service_recovers_from_the_kill_of_the_postmaster(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
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
    ("cuts", "status"), [pytest.param(1, 200, id="cut once"), pytest.param(2, 503, id="cut twice")]
)
def test_a_network_cut_in_the_middle_of_the_rows_is_retried_once(
    fragile: PostgresServer, database: Tables, cuts: int, status: int
) -> None:
    with Proxy(fragile.port) as proxy, Gunicorn(reader(fragile, proxy.port), **LIMITS) as service:
        assert is_whole(service.get())
        proxy.cut_after = [5_000] * cuts
        answer = service.get()
        assert not proxy.cut_after
        assert answer.status == status
        assert is_whole(answer) == (status == 200)
        assert is_whole(service.get())


def test_a_query_that_a_standby_cancels_is_retried_on_a_new_connection(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    """clock.statement_timestamp() raises the SQLSTATE of a standby on every connection opened before an instant."""
    database.execute(
        """
        CREATE TABLE clock.conflict (until timestamptz NOT NULL);
        ALTER FUNCTION clock.statement_timestamp() RENAME TO undisturbed;
        CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM clock.conflict, pg_stat_activity
                WHERE pid = pg_backend_pid() AND backend_start < conflict.until
            ) THEN
                RAISE 'canceling statement due to conflict with recovery' USING ERRCODE = '40001';
            END IF;
            RETURN pg_catalog.statement_timestamp();
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
            "DROP FUNCTION clock.statement_timestamp(); DROP TABLE clock.conflict;"
            "ALTER FUNCTION clock.undisturbed() RENAME TO statement_timestamp"
        )
    assert is_whole(service.get())


def test_cuts_leak_no_slot_thread_or_descriptor(fragile: PostgresServer, database: Tables) -> None:
    with Proxy(fragile.port) as proxy, Gunicorn(reader(fragile, proxy.port), **LIMITS) as service:
        outcome = cut_often(service, proxy, fragile, database, CUTS)
        print(f"{CUTS} cuts: {dict(outcome)}")
        assert outcome["200"] > 0


def cut_often(service: Gunicorn, proxy: Proxy, server: PostgresServer, database: Tables, cuts: int) -> Counter[str]:
    """Cut the network and end the backends in turn while eight clients ask; check that nothing has leaked.

    Returns the number of answers of each status.
    """
    (worker,) = service.workers()
    fill_the_pool(service, database, server.url(DATABASE))
    # gunicorn starts its threads on demand and keeps them.
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
                    # The service may not notice a cut between two requests.
                    proxy.cut() if by_network else terminate(database, backends(database))
                    return lost(service) > before

                eventually(partial(cut, number % 2, lost(service)), "a cut to be noticed")
        finally:
            done.set()
        for future in running:
            future.result(PATIENCE_S)
    assert len(fill_the_pool(service, database, server.url(DATABASE))) == len(pids) == 4
    assert worker.num_threads() == threads
    eventually(lambda: worker.num_fds() <= descriptors, "the descriptors to be closed")
    return outcome


def test_under_32_clients_a_restarting_database_gives_only_right_answers_and_503s(
    fragile: PostgresServer, database: Tables
) -> None:
    with Gunicorn(reader(fragile), **LIMITS, WEB_CONCURRENCY=2) as service:
        outcome: Counter[bool] = Counter()
        done = threading.Event()

        def client() -> None:
            while not done.is_set():
                outcome[is_whole(service.get())] += 1

        with ThreadPoolExecutor(32) as clients:
            running = [clients.submit(client) for _ in range(32)]
            try:
                for _ in range(2):
                    eventually(lambda: is_whole(service.get()), "a complete answer")
                    fragile.stop()
                    eventually(lambda: not is_whole(service.get()), "a refusal")
                    fragile.start()
                    eventually(lambda: service.get("/health/ready").status == 200, "readiness")
                eventually(lambda: is_whole(service.get()), "a complete answer after readiness")
            finally:
                done.set()
            for future in running:
                future.result(PATIENCE_S)
        assert outcome[True] > 0
        assert outcome[False] > 0


def test_a_statement_past_its_limit_is_cancelled_by_the_server_and_a_504(
    fragile: PostgresServer, database: Tables
) -> None:
    events = f"/api/admins/credits/events?account_id={ACCOUNTS[0]}"
    with Gunicorn(reader(fragile), **{**LIMITS, "STATEMENT_TIMEOUT_MS": 300}) as service:
        assert is_whole(service.get())
        (pid,) = backends(database)
        for table, path, body in (
            ("usage_events", ROLLUP_ALL, SHORTER),
            ("usage_events", events, SHORTER),
            # A shorter period does not help the query of the caller.
            ("account_api_keys", ROLLUP_ALL, TOO_LONG),
        ):
            with locked(fragile.url(DATABASE), table):
                answer = service.get(path)
                assert (answer.status, answer.json()) == (504, body)
                assert backends(database, waiting=False) == [pid]
        assert is_whole(service.get())
        # The connection is used again.
        assert backends(database) == [pid]
        assert "QueryCanceled, SQLSTATE 57014, in query " in service.err()


def test_the_limit_of_each_statement_is_the_time_that_the_request_has_left(
    fragile: PostgresServer, database: Tables
) -> None:
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


def test_the_wait_for_a_connection_counts_as_time_of_the_request(fragile: PostgresServer, database: Tables) -> None:
    """Two requests wait behind a lock, the second one first for the only connection."""
    limits = {"POOL_SIZE": 1, "QUEUE_TIMEOUT_MS": 60_000, "STATEMENT_TIMEOUT_MS": 1_500, "REQUEST_TIMEOUT_MS": 2_000}
    with Gunicorn(reader(fragile), **limits) as service:
        with locked(fragile.url(DATABASE)):
            assert [answer.status for answer in Asking(service, 2).all()] == [504, 504]
        # The first is cancelled after 1,500 ms, the second after the 500 ms that it has left.
        assert min(line["database_ms"] for line in service.access_lines() if line["status"] == 504) < 1_500


def test_a_server_that_stops_answering_is_given_up(fragile: PostgresServer, database: Tables) -> None:
    """The kernel acknowledges every packet, so that neither keepalives nor tcp_user_timeout end the wait."""
    with (
        Proxy(fragile.port) as proxy,
        Gunicorn(reader(fragile, proxy.port), CONNECT_TIMEOUT_S=2, STATEMENT_TIMEOUT_MS=500) as service,
    ):
        assert is_whole(service.get())
        proxy.silent = True
        ready, rollup = Asking(service, path="/health/ready"), service.get()
        assert ready.one().status == 503
        assert (rollup.status, rollup.json()) == (503, UNREACHABLE)
        assert "NoAnswer, SQLSTATE None, in query " in service.err()
        assert "NoAnswer while connecting" in service.err()
        proxy.silent = False
        assert is_whole(service.get())
        assert service.get("/health/ready").status == 200


needs_cable = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="a network that drops packets needs root and ip"
)


@needs_cable
@pytest.mark.parametrize("idle", [True, False], ids=["under an idle connection", "under a query"])
def test_a_network_that_drops_packets_is_given_up(fragile: PostgresServer, database: Tables, idle: bool) -> None:
    """The statement timeout is far away: tcp_user_timeout or the keepalives end the wait. A late end gives a 504."""
    limits = {"CONNECT_TIMEOUT_S": 2, "STATEMENT_TIMEOUT_MS": 40_000, "REQUEST_TIMEOUT_MS": 40_000}
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


@needs_cable
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://credits_reader@/{database}?hostaddr={far},127.0.0.1&port={port}",
        "postgresql:///?service=two",
    ],
)
def test_the_next_address_is_tried_when_one_swallows_packets(
    fragile: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PGPASSWORD", READER_PASSWORD)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with Cable() as cable, cable.swallowing():
        names = {"database": DATABASE, "far": cable.far, "port": fragile.port}
        service = "[two]\nhost={far},127.0.0.1\nport={port}\ndbname={database}\nuser=credits_reader\n"
        (tmp_path / "services").write_text(service.format(**names))
        settings = Settings(database_url=url.format(**names), api_key_secret=SECRET, connect_timeout_s=2)
        with closing(Database(settings).connect(Budget(60_000))) as connection:
            assert connection.execute("SELECT current_user::text", {}, 60_000) == [("credits_reader",)]


@needs_cable
def test_the_server_ends_the_backends_of_a_cut_connection(fragile: PostgresServer, database: Tables) -> None:
    """The keepalives end the idle backend, tcp_user_timeout the one that has sent a notification."""
    with Cable() as cable:
        ((hba,),) = database.execute("SHOW hba_file")
        with Path(hba).open("a") as file:
            file.write(f"host all credits_reader {cable.far}/32 scram-sha-256\n")
        database.execute("SELECT pg_reload_conf()")
        url = f"{reader(fragile, host=cable.near)}&application_name=admin-credits"
        idle, listening = (cable.there(lambda: psycopg2.connect(url)) for _ in range(2))
        listening.autocommit = True
        listening.cursor().execute("LISTEN news")
        with closing(idle), closing(listening), cable.swallowing():
            assert len(backends(database)) == 2
            database.execute("NOTIFY news")
            eventually(lambda: not backends(database), "the backends to end")


@pytest.mark.parametrize(
    ("url", "between"),
    [
        pytest.param("", "admin-credits", id="without an application_name"),
        pytest.param("&application_name=pooler", "pooler", id="with an application_name"),
    ],
)
def test_what_a_dba_sees_of_a_request(fragile: PostgresServer, database: Tables, url: str, between: str) -> None:
    seen = "SELECT application_name, split_part(query, ':', 1) FROM pg_stat_activity WHERE usename = 'credits_reader'"
    with Gunicorn(reader(fragile) + url, **LIMITS) as service:
        with locked(fragile.url(DATABASE)) as release:
            asking = Asking(service)
            eventually(lambda: backends(database, waiting=True), "the rollup to wait")
            assert database.execute(seen) == [("admin-credits", "-- credits_rollup")]
            release()
            asking.all()
        # No transaction is open between requests.
        assert database.execute(seen) == [(between, "ROLLBACK;\n-- fingerprint")]
