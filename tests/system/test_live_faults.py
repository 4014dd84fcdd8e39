"""The database is stopped, slow or cut off: every answer is a complete 200, or a 503 or 504."""

import os
import shutil
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from conftest import DATABASE, NOVA, READER_PASSWORD, SECRET, Tables, create_database, in_snapshot
from live import (
    PATIENCE_S,
    ROLLUP_ALL,
    Answer,
    Asking,
    Cable,
    Gunicorn,
    Proxy,
    backends,
    eventually,
    locked,
    needs_unshare,
)
from service.budget import Budget
from service.config import Settings
from service.database.pool import Database
from service.database.snapshot import Snapshot
from service.errors import DatabaseTimeout
from service.queries import Query
from tools.demo.postgres import PostgresServer

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


def test_a_refused_extra_connection_is_no_unready_database(
    fragile: PostgresServer, service: Gunicorn, database: Tables
) -> None:
    """The pools of all hosts together have as many connections as the role may have."""
    fill_the_pool(service, database, fragile.url(DATABASE))
    revoked = "SELECT (key_hash) ON public.account_api_keys"
    database.execute("ALTER ROLE credits_reader CONNECTION LIMIT 4")
    try:
        assert service.get("/health/ready").status == 200
        with locked(fragile.url(DATABASE), "account_emails"):
            asking = Asking(service, 4)
            eventually(lambda: len(backends(database, waiting=True)) == 4, "every slot to be used")
            assert service.get("/health/ready").status == 200
        assert all(is_whole(answer) for answer in asking.all())
        database.execute(f"REVOKE {revoked} FROM credits_reader")
        assert service.get("/health/ready").json()["error"] == "Not ready: privileges."
    finally:
        database.execute(f"GRANT {revoked} TO credits_reader; ALTER ROLE credits_reader CONNECTION LIMIT 32")
    assert service.get("/health/ready").status == 200


def terminate(database: Tables, pids: list[int]) -> None:
    database.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,))
    eventually(lambda: not set(pids) & set(backends(database)), "the backends to end")


def lost(service: Gunicorn) -> int:
    """Return how many lost connections the service has noticed."""
    return service.err().count("SQLSTATE None, in query")


@contextmanager
def asked_by(count: int, service: Gunicorn) -> Iterator[Counter[bool]]:
    """Let clients ask until the block ends; count the complete answers (True) and the 503s (False)."""
    outcome: Counter[bool] = Counter()
    done = threading.Event()

    def client() -> None:
        while not done.is_set():
            outcome[is_whole(service.get())] += 1

    with ThreadPoolExecutor(count) as clients:
        running = [clients.submit(client) for _ in range(count)]
        try:
            yield outcome
        finally:
            done.set()
        for future in running:
            future.result(PATIENCE_S)


def test_the_service_starts_without_its_database_and_answers_once_that_is_up(
    fragile: PostgresServer, database: Tables
) -> None:
    def asked(path: str) -> tuple[int, Any]:
        answer = service.get(path)
        return answer.status, answer.json()

    fragile.stop()
    with Gunicorn(reader(fragile), **LIMITS) as service:
        assert asked("/health/live") == (200, {"status": "success"})
        failed = dict.fromkeys(("database", "privileges", "policies"), "failed")
        not_ready = {"status": "error", "error": "Not ready: database, privileges, policies.", "checks": failed}
        assert asked("/health/ready") == (503, not_ready)
        assert asked(ROLLUP_ALL) == (503, UNREACHABLE)
        assert "OperationalError while connecting: Connection refused" in service.err()
        fragile.start()
        assert is_whole(service.get())
        ready = {"status": "success", "checks": dict.fromkeys(failed, "ok"), "spend_source": "events"}
        assert asked("/health/ready") == (200, ready)


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


def test_a_request_that_loses_its_connection_is_run_again_once_in_a_new_snapshot(
    service: Gunicorn, fragile: PostgresServer, database: Tables
) -> None:
    def lose(before: int | None = None) -> int:
        (pid,) = eventually(lambda: backends(database, waiting=True), "the request to wait behind the lock")
        assert pid != before
        terminate(database, [pid])
        return int(pid)

    with locked(fragile.url(DATABASE), "account_emails") as release:
        asking = Asking(service)
        eventually(lambda: backends(database, waiting=True), "the snapshot to be taken")
        database.execute("INSERT INTO public.accounts (id) VALUES (%s) ON CONFLICT DO NOTHING", (str(NOVA),))
        database.event(str(NOVA), 1_000, "2026-11-22 00:00:00+00")
        lose()
        eventually(lambda: backends(database, waiting=True), "the request to wait again")
        release()
        body = asking.one().json()
        assert (body["total_count"], body["rows"][0]["account_id"]) == (len(ACCOUNTS) + 1, str(NOVA))
    with locked(fragile.url(DATABASE)):
        asking = Asking(service)
        lose(lose())
        answer = asking.one()
        assert (answer.status, answer.json(), answer.headers["retry-after"]) == (503, UNREACHABLE, "2")
    assert lost(service) == 3


def test_a_connection_is_replaced_when_it_is_old(
    fragile: PostgresServer, database: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Database(Settings(database_url=reader(fragile), api_key_secret=SECRET))

    def backend() -> Any:
        return pool.run(lambda connection: connection.execute("SELECT pg_backend_pid()", {}, 60_000), Budget(60_000))

    first = backend()
    assert backend() == first
    monkeypatch.setattr("service.database.pool.CONNECTION_LIFE_S", 0)
    assert backend() != first
    eventually(lambda: len(backends(database)) == 1, "the old connection to end")


def test_a_network_cut_in_the_middle_of_the_rows_is_retried_once(fragile: PostgresServer, database: Tables) -> None:
    with Proxy(fragile.port) as proxy, Gunicorn(reader(fragile, proxy.port), **LIMITS) as service:
        for cuts, whole in ((0, True), (1, True), (2, False), (0, True)):
            proxy.cut_after = [5_000] * cuts
            assert is_whole(service.get()) == whole
            assert not proxy.cut_after


def test_cuts_leak_no_slot_thread_or_descriptor(fragile: PostgresServer, database: Tables) -> None:
    with Proxy(fragile.port) as proxy, Gunicorn(reader(fragile, proxy.port), **LIMITS) as service:
        (worker,) = service.workers()
        # gunicorn starts its threads on demand and keeps them.
        eventually(lambda: Asking(service, 64).all() and worker.num_threads() >= 65, "every thread to be started")
        fill_the_pool(service, database, fragile.url(DATABASE))
        threads, descriptors = worker.num_threads(), worker.num_fds()

        def cut(number: int, before: int) -> bool:
            # The service may not notice a cut between two requests.
            proxy.cut() if number % 2 else terminate(database, backends(database))
            return lost(service) > before

        with asked_by(8, service) as outcome:
            for number in range(CUTS):
                eventually(partial(cut, number, lost(service)), "a cut to be noticed")
        print(f"{CUTS} cuts: {dict(outcome)}")
        assert outcome[True] > 0
        assert len(fill_the_pool(service, database, fragile.url(DATABASE))) == 4
        assert worker.num_threads() == threads
        eventually(lambda: worker.num_fds() <= descriptors, "the descriptors to be closed")


def test_under_32_clients_a_database_that_restarts_or_crashes_gives_only_right_answers_and_503s(
    fragile: PostgresServer, database: Tables
) -> None:
    def crash() -> None:
        os.kill(fragile.pid, signal.SIGKILL)

    with Gunicorn(reader(fragile), **LIMITS, WEB_CONCURRENCY=2) as service, asked_by(32, service) as outcome:
        for end in (fragile.stop, crash):
            eventually(lambda: is_whole(service.get()), "a complete answer")
            end()
            eventually(lambda: not is_whole(service.get()), "a refusal")
            eventually(lambda: service.get("/health/ready").status == 503, "the database to be noticed as missing")
            assert service.get("/health/live").status == 200
            fragile.start()
            eventually(lambda: service.get("/health/ready").status == 200, "readiness")
        eventually(lambda: is_whole(service.get()), "a complete answer after readiness")
    assert outcome[True] > 0
    assert outcome[False] > 0


def test_a_statement_past_its_limit_is_cancelled_by_the_server_and_a_504(
    fragile: PostgresServer, database: Tables
) -> None:
    with Gunicorn(reader(fragile), **{**LIMITS, "STATEMENT_TIMEOUT_MS": 300}) as service:
        assert is_whole(service.get())
        (pid,) = backends(database)
        # A shorter period does not help the query of the caller.
        for table, body in (("usage_events", SHORTER), ("account_api_keys", TOO_LONG)):
            with locked(fragile.url(DATABASE), table):
                answer = service.get()
            assert (answer.status, answer.json()) == (504, body)
        assert is_whole(service.get())
        # The connection is used again.
        assert backends(database) == [pid]
        assert "QueryCanceled, SQLSTATE 57014, in query " in service.err()


def test_the_limit_of_each_statement_is_the_time_that_the_request_has_left(
    fragile: PostgresServer, database: Tables
) -> None:
    text = "SELECT setting::int, pg_sleep(0.2)::text FROM pg_settings WHERE name = 'statement_timeout'"
    queries = {"limit": Query("limit", text, {}, ("limit", "slept"))}
    pool = Database(Settings(database_url=reader(fragile), api_key_secret=SECRET))

    def limits(snapshot: Snapshot) -> list[int]:
        return [snapshot.records("limit")[0]["limit"] for _ in range(3)]

    assert in_snapshot(pool, limits, queries, 60_000, 2_000) == [2_000, 2_000, 2_000]
    first, second, third = in_snapshot(pool, limits, queries, 1_500, 2_000)
    assert 1_500 >= first >= second + 200 >= third + 400
    with pytest.raises(DatabaseTimeout):
        in_snapshot(pool, limits, queries, 300, 2_000)


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


@pytest.fixture
def cable() -> Iterator[Cable]:
    with Cable() as cable:
        yield cable


@needs_cable
def test_a_network_that_drops_packets_is_given_up(fragile: PostgresServer, database: Tables, cable: Cable) -> None:
    """The statement timeout is far away: the keepalives end the wait of a query, tcp_user_timeout a new request."""
    limits = {"CONNECT_TIMEOUT_S": 2, "STATEMENT_TIMEOUT_MS": 40_000, "REQUEST_TIMEOUT_MS": 40_000}
    with (
        Proxy(fragile.port, cable.listener()) as proxy,
        Gunicorn(reader(fragile, proxy.port, cable.far), **limits) as service,
    ):
        fill_the_pool(service, database, fragile.url(DATABASE), 2)
        with locked(fragile.url(DATABASE)):
            waiting = Asking(service)
            eventually(lambda: backends(database, waiting=True), "the request to wait behind the lock")
            with cable.swallowing():
                for answer in (service.get(), waiting.one()):
                    assert (answer.status, answer.json()) == (503, UNREACHABLE)
        assert lost(service) == 2
        eventually(lambda: is_whole(service.get()), "the network to be back")


@needs_cable
def test_the_next_address_is_tried_when_one_drops_packets(
    fragile: PostgresServer, cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", READER_PASSWORD)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    port = fragile.port
    (tmp_path / "services").write_text(
        f"[two]\nhost={cable.far},127.0.0.1\nport={port}\ndbname={DATABASE}\nuser=credits_reader\n"
    )

    def user_at(url: str) -> Any:
        settings = Settings(database_url=url, api_key_secret=SECRET, connect_timeout_s=2)
        with closing(Database(settings).connect(Budget(60_000))) as connection:
            return connection.execute("SELECT current_user::text", {}, 60_000)

    urls = [
        f"postgresql://credits_reader@{cable.far}:{port},127.0.0.1:{port}/{DATABASE}",
        f"postgresql://credits_reader@/{DATABASE}?hostaddr={cable.far},127.0.0.1&port={port}",
        "postgresql:///?service=two",
    ]
    with cable.swallowing(), ThreadPoolExecutor(len(urls)) as threads:
        assert list(threads.map(user_at, urls)) == [[("credits_reader",)]] * len(urls)


@needs_cable
@needs_unshare
def test_the_next_address_of_a_name_is_tried_when_one_drops_packets(
    fragile: PostgresServer, database: Tables, cable: Cable, tmp_path: Path
) -> None:
    """In a mount namespace of its own, where /etc/hosts has the name and /etc/gai.conf the order of its addresses."""
    (tmp_path / "hosts").write_text(f"127.0.0.1 two.example\n{cable.far} two.example\n")
    (tmp_path / "gai.conf").write_text(f"precedence ::ffff:{cable.far}/128 100\n")
    bind = 'for name in hosts gai.conf; do mount --bind "$0/$name" "$(realpath /etc/$name)"; done && exec "$@"'
    url = reader(fragile, host="two.example")
    with (
        cable.swallowing(),
        Gunicorn(url, launcher=("unshare", "-m", "sh", "-c", bind, tmp_path), CONNECT_TIMEOUT_S=2) as service,
    ):
        assert is_whole(service.get())
        (line,) = [line for line in service.access_lines() if line["route"].endswith("/rollup")]
        assert line["total_ms"] > 1_500  # the first address was tried


@needs_unshare
def test_other_requests_do_not_wait_for_a_slow_name_server(
    fragile: PostgresServer, database: Tables, tmp_path: Path
) -> None:
    """In a mount namespace of its own, where resolv.conf has the name server of this test."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:1\n")
    bind = 'mount --bind "$0" "$(realpath /etc/resolv.conf)" && exec "$@"'
    url = reader(fragile, fragile.port, "slow.example")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names:
        names.bind(("127.0.0.77", 53))
        names.settimeout(PATIENCE_S)
        with Gunicorn(url, launcher=("unshare", "-m", "sh", "-c", bind, tmp_path / "resolv.conf")) as service:
            asking = Asking(service)
            asked = [names.recvfrom(512)]
            assert service.get("/health/live").status == 200
            asked.append(names.recvfrom(512))  # for the other family of addresses
            for query, resolver in asked:
                is_ipv4 = query[-4:-2] == b"\x00\x01"
                address = b"\xc0\x0c" + struct.pack("!HHIH4s", 1, 1, 0, 4, socket.inet_aton("127.0.0.1"))
                head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, is_ipv4, 0, 0)
                names.sendto(head + query[12:] + address * is_ipv4, resolver)
            assert asking.one().status == 200


@needs_cable
def test_the_server_ends_the_backends_of_a_cut_connection(
    fragile: PostgresServer, database: Tables, cable: Cable
) -> None:
    """The keepalives end the idle backend, tcp_user_timeout the one that has sent a notification."""
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


def test_what_a_dba_sees_of_a_request(fragile: PostgresServer, database: Tables) -> None:
    seen = "SELECT application_name, split_part(query, ':', 1) FROM pg_stat_activity WHERE usename = 'credits_reader'"
    with Gunicorn(f"{reader(fragile)}&application_name=pooler", **LIMITS) as service:
        with locked(fragile.url(DATABASE)):
            asking = Asking(service)
            eventually(lambda: backends(database, waiting=True), "the rollup to wait")
            assert database.execute(seen) == [("admin-credits", "-- credits_rollup")]
        assert is_whole(asking.one())
        # No transaction is open between requests.
        ((name, message),) = database.execute(seen)
        assert (name, message.split("\n")[0], message.split("\n")[-1]) == ("pooler", "ROLLBACK;", "-- fingerprint")
