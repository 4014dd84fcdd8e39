"""The rollup by hand: a few accounts, each there for a reason, and the whole answer."""

import re
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import DAYS, EVENTS, NOVA, ORBIT, ROLLUP, Tables, answered
from model import foreign_keys_bypassed

PULSAR = UUID("33333333-0000-4000-8000-000000000003")
QUIET = UUID("44444444-0000-4000-8000-000000000004")


@pytest.fixture
def spenders(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    # Five addresses: one row all the same, and a total that is not multiplied by five.
    tables.account(NOVA, "Nova Records")
    tables.insert(
        "account_emails",
        "account_id, email, updated_at",
        [
            (NOVA, "old@nova.example", "2026-01-01 00:00:00+00"),
            (NOVA, None, "2026-11-20 00:00:00+00"),  # the newest, but no address
            (NOVA, "zoe@nova.example", "2026-11-01 00:00:00+00"),
            (NOVA, "ops@nova.example", "2026-11-01 00:00:00+00"),  # as new as zoe's: the smaller one counts
            (NOVA, "Zoe@nova.example", "2026-11-01 00:00:00+00"),  # capitals come first by code point
        ],
    )
    tables.event(NOVA, 1_000, "2026-11-22 09:00:00+00")
    tables.event(NOVA, 840, "2026-11-10 09:00:00+00")
    # Neither name nor address; the same total as Pulsar, which has the greater id.
    tables.account(ORBIT)
    tables.event(ORBIT, 500, "2026-11-21 00:00:00+00")
    tables.account(PULSAR, "Pulsar")
    tables.event(PULSAR, 700, "2026-11-21 00:00:00+00")
    tables.event(PULSAR, -200, "2026-11-21 00:00:01+00")
    # Only a zero event: listed, last.
    tables.account(QUIET, "Quiet")
    tables.event(QUIET, 0, "2026-11-22 00:00:00+00")
    return tables


def test_the_whole_answer(admin: FlaskClient, spenders: Tables) -> None:
    response = admin.get(ROLLUP)

    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.text == (
        '{"status":"success","period":"monthly","page":1,"limit":100,"total_count":4,"rows":['
        '{"account_id":"11111111-0000-4000-8000-000000000001","account_name":"Nova Records",'
        '"account_email":"Zoe@nova.example","total_credits_deducted_cents":1840,"event_count":2},'
        '{"account_id":"22222222-0000-4000-8000-000000000002","account_name":null,'
        '"account_email":null,"total_credits_deducted_cents":500,"event_count":1},'
        '{"account_id":"33333333-0000-4000-8000-000000000003","account_name":"Pulsar",'
        '"account_email":null,"total_credits_deducted_cents":500,"event_count":2},'
        '{"account_id":"44444444-0000-4000-8000-000000000004","account_name":"Quiet",'
        '"account_email":null,"total_credits_deducted_cents":0,"event_count":1}]}\n'
    )


def test_the_smaller_id_of_equal_totals_comes_on_the_earlier_page(admin: FlaskClient, spenders: Tables) -> None:
    pages = [answered(admin, ROLLUP, limit=1, page=page)["rows"] for page in (1, 2, 3, 4, 5)]
    assert [[row["account_id"] for row in rows] for rows in pages] == [
        *([str(account)] for account in (NOVA, ORBIT, PULSAR, QUIET)),
        [],
    ]


@pytest.mark.parametrize(
    ("period", "created_at", "listed"),
    [
        pytest.param("daily", "2026-11-22 00:00:00+00", True, id="first instant of today"),
        pytest.param("daily", "2026-11-21 23:59:59.999999+00", False, id="last instant of yesterday"),
        pytest.param("weekly", "2026-11-16 00:00:00+00", True, id="first instant of the week"),
        pytest.param("weekly", "2026-11-15 23:59:59.999999+00", False, id="last instant before it"),
        pytest.param("monthly", "2026-10-24 00:00:00+00", True, id="first instant of the 30 days"),
        pytest.param("monthly", "2026-10-23 23:59:59.999999+00", False, id="last instant before them"),
        pytest.param("all", "1970-01-01 00:00:00+00", True, id="no cutoff"),
        pytest.param("all", "-infinity", True, id="no cutoff at all"),
        pytest.param("daily", "2026-11-22 10:14:59.999999+00", True, id="last instant before the request"),
        pytest.param("daily", "2026-11-22 10:15:00+00", False, id="the instant of the request"),
        pytest.param("all", "infinity", False, id="the end of time"),
    ],
)
def test_a_period_is_whole_utc_days_today_included(
    admin: FlaskClient, tables: Tables, period: str, created_at: str, listed: bool
) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA)
    tables.event(NOVA, 1, created_at)
    assert admin.get(ROLLUP, query_string={"period": period}).get_json()["total_count"] == int(listed)


@pytest.mark.parametrize("period", ["daily", "all"])
def test_an_account_that_does_not_exist_is_listed_and_counted_without_a_name(
    admin: FlaskClient, spenders: Tables, period: str
) -> None:
    nobody = UUID(int=0)  # before every other id
    with foreign_keys_bypassed(spenders):
        spenders.event(nobody, 10**6, "2026-11-22 09:00:00+00")
    # The page is full, so the accounts are counted by the query for the count.
    body = answered(admin, ROLLUP, period=period, limit=1)
    assert body["total_count"] == {"daily": 3, "all": 5}[period]
    assert body["rows"] == [
        {
            "account_id": str(nobody),
            "account_name": None,
            "account_email": None,
            "total_credits_deducted_cents": 10**6,
            "event_count": 1,
        }
    ]


def test_the_clock_is_postgresqls_where_no_test_sets_it(admin: FlaskClient, tables: Tables) -> None:
    tables.account(NOVA)
    tables.execute("INSERT INTO public.usage_events (account_id, created_at) VALUES (%s, now())", (NOVA,))
    tables.execute(
        "INSERT INTO public.usage_events (account_id, created_at) VALUES (%s, now() - interval '24 hours')", (NOVA,)
    )
    assert admin.get(ROLLUP, query_string={"period": "daily"}).get_json()["rows"][0]["event_count"] == 1


@pytest.mark.parametrize("largest", [2**62, 2**63 - 1], ids=["beyond 53 bits", "beyond 64 bits"])
def test_a_long_total_is_exact_in_every_list(admin: FlaskClient, tables: Tables, largest: int) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA, "Ødegård")
    tables.account(ORBIT)
    for account, sign, hour in ((NOVA, 1, 9), (ORBIT, -1, 8)):
        for _ in range(3):
            tables.event(account, sign * largest, f"2026-11-22 {hour:02}:00:00+00", model_id=str(account))
    window = "since=2026-11-22T08:30:00Z"  # Orbit in the previous window
    for path, total in (
        (f"rollup?{window}", 3 * largest),
        (f"breakdown?{window}&by=model", 3 * largest),
        (f"days?since=2026-11-22&account_id={NOVA}", 3 * largest),
        (f"changes?{window}", 3 * largest),
        ("rollup?period=all&page=2&limit=1", -3 * largest),
        (f"breakdown?{window}&by=source&compare=previous", -3 * largest),
    ):
        body = admin.get(f"/api/admins/credits/{path}")
        exported = admin.get(f"/api/admins/credits/{path}", headers={"Accept": "text/csv"})
        assert re.search(rf"_credits_deducted_cents\":{total}[,}}]", body.text), path
        assert re.search(rf",{total},", exported.text), path
    change = admin.get(f"/api/admins/credits/changes?{window}").get_json()["rows"]
    assert [row["change_credits_deducted_cents"] for row in change] == [3 * largest, 3 * largest]
    assert "Ødegård" in admin.get(f"{ROLLUP}?period=all").text


def test_a_null_in_a_column_of_numbers_counts_as_0(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA)
    tables.account(ORBIT)
    columns = ("credits_deducted_cents", "input_tokens", "cached_input_tokens", "output_tokens", "tool_call_count")
    drop = ", ".join(f"ALTER {column} DROP NOT NULL" for column in columns)
    tables.execute(f"ALTER TABLE public.usage_events {drop}")
    try:
        tables.event(NOVA, 1, "2026-11-22 00:00:00+00")
        tables.insert(
            "usage_events",
            f"account_id, created_at, {', '.join(columns)}",
            [(ORBIT, "2026-11-22 00:00:00+00", *[None] * len(columns))],
        )
        zeros = dict.fromkeys(columns[1:], 0)
        rows = answered(admin, ROLLUP, period="daily")["rows"]
        assert [(row["account_id"], row["total_credits_deducted_cents"]) for row in rows] == [
            (str(NOVA), 1),
            (str(ORBIT), 0),
        ]
        (key,) = answered(admin, "/api/admins/credits/breakdown", by="model", period="daily", account_id=ORBIT)["rows"]
        assert key == {"key": None, "total_credits_deducted_cents": 0, "event_count": 1, **zeros}
        (event,) = answered(admin, EVENTS, account_id=ORBIT, period="daily")["events"]
        assert {name: event[name] for name in columns} == {"credits_deducted_cents": 0, **zeros}
        (day,) = answered(admin, DAYS, account_id=ORBIT, period="daily")["days"]
        assert (day["total_credits_deducted_cents"], day["event_count"]) == (0, 1)
        changes = answered(admin, "/api/admins/credits/changes", period="daily")["rows"]
        assert [row["change_credits_deducted_cents"] for row in changes] == [1, 0]
    finally:
        tables.empty()
        tables.execute(f"ALTER TABLE public.usage_events {drop.replace('DROP NOT NULL', 'SET NOT NULL')}")
