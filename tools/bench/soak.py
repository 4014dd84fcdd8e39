"""Send the service more than a test can, and check that its memory does not grow: `make soak`."""

import argparse
import http.client
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg2
from psycopg2.extras import RealDictCursor, register_uuid

from database import private_server, seed
from live import ROLLUP_ALL, Answer, Gunicorn, ask
from model import PERIODS, Content, answer, window
from service.config import Settings
from service.schemas.responses import Event
from tools.demo.demo import ADMIN_KEY, DEMO_SECRET, READER, SQL
from tools.demo.postgres import PostgresServer

REQUESTS, CLIENTS = 100_000, 16
ACCOUNTS = 1_000_000
KEY = {"x-api-key": ADMIN_KEY}
CSV = KEY | {"Accept": "text/csv"}
WORKBOOK = KEY | {"Accept": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
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


def exports(server: PostgresServer) -> None:
    """Download the rollup of a million accounts as CSV and as a workbook, and of more than a workbook holds."""
    url = seed(server, "million", events=1, accounts=ACCOUNTS)
    insert = "INSERT INTO public.usage_events (account_id, credits_deducted_cents) SELECT id, 5 FROM public.accounts"
    server.psql("-c", insert, "-c", "ANALYZE", database="million")
    limits = {"STATEMENT_TIMEOUT_MS": 120_000, "REQUEST_TIMEOUT_MS": 600_000, "API_KEY_SECRET": DEMO_SECRET}
    with Gunicorn(url, **limits) as service:

        def export(headers: dict[str, str]) -> Answer:
            (worker,) = service.workers()
            # Measure the peak anew.
            Path(f"/proc/{worker.pid}/clear_refs").write_text("5")
            before, spent, started = worker.memory_info().rss, sum(worker.cpu_times()[:2]), time.monotonic()
            with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=600)) as connection:
                answer = ask(connection, ROLLUP_ALL, headers)
            took_s, spent = time.monotonic() - started, sum(worker.cpu_times()[:2]) - spent
            peak = int(Path(f"/proc/{worker.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1_024
            print(
                f"{answer.status}, {len(answer.body) / 1e6:.0f} MB in {took_s:.1f} s, of which the worker computed "
                f"{spent:.1f} s, with {(peak - before) / 1e6:.1f} MB of its memory"
            )
            assert peak - before < 50e6, "memory grew with the answer"
            return answer

        for headers in (CSV, WORKBOOK):
            service.get(f"{ROLLUP_ALL}&limit=500", headers)
        # A line for each account, for the two that seed() adds, and for the header.
        assert export(CSV).body.count(b"\n") == ACCOUNTS + 3
        assert export(WORKBOOK).status == 200
        insert = (
            "WITH added AS (INSERT INTO public.accounts (id) SELECT gen_random_uuid() FROM generate_series(1, 50000)"
            " RETURNING id) INSERT INTO public.usage_events (account_id) SELECT id FROM added"
        )
        server.psql("-c", insert, database="million")
        assert export(WORKBOOK).status == 400


def content_of(url: str) -> Content:
    """Read the rows of a database."""
    with closing(psycopg2.connect(url, cursor_factory=RealDictCursor)) as connection, connection.cursor() as cursor:
        register_uuid(conn_or_curs=connection)

        def rows(columns: str, table: str) -> list[dict[str, Any]]:
            cursor.execute(f"SELECT {columns} FROM public.{table}")
            return [dict(row) for row in cursor]

        cursor.execute("SELECT now() AS now")
        now = cursor.fetchone()["now"]
        events = rows(f"account_id, {', '.join(Event().fields)}", "usage_events")
        accounts = [tuple(row.values()) for row in rows("id, name", "accounts")]
        emails = [tuple(row.values()) for row in rows("account_id, email, updated_at", "account_emails")]
        return Content(now, accounts, emails, events)


def expected_bodies(content: Content) -> dict[str, dict[str, Any]]:
    """Return the answer to each request of the mix, computed in Python."""
    bodies = {}
    for period in PERIODS:
        asked = window(content.now, period, as_of=content.now)
        questions: list[tuple[str, dict[str, Any]]] = [("rollup", {"limit": 30, "page": page}) for page in (1, 2)]
        questions += [("breakdown", {"by": "source"}), ("days", {})]
        if asked.previous:
            questions += [("changes", {"limit": 50}), ("breakdown", {"by": "model", "compare": "previous"})]
        for id_, _ in content.accounts[:5]:
            questions += [("events", {"limit": 9, "account_id": id_}), ("days", {"account_id": id_})]
        for resource, arguments in questions:
            path = f"{resource}?{urlencode(asked.arguments | arguments)}"
            bodies[path] = answer(content, asked, resource, **arguments)
    return bodies


def mixed(server: PostgresServer, minutes: float) -> None:
    """Check every answer while the database and one of two services are disturbed all the time."""
    url = seed(server, "mixed", events=5_000, accounts=100)
    bodies = expected_bodies(content_of(server.url("mixed")))
    statuses, done = Counter[object](), threading.Event()

    def run(*statements: str) -> None:
        server.psql(*(part for statement in statements for part in ("-c", statement)), database="mixed")

    def client(service: Gunicorn, number: int) -> None:
        chosen = random.Random(number)
        while not done.is_set():
            path = chosen.choice(list(bodies))
            started = time.monotonic()
            try:
                answer = service.get(f"/api/admins/credits/{path}", KEY)
            except http.client.RemoteDisconnected:
                # A stopping worker closes connections that sent nothing for five seconds.
                assert time.monotonic() - started > 5, f"no answer for {path}"
                continue
            statuses[answer.status] += 1
            assert answer.status in (200, 503, 504), f"{answer.status} for {path}"
            assert answer.status != 200 or answer.json() == bodies[path], path

    alter = "ALTER TABLE public.usage_events "
    column = alter + "RENAME COLUMN {} TO {}"
    disturbances = [
        lambda: (server.stop(), server.start()),
        lambda: run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{READER}'"),
        lambda: run(*(f"{alter} ALTER credits_deducted_cents TYPE {type_}" for type_ in ("integer", "bigint"))),
        lambda: run(column.format("credits_deducted_cents", "n"), column.format("n", "credits_deducted_cents")),
        lambda: run(
            "BEGIN; CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM public.usage_events;"
            " TRUNCATE public.usage_events; INSERT INTO public.usage_events SELECT * FROM kept; COMMIT"
        ),
        lambda: run("SELECT usage_sums.refresh()"),
        lambda: None,
    ]
    server.psql("-f", SQL / "dba" / "sums.sql", database="mixed")
    options = {"WEB_CONCURRENCY": 2, "API_KEY_SECRET": DEMO_SECRET, "SPEND_SOURCE": "auto"}
    with (
        tempfile.TemporaryDirectory() as temporary,
        socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener,
        Gunicorn(url, TMPDIR=temporary, **options) as lasting,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        restarted = Gunicorn(url, listener=listener, **options)
        restarted.__enter__()
        clients = [threads.submit(client, (lasting, restarted)[number % 2], number) for number in range(CLIENTS)]
        sizes = []
        try:
            for tenth in range(1, 11):
                end = time.monotonic() + minutes * 6
                while time.monotonic() < end and not any(client.done() for client in clients):
                    random.choice(disturbances)()
                    done.wait(random.uniform(0, 2))
                restarted.__exit__()
                restarted = Gunicorn(url, listener=listener, **options)
                restarted.__enter__()
                workers = lasting.workers()
                sizes.append(sum(worker.memory_info().rss for worker in workers))
                backends = server.psql("-At", "-c", f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{READER}'")
                print(
                    f"{minutes * tenth / 10:.1f} minutes: {dict(statuses)}, {sizes[-1] / 1e6:.1f} MB,"
                    f" {sum(worker.num_fds() for worker in workers)} descriptors,"
                    f" {sum(worker.num_threads() for worker in workers)} threads, {backends.strip()} backends,"
                    f" {len(list(Path(temporary).rglob('*')))} temporary files",
                    flush=True,
                )
        finally:
            done.set()
            for client_ in clients:
                client_.result()
            restarted.__exit__()
    assert sizes[-1] - sizes[0] < 10e6, "memory grew"


parser = argparse.ArgumentParser()
parser.add_argument("--minutes", type=float, help="disturb the service for so long, instead of the rest")
minutes = parser.parse_args().minutes
# Stop the services too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
with private_server() as server:
    if minutes:
        mixed(server, minutes)
    else:
        requests(server)
        exports(server)
