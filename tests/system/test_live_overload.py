"""Under more requests than it can answer, the service refuses some with 503 and still answers health checks."""

import http.client
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import UUID

from conftest import ADMIN, DAYS, ROLLUP, Tables
from live import KEY, PATIENCE_S, ROLLUP_ALL, Answer, Asking, Gunicorn, ask, backends, eventually, locked

# The requests wait for a lock on accounts, which readiness does not read.
BUSY = {"status": "error", "error": "Too many requests are being answered; try again shortly."}
TOO_LARGE = {"status": "error", "error": "The answer is too large; ask for fewer rows, a shorter period, or CSV."}
# No statement or request ends because of its time limit.
LIMITS = {"POOL_SIZE": 4, "QUEUE_SIZE": 20, "STATEMENT_TIMEOUT_MS": 600_000, "REQUEST_TIMEOUT_MS": 600_000}


def healthy(service: Gunicorn) -> list[int]:
    return [service.get(path, headers={}).status for path in ("/health/live", "/health/ready")]


def busy(answers: list[Answer]) -> bool:
    assert {(answer.status, answer.headers["retry-after"]) for answer in answers} == {(503, "1")}
    assert all(answer.json() == BUSY for answer in answers)
    return True


def test_a_full_queue_refuses_requests_and_those_in_it_are_answered(
    reader_url: str, tables: Tables, owner_url: str
) -> None:
    """Of 34 requests 4 have a connection, 20 are in the queue and 10 are refused while those still wait."""
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=60_000) as service, locked(owner_url, "accounts") as release:
        asking = Asking(service, 34)
        eventually(lambda: len(asking.answers) == 10, "ten to be refused")
        eventually(lambda: len(backends(tables, waiting=True)) >= 4, "every connection to be used")
        assert busy(list(asking.answers))
        assert healthy(service) == [200, 200]
        assert len(backends(tables, waiting=True)) == 4
        release()
        assert Counter(answer.status for answer in asking.all()) == {503: 10, 200: 24}


def test_keys_of_others_do_not_take_the_places_of_an_admin(reader_url: str, tables: Tables, owner_url: str) -> None:
    """Of 60 requests with such keys 1 has a connection, 31 wait and 28 are refused; an admin has 24 places as before.

    The lock keeps every key from being looked up.
    """
    tables.account(UUID(int=1))
    tables.key("key-of-no-admin", UUID(int=1))
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=60_000) as service:
        assert service.get().status == 200
        with locked(owner_url, "account_api_keys") as release:
            unknown, known = (Asking(service, 30, headers={"x-api-key": key}) for key in ("unknown", "key-of-no-admin"))
            eventually(lambda: len(unknown.answers) + len(known.answers) >= 28, "28 to be refused")
            eventually(lambda: backends(tables, waiting=True), "a key to be looked up")
            used = len(backends(tables, waiting=True))
            admin = Asking(service, 25)
            eventually(lambda: admin.answers, "the admin's 25th to be refused")
            assert busy([*admin.answers, *unknown.answers, *known.answers])
            assert service.get("/health/live").status == 200
            release()
            assert Counter(answer.status for answer in admin.all()) == {200: 24, 503: 1}
            others = Counter(answer.status for answer in unknown.all() + known.all())
            assert (others.pop(503), others.keys(), others.total()) == (28, {401, 403}, 32)
            assert used == 1


def test_200_clients_against_slow_queries(reader_url: str, tables: Tables, owner_url: str) -> None:
    """196 requests get no connection within half a second and are refused while four others have one."""
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=500) as service, locked(owner_url, "accounts") as release:
        holders = Asking(service, 4)
        eventually(lambda: len(backends(tables, waiting=True)) == 4, "every connection to be used")
        crowd = Asking(service, 196)
        while len(crowd.answers) < 196:
            assert healthy(service) == [200, 200]
        assert busy(crowd.all())
        assert healthy(service) == [200, 200]
        assert not holders.answers
        release()
        assert [answer.status for answer in holders.all()] == [200] * 4


def test_readiness_checks_that_wait_leave_threads_for_other_requests(
    reader_url: str, tables: Tables, owner_url: str
) -> None:
    """Checks at the same time share a result. While a lock keeps the first one waiting, all are refused in time."""
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=1) as service:
        assert [answer.status for answer in Asking(service, 10, "/health/ready").all()] == [200] * 10
        with locked(owner_url, "pg_policy") as release:
            first = Asking(service, 1, "/health/ready")
            eventually(lambda: backends(tables, waiting=True), "readiness to wait")
            assert [answer.status for answer in Asking(service, 10, "/health/ready").all()] == [503] * 10
            assert service.get("/health/live").status == 200
            assert first.one().status == 503
            release()
            assert service.get("/health/ready").status == 200


def test_the_replacement_of_a_worker_drops_no_request(reader_url: str, tables: Tables) -> None:
    """Clients keep their connections, and each worker is replaced after 30 to 40 requests."""
    flags = ("--max-requests", "30", "--max-requests-jitter", "10")
    with Gunicorn(reader_url, *flags, WEB_CONCURRENCY=2) as service:

        def client() -> list[int]:
            with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)) as connection:
                return [ask(connection, ROLLUP_ALL, KEY).status for _ in range(40)]

        with ThreadPoolExecutor(8) as clients:
            for future in [clients.submit(client) for _ in range(8)]:
                assert future.result(PATIENCE_S * 2) == [200] * 40
        assert service.err().count("Booting worker with pid") > 4
        assert "Autorestarting worker after current request." in service.err()


def test_no_answer_takes_50_mb_of_a_worker(reader_url: str, tables: Tables) -> None:
    """An event on each of 150,000 days, and 100 names of 1 MB."""
    days, names = f"{DAYS}?period=all", f"{ROLLUP}?period=all"
    csv = KEY | {"Accept": "text/csv"}
    with Gunicorn(reader_url, **LIMITS) as service:
        (worker,) = service.workers()

        def peak_mb() -> float:
            status = Path(f"/proc/{worker.pid}/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) / 1_000

        def spend(first: int, last: int) -> None:
            tables.execute(
                "INSERT INTO public.usage_events (account_id, created_at) "
                "SELECT %s, timestamptz '1999-01-01' - n * interval '1 day' FROM generate_series(%s, %s) AS n",
                (ADMIN, first, last),
            )

        assert service.get(days).status == 200
        before = peak_mb()
        spend(1, 100_000)
        assert service.get(days).json()["total_count"] == 100_000
        spend(100_001, 150_000)
        refused = [service.get(days)]
        assert service.get(days, csv).body.count(b"\n") == 150_001
        tables.execute(
            "INSERT INTO public.accounts SELECT gen_random_uuid(), repeat('x', 1000000) FROM generate_series(1, 100)"
        )
        tables.execute("INSERT INTO public.usage_events (account_id) SELECT id FROM public.accounts")
        refused += [service.get(names), service.get(names, csv)]
        assert [(answer.status, answer.json()) for answer in refused] == [(503, TOO_LARGE)] * 3
        assert peak_mb() - before < 50
