"""`as_of`: the answer at an instant, and the same pages of it while events are added."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conftest import DAYS, EVENTS, NOVA, ROLLUP, Tables, answered
from model import MICROSECOND, PERIODS, Content, contents, days_body, events_body, instants_around, law, rollup_body


@pytest.fixture
def november(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    return tables


@pytest.mark.parametrize(
    "as_of",
    [
        pytest.param("", id="empty"),
        pytest.param("2026-11-1", id="a digit short"),
        pytest.param("2026-11", id="a month"),
        pytest.param("2026-11-01T00:00:00", id="no offset"),
        pytest.param("2026-11-01 00:00:00Z", id="a space"),
        pytest.param("2026-11-01T00:00:00 00:00", id="a plus sign that was not escaped"),
        pytest.param("2026-W44-7T00:00:00Z", id="week date"),
        pytest.param("2026-11-01T00:00:00.1234567Z", id="seven digits"),
        pytest.param("2026-11-01T00:00:00+24:00", id="offset of a day"),
        pytest.param("2026-02-30T00:00:00Z", id="no such day"),
        pytest.param("2016-12-31T23:59:60Z", id="leap second"),
        pytest.param("1969-12-31T23:59:59.999999Z", id="before 1970"),
        pytest.param("9999-01-01T00:00:00Z", id="after 9998"),
        pytest.param("0001-01-01T00:00:00+01:00", id="before the calendar"),
        pytest.param("٢٠٢٦-11-01T00:00:00Z", id="other digits"),
        pytest.param("2026-11-01T00:00:00Z\n", id="newline"),
        pytest.param("now", id="now"),
    ],
)
def test_another_format_than_rfc_3339_is_a_400(admin: FlaskClient, november: Tables, as_of: str) -> None:
    response = admin.get(ROLLUP, query_string={"as_of": as_of})
    assert (response.status_code, response.get_json()) == (
        400,
        {
            "status": "error",
            "error": "Bad parameters: as_of must be an RFC 3339 date-time such as 2026-11-22T10:15:00Z, "
            "from 1970 to 9998.",
            "missing_fields": ["as_of"],
        },
    )


def test_an_instant_in_the_future_is_a_400(admin: FlaskClient, november: Tables) -> None:
    response = admin.get(ROLLUP, query_string={"as_of": "2026-11-22T10:15:00.000001Z", "limit": "x"})
    assert (response.status_code, response.get_json()) == (
        400,
        {
            "status": "error",
            "error": "Bad parameters: as_of must not be in the future; limit must be an integer from 1 to 500.",
            "missing_fields": ["as_of", "limit"],
        },
    )


@pytest.mark.parametrize(
    ("as_of", "header"),
    [
        pytest.param("2026-11-22T10:15:00Z", "2026-11-22T10:15:00.000000Z", id="now is not the future"),
        pytest.param("2026-11-22T15:45:00.5+05:30", "2026-11-22T10:15:00.500000Z", id="an offset"),
        pytest.param("2026-11-22T05:15:00.000001-05:00", "2026-11-22T10:15:00.000001Z", id="microseconds"),
        pytest.param("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z", id="the first"),
        pytest.param("2026-11-22", "2026-11-22T00:00:00.000000Z", id="a date"),
    ],
)
def test_as_of_header_is_the_instant_in_utc(admin: FlaskClient, november: Tables, as_of: str, header: str) -> None:
    november.fix_now("2026-11-22 10:15:00.5+00")
    assert admin.get(ROLLUP, query_string={"as_of": as_of}).headers["As-Of"] == header


@pytest.mark.parametrize(
    ("query", "as_of", "start", "end"),
    [
        pytest.param("weekly&as_of=2026-11-01T00:00:00Z", "11-01T00:00:00.000000", "10-25", True, id="midnight"),
        pytest.param("daily&as_of=2026-11-01T00:00:00.000001Z", "11-01T00:00:00.000001", "11-01", True, id="after it"),
        pytest.param("monthly", "11-22T10:15:00.000000", "10-24", False, id="no upper edge"),
        pytest.param("all", "11-22T10:15:00.000000", None, False, id="no edge"),
        pytest.param("all&as_of=2026-11-01T00:00:00Z", "11-01T00:00:00.000000", None, True, id="no lower edge"),
    ],
)
@pytest.mark.parametrize("path", [f"{ROLLUP}?", f"{EVENTS}?account_id={NOVA}&", f"{DAYS}?"])
def test_the_headers_are_the_edges_of_the_window(
    admin: FlaskClient, november: Tables, path: str, query: str, as_of: str, start: str | None, end: bool
) -> None:
    headers = admin.get(f"{path}period={query}").headers
    assert headers["As-Of"] == f"2026-{as_of}Z"
    assert headers.get("Window-Start") == (f"2026-{start}T00:00:00.000000Z" if start else None)
    assert headers.get("Window-End") == (headers["As-Of"] if end else None)


@law
@given(content=contents(), data=st.data(), period=st.sampled_from(list(PERIODS)))
def test_the_body_at_an_instant_equals_that_of_the_model(
    admin: FlaskClient, tables: Tables, content: Content, data: st.DataObject, period: str
) -> None:
    content.store(tables)
    as_of = data.draw(instants_around(content.now).filter(lambda instant: instant <= content.now))
    assert answered(admin, ROLLUP, period=period, as_of=as_of.isoformat(), limit=5) == rollup_body(
        content, period, 5, 1, as_of
    )
    assert answered(admin, DAYS, period=period, as_of=as_of.isoformat()) == days_body(content, period, None, as_of)
    for account, _ in content.accounts[:2]:
        assert answered(admin, EVENTS, account_id=account, period=period, as_of=as_of.isoformat()) == events_body(
            content, account, period, 100, 1, as_of
        )


@law
@given(content=contents())
def test_adjacent_windows_add_up(admin: FlaskClient, tables: Tables, content: Content) -> None:
    """Four weeks and two days that follow each other are the 30 days before midnight."""
    content.store(tables)
    midnight = content.now.replace(hour=0, minute=0, second=0, microsecond=0)
    parts = [("weekly", midnight - timedelta(weeks=step)) for step in range(4)]
    parts += [("daily", midnight - timedelta(days=28 + step)) for step in range(2)]

    def total(period: str, as_of: datetime) -> int:
        body = answered(admin, ROLLUP, period=period, as_of=as_of.isoformat(), limit=500)
        return sum(row["total_credits_deducted_cents"] for row in body["rows"])

    assert sum(total(*part) for part in parts) == total("monthly", midnight)


def test_the_pages_at_an_instant_are_complete_while_events_are_added(
    admin: FlaskClient, tables: Tables, owner_url: str
) -> None:
    """A writer commits events at the instant and after it while the pages are fetched."""
    accounts = [uuid4() for _ in range(60)]
    for number, account in enumerate(accounts):
        tables.account(account)
        tables.event(account, number, datetime.now(UTC) - timedelta(minutes=5))
    instant = admin.get(ROLLUP).headers["As-Of"]
    writer, done, written = Tables(owner_url), threading.Event(), threading.Event()

    def write() -> None:
        while not done.is_set():
            # These would reverse the order of the accounts.
            writer.event(accounts[0], 1_000_000, instant)
            writer.event(accounts[1], 1_000_000, datetime.fromisoformat(instant) + MICROSECOND)
            written.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        pages = []
        for page in range(1, 11):
            assert written.wait(60)
            written.clear()
            pages.append(answered(admin, ROLLUP, as_of=instant, limit=6, page=page))
    finally:
        done.set()
        thread.join()
        writer.connection.close()
    rows: list[dict[str, Any]] = [row for page in pages for row in page["rows"]]
    assert [row["account_id"] for row in rows] == [str(account) for account in reversed(accounts)]
    assert {page["total_count"] for page in pages} == {60}
    assert sum(row["total_credits_deducted_cents"] for row in rows) == sum(range(60))
