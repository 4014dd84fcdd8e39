"""On SIGTERM the service answers the requests that it has accepted and ends with status 0."""

import http.client
import signal
from collections import Counter
from contextlib import suppress

import psutil
import pytest

from conftest import Tables
from live import PATIENCE_S, ROLLUP_ALL, Asking, Gunicorn, ask, backends, eventually, locked

LIMITS = {"QUEUE_TIMEOUT_MS": 60_000, "REQUEST_TIMEOUT_MS": 60_000}


@pytest.mark.parametrize("all_processes", [False, True], ids=["signal to the master", "signal to every process"])
def test_every_request_accepted_before_the_signal_is_answered(
    reader_url: str, tables: Tables, owner_url: str, all_processes: bool
) -> None:
    """Four requests have a connection to the database and twelve wait for one; another client is idle."""
    with Gunicorn(reader_url, **LIMITS) as service:
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
        assert ask(kept).status == 200
        with locked(owner_url) as release:
            asking = Asking(service, 16)
            eventually(lambda: len(backends(tables, waiting=True)) == 4, "every connection to be used")
            (worker,) = service.workers()
            # An accepted request is a connection of the worker, no longer one in the backlog of the listener.
            eventually(lambda: len(established(worker, service.port)) == 17, "all requests to be accepted")
            for process in [worker, psutil.Process(service.process.pid)] if all_processes else [service.process]:
                process.send_signal(signal.SIGTERM)
            eventually(lambda: "Handling signal: term" in service.err(), "the signal to be handled")
            release()
            assert Counter(answer.status for answer in asking.all()) == {200: 16}
        kept.close()
        assert service.process.wait(PATIENCE_S) == 0
    assert not backends(tables)


def established(process: psutil.Process, port: int) -> list[int]:
    return [
        connection.fd
        for connection in process.net_connections("tcp")
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
    ]


def test_a_request_that_exceeds_its_limit_is_answered_before_the_end(
    reader_url: str, tables: Tables, owner_url: str
) -> None:
    limits = {"STATEMENT_TIMEOUT_MS": 1_500, "REQUEST_TIMEOUT_MS": 2_000}
    with Gunicorn(reader_url, **limits) as service, locked(owner_url):
        asking = Asking(service, 4)
        eventually(lambda: len(backends(tables, waiting=True)) == 4, "every connection to be used")
        assert service.stop() == 0
        assert [answer.status for answer in asking.all()] == [504] * 4


def test_an_idle_service_ends_with_status_0_and_leaves_nothing(reader_url: str, tables: Tables) -> None:
    with Gunicorn(reader_url, WEB_CONCURRENCY=2) as service:
        assert service.get(ROLLUP_ALL).status == 200
        family = service.family()
        assert len(family) == 3
        assert service.stop() == 0
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.wait(PATIENCE_S)
        with pytest.raises(OSError, match="refused"):
            service.get(ROLLUP_ALL)
    eventually(lambda: not backends(tables), "the connections to be closed")
