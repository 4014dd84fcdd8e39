"""No request, worker or stop waits for a reader of the logs; the metrics count the lines that are dropped."""

import json
import os
import pty
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from conftest import Tables
from live import KEY, PATIENCE_S, Asking, Gunicorn, backends, eventually, locked, needs_unshare
from test_metrics import scrape

LIVE = "/health/live"
# Where there is no /proc, or it belongs to another user, a pipe cannot be opened again.
WITHOUT_PROC = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$@"', "sh")


def sockets() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def caught_up(reader: int) -> bytes:
    """Read what there is."""
    os.set_blocking(reader, False)
    read = b""
    with suppress(BlockingIOError):
        while data := os.read(reader, 65_536):
            read += data
    return read


def ask_until_lines_are_dropped(service: Gunicorn) -> tuple[int, int]:
    """Return the numbers of requests and of dropped lines; the last request may add a dropped line."""
    before = dropped = scrape(service)["log_lines_dropped_total"]
    asked = 1
    while dropped == before:
        assert {answer.status for answer in Asking(service, 40, LIVE).all()} == {200}
        dropped = scrape(service)["log_lines_dropped_total"]
        asked += 41
    return asked, int(dropped - before)


@pytest.mark.parametrize(
    ("ends", "launcher"),
    [
        pytest.param(os.pipe, (), id="pipe"),
        pytest.param(sockets, (), id="socket"),
        pytest.param(pty.openpty, (), id="terminal"),
        pytest.param(
            os.pipe,
            WITHOUT_PROC,
            marks=needs_unshare,
            id="pipe that cannot be opened again",
        ),
    ],
)
def test_a_reader_that_stops_reading_stops_nothing(
    reader_url: str, tables: Tables, owner_url: str, ends: Callable[[], tuple[int, int]], launcher: tuple[str, ...]
) -> None:
    reader, writer = ends()
    with Gunicorn(reader_url, logs=writer, launcher=launcher, WEB_CONCURRENCY=2) as service:
        caught_up(reader)
        asked, dropped = ask_until_lines_are_dropped(service)
        read = caught_up(reader)
        if ends is not pty.openpty:
            # Each line was written whole or not at all. A terminal takes half a line.
            lines = [line for line in map(json.loads, read.splitlines()) if "route" in line]
            # The last request made the pipe full, and its line can be short enough to have been written all the same.
            assert len(lines) in (asked - dropped - 1, asked - dropped)

        assert service.get(LIVE, {"X-Request-Id": "resumed"}).status == 200
        assert b'"request_id": "resumed"' in caught_up(reader)

        ask_until_lines_are_dropped(service)
        with locked(owner_url) as release:
            asking = Asking(service, 4)
            eventually(lambda: len(backends(tables, waiting=True)) == 4, "the requests to wait")
            service.process.send_signal(signal.SIGTERM)
            release()
            assert [answer.status for answer in asking.all()] == [200] * 4
        assert service.process.wait(PATIENCE_S) == 0
    # Another program that writes there still waits for the reader.
    assert os.get_blocking(writer) or launcher
    os.close(reader)
    os.close(writer)


def test_every_line_is_one_object(reader_url: str, tables: Tables) -> None:
    with Gunicorn(reader_url, LOG_LEVEL="DEBUG", POLL_SIZE="3") as service:
        tables.execute("REVOKE SELECT (name) ON public.accounts FROM credits_reader")
        try:
            assert service.get(headers=KEY | {"X-Request-Id": "mine"}).status == 503
        finally:
            tables.execute("GRANT SELECT (name) ON public.accounts TO credits_reader")
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(b"nonsense\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: service.err().count("Booting worker") == 2, "a new worker")
        assert service.stop() == 0
        lines = [json.loads(line) for line in service.err().splitlines()]
        assert len(service.access_lines()) > 0
    assert {(*line,) for line in lines} == {
        ("time", "level", "logger", "message"),
        ("time", "level", "logger", "message", "request_id"),
    }
    assert {line["logger"] for line in lines} == {"gunicorn.error", "service.config", "service.database.trust"}
    missing = "table accounts: columns not readable, policy present"
    assert [line["request_id"] for line in lines if line["message"] == missing] == ["mine"]
    assert all(datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0) for line in lines)


def nobody() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("logs", [nobody, full], ids=["no reader", "full disk"])
def test_lines_that_cannot_be_written_are_counted(reader_url: str, tables: Tables, logs: Callable[[], int]) -> None:
    descriptor = logs()
    with Gunicorn(reader_url, logs=descriptor) as service:
        before = scrape(service)["log_lines_dropped_total"]
        assert [service.get(headers=headers).status for headers in (KEY, {})] == [200, 401]
        # Three lines of the access log: the line of the first scrape is written after it.
        assert scrape(service)["log_lines_dropped_total"] == before + 3
        assert service.stop() == 0
    os.close(descriptor)


def test_closed_outputs_do_not_stop_the_start(reader_url: str, tables: Tables) -> None:
    with Gunicorn(reader_url, launcher=("sh", "-c", 'exec "$@" >&- 2>&-', "sh")) as service:
        assert service.get().status == 200
        assert service.stop() == 0
