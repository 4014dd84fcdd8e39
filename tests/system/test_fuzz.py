"""No request is answered with a 5xx, except a 501 of gunicorn; the service answers with its envelope."""

import http.client
import io
import json
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from conftest import ADMIN_KEY, Tables
from live import PATIENCE_S, Gunicorn

# `make soak` sends more requests, different ones each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
SENT: Counter[str] = Counter()

SQL = ["' OR 1=1 --", "'; DROP TABLE accounts; --", "%(limit)s", "%s%s%s", "$$", ":'limit'::bigint", "1;ROLLBACK", "/*"]
BROKEN = [b"%", b"%zz", b"%ff%fe", b"%00", b"%c0%ae", b"%ed%a0%80", b"\xff\xfe", b"\xc3", b"\x7f", b"+"]
NUMBERS = ["0", "-1", "1_0", "+5", " 5", "٣", "1e3", "9" * 20, "9" * 5_000, "18446744073709551", ""]
WORDS = ["monthly", "all", "weekly", "MONTHLY", "period", "11111111-0000-4000-8000-000000000001", "{}", "null"]
PATHS = [
    *(b"/api/admins/credits/" + name for name in b"rollup events days changes breakdown".split()),
    b"/queries/caller.sql", b"/queries/x.sql", b"/health/live", b"/health/ready", b"/", b"*", b"/api//admins",
    b"/api/admins/credits/rollup/../events", b"http://elsewhere/api/admins/credits/rollup",
    b"//elsewhere/health/live", b"/" + b"x" * 5_000,
]  # fmt: skip
PARAMETERS = [b"", *b"period since as_of limit page account_id compare by q limit[] __proto__".split()]
COMMON_METHODS = [b"GET"] * 12 + [b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"] * 2
ODD_METHODS = [b"CONNECT", b"get", b"PRI", b"", b"G\x00T", b"X" * 300, b"\xff"]
VERSIONS = [b"HTTP/1.1"] * 20 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 ", b"FTP/1.1", b""]
KEYS = [b"x-api-key: " + ADMIN_KEY.encode(), b"Authorization: Bearer " + ADMIN_KEY.encode()]
HEADER_NAMES = [
    b"Host", b"Host", b"x-api-key", b"Authorization", b"X-Request-Id", b"If-None-Match", b"If-Match", b"Accept",
    b"Range", b"If-Modified-Since", b"Content-Type", b"Cookie", b"Origin", b"X-Forwarded-Proto", b"Connection",
    b"Upgrade", b"Expect", b"Content-Length", b"Transfer-Encoding", b"TE", b"Access-Control-Request-Headers",
]  # fmt: skip
ODD_HEADERS = [
    b"Host: a b", b"Host: [::1", b"Host: ", b"Host: x" + b"y" * 300, b"Host: \xff", b"Host: a@b:99999",
    b"Content-Length: 3", b"Content-Length: -1", b"Content-Length: 3, 4", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Expect: a miracle", b"Authorization: Bearer",
    b"Accept: text/csv;q=x, */*;q=2", b"Accept: ;;;,,,", b'If-None-Match: *, "", W/"\xff', b"X-Big: " + b"b" * 9_000,
    b"x-api-key: " + b"k" * 8_000, b" folded", b"no colon", b"na me: x", b": x", b"na\xffme: x", b"Upgrade: h2c",
    b"\r\n".join([b"X-Many: x"] * 120), b"X-Nul: \x00", b"X-Lone: a\nb", b"SCRIPT_NAME: /api",
]  # fmt: skip
BODIES = [b"", b"", b"", b"{}", b"abc", b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"zz\r\n", b"\xff" * 300]

text = st.one_of(
    st.sampled_from([value.encode() for value in [*SQL, *NUMBERS, *WORDS]]),
    st.sampled_from(BROKEN),
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=20),
)
# Mostly text that does not end a request line or a header.
inline = st.one_of(
    text.map(lambda value: re.sub(rb"[\x00-\x20\x7f]", b"%20", value)),
    text.map(lambda value: re.sub(rb"[^!-~]", b"?", value)),
    text,
)
paths = st.sampled_from(PATHS) | inline.map(lambda value: b"/" + value)
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS) | inline, inline), max_size=5).map(
    lambda pairs: b"&".join(name + b"=" + value for name, value in pairs)
)
headers = st.tuples(st.sampled_from(HEADER_NAMES), inline).map(b": ".join) | st.sampled_from(ODD_HEADERS)
requests = st.builds(
    lambda method, path, query, version, key, others, body: (
        method,
        b"\r\n".join([b" ".join([method, path + (b"?" + query) * bool(query), version]), *key, *others, b"", body]),
    ),
    st.sampled_from(COMMON_METHODS) | st.sampled_from(ODD_METHODS),
    paths,
    queries,
    st.sampled_from(VERSIONS),
    st.lists(st.sampled_from(KEYS), max_size=1) | st.sampled_from(KEYS).map(lambda key: [key]),
    st.lists(headers, max_size=4).map(lambda some: [b"Host: localhost", b"Connection: close", *some])
    | st.lists(headers, max_size=4),
    st.sampled_from(BODIES),
)


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
        # Some requests reached the views.
        assert SENT["200"] > 0
        assert SENT["400"] > 0


class Received(io.BytesIO):
    """Received bytes, as the socket from which http.client reads."""

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return self

    def close(self) -> None:
        """Remain readable: another answer may follow."""


def exchange(port: int, sent: bytes) -> bytes:
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while block := client.recv(65_536):
                received += block
        except (ConnectionResetError, BrokenPipeError):
            # gunicorn closed the connection before all was sent; its answer may be lost.
            pass
    return received


@settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(requests)
# Found by this test: a name longer than a host's may be, and a header by which a local client may set the path.
@example((b"GET", b"GET /health/live HTTP/1.1\r\nHost: " + b"x" * 300 + b"\r\nConnection: close\r\n\r\n"))
@example((b"GET", b"GET /health/live HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /api\r\nConnection: close\r\n\r\n"))
def test_no_request_is_answered_with_a_5xx_or_without_the_envelope(
    service: Gunicorn, request_: tuple[bytes, bytes]
) -> None:
    method, sent = request_
    note(repr(sent))
    received = Received(exchange(service.port, sent))
    first = True
    # A body without Content-Length is taken for another request.
    while (at := received.tell()) < len(received.getvalue()):
        response = http.client.HTTPResponse(cast("socket.socket", received))
        response.begin()
        # gunicorn's own refusals have a body even for HEAD.
        headless = first and method == b"HEAD" and "X-Request-Id" in response.headers
        check(response, b"" if headless else response.read(), headless)
        assert received.tell() > at
        first = False


def check(response: http.client.HTTPResponse, body: bytes, headless: bool) -> None:
    status, names = response.status, response.headers
    SENT[str(status)] += 1
    if "X-Request-Id" not in names:
        assert 400 <= status < 500 or status == 501, body
        assert names["Connection"] == "close"
        return
    assert status < 500, body
    assert names["X-Content-Type-Options"] == "nosniff"
    if headless or status == 304 or not int(names["Content-Length"]):
        assert body == b""
    elif status >= 400 or not names["Content-Type"].startswith("text/"):  # CSV, the page
        assert names["Content-Type"] == "application/json"
        envelope = json.loads(body)
        assert envelope["status"] == ("success" if status < 400 else "error")
        if status >= 400:
            assert set(envelope) == {"status", "error"} | ({"missing_fields"} if status == 400 else set())
            assert len(envelope["error"]) > 3
