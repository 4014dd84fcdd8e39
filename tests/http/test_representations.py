"""JSON and CSV, links between pages, conditional requests: all of it beside the default body, never in it."""

import csv
import io
import re
import socket
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from conftest import ADMIN, ADMIN_KEY, DAYS, EVENTS, NOVA, ORBIT, ORGANIZATION, ROLLUP, Tables
from live import Gunicorn
from model import law
from service.representations import REPRESENTATIONS

QUIET = UUID("33333333-0000-4000-8000-000000000003")
NOVA_IN_FIVE = UUID(int=1)
CSV = {"Accept": "text/csv"}
JSON = "application/json"
CSV_TYPE = "text/csv; charset=utf-8; header=present"
WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
METRICS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
# The line of the document that takes the apostrophes away, in each language.
(UNDONE_IN_PYTHON,), (UNDONE_IN_SQL,) = (
    re.findall(rf"^#### CSV\n(?:(?!#).*\n)*?```{language}\n(.*)\n```$", OPERATIONS, re.MULTILINE)
    for language in ("python", "sql")
)
# Any text that PostgreSQL stores, often with characters that have a meaning in CSV or in a spreadsheet.
STORED = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("'=+-@＝,;|\"\t\r\n")
)


@pytest.fixture
def five(tables: Tables) -> Tables:
    """Five accounts with 1 to 5 credits."""
    tables.fix_now("2026-11-22 10:15:00+00")
    for number in range(1, 6):
        account = UUID(int=number)
        tables.account(account, f"Account {number}")
        tables.event(account, number, "2026-11-22 10:00:00+00")
    return tables


def links(response: TestResponse) -> dict[str, str]:
    """Each relation of the Link header and its target."""
    found = {}
    for link in response.headers["Link"].split(", "):
        target, relation = link.split("; ")
        found[relation.removeprefix('rel="').removesuffix('"')] = target.strip("<>")
    return found


def pages(response: TestResponse) -> dict[str, int]:
    queries = {relation: parse_qs(urlsplit(target).query) for relation, target in links(response).items()}
    return {relation: int(query["page"][0]) for relation, query in queries.items() if query}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("limit=2", {"first": 1, "next": 2, "last": 3}, id="first page"),
        pytest.param("limit=2&page=2", {"first": 1, "prev": 1, "next": 3, "last": 3}, id="middle"),
        pytest.param("limit=2&page=3", {"first": 1, "prev": 2, "last": 3}, id="last page"),
        pytest.param("limit=2&page=9", {"first": 1, "prev": 3, "last": 3}, id="past the end: back to the last page"),
        pytest.param("limit=5", {"first": 1, "last": 1}, id="the only page"),
        pytest.param("period=daily&limit=2&as_of=2026-01-01T00:00:00Z", {"first": 1}, id="nothing: no last"),
        pytest.param("limit=2&page=4&as_of=2026-01-01T00:00:00Z", {"first": 1, "prev": 1}, id="past nothing"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [{}, CSV, {"Accept": WORKBOOK}, {"Accept": "application/openmetrics-text"}],
    ids=["json", "csv", "workbook", "metrics"],
)
def test_links_lead_to_the_other_pages(
    admin: FlaskClient, five: Tables, query: str, expected: dict[str, int], headers: dict[str, str]
) -> None:
    assert pages(admin.get(ROLLUP, query_string=query, headers=headers)) == expected


def test_links_keep_every_parameter_pin_the_instant_and_trust_no_host(admin: FlaskClient, five: Tables) -> None:
    five.event(NOVA_IN_FIVE, 1, "2026-11-22 10:00:00+00")
    query = f"limit=1&period=weekly&account_id={NOVA_IN_FIVE}"
    response = admin.get(EVENTS, query_string=query, headers={"Host": "evil.example"})
    assert links(response)["next"] == (
        f"{EVENTS}?limit=1&period=weekly&account_id={NOVA_IN_FIVE}&page=2&as_of=2026-11-22T10:15:00.000000Z"
    )


def test_following_the_links_is_the_whole_once_while_events_are_added(admin: FlaskClient, five: Tables) -> None:
    response = admin.get(ROLLUP, query_string="limit=2")
    rows = response.get_json()["rows"]
    while "next" in links(response):
        # At the instant of the first page: this event would put the last account first.
        five.event(UUID(int=1), 100, response.headers["As-Of"])
        response = admin.get(links(response)["next"])
        rows += response.get_json()["rows"]
    assert [row["account_name"] for row in rows] == [f"Account {number}" for number in (5, 4, 3, 2, 1)]


def test_the_days_have_no_pages(admin: FlaskClient, five: Tables) -> None:
    assert links(admin.get(DAYS)) == {"describedby": "/queries/credits_days.sql"}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("", JSON, id="an empty header"),
        pytest.param("application/json, text/csv", JSON, id="indifferent"),
        pytest.param("text/csv, application/json", JSON, id="indifferent, in the other order"),
        pytest.param("application/json; charset=utf-8", JSON, id="a parameter"),
        pytest.param("Text/CSV", CSV_TYPE, id="in capitals"),
        pytest.param("text/*", CSV_TYPE, id="any text"),
        pytest.param("application/json;q=0.5, text/csv", CSV_TYPE, id="rather csv"),
        pytest.param("application/json;q=0, */*", CSV_TYPE, id="anything but json"),
        pytest.param("*/*;q=0.5, text/csv;q=0.6", CSV_TYPE, id="specific first"),
        pytest.param("*;q=.5, text/csv;q=.6", CSV_TYPE, id="as Java 8 spells it"),
        pytest.param(WORKBOOK, WORKBOOK, id="a workbook"),
        pytest.param(f"application/*;q=0.9, {WORKBOOK}", WORKBOOK, id="rather a workbook than JSON"),
        pytest.param("application/*", JSON, id="any application"),
        pytest.param("application/openmetrics-text", OPEN_METRICS, id="metrics without a version"),
        pytest.param("text/plain; version=0.0.4", METRICS_TEXT, id="the older format of metrics"),
        pytest.param('TEXT/PLAIN;charset=utf-8;version="0.0.4"', METRICS_TEXT, id="spelled in another way"),
        pytest.param("text/plain, */*;q=0.1", JSON, id="plain text is no metrics"),
        pytest.param("text/csv;q=0, text/*", METRICS_TEXT, id="any text but csv"),
    ],
)
def test_the_representation_is_negotiated(admin: FlaskClient, five: Tables, accept: str, content_type: str) -> None:
    response = admin.get(ROLLUP, headers={"Accept": accept})
    assert (response.status_code, response.content_type) == (200, content_type)


# Recorded from curl, wget, requests, urllib, Node, Chromium and Java 17; of the others from their source, their
# documentation or records of others.
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("*/*", JSON, id="curl, wget, requests, and fetch in browsers and Node"),
        pytest.param(None, JSON, id="urllib, Go, Java's HttpClient, and pandas with an address"),
        pytest.param("text/csv", CSV_TYPE, id="pandas with storage_options={'Accept': 'text/csv'}"),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
            "application/signed-exchange;v=b3;q=0.7",
            JSON,
            id="an address in Chrome or Edge",
        ),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON, id="in Firefox or Safari"
        ),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            JSON,
            id="in Firefox 92 to 127",
        ),
        pytest.param("application/json, text/plain, */*", JSON, id="axios and Angular"),
        pytest.param("application/json, text/javascript, */*; q=0.01", JSON, id="jQuery.getJSON"),
        pytest.param("application/json, text/xml, application/xml, */*", JSON, id="httr in R"),
        pytest.param(None, JSON, id="Web.Contents in Excel's Power Query"),
        pytest.param("text/csv", CSV_TYPE, id="Web.Contents with Headers = [Accept = 'text/csv']"),
        pytest.param(
            "application/json;odata.metadata=minimal;q=1.0,application/json;odata=minimalmetadata;q=0.9,"
            "application/atomsvc+xml;q=0.8,application/atom+xml;q=0.8,application/xml;q=0.7,text/plain;q=0.7",
            JSON,
            id="OData.Feed in Power Query",
        ),
        pytest.param("text/html, image/gif, image/jpeg, */*; q=0.2", JSON, id="URLConnection in Java 17"),
        # *, and a quality that begins with a point, are not in RFC 9110
        pytest.param("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON, id="URLConnection in Java 8"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;"
            "version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
            "*/*;q=0.2",
            OPEN_METRICS,
            id="Prometheus 3",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPEN_METRICS,
            id="Prometheus 2, as in Debian 12",
        ),
        pytest.param(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;"
            "version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,"
            "*/*;q=0.1",
            OPEN_METRICS,
            id="Prometheus 3 with native histograms",
        ),
        pytest.param("text/plain;version=0.0.4;q=1,*/*;q=0.1", METRICS_TEXT, id="Prometheus 1 and vmagent"),
        pytest.param("text/html, text/plain, text/sgml, */*;q=0.01", JSON, id="Lynx"),
        pytest.param("text/html, text/*;q=0.5, image/*", CSV_TYPE, id="w3m"),
        pytest.param(WORKBOOK, WORKBOOK, id="Web.Contents with Headers = [Accept = ...sheet], for Excel.Workbook"),
    ],
)
def test_what_clients_send_is_answered_with_what_they_read(
    admin: FlaskClient, five: Tables, accept: str | None, content_type: str
) -> None:
    response = admin.get(ROLLUP, headers={} if accept is None else {"Accept": accept})
    assert (response.status_code, response.content_type) == (200, content_type)


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/xml",
        "application/vnd.ms-excel",
        "text/plain",
        "text/plain;version=1.0.0",
        "*/*;q=0",
        "nonsense",
    ],
)
def test_what_cannot_be_served_is_a_406_in_the_envelope(admin: FlaskClient, five: Tables, accept: str) -> None:
    response = admin.get(ROLLUP, headers={"Accept": accept})
    assert (response.status_code, response.content_type, response.get_json()) == (
        406,
        "application/json",
        {
            "status": "error",
            "error": f"Only application/json, text/csv, {WORKBOOK}, application/openmetrics-text and "
            "text/plain;version=0.0.4 can be served here.",
        },
    )


@pytest.mark.parametrize("path", [DAYS, f"{EVENTS}?account_id={NOVA}"])
@pytest.mark.parametrize("accept", ["application/openmetrics-text", "text/plain;version=0.0.4"])
def test_metrics_of_a_list_that_has_none_are_a_406(admin: FlaskClient, five: Tables, path: str, accept: str) -> None:
    response = admin.get(path, headers={"Accept": accept})
    assert (response.status_code, response.get_json()["error"]) == (
        406,
        f"Only application/json, text/csv and {WORKBOOK} can be served here.",
    )
    assert admin.get(path, headers={"Accept": f"{accept}, */*;q=0.1"}).content_type == JSON


def test_the_406_and_the_reference_name_every_representation(admin: FlaskClient, five: Tables) -> None:
    media_types = [representation.MEDIA_TYPE for representation in REPRESENTATIONS]
    assert len(set(media_types)) == len(media_types)
    reference = admin.get("/openapi.json").get_json()["paths"][ROLLUP]["get"]
    sentences = [
        admin.get(ROLLUP, headers={"Accept": "text/html"}).get_json()["error"],
        reference["responses"]["406"]["description"],
        next(parameter["description"] for parameter in reference["parameters"] if parameter["name"] == "Accept"),
    ]
    for sentence in sentences:
        assert [media_type for media_type in media_types if media_type not in sentence] == [], sentence
    assert list(reference["responses"]["200"]["content"]) == media_types


def test_a_bad_parameter_comes_before_a_406_and_a_missing_key_before_both(
    admin: FlaskClient, client: FlaskClient, five: Tables
) -> None:
    html = {"Accept": "text/html"}
    assert admin.get(ROLLUP, query_string="limit=0", headers=html).status_code == 400
    assert client.get(ROLLUP, query_string="limit=0", headers=html).status_code == 401


def read_csv(response: TestResponse) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.content_length == len(response.data)
    return list(csv.DictReader(io.StringIO(response.data.decode("utf-8"), newline="")))


def test_text_that_begins_a_formula_gets_an_apostrophe(admin: FlaskClient, tables: Tables) -> None:
    names = ["=1", "+1", "-1", "@1", "＝1", "＋1", "－1", "＠1", "\t1", "\r1", "\n1", "==1"]
    for number, name in enumerate(names):
        tables.account(UUID(int=number), name)
        tables.event(UUID(int=number), 5, "2026-11-22 10:00:00+00")
    rows = read_csv(admin.get(f"{ROLLUP}?period=all", headers=CSV))
    assert [row["account_name"] for row in rows] == [f"'{name}" for name in names]


def test_a_formula_after_a_separator_gets_an_apostrophe_too(admin: FlaskClient, five: Tables) -> None:
    name = 'a-b - c=d;=1,+1|-1\t@1\r\n＝1"－1;;x'
    five.execute("UPDATE public.accounts SET name = %s WHERE id = %s", (name, NOVA_IN_FIVE))
    guarded = "a-b - c=d;'=1,'+1|'-1\t'@1\r\n'＝1\"'－1;;x"
    assert read_csv(admin.get(ROLLUP, headers=CSV))[-1]["account_name"] == guarded


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        pytest.param("'=1", "''=1", id="not the text that =1 becomes"),
        pytest.param("'", "''", id="alone"),
        pytest.param("''a'", "'''a'", id="one for several, and none further on"),
        pytest.param("a,'b;'c", "a,''b;''c", id="after a separator"),
        pytest.param("Rock 'n' Roll", "Rock 'n' Roll", id="not after a space"),
        pytest.param("\t'", "'\t''", id="after the tab at the start"),
    ],
)
def test_an_apostrophe_where_one_would_be_put_gets_one(admin: FlaskClient, five: Tables, name: str, cell: str) -> None:
    five.execute("UPDATE public.accounts SET name = %s WHERE id = %s", (name, NOVA_IN_FIVE))
    assert read_csv(admin.get(ROLLUP, headers=CSV))[-1]["account_name"] == cell


@law
@given(names=st.lists(st.none() | STORED, min_size=1, max_size=8))
@example(names=[None, "", "=1", "'=1", "''=1", "\t=1", "'\t=1", ",'", ",\"\n'-", "\\N", "NULL", "\n\\.\n"])
def test_every_text_null_and_the_empty_text_come_back(
    admin: FlaskClient, tables: Tables, names: list[str | None]
) -> None:
    """By Python's csv module, which reads null as the empty text, and by PostgreSQL's COPY, which does not."""
    tables.empty()
    tables.seed_admin()
    tables.insert("accounts", "id, name", [(UUID(int=number), name) for number, name in enumerate(names)])
    for number in range(len(names)):
        tables.event(UUID(int=number), 1, "2026-11-22 10:00:00+00")
    exported = admin.get(f"{ROLLUP}?period=all", headers=CSV)

    cells = [row["account_name"] for row in read_csv(exported)]
    undone = [eval(UNDONE_IN_PYTHON, {"re": re, "cell": cell}) for cell in cells]  # noqa: S307 - it is a line of docs/operations.md, which the test is for
    assert undone == [name or "" for name in names]

    tables.execute(
        "CREATE TEMPORARY TABLE export (account_id uuid, cell text, email text, credits numeric, events bigint)"
    )
    try:
        with tables.connection.cursor() as cursor:
            cursor.copy_expert("COPY export FROM STDIN (FORMAT csv, HEADER)", io.BytesIO(exported.data))
        assert tables.execute(UNDONE_IN_SQL) == [(name,) for name in names]
    finally:
        tables.execute("DROP TABLE export")


def test_the_whole_csv(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA, '=HYPERLINK("http://evil.example"), "Nova"\nRecords')
    tables.insert("account_emails", "account_id, email, updated_at", [(NOVA, "@nova.example", "2026-11-01 00:00+00")])
    tables.event(NOVA, -5, "2026-11-22 10:00:00+00")
    tables.account(ORBIT, "")
    tables.event(ORBIT, -6, "2026-11-22 10:00:00+00")
    tables.account(QUIET, "a;=b|c")
    tables.event(QUIET, -7, "2026-11-22 10:00:00+00")
    response = admin.get(ROLLUP, headers=CSV)
    assert response.data.decode() == (
        "account_id,account_name,account_email,total_credits_deducted_cents,event_count\r\n"
        f'{NOVA},"\'=HYPERLINK(""http://evil.example""), ""Nova""\nRecords",\'@nova.example,-5,1\r\n'
        f'{ORBIT},"",,-6,1\r\n'
        f"{QUIET},a;'=b|c,,-7,1\r\n"
    )
    assert response.headers["Content-Length"] == str(len(response.data))


def test_without_limit_and_page_the_csv_is_every_row(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA)
    tables.execute(
        "INSERT INTO public.usage_events (account_id, created_at, credits_deducted_cents) "
        "SELECT %s, timestamptz '2026-11-22 00:00:00+00' + n * interval '1 ms', n FROM generate_series(1, 4500) AS n",
        (NOVA,),
    )
    query = {"account_id": str(NOVA), "period": "daily"}
    assert [
        int(row["credits_deducted_cents"]) for row in read_csv(admin.get(EVENTS, query_string=query, headers=CSV))
    ] == list(range(4500, 0, -1))
    for cut, rows in ({"limit": "7"}, 7), ({"page": "2"}, 100), ({"page": "9", "limit": "500"}, 500):
        assert len(read_csv(admin.get(EVENTS, query_string=query | cut, headers=CSV))) == rows


def test_a_csv_that_fills_the_disk_is_a_503(
    admin: FlaskClient, five: Tables, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel refuses every byte for /dev/full."""
    five.execute("UPDATE public.accounts SET name = repeat('x', 300000)")
    with Path("/dev/full").open("w+b") as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        response = admin.get(ROLLUP, headers=CSV)
    assert (response.status_code, response.get_json()) == (
        503,
        {"status": "error", "error": "The server has no space left for this CSV; ask for fewer rows."},
    )
    assert f"no space left in {tempfile.gettempdir()}" in caplog.text


@pytest.mark.parametrize("accept", ["application/json", "text/csv", WORKBOOK])
@pytest.mark.parametrize("path", [f"{ROLLUP}?limit=2", f"{EVENTS}?account_id={NOVA_IN_FIVE}&limit=2", DAYS])
def test_an_unchanged_answer_is_a_304_without_a_body(admin: FlaskClient, five: Tables, path: str, accept: str) -> None:
    first = admin.get(path, headers={"Accept": accept})
    again = admin.get(path, headers={"Accept": accept, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    for name in ("ETag", "As-Of", "Vary", "Window-Start"):
        assert again.headers[name] == first.headers[name]
    assert again.headers.get("Link") == first.headers.get("Link")
    five.event(NOVA_IN_FIVE, 100, "2026-11-22 10:00:00+00")
    changed = admin.get(path, headers={"Accept": accept, "If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize(("path", "headers"), [(ROLLUP, {}), (ROLLUP, CSV), ("/assets/page.css", {})])
def test_an_if_match_that_fails_is_a_412_in_the_envelope(
    admin: FlaskClient, five: Tables, path: str, headers: dict[str, str]
) -> None:
    first = admin.get(path, headers=headers)
    for etag in (first.headers["ETag"], "*"):
        assert admin.get(path, headers=headers | {"If-Match": etag}).data == first.data
    response = admin.get(path, headers=headers | {"If-Match": '"another"'})
    assert (response.status_code, response.content_type, response.get_json()) == (
        412,
        "application/json",
        {"status": "error", "error": "Precondition in headers is false."},
    )
    assert response.headers["X-Request-Id"]


def test_an_etag_is_of_one_representation_and_one_caller(admin: FlaskClient, client: FlaskClient, five: Tables) -> None:
    five.key("another-key-of-the-admin", ADMIN)
    five.key("key-of-the-organisation", ORGANIZATION)

    def etag(key: str, accept: str = "application/json") -> str:
        response = client.get(ROLLUP, headers={"x-api-key": key, "Accept": accept})
        assert response.status_code == 200
        return response.headers["ETag"]

    assert etag(ADMIN_KEY).startswith('"'), "strong"
    assert etag(ADMIN_KEY) == etag("another-key-of-the-admin")
    assert len({etag(ADMIN_KEY), etag("key-of-the-organisation"), etag(ADMIN_KEY, "text/csv")}) == 3


def test_a_304_needs_a_key_first(admin: FlaskClient, client: FlaskClient, five: Tables) -> None:
    known = admin.get(ROLLUP).headers["ETag"]
    for etag in (known, "*"):
        assert client.get(ROLLUP, headers={"If-None-Match": etag}).status_code == 401
        assert admin.get(ROLLUP, headers={"If-None-Match": etag}).status_code == 304


def test_a_slow_reader_of_a_csv_holds_no_connection_and_gets_all_of_it(
    reader_url: str, admin: FlaskClient, tables: Tables
) -> None:
    """The service has one connection and no place to wait; the file is larger than what sockets keep on the way."""
    tables.account(NOVA)
    tables.execute(
        "INSERT INTO public.usage_events (account_id, created_at, model_id) "
        "SELECT %s, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 ms', repeat('m', 500) "
        "FROM generate_series(1, 16000) AS n",
        (NOVA,),
    )
    path = f"{EVENTS}?account_id={NOVA}&period=all"
    with (
        Gunicorn(reader_url, POOL_SIZE=1, QUEUE_SIZE=0) as service,
        socket.create_connection(("127.0.0.1", service.port), timeout=60) as slow,
    ):
        slow.sendall(f"GET {path} HTTP/1.0\r\nx-api-key: {ADMIN_KEY}\r\nAccept: text/csv\r\n\r\n".encode())
        received = slow.recv(1)
        assert service.get(ROLLUP).status == 200
        received += b"".join(iter(lambda: slow.recv(2**20), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    assert len(body) > 8_000_000
    assert body.count(b"\n") == 16_001


def test_a_page_of_another_origin_can_read_the_headers_and_keep_the_preflight(
    admin: FlaskClient, client: FlaskClient, five: Tables
) -> None:
    exposed = admin.get(ROLLUP).headers["Access-Control-Expose-Headers"].split(", ")
    assert {"As-Of", "Credits-Column", "ETag", "Link", "Server-Timing", "Window-End", "Window-Start"} <= set(exposed)
    preflight = client.options(ROLLUP, headers={"Origin": "https://dashboard.example"}).headers
    assert int(preflight["Access-Control-Max-Age"]) >= 600
    assert preflight["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert set(preflight["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        pytest.param("authorization,x-api-key", "authorization, x-api-key", id="as browsers ask"),
        pytest.param("Traceparent ,\tx!#$%&'*+.^_`|~-9,", "Traceparent, x!#$%&'*+.^_`|~-9", id="every character"),
        pytest.param("a b, é, x:y, (z), ok", "ok", id="no tokens"),
    ],
)
def test_a_preflight_allows_every_header_that_is_a_token(client: FlaskClient, asked: str, allowed: str) -> None:
    preflight = client.options(ROLLUP, headers={"Access-Control-Request-Headers": asked})
    assert preflight.headers["Access-Control-Allow-Headers"] == allowed
