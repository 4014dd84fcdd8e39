"""What asks and what is asked in the bench: gunicorn, psql, pgbench, and HTTP clients that take little time."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from service.embedded.demo import DEMO_SECRET, READER
from service.embedded.postgres import (
    PostgresServer,
    end_with_parent,
    free_port,
    libpq_free_environment,
    signals_held,
)

ROOT = Path(__file__).parent.parent
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
# gunicorn closes a connection on which nothing was asked for two seconds.
KEPT_S = 1.0
WORKERS = 2
STOP_PATIENCE_S = 5
# Nothing is refused or cut while 32 clients wait for the slowest answer; all other settings are the defaults.
PATIENCE = {
    "QUEUE_TIMEOUT_MS": "60000",
    "STATEMENT_TIMEOUT_MS": "60000",
    "REQUEST_TIMEOUT_MS": "180000",
    "GRACEFUL_TIMEOUT_S": "200",
}


@dataclass(frozen=True)
class Rate:
    """Whole answers per second, and how many requests were refused with a 503."""

    per_second: float
    refused: int = 0


def request_of(path: str, **headers: str) -> bytes:
    """Return the bytes of a GET; an underscore in a header's name stands for a hyphen."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Client:
    """A connection that is kept between requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._used = time.monotonic()

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Take in what has come, return the status when the answer is complete."""
        block = self.socket.recv(2**18)
        if not block:
            raise ConnectionError("the server closed a connection on which it owes an answer")
        self._received += block
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head) if end else None
        if length is None or len(body) < int(length[1]):
            return None
        self._received = b""
        self._used = time.monotonic()
        return int(head[9:12])

    def ask(self, request: bytes) -> float:
        """Return the milliseconds until a 200 was complete; opening a connection anew is not among them."""
        if time.monotonic() > self._used + KEPT_S:
            self.close()
            self._connect()
        started = time.perf_counter()
        self.send(request)
        while (status := self.receive()) is None:
            pass
        took = time.perf_counter() - started
        assert status == 200, f"status {status}"
        return took * 1_000

    def close(self) -> None:
        self.socket.close()


class Served:
    """An application under gunicorn as production runs it, on a free port; its access log goes nowhere.

    ``probe`` is a path that it answers at once, with 200.
    """

    def __init__(self, database_url: str, app: str = "wsgi:app", probe: str = "/health/live", **settings: str) -> None:
        self.port = free_port()
        self._probe = request_of(probe)
        parent = os.getpid()
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "API_KEY_SECRET": DEMO_SECRET,
            "PORT": str(self.port),
            "WEB_CONCURRENCY": str(WORKERS),
            "LOG_LEVEL": "WARNING",
            **PATIENCE,
            **settings,
        }
        with signals_held():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", app],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM, parent),
            )

    def __enter__(self) -> Self:
        try:
            while len(self._family()) <= WORKERS:
                assert self._process.poll() is None, "gunicorn ended; it says why above"
                time.sleep(0.05)
            for client in self.clients(WORKERS):
                client.close()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever is being answered has gone: nothing is to be waited for.
        self._process.send_signal(signal.SIGQUIT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_PATIENCE_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        master = psutil.Process(self._process.pid)
        return [master, *master.children()]

    def memory(self) -> str:
        """Say what it takes now, pages that are shared counted once."""
        megabytes = [process.memory_full_info().pss / 1e6 for process in self._family()]
        master, *workers = (f"{size:.0f}" for size in megabytes)
        return f"{sum(megabytes):.0f} MB (master {master}, workers {' and '.join(workers)})"

    def clients(self, count: int) -> list[Client]:
        """Connect clients, the same number to each worker: left to chance, who accepts them would decide the rate."""
        workers = self._family()[1:]
        found = []
        for number, worker in enumerate(workers):
            others = [other for other in workers if other != worker]
            try:
                for other in others:
                    other.suspend()
                for _ in range(number, count, len(workers)):
                    found.append(client := Client(self.port))
                    client.ask(self._probe)
            finally:
                for other in others:
                    other.resume()
        return found

    def load(self, request: bytes, seconds: float, clients: int) -> Rate:
        """Have clients ask, each as soon as it has its answer, for some seconds; then wait for what is under way."""
        asking = {client.socket.fileno(): client for client in self.clients(clients)}
        statuses: Counter[int] = Counter()
        started = time.perf_counter()
        with select.epoll() as poll:
            for descriptor, client in asking.items():
                poll.register(descriptor, select.EPOLLIN)
                client.send(request)
            while asking:
                for descriptor, _ in poll.poll():
                    status = asking[descriptor].receive()
                    if status is None:
                        continue
                    assert status in (200, 503), f"status {status}"
                    statuses[status] += 1
                    if time.perf_counter() < started + seconds:
                        asking[descriptor].send(request)
                    else:
                        asking.pop(descriptor).close()
        return Rate(statuses[200] / (time.perf_counter() - started), statuses[503])


class Psql:
    """One psql session, kept open; it says itself how long each statement took, from being sent to its last row."""

    def __init__(self, server: PostgresServer, database: str, user: str = READER) -> None:
        with signals_held():
            self._process = subprocess.Popen(
                [server.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"],
                cwd=ROOT,
                env=_libpq_environment(server, database, user),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        self.time("\\timing on\n\\o /dev/null")

    def time(self, script: str) -> float:
        """Run a script, return the milliseconds of its statements together."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{script}\n\\echo done\n")
        self._process.stdin.flush()
        total = 0.0
        for line in self._process.stdout:
            if line == "done\n":
                return total
            if match := re.match(r"Time: ([\d.]+) ms", line):
                total += float(match[1])
        raise AssertionError("psql ended; it says why above")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def pgbench(server: PostgresServer, database: str, script: Path, seconds: int, clients: int) -> Rate:
    """Return how often a second some clients of pgbench get through a script."""
    options = {"client": clients, "jobs": min(2, clients), "time": seconds, "file": script, "protocol": "simple"}
    done = subprocess.run(
        [server.binaries / "pgbench", "--no-vacuum", *(f"--{name}={value}" for name, value in options.items())],
        env=_libpq_environment(server, database, READER),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = re.search(r"^tps = ([\d.]+) \(without initial connection time\)", done.stdout, re.MULTILINE)
    assert found, f"pgbench got through nothing in {seconds} s"
    return Rate(float(found[1]))


def _libpq_environment(server: PostgresServer, database: str, user: str) -> dict[str, str]:
    address = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGDATABASE": database, "PGSSLMODE": "disable"}
    return {**libpq_free_environment(), **address, "PGUSER": user, "PGPASSWORD": server.password, "PGTZ": "UTC"}
