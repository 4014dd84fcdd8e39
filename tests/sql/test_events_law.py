"""Laws of the drill-down on random databases, against tests/model.py."""

from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from hypothesis import assume, given
from hypothesis import strategies as st

from conftest import EVENTS, Tables
from model import PERIODS, Content, contents, events_body, law, rollup_rows


def ask(admin: FlaskClient, account: UUID | str, **arguments: Any) -> dict[str, Any]:
    response = admin.get(EVENTS, query_string={"account_id": str(account), **arguments})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.get_json()
    return body


def all_events(admin: FlaskClient, account: UUID | str, period: str, limit: int) -> list[dict[str, Any]]:
    """Every page of one account's events, end to end."""
    events: list[dict[str, Any]] = []
    page = 1
    while True:
        body = ask(admin, account, period=period, limit=limit, page=page)
        events += body["events"]
        if page * limit >= body["total_count"]:
            return events
        page += 1


@law
@given(content=contents(), data=st.data(), limit=st.integers(1, 12) | st.just(500), page=st.integers(1, 3))
def test_the_body_is_what_plain_python_says(
    admin: FlaskClient, tables: Tables, content: Content, data: st.DataObject, limit: int, page: int
) -> None:
    assume(content.accounts)
    content.store(tables)
    account = data.draw(st.sampled_from([id_ for id_, _ in content.accounts]))
    for period in PERIODS:
        body = ask(admin, account, period=period, limit=limit, page=page)
        assert body == events_body(content, account, period, limit, page)


@law
@given(content=contents(), period=st.sampled_from(list(PERIODS)), limit=st.integers(1, 9))
def test_the_events_of_all_pages_are_the_whole_once_and_add_up_to_the_rollup(
    admin: FlaskClient, tables: Tables, content: Content, period: str, limit: int
) -> None:
    content.store(tables)
    for row in rollup_rows(content, period):
        account = UUID(row["account_id"])
        events = all_events(admin, account, period, limit)
        assert events == events_body(content, account, period, 10_000, 1)["events"]
        assert sum(event["credits_deducted_cents"] for event in events) == row["total_credits_deducted_cents"]
        assert len(events) == row["event_count"]
