"""Windows that begin at `since`."""

from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import DAYS, EVENTS, NOVA, ORBIT, ROLLUP, Tables
from test_representations import links
from test_requests import refused

QUIET = UUID("44444444-0000-4000-8000-000000000004")
OCTOBER = {"since": "2026-10-01", "as_of": "2026-11-01"}


@pytest.fixture
def autumn(tables: Tables) -> Tables:
    """An account with events at the edges of October and now."""
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA)
    tables.event(NOVA, 1, "2026-09-30 23:59:59.999999+00", id="before")
    tables.event(NOVA, 20, "2026-10-01 00:00:00+00", id="first")
    tables.event(NOVA, 300, "2026-10-31 23:59:59.999999+00", id="last")
    tables.event(NOVA, 4000, "2026-11-01 00:00:00+00", id="after")
    return tables


@pytest.mark.parametrize(
    ("path", "given", "found"),
    [
        (ROLLUP, {}, lambda body: [(row["total_credits_deducted_cents"], row["event_count"]) for row in body["rows"]]),
        (EVENTS, {"account_id": str(NOVA)}, lambda body: [event["id"] for event in body["events"]]),
        (DAYS, {}, lambda body: [(day["day"], day["event_count"]) for day in body["days"]]),
    ],
)
def test_october_is_one_request(admin: FlaskClient, autumn: Tables, path: str, given: Any, found: Any) -> None:
    expected: dict[str, Any] = {
        ROLLUP: [(320, 2)],
        EVENTS: ["last", "first"],
        DAYS: [(f"2026-10-{day:02}", int(day in (1, 31))) for day in range(1, 32)],
    }
    response = admin.get(path, query_string=OCTOBER | given)
    assert (response.get_json()["period"], found(response.get_json())) == ("custom", expected[path])
    headers = [response.headers[name] for name in ("As-Of", "Window-Start", "Window-End")]
    assert headers == [
        "2026-11-01T00:00:00.000000Z",
        "2026-10-01T00:00:00.000000Z",
        "2026-11-01T00:00:00.000000Z",
    ]
    exact = {"since": "2026-10-01T05:30:00+05:30", "as_of": "2026-11-01T00:00:00Z"}
    assert admin.get(path, query_string=exact | given).headers["ETag"] == response.headers["ETag"]
    exported = admin.get(path, query_string=OCTOBER | given, headers={"Accept": "text/csv"})
    assert len(exported.text.splitlines()) == 1 + len(expected[path])


def test_without_as_of_the_window_ends_at_the_instant_of_the_request(admin: FlaskClient, autumn: Tables) -> None:
    autumn.event(NOVA, 5, "2026-11-22 10:15:00+00", id="now")
    autumn.event(NOVA, 6, "2026-12-01 00:00:00+00", id="future")
    query = {"account_id": NOVA, "since": "2026-10-31T23:59:59.999999Z", "limit": 1}
    response = admin.get(EVENTS, query_string=query)
    assert (response.get_json()["total_count"], response.headers["Window-End"]) == (2, "2026-11-22T10:15:00.000000Z")
    second = admin.get(links(response)["next"])
    assert links(second)["prev"].endswith(
        "since=2026-10-31T23:59:59.999999Z&limit=1&page=1&as_of=2026-11-22T10:15:00.000000Z"
    )
    assert (second.get_json()["total_count"], second.headers["Window-Start"]) == (2, query["since"])
    autumn.fix_now("2026-11-22 10:15:00.000001+00")
    assert admin.get(EVENTS, query_string=query).get_json()["events"][0]["id"] == "now"


@pytest.mark.parametrize(
    ("query", "names", "sentence"),
    [
        pytest.param(
            "since=2026-10-01&period=monthly",
            ("period", "since"),
            "period must not be given with since; since must not be given with period",
            id="both",
        ),
        pytest.param("since=2026-11-22T10:15:00Z", ("since",), "since must be before the end of the window", id="now"),
        pytest.param(
            "since=2026-11-01&as_of=2026-11-01", ("since",), "since must be before the end of the window", id="as_of"
        ),
        pytest.param(
            "since=1899-12-31",
            ("since",),
            "since must be an RFC 3339 date-time such as 2026-11-22T10:15:00Z, or a date, from 1900 to 9998",
            id="before 1900",
        ),
        pytest.param(
            "period=custom", ("period",), "period must be one of all, daily, weekly, monthly", id="custom is no period"
        ),
    ],
)
def test_a_window_that_is_none_is_a_400(
    admin: FlaskClient, autumn: Tables, query: str, names: tuple[str, ...], sentence: str
) -> None:
    assert refused(admin, DAYS, query, *names) == f"Bad parameters: {sentence}."


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        pytest.param("period=daily", "11-21T00:00:00", "11-21T10:15:00", id="the same hours of yesterday"),
        pytest.param("period=weekly", "11-09T00:00:00", "11-15T10:15:00", id="a week"),
        pytest.param("", "09-24T00:00:00", "10-23T10:15:00", id="thirty days"),
        pytest.param("period=daily&as_of=2026-11-22", "11-20T00:00:00", "11-21T00:00:00", id="a whole day"),
        pytest.param("since=2026-11-22T10:00:00Z", "11-22T09:45:00", "11-22T10:00:00", id="the span before since"),
        pytest.param("since=2026-11-01&as_of=2026-11-11", "10-22T00:00:00", "11-01T00:00:00", id="until as_of"),
    ],
)
def test_the_previous_window_is_the_same_span_earlier(
    admin: FlaskClient, autumn: Tables, query: str, start: str, end: str
) -> None:
    headers = admin.get(f"{ROLLUP}?compare=previous&{query}").headers
    edges = (headers["Previous-Start"], headers["Previous-End"])
    assert edges == (f"2026-{start}.000000Z", f"2026-{end}.000000Z")


def test_a_compared_rollup_has_two_more_columns_and_is_otherwise_the_same(admin: FlaskClient, autumn: Tables) -> None:
    autumn.account(ORBIT)
    autumn.event(ORBIT, 9000, "2026-10-31 00:00:00+00")
    autumn.account(QUIET)
    autumn.event(QUIET, 5, "2026-11-01 00:00:00+00")
    query = "since=2026-11-01&as_of=2026-11-02"
    plain, body = (admin.get(f"{ROLLUP}?{query}{more}").get_json() for more in ("", "&compare=previous"))
    # Orbit spent only before, and is not listed.
    added = [(300, 1), (0, 0)]
    assert body == plain | {
        "rows": [
            row | {"previous_credits_deducted_cents": credits, "previous_event_count": count}
            for row, (credits, count) in zip(plain["rows"], added, strict=True)
        ]
    }
    assert list(body["rows"][0])[-2:] == ["previous_credits_deducted_cents", "previous_event_count"]
    for more in ("", "&limit=500"):
        exported = admin.get(f"{ROLLUP}?{query}&compare=previous{more}", headers={"Accept": "text/csv"})
        assert exported.text == (
            "account_id,account_name,account_email,total_credits_deducted_cents,event_count,"
            "previous_credits_deducted_cents,previous_event_count\r\n"
            f"{NOVA},,,4000,1,300,1\r\n{QUIET},,,5,1,0,0\r\n"
        )


def test_all_time_has_no_previous_window(admin: FlaskClient, autumn: Tables) -> None:
    sentence = refused(admin, ROLLUP, "period=all&compare=previous", "compare")
    assert sentence == "Bad parameters: compare cannot be used with period=all."
    assert refused(admin, ROLLUP, "compare=next", "compare") == "Bad parameters: compare must be previous."
