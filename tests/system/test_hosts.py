"""Four hosts behind a load balancer that asks each for /health/ready: never are all out while requests succeed."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import READER_PASSWORD, Tables, create_database
from live import ROLLUP_ALL, Asking, Gunicorn, Proxy, backends, eventually, locked
from tools.demo.postgres import PostgresServer

DATABASE = "hosts"
POOL_SIZE = 2
LIMITS = {"POOL_SIZE": POOL_SIZE, "CONNECT_TIMEOUT_S": 2, "STATEMENT_TIMEOUT_MS": 1_000}


class Round(NamedTuple):
    """Which hosts were ready, and which answered a request after that."""

    ready: list[bool]
    answered: list[bool]


class Hosts:
    """Four services, each on a socket that outlives it. The first one reaches the database through a proxy."""

    def __init__(self, server: PostgresServer, proxy: Proxy, cleanup: ExitStack) -> None:
        url = server.url(DATABASE, user="credits_reader", password=READER_PASSWORD)
        through = url.replace(f":{server.port}/", f":{proxy.port}/")
        self._urls = [through, url, url, url]
        self._listeners = [
            cleanup.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)) for _ in self._urls
        ]
        self._cleanup = cleanup
        self.services = [self._start(host) for host in range(4)]
        self.rounds: list[Round] = []

    def _start(self, host: int) -> Gunicorn:
        return self._cleanup.enter_context(Gunicorn(self._urls[host], listener=self._listeners[host], **LIMITS))

    def replace(self, host: int) -> None:
        """Stop the service of a host and start another one, as a deploy does."""
        assert self.services[host].stop() == 0
        self.services[host] = self._start(host)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask all hosts in rounds until the block ends."""
        ended = threading.Event()

        def run() -> None:
            with ThreadPoolExecutor(4) as threads:
                while not ended.is_set():
                    ready, answered = (list(threads.map(self._asks(path), range(4))) for path in PATHS)
                    self.rounds.append(Round(ready, answered))

        watch = threading.Thread(target=run)
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()

    def _asks(self, path: str) -> Callable[[int], bool]:
        def asks(host: int) -> bool:
            try:
                return self.services[host].get(path).status == 200
            except (OSError, http.client.HTTPException):
                return False

        return asks

    def until(self, condition: Callable[[Round], bool], what: str, count: int = 1) -> list[Round]:
        """Wait for rounds that began from now on and fulfil a condition; return all rounds from now on."""
        begun = len(self.rounds) + 1
        eventually(lambda: sum(map(condition, self.rounds[begun:])) >= count, what)
        return self.rounds[begun:]


PATHS = ("/health/ready", ROLLUP_ALL)


def everything(each: Round) -> bool:
    return all(each.ready + each.answered)


def nothing(each: Round) -> bool:
    return not any(each.ready + each.answered)


@pytest.fixture
def database(server_folder: Path) -> Iterator[PostgresServer]:
    """A server that may be restarted."""
    folder = server_folder / "hosts"
    folder.mkdir()
    with PostgresServer(folder) as server:
        create_database(server, DATABASE)
        yield server


def test_at_no_time_are_all_hosts_out_while_requests_succeed(database: PostgresServer) -> None:
    tables = Tables(database.url(DATABASE))
    tables.seed_admin()
    with ExitStack() as cleanup:
        proxy = cleanup.enter_context(Proxy(database.port))
        hosts = Hosts(database, proxy, cleanup)

        # The pools of all hosts have every connection that the role may have.
        with locked(database.url(DATABASE)) as release:
            asking = [Asking(service, POOL_SIZE) for service in hosts.services]
            eventually(lambda: len(backends(tables, waiting=True)) == 4 * POOL_SIZE, "every connection to be used")
            release()
            assert {answer.status for each in asking for answer in each.all()} == {200}
        tables.execute(f"ALTER ROLE credits_reader CONNECTION LIMIT {4 * POOL_SIZE}")
        with hosts.watched():
            assert all(map(everything, hosts.until(everything, "rounds at the limit", 3)))
            tables.execute("ALTER ROLE credits_reader CONNECTION LIMIT 32")
            tables.connection.close()

            database.stop()
            hosts.until(nothing, "all hosts to be out")
            database.start()
            hosts.until(everything, "all hosts to be in")

            proxy.silent = True
            hosts.until(lambda each: each.ready == each.answered == [False, True, True, True], "one host to be out")
            proxy.silent = False
            proxy.cut()
            hosts.until(everything, "the host to be back")

            before = len(hosts.rounds)
            for host in range(4):
                hosts.replace(host)
            hosts.until(everything, "a round after the deploy")
            assert all(map(everything, hosts.rounds[before + 1 :]))

    # A database that comes back between two questions is no contradiction.
    for earlier, later in zip(hosts.rounds, hosts.rounds[1:], strict=False):
        assert any(earlier.ready + later.ready) or not any(earlier.answered)
