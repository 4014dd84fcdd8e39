"""More is asked than can be answered: the rest is told so, and the health checks never wait behind it."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import Tables
from live import KEY, PATIENCE_S, ROLLUP_ALL, Answer, Asking, Gunicorn, ask, backends, eventually, locked

BUSY = {"status": "error", "error": "Too many requests are being answered; try again shortly."}
LIMITS = {"POOL_SIZE": 4, "QUEUE_SIZE": 20, "STATEMENT_TIMEOUT_MS": 600_000}
LIMITS |= {"REQUEST_TIMEOUT_MS": 600_000}


@pytest.fixture
def patient(reader_url: str, tables: Tables) -> Iterator[Gunicorn]:
    """Nothing here ends by itself but the wait for a slot, and that after a minute: an answer before is at once."""
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=60_000) as service:
        yield service


def healthy(service: Gunicorn) -> list[int]:
    return [service.get(path, headers={}).status for path in ("/health/live", "/health/ready")]


def busy(answers: list[Answer]) -> bool:
    assert {(answer.status, answer.headers["retry-after"]) for answer in answers} == {(503, "1")}
    assert all(answer.json() == BUSY for answer in answers)
    return True


def test_who_finds_no_place_is_refused_at_once_and_who_waits_is_answered(
    patient: Gunicorn, tables: Tables, owner_url: str
) -> None:
    """Four slots and twenty places: of 34 that ask together ten are refused, and the others are still waiting then."""
    with locked(owner_url) as release:
        asking = Asking(patient, 34)
        eventually(lambda: len(asking.answers) == 10, "ten to be refused")
        assert busy(list(asking.answers))
        assert healthy(patient) == [200, 200]
        assert len(backends(tables, waiting=True)) == 4
        release()
        assert Counter(answer.status for answer in asking.all()) == {503: 10, 200: 24}


def test_200_clients_against_slow_queries(reader_url: str, tables: Tables, owner_url: str) -> None:
    """Whoever has no slot in half a second is refused; 196 are, while the four before them are still at it."""
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=500) as service, locked(owner_url) as release:
        holders = Asking(service, 4)
        eventually(lambda: len(backends(tables, waiting=True)) == 4, "every slot to be used")
        crowd = Asking(service, 196)
        while len(crowd.answers) < 196:
            assert healthy(service) == [200, 200]
        assert busy(crowd.all())
        assert healthy(service) == [200, 200]
        assert not holders.answers
        release()
        assert [answer.status for answer in holders.all()] == [200] * 4
        slowest = {
            what: max(line["total_ms"] for line in service.access_lines() if match(line["path"], line["status"]))
            for what, match in {
                "503": lambda _, status: status == 503,
                "live": lambda path, _: path == "/health/live",
                "ready": lambda path, _: path == "/health/ready",
            }.items()
        }
        print(f"slowest answers, ms: {slowest}")


def test_readiness_waits_for_nobody_who_waits_for_a_silent_database(
    reader_url: str, tables: Tables, owner_url: str
) -> None:
    """Ten ask for readiness while it cannot be found out: they leave threads for the others."""
    with Gunicorn(reader_url, **LIMITS, QUEUE_TIMEOUT_MS=200) as service:
        assert healthy(service) == [200, 200]
        with locked(owner_url, "pg_policy") as release:
            first = Asking(service, 1, "/health/ready")
            eventually(lambda: backends(tables, waiting=True), "readiness to wait")
            assert [answer.status for answer in Asking(service, 10, "/health/ready").all()] == [503] * 10
            assert service.get("/health/live").status == 200
            assert not first.answers
            release()
            assert first.one().status == 200


def test_a_worker_that_is_replaced_drops_nothing(reader_url: str, tables: Tables) -> None:
    """Clients keep their connections, as browsers and proxies do, while each worker lives for some thirty requests."""
    flags = ("--max-requests", "30", "--max-requests-jitter", "10")
    with Gunicorn(reader_url, *flags, WEB_CONCURRENCY=2) as service:
        pids: set[int] = set()
        statuses: Counter[int] = Counter()
        lock = threading.Lock()

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
            for _ in range(40):
                answer = ask(connection, ROLLUP_ALL, KEY)
                with lock:
                    statuses[answer.status] += 1
                    pids.update(worker.pid for worker in service.workers())
            connection.close()

        with ThreadPoolExecutor(8) as clients:
            for future in [clients.submit(client) for _ in range(8)]:
                future.result(PATIENCE_S * 2)
        assert statuses == {200: 320}
        assert len(pids) > 4
        assert "Autorestarting worker after current request." in service.err()
