"""The breakdown by hand: by each key, of all accounts or of one, compared with the previous window."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from conftest import NOVA, ORBIT, Tables, answered
from test_requests import refused

BREAKDOWN = "/api/admins/credits/breakdown"
LARGE = {"model_id": "large", "provider": "acme", "source": "api", "agent_type": "subagent"}


@pytest.fixture
def models(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA, "Nova Records")
    tables.account(ORBIT)
    tables.event(NOVA, 7, "2026-11-22 00:00:00+00", **LARGE, input_tokens=1, cached_input_tokens=2)
    tables.event(ORBIT, 1, "2026-11-22 10:14:59.999999+00", **LARGE, output_tokens=2**31 - 1, tool_call_count=3)
    tables.event(ORBIT, 1, "2026-11-22 09:00:00+00", **LARGE, output_tokens=1)
    # Equal totals: capitals come first by code point, null last.
    tables.event(NOVA, 5, "2026-11-22 09:00:00+00", model_id="b", provider="acme")
    tables.event(NOVA, 5, "2026-11-22 09:00:00+00", model_id="B", provider="=1+1")
    tables.event(ORBIT, 5, "2026-11-22 09:00:00+00")
    # Before the window: in the same hours of the day before, and after them.
    tables.event(NOVA, 100, "2026-11-21 10:14:59.999999+00", model_id="b")
    tables.event(NOVA, 100, "2026-11-21 10:15:00+00", model_id="B")
    tables.event(NOVA, 100, "2026-11-21 09:00:00+00", model_id="retired")
    return tables


def row(key: str | None, credits: int, count: int, *tokens: int) -> dict[str, Any]:
    columns = ("input_tokens", "cached_input_tokens", "output_tokens", "tool_call_count")
    sums = zip(columns, tokens or (0, 0, 0, 0), strict=True)
    return {"key": key, "total_credits_deducted_cents": credits, "event_count": count, **dict(sums)}


def test_the_whole_answer(admin: FlaskClient, models: Tables) -> None:
    response = admin.get(BREAKDOWN, query_string={"by": "model", "period": "daily", "limit": 1})
    assert response.text == (
        '{"status":"success","by":"model","period":"daily","page":1,"limit":1,"total_count":4,"rows":['
        '{"key":"large","total_credits_deducted_cents":9,"event_count":3,"input_tokens":1,"cached_input_tokens":2,'
        '"output_tokens":2147483648,"tool_call_count":3}]}\n'
    )
    assert answered(admin, BREAKDOWN, by="model", period="daily", account_id=NOVA) == {
        "status": "success",
        "by": "model",
        "account_id": str(NOVA),
        "period": "daily",
        "page": 1,
        "limit": 100,
        "total_count": 3,
        "rows": [row("large", 7, 1, 1, 2, 0, 0), row("B", 5, 1), row("b", 5, 1)],
    }


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("model", [("large", 9), ("B", 5), ("b", 5), (None, 5)]),
        ("provider", [("acme", 14), ("=1+1", 5), (None, 5)]),
        ("source", [("web", 15), ("api", 9)]),
        ("agent_type", [("main", 15), ("subagent", 9)]),
    ],
)
def test_each_key_is_listed_most_credits_first_and_null_last(
    admin: FlaskClient, models: Tables, by: str, keys: list[tuple[str | None, int]]
) -> None:
    body = answered(admin, BREAKDOWN, by=by, period="daily")
    assert [(row["key"], row["total_credits_deducted_cents"]) for row in body["rows"]] == keys


def test_the_comparison_is_with_the_same_hours_and_changes_no_row(admin: FlaskClient, models: Tables) -> None:
    plain = answered(admin, BREAKDOWN, by="model", period="daily")
    assert answered(admin, BREAKDOWN, by="model", period="daily", compare="previous") == plain | {
        "rows": [
            row | {"previous_credits_deducted_cents": credits, "previous_event_count": count}
            for row, (credits, count) in zip(plain["rows"], [(0, 0), (0, 0), (100, 1), (0, 0)], strict=True)
        ]
    }
    exported = admin.get(
        BREAKDOWN, query_string="by=provider&period=daily&compare=previous", headers={"Accept": "text/csv"}
    )
    assert exported.text == (
        "key,total_credits_deducted_cents,event_count,input_tokens,cached_input_tokens,output_tokens,tool_call_count,"
        "previous_credits_deducted_cents,previous_event_count\r\n"
        "acme,14,4,1,2,2147483648,3,0,0\r\n'=1+1,5,1,0,0,0,0,0,0\r\n,5,1,0,0,0,0,200,2\r\n"
    )


def test_what_is_not_a_key_is_a_400(admin: FlaskClient, tables: Tables) -> None:
    assert refused(admin, BREAKDOWN, "", "by") == "Bad parameters: by is required."
    sentence = refused(admin, BREAKDOWN, "by=model_id&q=x&account_id=1", "account_id", "by", "q")
    assert "by must be one of model, provider, source, agent_type" in sentence
