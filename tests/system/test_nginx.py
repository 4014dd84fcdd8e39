"""The service behind the nginx.conf in deploy/: answers pass unchanged, slow clients do not reach the service."""

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import psutil
import pytest

from conftest import ADMIN_KEY, NOVA, Tables, self_signed
from live import KEY, PATIENCE_S, ROLLUP_ALL, ROOT, Answer, Gunicorn, ask, eventually
from service.config import Settings
from tools.demo.postgres import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIGURATION = ROOT / "deploy" / "nginx.conf"
UNIT = ROOT / "deploy" / "admin-credits.service"
# Together more than the buffers of the sockets between service and client hold.
EVENTS = 16_000
RESTARTS = int(os.environ.get("RESTARTS", "1"))
LONG = "x" * 1_000

needs_nginx = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="nginx or openssl is not installed"
)


@dataclass
class Nginx:
    """A running nginx with the shipped configuration."""

    port: int
    log: Path
    trust: ssl.SSLContext

    def connect(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S, source_address=(source, 0))
        return self.trust.wrap_socket(raw, server_hostname="credits.example")

    def get(self, path: str = ROLLUP_ALL, headers: dict[str, str] | None = None, source: str = "127.0.0.1") -> Answer:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.sock = self.connect(source)
        try:
            return ask(connection, path, headers)
        finally:
            connection.close()


@pytest.fixture(scope="module")
def service(reader_url: str) -> Iterator[Gunicorn]:
    """A service with 42 threads: that many slow clients would block it."""
    with Gunicorn(reader_url, POOL_SIZE=1, QUEUE_SIZE=1) as service:
        yield service


@pytest.fixture(scope="module")
def nginx(service: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx_before(service.port, tmp_path_factory.mktemp("nginx")) as nginx:
        yield nginx


@contextmanager
def nginx_before(service_port: int, tmp_path: Path) -> Iterator[Nginx]:
    port, log = free_port(), tmp_path / "admin-credits.log"
    pem, key = self_signed(tmp_path, "DNS:credits.example")
    shipped = CONFIGURATION.read_text()
    for named, ours in [
        ("127.0.0.1:8000", f"127.0.0.1:{service_port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/certs/credits.example.pem", str(pem)),
        ("/etc/ssl/private/credits.example.key", str(key)),
        ("/var/log/nginx/admin-credits.log", str(log)),
        ("/var/log/nginx/admin-credits.error.log", str(tmp_path / "error.log")),
    ]:
        assert named in shipped
        shipped = shipped.replace(named, ours)
    whole = tmp_path / "nginx.conf"
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    whole.write_text(
        f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; worker_processes 1;"
        f"events {{}} http {{ {folders} access_log off; {shipped} }}"
    )
    process = subprocess.Popen([str(NGINX), "-p", tmp_path, "-c", whole], stderr=subprocess.DEVNULL)
    try:
        trust = ssl.create_default_context(cafile=str(pem))
        nginx = Nginx(port, log, trust)

        def listening() -> bool:
            assert process.poll() is None, (tmp_path / "error.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually(listening, "nginx to listen")
        yield nginx
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def connected(service: Gunicorn) -> int:
    """Return the number of the service's open connections to clients."""
    (worker,) = service.workers()
    return sum(
        connection.laddr.port == service.port and connection.status == psutil.CONN_ESTABLISHED
        for connection in worker.net_connections("tcp")
    )


@needs_nginx
def test_an_answer_passes_unchanged(nginx: Nginx, service: Gunicorn, tables: Tables) -> None:
    name = "\N{MONEY BAG}" * 200
    for number in range(3):
        tables.account(UUID(int=number), name)
        tables.event(UUID(int=number), 1, "2026-11-22 00:00:00+00")
    for path, key in (
        (ROLLUP_ALL, KEY),
        (ROLLUP_ALL, {"Authorization": f"Bearer {ADMIN_KEY}"}),
        (f"{ROLLUP_ALL}&limit=0", KEY),
        ("/nowhere", {}),
        ("/health/ready", {}),  # allowed from this machine
        # The longest headers: Link repeats the text for each of four pages.
        (f"{ROLLUP_ALL}&limit=1&page=2&q={quote(name)}", KEY),
    ):
        direct, proxied = (sent.get(path, {**key, "X-Request-Id": "mine"}) for sent in (service, nginx))
        for own in ("date", "server", "connection", "server-timing", "as-of", "window-end", "etag", "link"):
            assert (own in direct.headers) == (own in proxied.headers)
            direct.headers.pop(own, None)
            proxied.headers.pop(own, None)
        assert proxied == direct
    assert b'\nadmin_credits_check{check="database"} 1\n' in nginx.get("/metrics", {}).body


@needs_nginx
def test_slow_and_silent_clients_do_not_reach_the_service(nginx: Nginx, service: Gunicorn, tables: Tables) -> None:
    slow = [nginx.connect() for _ in range(200)]
    for number, client in enumerate(slow):
        if number % 2:
            client.sendall(b"GET /api/admins/credits/rollup HTTP/1.1\r\nHost: credits.example\r\nX-Slow: ")
    for _ in range(10):
        assert nginx.get().status == 200
    assert connected(service) == 0
    for client in slow:
        client.close()


@needs_nginx
def test_a_client_that_does_not_read_blocks_no_thread_and_the_log_does_not_name_its_account(
    nginx: Nginx, service: Gunicorn, tables: Tables
) -> None:
    tables.account(NOVA)
    tables.execute(
        "INSERT INTO public.usage_events (account_id, model_id, credits_deducted_cents)"
        " SELECT %s, %s, 1 FROM generate_series(1, %s)",
        (str(NOVA), LONG, EVENTS),
    )
    path = f"/api/admins/credits/events?account_id={NOVA}&period=all"
    lazy = nginx.connect()
    lazy.sendall(
        f"GET {path} HTTP/1.1\r\nHost: credits.example\r\nAccept: text/csv\r\nConnection: close\r\n"
        f"x-api-key: {ADMIN_KEY}\r\n\r\n".encode()
    )
    eventually(lambda: [line for line in service.access_lines() if line["route"] == path.split("?")[0]], "the answer")
    eventually(lambda: connected(service) == 0, "the service to have sent it")
    received = b"".join(iter(lambda: lazy.recv(1_048_576), b""))
    lazy.close()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) > 15_000_000
    assert f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"
    eventually(lambda: " GET /api/admins/credits/events 200 " in nginx.log.read_text(), "its line in the log")
    assert str(NOVA) not in nginx.log.read_text()


@needs_nginx
def test_a_client_that_sends_too_many_requests_gets_a_429_and_others_an_answer(nginx: Nginx, tables: Tables) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", nginx.port)
    connection.sock = nginx.connect("127.0.0.2")

    def first_429(headers: dict[str, str]) -> tuple[int, Answer]:
        # nginx closes a connection after 1,000 requests.
        for number in range(1, 900):
            answer = ask(connection, headers=headers)
            if answer.status == 429:
                return number, answer
        raise AssertionError("no request was refused")

    number, answer = first_429({})
    assert number > 201
    assert answer.json() == {"status": "error", "error": "Too many requests from this address; try again shortly."}
    sent = {
        "retry-after": "1",
        "content-type": "application/json",
        "cache-control": "private, no-cache",
        "access-control-allow-origin": "*",
    }
    assert answer.headers == answer.headers | sent
    _, page = first_429({"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers == page.headers | {"retry-after": "1", "content-type": "text/html; charset=utf-8"}
    assert b"<p>Try again shortly.</p>" in page.body
    assert nginx.get(source="127.0.0.3").status == 200
    connection.close()


@needs_nginx
def test_a_client_has_at_most_40_requests_at_once(tmp_path: Path) -> None:
    """The service does not answer, so that every request stays."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as silent,
        nginx_before(silent.getsockname()[1], tmp_path) as nginx,
        ExitStack() as clients,
    ):
        silent.settimeout(PATIENCE_S)

        def client(source: str) -> ssl.SSLSocket:
            sock = clients.enter_context(nginx.connect(source))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: credits.example\r\n\r\n")
            return sock

        for _ in range(40):
            client("127.0.0.1")
            clients.enter_context(silent.accept()[0])
        assert client("127.0.0.1").recv(100).startswith(b"HTTP/1.1 429 ")
        client("127.0.0.2")
        clients.enter_context(silent.accept()[0])


@needs_nginx
def test_without_the_service_clients_get_the_envelope(nginx: Nginx, service: Gunicorn, tables: Tables) -> None:
    """The last test of this file that uses the service."""
    assert nginx.get().status == 200
    assert service.stop() == 0
    answer = nginx.get()
    assert (answer.status, answer.json()) == (
        503,
        {"status": "error", "error": "The service cannot be reached; try again shortly."},
    )
    sent = {"retry-after": "2", "content-type": "application/json", "access-control-allow-origin": "*"}
    assert answer.headers == answer.headers | sent
    page = nginx.get("/", {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert b"<p>Try again shortly.</p>" in page.body
    assert "period=all" not in nginx.log.with_name("error.log").read_text()


@needs_nginx
def test_restarts_and_reloads_lose_no_request(reader_url: str, tables: Tables, tmp_path: Path) -> None:
    """50 clients while the socket outlives the service as with admin-credits.socket.

    Half of them send through nginx, each from another address.
    """
    outcomes: Counter[object] = Counter()
    enough = threading.Event()

    def send(get: Callable[[], Answer]) -> None:
        while not enough.is_set():
            try:
                answer = get()
                outcomes[answer.status, answer.headers.get("retry-after")] += 1
            except (OSError, http.client.HTTPException) as failure:
                outcomes[repr(failure)] += 1

    def fifty_more() -> None:
        before = outcomes.total()
        eventually(lambda: outcomes.total() >= before + 50, "50 answers")

    with (
        socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener,
        nginx_before(listener.getsockname()[1], tmp_path) as nginx,
    ):
        for restart in range(RESTARTS + 1):
            with Gunicorn(reader_url, listener=listener, WEB_CONCURRENCY=2) as service:
                if restart == 0:
                    proxied = [partial(nginx.get, source=f"127.0.1.{number}") for number in range(1, 26)]
                    clients = [threading.Thread(target=send, args=[get]) for get in [*proxied, *[service.get] * 25]]
                    for client in clients:
                        client.start()
                    service.process.send_signal(signal.SIGHUP)
                    eventually(lambda: service.err().count("Worker exiting") == 2, "new workers")
                fifty_more()
                if restart == RESTARTS:
                    enough.set()
                    for client in clients:
                        client.join()
    print(outcomes)  # RESTARTS=20 and pytest -s measure it
    assert outcomes[200, None] >= RESTARTS * 50
    assert outcomes.keys() <= {(200, None), (503, "1"), (503, "2")}


def test_nginx_and_systemd_wait_longer_than_the_service_may_take() -> None:
    settings = Settings(database_url="postgresql://x", api_key_secret="x")
    waits = re.findall(r"proxy_(?:read|send)_timeout (\d+)s;", CONFIGURATION.read_text())
    assert len(waits) == 2
    assert all(int(wait) * 1_000 > settings.request_timeout_ms + 2_000 for wait in waits)
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(patience) > settings.graceful_timeout_s


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    # systemd-analyze checks that the program exists.
    program = tmp_path / "gunicorn"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for shipped in (UNIT, UNIT.with_suffix(".socket")):
        text = shipped.read_text().replace("/opt/admin-credits/.venv/bin/gunicorn", str(program))
        (tmp_path / shipped.name).write_text(text)
    units = [tmp_path / UNIT.name, tmp_path / "admin-credits.socket"]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.stem in line]) == (0, [])
