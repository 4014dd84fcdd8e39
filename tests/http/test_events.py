"""The drill-down by hand: the events and grants behind one row, and the whole answer."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import ADMIN, DAYS, EVENTS, NOVA, ORBIT, Tables


@pytest.fixture
def spender(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00.000001+00")
    tables.account(NOVA, "Nova Records")
    tables.account(ORBIT)
    tables.insert(
        "account_emails",
        "account_id, email, updated_at",
        [
            (NOVA, "old@nova.example", "2026-01-01 00:00:00+00"),
            (NOVA, None, "2026-11-20 00:00:00+00"),
            (NOVA, "zoe@nova.example", "2026-11-01 00:00:00+00"),
            (NOVA, "ops@nova.example", "2026-11-01 00:00:00+00"),
        ],
    )
    # Two at one instant: the greater id comes first, and by code point "b" is greater than "B".
    tables.event(NOVA, 3, "2026-11-22 10:00:00.000001+00", id="B-tie", input_tokens=5, tool_call_count=1)
    tables.event(NOVA, 4, "2026-11-22 10:00:00.000001+00", id="b-tie", source="api", agent_type="subagent")
    tables.event(
        NOVA,
        1_840,
        "2026-11-22 10:15:00+00",  # a time without a fraction
        id="newest",
        provider="acme",
        model_id="large-1",
        input_tokens=2_147_483_647,
        cached_input_tokens=7,
        output_tokens=8,
        tool_call_count=9,
    )
    tables.event(NOVA, 50, "2026-10-01 00:00:00+00", id="before the window")
    tables.event(ORBIT, 60, "2026-11-22 10:00:00+00", id="of another account")
    tables.insert(
        "credit_grants",
        "id, account_id, granted_by, reason, previous_credits, remaining_credits, created_at",
        [
            (UUID(int=1), NOVA, ADMIN, "welcome", None, 100, "2026-11-01 00:00:00+00"),
            (UUID(int=2), NOVA, ADMIN, "apology", -5, 2**40, "2026-11-20 12:30:00.5+00"),
            (UUID(int=3), NOVA, ADMIN, "long ago", 0, 1, "2026-01-01 00:00:00+00"),
            (UUID(int=4), ORBIT, ADMIN, "another's", 0, 1, "2026-11-20 00:00:00+00"),
        ],
    )
    return tables


def test_the_whole_answer(admin: FlaskClient, spender: Tables) -> None:
    response = admin.get(EVENTS, query_string={"account_id": str(NOVA).upper(), "limit": 2})
    assert response.status_code == 200
    assert response.text == (
        '{"status":"success","account_id":"11111111-0000-4000-8000-000000000001","period":"monthly","page":1,"limit":2,'
        '"total_count":3,"account":{"account_id":"11111111-0000-4000-8000-000000000001","account_name":"Nova Records",'
        '"account_email":"ops@nova.example"},"events":['
        '{"id":"newest","created_at":"2026-11-22T10:15:00.000000+00:00","source":"web","agent_type":"main",'
        '"provider":"acme","model_id":"large-1","input_tokens":2147483647,"cached_input_tokens":7,"output_tokens":8,'
        '"tool_call_count":9,"credits_deducted_cents":1840},'
        '{"id":"b-tie","created_at":"2026-11-22T10:00:00.000001+00:00","source":"api","agent_type":"subagent",'
        '"provider":null,"model_id":null,"input_tokens":0,"cached_input_tokens":0,"output_tokens":0,'
        '"tool_call_count":0,"credits_deducted_cents":4}],'
        '"grants":['
        '{"id":"00000000-0000-0000-0000-000000000002","account_id":"11111111-0000-4000-8000-000000000001",'
        '"created_at":"2026-11-20T12:30:00.500000+00:00","granted_by":"aaaaaaaa-0000-4000-8000-000000000001",'
        '"reason":"apology","previous_credits":-5,"remaining_credits":1099511627776},'
        '{"id":"00000000-0000-0000-0000-000000000001","account_id":"11111111-0000-4000-8000-000000000001",'
        '"created_at":"2026-11-01T00:00:00.000000+00:00","granted_by":"aaaaaaaa-0000-4000-8000-000000000001",'
        '"reason":"welcome","previous_credits":null,"remaining_credits":100}]}\n'
    )


@pytest.mark.parametrize(
    ("sort", "ids"),
    [
        pytest.param(None, ["newest", "b-tie", "B-tie"], id="newest first"),
        pytest.param("created_at", ["newest", "b-tie", "B-tie"], id="the default"),
        # Of equal credits the newest comes first, then the greater id by code point.
        pytest.param("credits", ["newest", "b-tie", "b-late", "b-early", "B-early", "B-tie"], id="most credits first"),
    ],
)
def test_events_are_sorted_by_time_or_by_credits(
    admin: FlaskClient, spender: Tables, sort: str | None, ids: list[str]
) -> None:
    if sort == "credits":
        spender.event(NOVA, 4, "2026-11-21 00:00:00+00", id="B-early")
        spender.event(NOVA, 4, "2026-11-21 00:00:00+00", id="b-early")
        spender.event(NOVA, 4, "2026-11-21 00:00:00.000001+00", id="b-late")
    query = {"account_id": str(NOVA), "limit": 2} | ({"sort": sort} if sort else {})
    pages = [admin.get(EVENTS, query_string=query | {"page": page}) for page in (1, 2, 3)]
    assert [event["id"] for page in pages for event in page.get_json()["events"]] == ids
    # It is not echoed, and the next page has it.
    assert list(pages[0].get_json()) == [
        "status", "account_id", "period", "page", "limit", "total_count", "account", "events", "grants",
    ]  # fmt: skip
    assert (f"sort={sort}" in pages[0].headers["Link"]) is (sort is not None)
    exported = admin.get(EVENTS, query_string=query | {"limit": 500}, headers={"Accept": "text/csv"})
    assert [line.split(",")[0] for line in exported.text.splitlines()] == ["id", *ids]


def test_the_500_newest_grants_are_listed_and_none_is_counted(admin: FlaskClient, spender: Tables) -> None:
    spender.execute(
        "INSERT INTO public.credit_grants (account_id, granted_by, reason, remaining_credits, created_at) "
        "SELECT %s, %s, 'grant ' || n, n, timestamptz '2026-11-22 00:00:00+00' + n * interval '1 second' "
        "FROM generate_series(1, 600) AS n",
        (NOVA, ADMIN),
    )
    body = admin.get(EVENTS, query_string={"account_id": str(NOVA), "limit": 1, "page": 2}).get_json()
    assert [grant["remaining_credits"] for grant in body["grants"]] == list(range(600, 100, -1))
    assert body["total_count"] == 3


def test_years_outside_1_to_9999_are_spelled_as_postgresql_prints_them(admin: FlaskClient, tables: Tables) -> None:
    tables.account(NOVA)
    outlying = ["0044-03-15 12:00:00.5+00 BC", "-infinity"]
    for number, instant in enumerate([*outlying, "0001-01-01 00:00:00+00"]):
        tables.event(NOVA, 1, instant)
        tables.execute(
            "INSERT INTO public.credit_grants VALUES (%s, %s, %s, '', 0, 0, %s)",
            (UUID(int=number), NOVA, NOVA, instant),
        )
    expected = ["0001-01-01T00:00:00.000000+00:00", *outlying]
    query = {"account_id": str(NOVA), "period": "all"}
    body = admin.get(EVENTS, query_string=query).get_json()
    for name in ("events", "grants"):
        assert [row["created_at"] for row in body[name]] == expected
    lines = admin.get(EVENTS, query_string=query, headers={"Accept": "text/csv"}).text.splitlines()
    assert [line.split(",")[1] for line in lines] == ["created_at", *expected]
    days = ["0044-03-15 BC", "0001-01-01"]
    assert [row["day"] for row in admin.get(DAYS, query_string=query).get_json()["days"]] == days
    lines = admin.get(DAYS, query_string=query, headers={"Accept": "text/csv"}).text.splitlines()
    assert [line.split(",")[0] for line in lines if ",0,0" not in line] == ["day", *days]
