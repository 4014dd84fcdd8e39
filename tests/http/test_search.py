"""`q` on the rollup: accounts by name, by any address, or by the beginning of an id."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import (
    DAYS,
    EVENTS,
    READER_PASSWORD,
    ROLLUP,
    SECRET,
    Tables,
    admin_client,
    answered,
    create_database,
)
from service import create_app
from service.config import Settings
from tools.demo.postgres import PostgresServer

# Before PostgreSQL 17 the server of the tests has the locale C, in which only ASCII letters have two cases.
FOLDS = pytest.mark.skipif("postgresql/15" in os.environ.get("POSTGRES_BIN", ""), reason="PostgreSQL 17 folds É")
NAMES = ["Nova Records", "nova%", "under_score", "back\\slash", "Ångström", None, "No event"]


@pytest.fixture
def named(tables: Tables) -> Tables:
    """Accounts that each have one event, but the last; the fifth has three addresses, the sixth no name."""
    tables.fix_now("2026-11-22 10:15:00+00")
    for number, name in enumerate(NAMES):
        account = UUID(int=0xABC0 + number)
        tables.account(account, name)
        if name != "No event":
            tables.event(account, number + 1, "2026-11-22 10:00:00+00")
    for account, email, updated in [
        (0xABC4, "new@five.example", "2026-02-01"),
        (0xABC4, "OLD.nova@five.example", "2026-01-01"),
        (0xABC4, None, "2026-03-01"),
        (0xABC5, "six@six.example", "2026-01-01"),
    ]:
        tables.insert("account_emails", "account_id, email, updated_at", [(UUID(int=account), email, updated)])
    return tables


@pytest.mark.parametrize(
    ("q", "found"),
    [
        pytest.param("nova", [4, 1, 0], id="names and an address that is not the primary one, in either case"),
        pytest.param("VA R", [0], id="in the middle"),
        pytest.param("%", [1], id="percent sign"),
        pytest.param("_", [2], id="underscore"),
        pytest.param("\\", [3], id="backslash"),
        pytest.param("Ångstr", [4], id="letters beyond ASCII"),
        pytest.param("ångSTRÖM", [4], id="letters beyond ASCII in the other case", marks=FOLDS),
        pytest.param("five.example", [4], id="two addresses of one account"),
        pytest.param("00000000-0000-0000-0000-00000000ABC5", [5], id="id"),
        pytest.param("00000000", [5, 4, 3, 2, 1, 0], id="the first eight characters of ids"),
        pytest.param("0000000", [], id="the first seven"),
        pytest.param("00000000-", [5, 4, 3, 2, 1, 0], id="up to a hyphen"),
        pytest.param("00000000-0000-0000-0000-00000000aBc", [5, 4, 3, 2, 1, 0], id="all but the last character"),
        pytest.param("00000000-0000-0000-0000-00000000abd", [], id="the beginning of no id"),
        pytest.param("00000000-0000-0000-0000-00000000abc50", [], id="an id and more"),
        pytest.param("000000000", [], id="no hyphen after eight digits"),
        pytest.param("00000000-0000-0000-0000-0000-0000abc", [], id="hyphens elsewhere"),
        pytest.param("0000-0000-0000-00000000abc5", [], id="the end of an id"),
        pytest.param("0000000_", [], id="an underscore for a digit"),
        pytest.param("00000000%", [], id="the beginning of ids and a percent sign"),
        pytest.param("00000000\n", [], id="the beginning of ids and a newline"),
        pytest.param("{00000000-0000-0000-0000-00000000abc5}", [], id="id in braces"),
        pytest.param("no event", [], id="an account without events"),
        pytest.param("'; DROP TABLE accounts; --", [], id="SQL"),
        pytest.param("e" * 200, [], id="longest"),
    ],
)
def test_accounts_are_found_by_name_address_or_id(admin: FlaskClient, named: Tables, q: str, found: list[int]) -> None:
    whole = {row["account_name"]: row for row in answered(admin, ROLLUP)["rows"]}
    body = answered(admin, ROLLUP, q=q)
    assert body == {
        "status": "success",
        "period": "monthly",
        "page": 1,
        "limit": 100,
        "total_count": len(found),
        "rows": [whole[NAMES[number]] for number in found],
    }


def test_the_beginning_of_an_id_lies_between_its_first_and_its_last_id(admin: FlaskClient, named: Tables) -> None:
    ids = [
        f"{beginning}-{rest}"
        for beginning in ("3c90c3cb", "3c90c3cc", "3c90c3cd")
        for rest in ("0000-0000-0000-000000000000", "ffff-ffff-ffff-ffffffffffff")
    ]
    for id_ in ids:
        named.account(UUID(id_))
        named.event(UUID(id_), 1, "2026-11-22 10:00:00+00")
    body = answered(admin, ROLLUP, q="3C90C3CC", limit=1)
    assert (body["total_count"], [row["account_id"] for row in body["rows"]]) == (2, ids[2:3])
    # An id is one of the texts that a name may have.
    named.account(UUID(int=1), "formerly 3c90c3cc")
    named.event(UUID(int=1), 2, "2026-11-22 10:00:00+00")
    body = answered(admin, ROLLUP, q="3c90c3cc")
    assert [row["account_id"] for row in body["rows"]] == [str(UUID(int=1)), *ids[2:4]]


def test_a_page_counts_what_is_found(admin: FlaskClient, named: Tables) -> None:
    body = answered(admin, ROLLUP, q="nova", limit=1, page=2, compare="previous")
    assert (body["total_count"], [row["account_name"] for row in body["rows"]]) == (3, ["nova%"])
    assert body["rows"][0]["previous_event_count"] == 0
    exported = admin.get(ROLLUP, query_string="q=nova", headers={"Accept": "text/csv"})
    assert len(exported.text.splitlines()) == 4


@contextmanager
def encoded(server: PostgresServer, encoding: str, name: bytes) -> Iterator[FlaskClient]:
    """Make a database of an encoding with an account whose name has these bytes; return a client of a service on it."""
    create_database(server, "encoded", options=f"ENCODING {encoding} LOCALE 'C' TEMPLATE template0")
    tables = Tables(f"{server.url('encoded')}&client_encoding={encoding}")
    try:
        tables.seed_admin()
        tables.account(UUID(int=1))
        tables.execute(
            "UPDATE public.accounts SET name = convert_from(%s, %s) WHERE id = %s", (name, encoding, UUID(int=1))
        )
        tables.event(UUID(int=1), 5, "2026-11-22 10:00:00+00")
        url = server.url("encoded", user="credits_reader", password=READER_PASSWORD)
        yield admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET)))
    finally:
        tables.connection.close()
        server.psql("-c", "DROP DATABASE encoded WITH (FORCE)")


@pytest.mark.parametrize(
    ("encoding", "known", "unknown"),
    [("LATIN1", "é", "漢"), ("EUC_JP", "漢", "🎧"), ("EUC_JIS_2004", "漢", "\x80")],
)
def test_a_text_that_the_encoding_of_the_database_lacks_finds_nothing(
    server: PostgresServer, encoding: str, known: str, unknown: str
) -> None:
    with encoded(server, encoding, known.encode(encoding)) as admin:
        query = {"period": "all"}
        assert answered(admin, ROLLUP, **query, q=known)["rows"][0]["account_name"] == known
        nothing = admin.get(ROLLUP, query_string=query | {"q": unknown, "page": "2"})
        assert (nothing.status_code, nothing.get_json()["total_count"], nothing.get_json()["rows"]) == (200, 0, [])
        assert "/queries/credits_rollup.sql" in nothing.headers["Link"]
        exported = admin.get(ROLLUP, query_string=query | {"q": unknown}, headers={"Accept": "text/csv"})
        assert (exported.status_code, len(exported.text.splitlines())) == (200, 1)
        totals = answered(admin, ROLLUP, q=unknown, totals="true")["totals"]
        assert totals == {"total_credits_deducted_cents": 0, "event_count": 0}
        # no event has such a model; days, account and grants are still there
        for path, more in (
            (ROLLUP, {"compare": "previous"}),
            (DAYS, {}),
            (EVENTS, {"account_id": str(UUID(int=1))}),
            ("/api/admins/credits/series", {"by": "model"}),
        ):
            expected = answered(admin, path, model="none", **more)
            assert answered(admin, path, model=unknown, **more) == expected | {"model": unknown}


def test_a_stored_byte_that_is_no_character_is_a_503_not_an_empty_list(server: PostgresServer) -> None:
    with encoded(server, "WIN1252", b"\x81 nova") as admin:
        for query in ("period=all", "period=all&q=nova", "period=all&q=nov%C3%A4"):
            answer = admin.get(f"{ROLLUP}?{query}")
            if query.endswith("%A4"):
                assert answer.get_json()["rows"] == []
            else:
                assert (answer.status_code, answer.get_json()["error"]) == (
                    503,
                    "A text in the database cannot be read: it has bytes that are no characters.",
                )


def test_a_database_whose_bytes_are_no_characters_is_refused(server: PostgresServer) -> None:
    sentence = "The encoding of the database is SQL_ASCII, in which bytes are no characters."
    with encoded(server, "SQL_ASCII", b"\xff") as admin:
        answer, ready = admin.get(ROLLUP), admin.get("/health/ready")
    assert (answer.status_code, answer.get_json()["error"]) == (503, sentence)
    assert (ready.status_code, ready.get_json()["error"]) == (
        503,
        f"Not ready: database, privileges, policies. {sentence}",
    )
