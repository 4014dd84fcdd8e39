"""The days: every UTC day of the window once, oldest first; they add up to the rollup."""

from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conftest import DAYS, NOVA, ORBIT, ROLLUP, Tables, answered
from model import PERIODS, Content, contents, days_body, law


def day(name: str, total: int, count: int) -> dict[str, Any]:
    return {"day": name, "total_credits_deducted_cents": total, "event_count": count}


def test_the_whole_answer(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-03 10:15:00+00")
    tables.account(NOVA)
    tables.account(ORBIT)
    tables.event(NOVA, 5, "2026-10-31 00:00:00+00")
    tables.event(ORBIT, 7, "2026-10-31 23:59:59.999999+00")
    tables.event(NOVA, -2, "2026-11-02 12:00:00+00")
    response = admin.get(DAYS, query_string={"period": "all"})
    assert response.text == (
        '{"status":"success","period":"all","total_count":4,"days":['
        '{"day":"2026-10-31","total_credits_deducted_cents":12,"event_count":2},'
        '{"day":"2026-11-01","total_credits_deducted_cents":0,"event_count":0},'
        '{"day":"2026-11-02","total_credits_deducted_cents":-2,"event_count":1},'
        '{"day":"2026-11-03","total_credits_deducted_cents":0,"event_count":0}]}\n'
    )
    assert answered(admin, DAYS, period="daily", account_id=str(ORBIT).upper()) == {
        "status": "success",
        "account_id": str(ORBIT),
        "period": "daily",
        "total_count": 1,
        "account": {"account_id": str(ORBIT), "account_name": None, "account_email": None},
        "days": [day("2026-11-03", 0, 0)],
    }


def test_without_events_a_bounded_window_has_days_and_all_has_none(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-03 10:15:00+00")
    assert answered(admin, DAYS, period="all") == {
        "status": "success",
        "period": "all",
        "total_count": 0,
        "days": [],
    }
    assert [row["day"] for row in answered(admin, DAYS, period="weekly")["days"]] == [
        "2026-10-28", "2026-10-29", "2026-10-30", "2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03",
    ]  # fmt: skip


def test_gaps_are_filled_from_the_first_event_since_2000_to_today(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2000-01-04 10:15:00+00")
    tables.account(NOVA)
    for name in ("0001-01-01", "1999-12-31", "2000-01-02", "2000-01-06"):
        tables.event(NOVA, 5, f"{name} 12:00:00+00")
    for name in ("infinity", "-infinity"):
        tables.event(NOVA, 100, name)
    today = day("2000-01-04", 0, 0)
    assert answered(admin, DAYS, period="daily")["days"] == [today]
    assert answered(admin, DAYS, period="all")["days"] == [
        day("0001-01-01", 5, 1),
        day("1999-12-31", 5, 1),
        day("2000-01-02", 5, 1),
        day("2000-01-03", 0, 0),
        today,
    ]


@law
@given(content=contents(), period=st.sampled_from(list(PERIODS)))
def test_the_body_equals_that_of_the_model_and_adds_up_to_the_rollup(
    admin: FlaskClient, tables: Tables, content: Content, period: str
) -> None:
    content.store(tables)
    whole = answered(admin, DAYS, period=period)
    rows = answered(admin, ROLLUP, period=period, limit=500)["rows"]
    assert whole == days_body(content, period)
    for name in ("total_credits_deducted_cents", "event_count"):
        assert sum(row[name] for row in whole["days"]) == sum(row[name] for row in rows)
    for row in rows[:2]:
        assert answered(admin, DAYS, period=period, account_id=row["account_id"]) == days_body(
            content, period, UUID(row["account_id"])
        )
