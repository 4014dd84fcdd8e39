"""Time requests, psql and pgbench."""

import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from live import ROOT, Gunicorn
from tools.demo.demo import ADMIN_KEY
from tools.demo.postgres import find_binaries, libpq_free_environment

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Client:
    """An HTTP connection with the demo admin's key; http.client would add more time than some requests take."""

    def __init__(self, service: Gunicorn) -> None:
        self._socket = socket.create_connection(("127.0.0.1", service.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def time(self, path: str) -> float:
        """Return the milliseconds until a 200 is complete."""
        started = time.perf_counter()
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nx-api-key: {ADMIN_KEY}\r\n\r\n".encode())
        received, length, body = b"", None, b""
        while not length or len(body) < int(length[1]):
            block = self._socket.recv(2**18)
            assert block, "the server closed the connection"
            received += block
            head, end, body = received.partition(b"\r\n\r\n")
            length = CONTENT_LENGTH.search(head) if end else None
        assert head.startswith(b"HTTP/1.1 200 "), f"{head!r} for {path}"
        return (time.perf_counter() - started) * 1_000


def load(service: Gunicorn, path: str, seconds: float, count: int) -> float:
    """Have clients repeat a request; return the answers per second."""
    clients = [Client(service) for _ in range(count)]
    started = time.monotonic()

    def repeat(client: Client) -> int:
        answers = 0
        while time.monotonic() < started + seconds:
            client.time(path)
            answers += 1
        return answers

    with ThreadPoolExecutor(count) as threads:
        answers = sum(threads.map(repeat, clients))
    return answers / (time.monotonic() - started)


class Psql:
    """A psql session that times each statement itself."""

    def __init__(self, url: str) -> None:
        command = [find_binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", url]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=libpq_free_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.time("\\timing on\n\\o /dev/null")

    def time(self, script: str) -> float:
        """Run a script, and return the milliseconds of its statements together."""
        assert self._process.stdin
        assert self._process.stdout
        print(script, "\\echo done", sep="\n", file=self._process.stdin, flush=True)
        total_ms = 0.0
        for line in self._process.stdout:
            if line == "done\n":
                return total_ms
            if line.startswith("Time: "):
                total_ms += float(line.split()[1])
        raise AssertionError("psql failed; its message is above")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def pgbench(url: str, script: Path, seconds: int, count: int) -> float:
    """Have clients of pgbench repeat a script; return how often a second they complete it."""
    options = {"client": count, "jobs": min(2, count), "time": seconds, "file": script, "protocol": "simple"}
    command = [find_binaries() / "pgbench", "--no-vacuum", *(f"--{name}={value}" for name, value in options.items())]
    printed = subprocess.check_output([*command, url], env=libpq_free_environment(), text=True)
    found = re.search(r"^tps = ([\d.]+) \(without initial connection time\)", printed, re.MULTILINE)
    return float(found[1]) if found else 0.0
