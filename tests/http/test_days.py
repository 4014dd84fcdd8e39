"""The days by hand: every UTC day of the window once, oldest first."""

from typing import Any

from flask.testing import FlaskClient

from conftest import DAYS, NOVA, ORBIT, Tables, answered


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
