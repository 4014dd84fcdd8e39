"""The headers of every answer, HEAD included, its line in the access log, and the health endpoints."""

import http.client
import json
import logging
import re
import select
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from conftest import ADMIN, NOVA, ROLLUP, Tables
from live import KEY, Gunicorn, ask
from service import create_app
from service.config import Settings

# One request for each kind of answer.
ANSWERS = [
    pytest.param("GET", ROLLUP, KEY, 200, id="GET"),
    pytest.param("HEAD", ROLLUP, KEY, 200, id="HEAD"),
    pytest.param("HEAD", ROLLUP, KEY | {"Accept": "text/csv"}, 200, id="HEAD of CSV"),
    pytest.param("HEAD", "/", {}, 200, id="HEAD of the page"),
    pytest.param("OPTIONS", ROLLUP, {}, 200, id="OPTIONS"),
    pytest.param("GET", f"{ROLLUP}?limit=0", KEY, 400, id="bad parameter"),
    pytest.param("GET", ROLLUP, {}, 401, id="no key"),
    pytest.param("HEAD", ROLLUP, {}, 401, id="HEAD without a key"),
    pytest.param("GET", "/nowhere", {}, 404, id="no such path"),
    pytest.param("POST", ROLLUP, {}, 405, id="no such method"),
    pytest.param("GET", "/health/live", {}, 200, id="health/live"),
    pytest.param("GET", "/health/ready", {}, 200, id="health/ready"),
    pytest.param("POST", "/health/live", {}, 405, id="no such method of a health endpoint"),
    pytest.param("GET", "/unexpected", {}, 500, id="unexpected error"),
]


@pytest.fixture(scope="module")
def app(settings: Settings) -> Flask:
    app = create_app(settings)

    @app.get("/unexpected")
    def unexpected() -> None:
        raise RuntimeError

    return app


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the lines of the access log, when called."""
    caplog.set_level(logging.INFO, "service.access")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "service.access"]


@pytest.mark.parametrize(("method", "path", "headers", "status"), ANSWERS)
def test_every_answer_has_the_same_headers_and_one_line_in_the_access_log(
    client: FlaskClient,
    tables: Tables,
    lines: Callable[[], list[str]],
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    before = datetime.now(UTC)
    response = client.open(path, method=method, headers=headers | {"X-Request-Id": "mine"})
    assert response.status_code == status
    always = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization, x-api-key",
        "Access-Control-Allow-Origin": "*",
        "X-Request-Id": "mine",
    }
    assert {name: response.headers.get(name) for name in always} == always
    timing = re.fullmatch(r"db;dur=(\d+\.\d), total;dur=(\d+\.\d)", response.headers["Server-Timing"])
    assert timing
    assert float(timing[1]) <= float(timing[2])
    assert ("WWW-Authenticate" in response.headers) == (status == 401)

    (line,) = map(json.loads, lines())
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(line["time"]) <= datetime.now(UTC)
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert 0 <= line["database_ms"] <= line["total_ms"] < 60_000
    assert list(line.items()) == [
        ("time", line["time"]),
        ("request_id", "mine"),
        ("traceparent", None),
        ("method", method),
        # Not the path, which is a client's text where there is no such route.
        ("route", path.partition("?")[0] if status not in (404, 405) else None),
        ("status", status),
        ("total_ms", line["total_ms"]),
        ("database_ms", line["database_ms"]),
        ("caller", str(ADMIN) if headers and status != 401 else None),
        ("rows", 0 if path == ROLLUP and status == 200 and headers else None),
    ]

    if method == "HEAD":
        get = client.get(path, headers=headers)
        assert response.data == b""
        assert list(response.headers.keys()) == list(get.headers.keys())
        assert response.headers["Content-Length"] == get.headers["Content-Length"]
    elif method != "OPTIONS":
        assert response.get_json()["status"] == ("success" if status == 200 else "error")


def test_rows_is_the_number_of_rows_of_the_page(
    admin: FlaskClient, tables: Tables, lines: Callable[[], list[str]]
) -> None:
    tables.event(ADMIN, 1, "2026-11-22 00:00:00+00")
    tables.account(NOVA)
    tables.event(NOVA, 1, "2026-11-22 00:00:00+00")
    for path in (f"{ROLLUP}?period=all", f"{ROLLUP}?period=all&limit=1"):
        assert admin.get(path).status_code == 200
    assert [json.loads(line)["rows"] for line in lines()] == [2, 1]
    assert all(json.loads(line)["database_ms"] > 0 for line in lines())


def test_no_text_of_a_client_is_in_a_line(client: FlaskClient, lines: Callable[[], list[str]]) -> None:
    """So a line is at most PIPE_BUF long, which a pipe takes whole."""
    client.get(f'/a%0Ab%22%C3%A9%FF{{"status": 200}}{"x" * 9_000}', headers={"X-Request-Id": "x" * 128})
    client.get("/queries/sums/credits_rollup.sql")
    nowhere, script = lines()
    assert len(f"{nowhere}\n") <= select.PIPE_BUF
    assert [json.loads(line)["route"] for line in (nowhere, script)] == [None, "/queries/<query_file:name>"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True, id="sampled"),
        pytest.param("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", True, id="a later version"),
        pytest.param("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False, id="no version"),
        pytest.param("00-00000000000000000000000000000000-b7ad6b7169203331-01", False, id="no trace"),
        pytest.param("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False, id="no parent"),
        pytest.param("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False, id="capitals"),
        pytest.param("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-a@b.example", False, id="more"),
    ],
)
def test_the_position_in_a_trace_is_logged_if_it_is_one(
    client: FlaskClient, lines: Callable[[], list[str]], given: str, kept: bool
) -> None:
    client.get("/health/live", headers={"traceparent": given})
    (line,) = lines()
    assert json.loads(line)["traceparent"] == (given if kept else None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("a", True, id="shortest"),
        pytest.param("A-z_0.9", True, id="every kind of character allowed"),
        pytest.param("x" * 128, True, id="longest"),
        pytest.param("x" * 129, False, id="too long"),
        pytest.param("", False, id="empty"),
        pytest.param("two words", False, id="space"),
        pytest.param('quote"', False, id="quote"),
        pytest.param("é".encode().decode("latin-1"), False, id="outside ASCII"),
        pytest.param("ada@example.com", False, id="e-mail address"),
    ],
)
def test_a_request_id_is_kept_if_valid_and_else_replaced(client: FlaskClient, given: str, kept: bool) -> None:
    returned = client.get("/health/live", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert (returned == given) == kept
    assert kept or re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", returned)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_needs_no_key(client: FlaskClient, tables: Tables, path: str) -> None:
    checks = {"database": "ok", "privileges": "ok", "policies": "ok"}
    body = {"status": "success"} | ({"checks": checks, "spend_source": "events"} if path.endswith("ready") else {})
    response = client.get(path)
    assert (response.status_code, response.get_json()) == (200, body)


def test_head_over_http_keeps_the_connection_usable(reader_url: str, tables: Tables) -> None:
    with Gunicorn(reader_url) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        for method, path, status in [
            ("HEAD", ROLLUP, 200),
            ("HEAD", f"{ROLLUP}?limit=0", 400),
            ("HEAD", "/nowhere", 404),
            ("GET", ROLLUP, 200),
        ]:
            answered = ask(connection, path, KEY, method)
            assert (answered.status, bool(answered.body)) == (status, method == "GET")
            assert int(answered.headers["content-length"]) > 0
            # No version.
            assert answered.headers["server"] == "gunicorn"
        connection.close()
        assert [line["status"] for line in service.access_lines()[-4:]] == [200, 400, 404, 200]
