"""Windows that begin at `since`."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import EVENTS, NOVA, ORBIT, ROLLUP, Tables
from test_representations import links

QUIET = UUID("44444444-0000-4000-8000-000000000004")


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


def test_october_is_one_request(admin: FlaskClient, autumn: Tables) -> None:
    response = admin.get(f"{EVENTS}?account_id={NOVA}&since=2026-10-01&as_of=2026-11-01")
    assert response.get_json()["period"] == "custom"
    assert [event["id"] for event in response.get_json()["events"]] == ["last", "first"]
    edges = [response.headers[name] for name in ("Window-Start", "Window-End", "As-Of")]
    assert edges == ["2026-10-01T00:00:00.000000Z", *["2026-11-01T00:00:00.000000Z"] * 2]
    exact = admin.get(f"{EVENTS}?account_id={NOVA}&since=2026-10-01T05:30:00%2B05:30&as_of=2026-11-01T00:00:00Z")
    assert exact.headers["ETag"] == response.headers["ETag"]


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
    ("query", "start", "end"),
    [
        pytest.param("period=daily", "2026-11-21T00:00:00", "2026-11-21T10:15:00", id="the same hours of yesterday"),
        pytest.param("period=weekly", "2026-11-09T00:00:00", "2026-11-15T10:15:00", id="a week"),
        pytest.param("", "2026-09-24T00:00:00", "2026-10-23T10:15:00", id="thirty days"),
        pytest.param("period=daily&as_of=2026-11-22", "2026-11-20T00:00:00", "2026-11-21T00:00:00", id="a whole day"),
        pytest.param(
            "since=2026-11-22T10:00:00Z", "2026-11-22T09:45:00", "2026-11-22T10:00:00", id="the span before since"
        ),
        pytest.param(
            "since=2026-11-01&as_of=2026-11-11", "2026-10-22T00:00:00", "2026-11-01T00:00:00", id="until as_of"
        ),
        pytest.param(
            "since=1970-01-01&as_of=1980-01-01", "1960-01-02T00:00:00", "1970-01-01T00:00:00", id="before 1970"
        ),
    ],
)
def test_the_previous_window_is_the_same_span_earlier_and_can_be_asked_for(
    admin: FlaskClient, autumn: Tables, query: str, start: str, end: str
) -> None:
    headers = admin.get(f"{ROLLUP}?compare=previous&{query}").headers
    edges = (headers["Previous-Start"], headers["Previous-End"])
    assert edges == (f"{start}.000000Z", f"{end}.000000Z")
    asked = admin.get(ROLLUP, query_string={"since": edges[0], "as_of": edges[1]}).headers
    assert (asked["Window-Start"], asked["Window-End"]) == edges


def test_a_compared_rollup_has_two_more_columns(admin: FlaskClient, autumn: Tables) -> None:
    autumn.account(ORBIT)
    autumn.event(ORBIT, 9000, "2026-10-31 00:00:00+00")  # only before, so it is not listed
    autumn.account(QUIET)
    autumn.event(QUIET, 5, "2026-11-01 00:00:00+00")
    assert admin.get(f"{ROLLUP}?since=2026-11-01&as_of=2026-11-02&compare=previous").text == (
        '{"status":"success","period":"custom","page":1,"limit":100,"total_count":2,"rows":['
        '{"account_id":"11111111-0000-4000-8000-000000000001","account_name":null,"account_email":null,'
        '"total_credits_deducted_cents":4000,"event_count":1,'
        '"previous_credits_deducted_cents":300,"previous_event_count":1},'
        '{"account_id":"44444444-0000-4000-8000-000000000004","account_name":null,"account_email":null,'
        '"total_credits_deducted_cents":5,"event_count":1,'
        '"previous_credits_deducted_cents":0,"previous_event_count":0}]}\n'
    )
