"""The breakdown by hand, and compared with the previous window."""

import pytest
from flask.testing import FlaskClient

from conftest import NOVA, ORBIT, Tables

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


def test_the_whole_answer(admin: FlaskClient, models: Tables) -> None:
    response = admin.get(BREAKDOWN, query_string={"by": "model", "period": "daily"})
    assert response.text == (
        '{"status":"success","by":"model","period":"daily","page":1,"limit":100,"total_count":4,"rows":['
        '{"key":"large","total_credits_deducted_cents":9,"event_count":3,"input_tokens":1,"cached_input_tokens":2,'
        '"output_tokens":2147483648,"tool_call_count":3},'
        '{"key":"B","total_credits_deducted_cents":5,"event_count":1,"input_tokens":0,"cached_input_tokens":0,'
        '"output_tokens":0,"tool_call_count":0},'
        '{"key":"b","total_credits_deducted_cents":5,"event_count":1,"input_tokens":0,"cached_input_tokens":0,'
        '"output_tokens":0,"tool_call_count":0},'
        '{"key":null,"total_credits_deducted_cents":5,"event_count":1,"input_tokens":0,"cached_input_tokens":0,'
        '"output_tokens":0,"tool_call_count":0}]}\n'
    )


def test_the_whole_csv_compared_with_the_same_hours_of_the_day_before(admin: FlaskClient, models: Tables) -> None:
    query = "by=provider&period=daily&compare=previous"
    assert admin.get(BREAKDOWN, query_string=query, headers={"Accept": "text/csv"}).text == (
        "key,total_credits_deducted_cents,event_count,input_tokens,cached_input_tokens,output_tokens,tool_call_count,"
        "previous_credits_deducted_cents,previous_event_count\r\n"
        "acme,14,4,1,2,2147483648,3,0,0\r\n'=1+1,5,1,0,0,0,0,0,0\r\n,5,1,0,0,0,0,200,2\r\n"
    )
