"""Send the service more than a test can, and check that its memory does not grow: `make soak`."""

import http.client
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from database import private_server, seed
from live import ROLLUP_ALL, Gunicorn, ask
from service.config import Settings
from service.embedded.demo import ADMIN_KEY, DEMO_SECRET, READER
from service.embedded.postgres import PostgresServer

REQUESTS, CLIENTS = 100_000, 16
ACCOUNTS = 1_000_000
KEY = {"x-api-key": ADMIN_KEY}
CSV = KEY | {"Accept": "text/csv"}
MIX = [
    (ROLLUP_ALL, KEY, 200),
    (ROLLUP_ALL, CSV, 200),
    (ROLLUP_ALL, {}, 401),
    (f"{ROLLUP_ALL}&limit=0", KEY, 400),
]


def requests(server: PostgresServer) -> None:
    """Send requests of several kinds to two workers."""
    url = seed(server, "soak", events=1_000, accounts=100)
    with Gunicorn(url, WEB_CONCURRENCY=2, API_KEY_SECRET=DEMO_SECRET) as service:

        def client(first: int) -> Counter[int]:
            statuses: Counter[int] = Counter()
            with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
                for number in range(first, first + REQUESTS // 10 // CLIENTS):
                    path, headers, expected = MIX[number % len(MIX)]
                    status = ask(connection, path, headers).status
                    # On a busy machine QUEUE_TIMEOUT_MS may be too short.
                    assert status in (expected, 503), f"status {status} for {path}"
                    statuses[status] += 1
            return statuses

        workers, sizes, statuses = service.workers(), [], Counter[int]()
        started = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for _ in range(10):
                statuses += sum(clients.map(client, range(CLIENTS)), Counter())
                sizes.append(sum(worker.memory_info().rss for worker in workers))
        print(f"Memory of the workers after each tenth, in MB: {[size // 10**6 for size in sizes]}")
        backends = server.psql("-At", "-c", f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{READER}'")
        assert int(backends) <= 2 * Settings.pool_size, f"{backends} connections are left on the server"
        print(f"{REQUESTS / (time.monotonic() - started):.0f} requests a second, {statuses[503]} answered 503")
        assert service.workers() == workers, "a worker was replaced"
    # The first tenth fills pools and caches. After it, a leak of 50 bytes a request fails.
    assert sizes[-1] - sizes[0] < REQUESTS * 50, "memory grew"


def csv(server: PostgresServer) -> None:
    """Download the rollup of a million accounts."""
    url = seed(server, "million", events=1, accounts=ACCOUNTS)
    insert = "INSERT INTO public.usage_events (account_id, credits_deducted_cents) SELECT id, 5 FROM public.accounts"
    server.psql("-c", insert, "-c", "ANALYZE", database="million")
    limits = {"STATEMENT_TIMEOUT_MS": 120_000, "REQUEST_TIMEOUT_MS": 240_000, "API_KEY_SECRET": DEMO_SECRET}
    with Gunicorn(url, **limits) as service:
        service.get(f"{ROLLUP_ALL}&limit=500", CSV)
        (worker,) = service.workers()
        before, started = worker.memory_info().rss, time.monotonic()
        body = service.get(ROLLUP_ALL, CSV).body
        took_s, grown = time.monotonic() - started, worker.memory_info().rss - before
    print(f"{len(body) / 1e6:.0f} MB in {took_s:.1f} s, {grown / 1e6:.1f} MB of memory")
    # A line for each account, for the two that seed() adds, and for the header.
    assert body.count(b"\n") == ACCOUNTS + 3
    assert grown < 20e6, "memory grew with the answer"


with private_server() as server:
    requests(server)
    csv(server)
