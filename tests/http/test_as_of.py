"""`as_of`: the answer at an instant."""

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conftest import DAYS, EVENTS, NOVA, ROLLUP, Tables, answered
from model import PERIODS, Content, contents, days_body, events_body, instants_around, law, rollup_body


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
            "or a date, from 1970 to 9998.",
            "missing_fields": ["as_of"],
        },
    )


def test_a_plus_sign_that_was_not_escaped_is_a_400_that_says_so(admin: FlaskClient, november: Tables) -> None:
    response = admin.get(f"{ROLLUP}?as_of=2026-11-01T00:00:00+02:00")
    assert (response.status_code, response.get_json()["error"]) == (
        400,
        "Bad parameters: as_of has a space where a + is meant: write + as %2B, or the instant in UTC with Z.",
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
    ("query", "as_of", "start"),
    [
        pytest.param("weekly&as_of=2026-11-01T00:00:00Z", "11-01T00:00:00.000000", "10-25", id="midnight"),
        pytest.param("daily&as_of=2026-11-01T00:00:00.000001Z", "11-01T00:00:00.000001", "11-01", id="after it"),
        pytest.param("monthly", "11-22T10:15:00.000000", "10-24", id="the instant of the request"),
        pytest.param("all", "11-22T10:15:00.000000", None, id="no start"),
    ],
)
@pytest.mark.parametrize("path", [f"{ROLLUP}?", f"{EVENTS}?account_id={NOVA}&", f"{DAYS}?"])
def test_the_headers_are_the_edges_of_the_window(
    admin: FlaskClient, november: Tables, path: str, query: str, as_of: str, start: str | None
) -> None:
    headers = admin.get(f"{path}period={query}").headers
    assert headers["As-Of"] == f"2026-{as_of}Z"
    assert headers.get("Window-Start") == (f"2026-{start}T00:00:00.000000Z" if start else None)
    assert headers["Window-End"] == headers["As-Of"]


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
