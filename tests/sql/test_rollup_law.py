"""Laws of the rollup on random databases, against tests/model.py."""

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conftest import CREDITS_COLUMN, DATABASE, ROLLUP, Tables
from model import INTEGER_MAX, PERIODS, Content, contents, law, rollup_body, rollup_rows


def ask(admin: FlaskClient, **arguments: Any) -> dict[str, Any]:
    response = admin.get(ROLLUP, query_string=arguments)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.get_json()
    return body


@pytest.fixture(params=["credits_deducted_cents integer", "credits_deducted_cents bigint", "credits_deducted bigint"])
def credits_type(request: pytest.FixtureRequest, tables: Tables) -> Iterator[str]:
    """The column of credits has had these names and types."""
    name, type_ = request.param.split()
    tables.rename_credits(name)
    tables.set_credits_type(type_)
    yield type_
    tables.empty()
    tables.set_credits_type("bigint")
    tables.rename_credits(CREDITS_COLUMN)


@law
@given(data=st.data(), limit=st.integers(1, 12) | st.just(500), page=st.integers(1, 4) | st.just(18446744073709551))
def test_the_body_is_what_plain_python_says(
    admin: FlaskClient, tables: Tables, credits_type: str, data: st.DataObject, limit: int, page: int
) -> None:
    content = data.draw(contents(INTEGER_MAX if credits_type == "integer" else 2**63 - 1))
    content.store(tables)
    for period in PERIODS:
        assert ask(admin, period=period, limit=limit, page=page) == rollup_body(content, period, limit, page)


@law
@given(data=st.data(), period=st.sampled_from(list(PERIODS)), limit=st.integers(1, 9))
def test_pages_end_to_end_are_the_whole_once(
    admin: FlaskClient, tables: Tables, data: st.DataObject, period: str, limit: int
) -> None:
    # without a cutoff, accounts that do not exist are not counted
    content = data.draw(contents(orphans=period != "all"))
    content.store(tables)
    rows: list[dict[str, Any]] = []
    page = 1
    while True:
        body = ask(admin, period=period, limit=limit, page=page)
        rows += body["rows"]
        if page * limit >= body["total_count"]:
            break
        page += 1
    assert rows == rollup_rows(content, period)


@law
@given(content=contents())
def test_a_shorter_period_lists_no_account_that_a_longer_one_does_not(
    admin: FlaskClient, tables: Tables, content: Content
) -> None:
    content.store(tables)
    counts = [
        {row["account_id"]: row["event_count"] for row in ask(admin, period=period)["rows"]}
        for period in ("daily", "weekly", "monthly", "all")
    ]
    for shorter, longer in pairwise(counts):
        assert all(shorter[account] <= longer.get(account, 0) for account in shorter)


@pytest.fixture
def far_zones(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A role in Asia/Kolkata, served by a process in America/New_York."""
    tables.execute(f"ALTER ROLE credits_reader IN DATABASE {DATABASE} SET TimeZone = 'Asia/Kolkata'")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    assert time.tzname == ("EST", "EDT")
    yield
    monkeypatch.undo()
    os.environ.pop("TZ", None)
    time.tzset()
    tables.execute(f"ALTER ROLE credits_reader IN DATABASE {DATABASE} RESET TimeZone")


@law
@given(content=contents())
@pytest.mark.usefixtures("far_zones")
def test_no_time_zone_changes_the_answer(fresh_admin: FlaskClient, tables: Tables, content: Content) -> None:
    content.store(tables)
    for period in PERIODS:
        assert ask(fresh_admin, period=period) == rollup_body(content, period, 100, 1)
