"""What takes too long for every run, `make soak`: a hundred thousand requests, a thousand cuts, ten thousand oddities.

It prints its figures. The other tests of this file are those of `make test` that have figures to print.
"""

import http.client
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from uuid import UUID

# Before test_fuzz reads it.
os.environ.setdefault("FUZZ_EXAMPLES", "10000")

import test_fuzz
import test_live_faults
import test_live_overload
from conftest import ADMIN, READER_PASSWORD, Tables, create_database
from live import KEY, ROLLUP_ALL, Gunicorn, Proxy, ask
from service.embedded.postgres import PostgresServer

REQUESTS = int(os.environ.get("SOAK_REQUESTS", "100000"))
CUTS = int(os.environ.get("SOAK_CUTS", "1000"))
CLIENTS = 16
# All that is answered without the database's being away, and nothing twice in a row.
MIX = [
    (ROLLUP_ALL, KEY, 200),
    (f"/api/admins/credits/events?account_id={ADMIN}", KEY, 200),
    (ROLLUP_ALL, KEY | {"Accept": "text/csv"}, 200),
    (ROLLUP_ALL, {}, 401),
    (f"{ROLLUP_ALL}&limit=0", KEY, 400),
    ("/nowhere", {}, 404),
    ("/health/live", {}, 200),
]

service = test_fuzz.service
fragile, database = test_live_faults.fragile, test_live_faults.database
test_no_request_is_answered_with_a_5xx_or_without_the_envelope = (
    test_fuzz.test_no_request_is_answered_with_a_5xx_or_without_the_envelope
)
test_under_32_clients_a_restarting_database_gives_only_right_answers_and_503s = (
    test_live_faults.test_under_32_clients_a_restarting_database_gives_only_right_answers_and_503s
)
test_200_clients_against_slow_queries = test_live_overload.test_200_clients_against_slow_queries


def test_memory_stays_flat(reader_url: str, tables: Tables) -> None:
    for number in range(100):
        account = UUID(int=number + 1)
        tables.account(account, f"Account {number}")
        tables.event(account, number, "2026-11-22 00:00:00+00")
        tables.event(ADMIN, number, "2026-11-22 00:00:00+00")
    samples: list[int] = []
    asked = refused = 0
    with Gunicorn(reader_url, WEB_CONCURRENCY=2) as service:
        lock = threading.Lock()

        def client(offset: int) -> None:
            nonlocal asked, refused
            with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
                for number in count(offset):
                    with lock:
                        if asked == REQUESTS:
                            return
                        asked += 1
                        if asked % (REQUESTS // 10) == 0:
                            sizes = [worker.memory_info().rss for worker in service.workers()]
                            samples.append(sum(sizes))
                            print(f"{asked} requests, MB: {[round(size / 1e6, 1) for size in sizes]}", flush=True)
                    path, headers, status = MIX[number % len(MIX)]
                    answered = ask(connection, path, headers).status
                    # On a busy machine half a second may be too short a wait for a slot.
                    assert answered in (status, 503)
                    with lock:
                        refused += answered == 503

        pids = [worker.pid for worker in service.workers()]
        started = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for future in [clients.submit(client, offset) for offset in range(CLIENTS)]:
                future.result()
        print(f"{asked / (time.monotonic() - started):.0f} requests a second, {refused} of them refused")
        assert [worker.pid for worker in service.workers()] == pids
    # Threads, pools and caches are filled in the first tenth; then fifty bytes a request would show.
    assert samples[-1] - samples[0] < REQUESTS * 50


def test_a_thousand_cuts_leak_nothing(fragile: PostgresServer, database: Tables) -> None:
    url = test_live_faults.reader
    with (
        Proxy(fragile.port) as proxy,
        Gunicorn(url(fragile, proxy.port), **test_live_faults.BRISK) as service,
    ):
        started = time.monotonic()
        outcome = test_live_faults.cut_often(service, proxy, fragile, database, CUTS)
        print(f"{CUTS} cuts in {time.monotonic() - started:.0f} s: {dict(outcome)}")


def test_a_csv_of_a_million_accounts_takes_no_memory(server: PostgresServer) -> None:
    create_database(server, "million")
    with closing(Tables(server.url("million")).connection) as owner, owner.cursor() as cursor:
        cursor.execute(
            "INSERT INTO public.accounts (name) SELECT 'Account number ' || n FROM generate_series(1, 1000000) AS n;"
            "INSERT INTO public.account_emails (account_id, email) SELECT id, id || '@x.example' FROM public.accounts;"
            "INSERT INTO public.usage_events (account_id, credits_deducted_cents) SELECT id, 5 FROM public.accounts;"
            "ANALYZE"
        )
    tables = Tables(server.url("million"))
    tables.seed_admin()
    tables.connection.close()
    limits = {"STATEMENT_TIMEOUT_MS": 120_000, "REQUEST_TIMEOUT_MS": 240_000, "GRACEFUL_TIMEOUT_S": 250}
    url = server.url("million", user="credits_reader", password=READER_PASSWORD)
    with Gunicorn(url, **limits) as service:
        service.get(f"{ROLLUP_ALL}&limit=500", KEY | {"Accept": "text/csv"})
        (worker,) = service.workers()
        before, started = worker.memory_info().rss, time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)) as connection:
            connection.request("GET", f"{ROLLUP_ALL}&", headers=KEY | {"Accept": "text/csv"})
            response = connection.getresponse()
            length = lines = 0
            while block := response.read(2**20):
                length += len(block)
                lines += block.count(b"\n")
        grown = worker.memory_info().rss - before
        took = time.monotonic() - started
        print(f"{lines - 1} accounts, {length / 1e6:.0f} MB in {took:.1f} s, {grown / 1e6:.1f} MB of memory")
        assert (response.status, lines, length) == (200, 1_000_001, int(response.headers["Content-Length"]))
        # The file is five times that.
        assert grown < 20e6
