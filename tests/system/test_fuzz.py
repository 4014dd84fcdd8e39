"""No request is answered with a 5xx, except a 501 of gunicorn; the service answers with its envelope."""

import http.client
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from conftest import ADMIN_KEY, Tables
from live import PATIENCE_S, Gunicorn

# `make soak` sends more requests, different ones each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))

KEY = b"x-api-key: " + ADMIN_KEY.encode()
ROLLUP = b"GET /api/admins/credits/rollup"
LIVE = b"GET /health/live HTTP/1.1"
HOST = b"Host: localhost"


def lines(*lines: bytes, body: bytes = b"") -> bytes:
    """Return a request that asks the service to close the connection."""
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


# Requests, and the status of each answer: a body without Content-Length is taken for another request.
RECORDED = {
    "no Host": (lines(ROLLUP + b" HTTP/1.1", KEY), [200]),
    "a long key": (lines(ROLLUP + b" HTTP/1.1", HOST, b"x-api-key: " + b"k" * 8_000), [401]),
    "two keys": (lines(ROLLUP + b" HTTP/1.1", HOST, KEY, KEY), [401]),
    "broken UTF-8 in a value": (lines(ROLLUP + b"?q=%ff%c0%ae%ed%a0%80 HTTP/1.1", HOST, KEY), [200]),
    "raw bytes in a value": (lines(ROLLUP + b"?period=\xff\xfe\xc3 HTTP/1.1", HOST, KEY), [400]),
    "NUL in a value": (lines(ROLLUP + b"?q=%00 HTTP/1.1", HOST, KEY), [400]),
    "broken escapes": (lines(ROLLUP + b"?limit=%&page=%zz&period=+ HTTP/1.1", HOST, KEY), [400]),
    "a number of 5,000 digits": (lines(ROLLUP + b"?limit=" + b"9" * 3_000 + b" HTTP/1.1", HOST, KEY), [400]),
    "psycopg2's placeholders": (lines(ROLLUP + b"?q=%25(limit)s%25s&limit=%25s HTTP/1.1", HOST, KEY), [400]),
    "an address for the path": (lines(b"GET http://elsewhere/health/live HTTP/1.1", HOST), [200]),
    "two slashes": (lines(b"GET //elsewhere/health/live HTTP/1.1", HOST), [404]),
    "an asterisk for the path": (lines(b"OPTIONS * HTTP/1.1", HOST), [404]),
    "a path that is too long": (lines(b"GET /" + b"x" * 5_000 + b" HTTP/1.1", HOST), [414]),
    "HEAD": (lines(b"HEAD / HTTP/1.1", HOST), [200]),
    "TRACE": (lines(b"TRACE / HTTP/1.1", HOST), [405]),
    "CONNECT": (lines(b"CONNECT elsewhere:443 HTTP/1.1", HOST), [404]),
    "a method with NUL": (lines(b"G\x00T / HTTP/1.1", HOST), [400]),
    "no method": (lines(b" / HTTP/1.1", HOST), [400]),
    "HTTP/2": (lines(b"PRI * HTTP/2.0", HOST), [400]),
    "no version": (lines(b"GET /health/live", HOST), [400]),
    "a host with a space": (lines(LIVE, b"Host: a b"), [200]),
    "half an IPv6 address": (lines(LIVE, b"Host: [::1"), [200]),
    # Found by this test: a name longer than a host's may be, and a header by which a local client may set the path.
    "a long host": (lines(LIVE, b"Host: " + b"x" * 300), [400]),
    "a header that sets the path": (lines(LIVE, HOST, b"SCRIPT_NAME: /api"), [200]),
    "a header without a colon": (lines(LIVE, HOST, b"no colon"), [400]),
    "a header with a space in its name": (lines(LIVE, HOST, b"na me: x"), [400]),
    "a folded header": (lines(LIVE, HOST, b" folded"), [400]),
    "NUL in a header": (lines(LIVE, HOST, b"X-Nul: \x00"), [400]),
    "a header that is too long": (lines(LIVE, HOST, b"X-Big: " + b"b" * 9_000), [431]),
    "120 headers": (lines(LIVE, HOST, *[b"X-Many: x"] * 120), [431]),
    "an odd Accept": (lines(ROLLUP + b" HTTP/1.1", HOST, KEY, b"Accept: text/csv;q=x, ;;;,,, */*;q=2"), [406]),
    "an odd ETag": (lines(ROLLUP + b" HTTP/1.1", HOST, KEY, b'If-None-Match: "", W/"\xff'), [200]),
    "a miracle": (lines(LIVE, HOST, b"Expect: a miracle"), [417]),
    "a body that nobody reads": (lines(LIVE, HOST, b"Content-Length: 3", body=b"abc"), [200]),
    "a negative length": (lines(LIVE, HOST, b"Content-Length: -1"), [400]),
    "two lengths": (lines(LIVE, HOST, b"Content-Length: 3, 4", body=b"abc"), [400]),
    "chunks": (lines(LIVE, HOST, b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), [200]),
    "broken chunks": (lines(LIVE, HOST, b"Transfer-Encoding: chunked", body=b"zz\r\n"), [200]),
    "chunks that are compressed": (lines(LIVE, HOST, b"Transfer-Encoding: gzip"), [400]),
    "a length and chunks": (lines(LIVE, HOST, b"Content-Length: 3", b"Transfer-Encoding: chunked"), [400]),
}

REQUESTS = [sent for sent, _ in RECORDED.values()]
LINES = [line for sent in REQUESTS for line in sent.splitlines(keepends=True)]


@pytest.fixture(scope="module")
def service(reader_url: str, owner: Tables) -> Iterator[Gunicorn]:
    owner.empty()
    owner.seed_admin()
    with Gunicorn(reader_url) as service:
        workers = [worker.pid for worker in service.workers()]
        yield service
        # No worker died, and no exception was unexpected.
        assert [worker.pid for worker in service.workers()] == workers
        assert "unexpected" not in service.err()
        assert "Traceback" not in service.err()


class Received(io.BytesIO):
    """Received bytes, as the socket from which http.client reads."""

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return self

    def close(self) -> None:
        """Remain readable: another answer may follow."""


def statuses(port: int, sent: bytes) -> list[int]:
    """Send a request, check the form of its answers, and return their statuses."""
    received = b""
    # gunicorn may close the connection before all is sent; its answer may be lost then.
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client,
        suppress(ConnectionResetError, BrokenPipeError),
    ):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while block := client.recv(65_536):
            received += block
    answers, found = Received(received), list[int]()
    while answers.tell() < len(received):
        response = http.client.HTTPResponse(cast("socket.socket", answers))
        response.begin()
        is_ours = "X-Request-Id" in response.headers
        # gunicorn's own refusals have a body even for HEAD.
        headless = is_ours and not found and sent.startswith(b"HEAD ")
        body = b"" if headless else response.read()
        if not is_ours:
            assert 400 <= response.status < 500 or response.status == 501, body
            assert response.headers["Connection"] == "close"
        else:
            assert response.status < 500, body
            if response.status >= 400 and not headless:
                named = {"missing_fields"} if response.status == 400 else set()
                assert set(json.loads(body)) == {"status", "error"} | named
        found.append(response.status)
    return found


@pytest.mark.parametrize(("sent", "expected"), RECORDED.values(), ids=RECORDED)
def test_a_recorded_request_is_answered_as_ever(service: Gunicorn, sent: bytes, expected: list[int]) -> None:
    assert statuses(service.port, sent) == expected


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a recorded request in which some bytes are replaced by others, or by a line of another request."""
    sent = draw(st.sampled_from(REQUESTS))
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(sent))), draw(st.integers(0, 20))
        sent = sent[:at] + draw(st.binary(max_size=20) | st.sampled_from(LINES)) + sent[at + length :]
    return sent


@settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(damaged())
def test_no_damaged_request_is_answered_with_a_5xx_or_without_the_envelope(service: Gunicorn, sent: bytes) -> None:
    note(repr(sent))
    statuses(service.port, sent)
