"""No key, hash, password, e-mail address or name stands in a log or an error, even at log level DEBUG."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from uuid import UUID

import pytest

from conftest import DATABASE, READER_PASSWORD, SECRET, Tables, key_hash
from live import PATIENCE_S, ROLLUP_ALL, Answer, Asking, Gunicorn, backends, eventually, locked
from tools.demo.postgres import PostgresServer

GRACE = UUID("11111111-0000-4000-8000-00000000000a")
KEY = "sk-live-4711-of-grace"
EXPIRED = "sk-live-0815-long-ago"
UNKNOWN = "sk-live-2342-of-nobody"
NO_ADMIN = "sk-live-9999-of-alan"
EMAIL = "grace.hopper@navy.example"
NAME = "Grace Brewster Hopper"
WRONG_PASSWORD = "wrong-password-of-the-url"
SECRETS = [
    *(KEY, EXPIRED, UNKNOWN, NO_ADMIN),
    *(key_hash(key) for key in (KEY, EXPIRED, UNKNOWN, NO_ADMIN)),
    *(EMAIL, quote(EMAIL), NAME, quote(NAME), "grace.hopper", "Hopper"),
    *(SECRET, READER_PASSWORD, quote(READER_PASSWORD), WRONG_PASSWORD),
]


@pytest.fixture
def seeded(tables: Tables) -> Tables:
    tables.account(GRACE, NAME)
    tables.insert("account_emails", "account_id, email, updated_at", [(GRACE, EMAIL, "2026-11-22 00:00:00+00")])
    tables.event(GRACE, 5, "2026-11-22 00:00:00+00", id=f"event of {EMAIL}")
    tables.member(GRACE)
    tables.key(KEY, GRACE)
    tables.key(EXPIRED, GRACE, "2020-01-01 00:00:00+00")
    alan = UUID("11111111-0000-4000-8000-00000000000b")
    tables.account(alan)
    tables.key(NO_ADMIN, alan)
    return tables


@contextmanager
def disturbed(tables: Tables, text: str) -> Iterator[None]:
    """Make PostgreSQL raise an error whose text, detail and hint quote a text."""
    tables.execute("ALTER FUNCTION pg_catalog.statement_timestamp() RENAME TO undisturbed")
    try:
        tables.execute(
            "CREATE FUNCTION pg_catalog.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE 'value \"{text}\" is unknown' USING DETAIL = '{text}', HINT = '{text}'; END $$"
        )
        yield
    finally:
        tables.execute(
            "DROP FUNCTION IF EXISTS pg_catalog.statement_timestamp();"
            " ALTER FUNCTION pg_catalog.undisturbed() RENAME TO statement_timestamp"
        )


def raw(service: Gunicorn, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_no_log_or_error_quotes_a_secret(
    reader_url: str, owner_url: str, seeded: Tables, server: PostgresServer
) -> None:
    headers = {"x-api-key": KEY}
    answers: list[Answer] = []
    with Gunicorn(reader_url, LOG_LEVEL="DEBUG", STATEMENT_TIMEOUT_MS=1_000) as service:

        def expect(status: int, path: str = ROLLUP_ALL, headers: dict[str, str] = headers, method: str = "GET") -> None:
            answer = service.get(path, headers, method)
            assert answer.status == status, answer.body
            if status >= 400:
                answers.append(answer)

        expect(200)
        expect(200, headers={"Authorization": f"Bearer {KEY}", "Accept": "text/csv"})
        for wrong in (EXPIRED, UNKNOWN):
            expect(401, headers={"x-api-key": wrong})
            expect(401, headers={"Authorization": f"Bearer {wrong}"})
        expect(401, headers={"Authorization": f"Basic {KEY}"})
        expect(401, headers={"Authorization": KEY, "x-api-key": KEY})
        expect(403, headers={"x-api-key": NO_ADMIN})
        for name in ("period", "limit", "account_id"):
            expect(400, f"{ROLLUP_ALL}&{name}={quote(EMAIL)}&{name}={quote(NAME)}{KEY}")
        expect(404, f"/nowhere?key={KEY}&of={quote(EMAIL)}")
        expect(405, f"{ROLLUP_ALL}&key={KEY}", method="POST")
        expect(200, "/health/live", {"X-Request-Id": EMAIL, "x-api-key": KEY})
        with disturbed(seeded, f"{EMAIL} {NAME} {KEY} {key_hash(KEY)}"):
            expect(500)
        with locked(owner_url):
            expect(504)
            asking = Asking(service)
            for _ in range(2):
                (pid,) = eventually(lambda: backends(seeded, waiting=True), "the request to wait")
                seeded.execute("SELECT pg_terminate_backend(%s)", (pid,))
                eventually(lambda pid=pid: pid not in backends(seeded), "the backend to end")
            answers.append(asking.one())
        # gunicorn refuses these itself. It may quote the request to the client, but not in the log.
        for refused in (
            f"GET /x?{KEY} HTTP/9.9\r\n\r\n",
            f"{KEY} / HTTP/1.1\r\n\r\n",
            f"G@T /{EMAIL} HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nx-api-key: {KEY}\x00\r\n\r\n",
            f"GET / HTTP/1.1\r\nx-api-key {KEY}\r\n\r\n",
            f"GET / HTTP/1.1\r\n{KEY} x: x\r\n\r\n",
            f"GET / HTTP/1.1\r\nx-api-key: x\r\n {KEY}\r\n\r\n",
            f"GET / HTTP/1.1\r\nExpect: {KEY}\r\n\r\n",
            f"GET / HTTP/1.1\r\nTransfer-Encoding: {KEY}\r\n\r\n",
            f"GET / HTTP/1.1\r\nx-api-key: {KEY}{'x' * 9_000}\r\n\r\n",
            f"GET /{KEY}{'x' * 9_000} HTTP/1.1\r\n\r\n",
        ):
            assert re.match(rb"HTTP/1.1 (4\d\d|501) ", raw(service, refused.encode()))
        # The client leaves before the end of its request.
        assert raw(service, f"GET / HTTP/1.1\r\nx-api-key: {KEY}".encode()) == b""
        service.stop()
        logged = service.out() + service.err()
    for url in (
        server.url(DATABASE, user="credits_reader", password=WRONG_PASSWORD),
        f"{reader_url}&options=-cTimeZone%3D{WRONG_PASSWORD}",
    ):
        with Gunicorn(url, LOG_LEVEL="DEBUG") as misconfigured:
            answers.append(misconfigured.get(ROLLUP_ALL, headers))
            answers.append(misconfigured.get("/health/ready", headers))
            logged += misconfigured.out() + misconfigured.err()
        assert answers[-2].status == answers[-1].status == 503

    assert not leaks(logged)
    assert not [answer for answer in answers if leaks(answer.body.decode() + str(answer.headers))]
    # The log says what failed, and in which query.
    for fact in (
        r"RaiseException, SQLSTATE P0001, in query caller: ",
        r"unexpected QueryFailed in ",
        r"QueryCanceled, SQLSTATE 57014, in query credits_rollup: ",
        r"OperationalError, SQLSTATE None, in query credits_rollup: ",
        r"OperationalError while connecting: password authentication failed",
        r"OperationalError while connecting: unknown reason",
        r"Refused a request: Invalid HTTP [Hh]eader",
        r"Ignored premature client disconnection. NoMoreData",
    ):
        assert re.search(fact, logged), fact
    assert str(GRACE) in logged
