"""Start the service under gunicorn, send it requests, and disturb its network.

It does not import conftest, because tools/bench imports it.
"""

import ctypes
import http.client
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psutil
import psycopg2
import pytest

from tools.demo.postgres import free_port

if TYPE_CHECKING:
    from conftest import Tables

ROOT = Path(__file__).parent.parent
ROLLUP_ALL = "/api/admins/credits/rollup?period=all"
SECRET = "a secret of the tests"
ADMIN_KEY = "key-of-the-admin"
KEY = {"x-api-key": ADMIN_KEY}
# How long a test waits for a condition; long, because the machine may be busy.
PATIENCE_S = 60
CLONE_NEWNET = 0x40000000
T = TypeVar("T")

needs_unshare = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")

# Everything that this process and the gunicorns it started have logged.
LOGGED: list[str] = []


def eventually(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until the condition returns a true value, and return that value."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain for {what}"
        time.sleep(0.02)
    return value


@dataclass(frozen=True)
class Answer:
    """An HTTP response; the names in ``headers`` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Gunicorn:
    """The service under gunicorn on a free port, with one worker unless WEB_CONCURRENCY says otherwise.

    ``flags`` are gunicorn's, ``settings`` environment variables. A ``listener`` is passed on as systemd passes on the
    socket of a socket unit. A ``launcher`` is a command that executes the rest of its arguments. ``logs`` is a
    descriptor for both outputs, which the test reads.
    """

    def __init__(
        self,
        database_url: str,
        *flags: str,
        listener: socket.socket | None = None,
        launcher: Sequence[str | Path] = (),
        logs: int | None = None,
        **settings: int | str,
    ) -> None:
        self.port = listener.getsockname()[1] if listener else free_port()
        # Temporary files, because a pipe that nobody reads fills up.
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - closed at the exit
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "API_KEY_SECRET": SECRET,
            "WEB_CONCURRENCY": "1",
            "PORT": str(self.port),
            **{name: str(value) for name, value in settings.items()},
        }
        self._workers = int(environment["WEB_CONCURRENCY"])
        activate = ("sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&0 0</dev/null', "sh") if listener else ()
        self.process = subprocess.Popen(
            [*activate, *launcher, sys.executable, "-W", "error", "-m", "gunicorn", *flags, "wsgi:app"],
            cwd=ROOT,
            env=environment,
            stdin=listener or subprocess.DEVNULL,
            stdout=logs or self._out,
            stderr=logs or self._err,
            # Ctrl-C in a terminal signals pytest alone, which stops gunicorn.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            eventually(self._lives, "gunicorn to start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            family = self.family()
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
        self.process.wait()
        LOGGED.extend((self.out(), self.err()))
        self._out.close()
        self._err.close()

    def _lives(self) -> bool:
        assert self.process.poll() is None, self.err()
        try:
            return self.get("/health/live").status == 200 and len(self.workers()) == self._workers
        except OSError:
            return False

    def get(self, path: str = ROLLUP_ALL, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """Send a request on a new connection; the default headers hold the admin's key."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S * 2)
        try:
            return ask(connection, path, headers, method)
        finally:
            connection.close()

    def stop(self) -> int:
        """Send SIGTERM, as systemd does, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def family(self) -> list[psutil.Process]:
        master = psutil.Process(self.process.pid)
        return [master, *master.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        return self.family()[1:]

    def out(self) -> str:
        return self._read(self._out)

    def err(self) -> str:
        return self._read(self._err)

    @staticmethod
    def _read(file: Any) -> str:
        # seek() would move the offset at which the child writes.
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")

    def access_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out().splitlines()]


def ask(
    connection: http.client.HTTPConnection,
    path: str = ROLLUP_ALL,
    headers: dict[str, str] | None = None,
    method: str = "GET",
) -> Answer:
    connection.request(method, path, headers=KEY if headers is None else headers)
    response = connection.getresponse()
    body = response.read()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, names, body)


class Asking:
    """Concurrent requests, each in a thread of its own. ``answers`` are in the order in which they arrive."""

    def __init__(
        self, service: Gunicorn, count: int = 1, path: str = ROLLUP_ALL, headers: dict[str, str] | None = None
    ) -> None:
        self.answers: list[Answer] = []
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._ask, args=(service, path, headers)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, service: Gunicorn, path: str, headers: dict[str, str] | None) -> None:
        try:
            self.answers.append(service.get(path, headers))
        except (OSError, http.client.HTTPException) as failure:
            self.failures.append(failure)

    def all(self) -> list[Answer]:
        for thread in self._threads:
            thread.join(PATIENCE_S * 2)
        assert not self.failures
        assert len(self.answers) == len(self._threads)
        return self.answers

    def one(self) -> Answer:
        (answer,) = self.all()
        return answer


class Proxy:
    """A TCP proxy in front of a server on this machine. It can cut its connections, or stop forwarding.

    While ``silent`` is true, it discards what it receives. For each number in ``cut_after`` it cuts one connection when
    the server has sent more than that many bytes on it.
    """

    def __init__(self, target_port: int, listener: socket.socket | None = None) -> None:
        self._target_port = target_port
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.silent = False
        self.cut_after: list[int] = []
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._sent: dict[socket.socket, int] = {}
        self._actions: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._act("end")
        self._thread.join(PATIENCE_S)
        self._selector.close()
        self._listener.close()

    def cut(self) -> None:
        """Reset every connection on both sides."""
        self._act("cut")

    def _act(self, action: str) -> None:
        self._actions.append(action)
        eventually(lambda: action not in self._actions, "the proxy")

    def _run(self) -> None:
        ended = False
        while not ended:
            for key, _ in self._selector.select(0.02):
                sock: Any = key.fileobj
                if sock is self._listener:
                    self._accept()
                elif sock in self._pairs:
                    self._pump(sock)
            if self._actions:
                for sock in list(self._pairs):
                    self._reset(sock)
                ended = "end" in self._actions
                self._actions.clear()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target_port))
        except OSError:
            client.close()
            return
        for sock, other in ((client, server), (server, client)):
            self._pairs[sock] = other
            self._selector.register(sock, selectors.EVENT_READ)
        self._sent[server] = 0

    def _pump(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65_536)
            if not data:
                self._reset(sock)
            elif not self.silent:
                if sock in self._sent and self.cut_after:
                    self._sent[sock] += len(data)
                    if self._sent[sock] > self.cut_after[0]:
                        data = data[: len(data) // 2]
                        self.cut_after.pop(0)
                        self._pairs[sock].sendall(data)
                        self._reset(sock)
                        return
                self._pairs[sock].sendall(data)
        except OSError:
            self._reset(sock)

    def _reset(self, sock: socket.socket) -> None:
        other = self._pairs.pop(sock, None)
        if other is None:
            return
        self._pairs.pop(other)
        for end in (sock, other):
            self._sent.pop(end, None)
            self._selector.unregister(end)
            # With a linger time of 0, close() sends RST instead of FIN.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Cable:
    """A virtual network link to another network namespace on this machine. It can drop its packets.

    It needs root. ``near`` and ``far`` are the addresses of its ends.
    """

    def __init__(self) -> None:
        # Addresses and names from the process id, so that two runs of the suite do not collide.
        pid = os.getpid()
        self.near, self.far = (f"10.213.{pid % 256}.{pid // 256 % 64 * 4 + end}" for end in (1, 2))
        self._name = f"ac-{pid}"
        self._links = (f"acn{pid}", f"acf{pid}")

    def __enter__(self) -> Self:
        self._ip("netns", "add", self._name)
        here, there = self._links
        try:
            self._ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self._name)
            self._ip("addr", "add", f"{self.near}/30", "dev", here)
            self._ip("-n", self._name, "addr", "add", f"{self.far}/30", "dev", there)
            self._ip("link", "set", here, "up")
            self._ip("-n", self._name, "link", "set", there, "up")
            (link,) = json.loads(self._ip("-n", self._name, "-j", "link", "show", there))
            # Without a permanent entry ARP reports the host as unreachable; across a router it could not.
            self._ip("neigh", "replace", self.far, "lladdr", link["address"], "dev", here, "nud", "permanent")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Deleting the namespace alone would remove the link later, asynchronously.
        with suppress(subprocess.CalledProcessError):
            self._ip("link", "delete", self._links[0])
        self._ip("netns", "delete", self._name)

    @staticmethod
    def _ip(*arguments: str) -> str:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout

    def listener(self) -> socket.socket:
        """Return a socket that listens at the far end."""
        return self.there(lambda: socket.create_server((self.far, 0)))

    def there(self, make: Callable[[], T]) -> T:
        """Make something at the far end, such as a socket, which stays there."""
        made: list[T] = []

        def run() -> None:
            # setns() changes the namespace of this thread only.
            with Path("/var/run/netns", self._name).open() as namespace:
                assert ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0
            made.append(make())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return made[0]

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Drop every packet to the far end without an ICMP error."""
        self._ip("-n", self._name, "addr", "del", f"{self.far}/30", "dev", self._links[1])
        try:
            yield
        finally:
            self._ip("-n", self._name, "addr", "add", f"{self.far}/30", "dev", self._links[1])


@contextmanager
def locked(owner_url: str, table: str = "usage_events") -> Iterator[Callable[[], None]]:
    """Lock a table, so that its readers wait; the end of the block or the yielded function releases the lock."""
    with closing(psycopg2.connect(owner_url)) as connection:
        connection.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield connection.rollback


def backends(tables: "Tables", waiting: bool | None = None) -> list[int]:
    """Return the process ids of the service's backends: all, or those that wait for a lock, or those that do not."""
    return [
        pid
        for pid, waits in tables.execute(
            "SELECT pid, coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity"
            " WHERE usename = 'credits_reader' AND application_name = 'admin-credits' ORDER BY pid"
        )
        if waiting in (None, waits)
    ]
