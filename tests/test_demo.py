"""The demo data: what a day's demo holds, and that it is loaded whole or not at all."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest

from service.embedded.demo import (
    ADMIN,
    ADMIN_KEY,
    ORGANIZATION,
    TOP_SPENDER,
    UNRECORDED_CHARGES,
    USER_KEY,
    demo_tables,
    load_demo,
)
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
MORNING = MIDNIGHT + timedelta(hours=10, minutes=15)
LAST_MOMENT = MIDNIGHT + timedelta(days=1, microseconds=-1)
PERIODS = {"daily": 1, "weekly": 7, "monthly": 30, "all": 10_000}


def tables_at(now: datetime) -> dict[str, list[dict[str, Any]]]:
    """Everything in the demo that is loaded at an instant: table to rows, a row being column to value."""
    return {
        table: [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
        for table, columns, rows in demo_tables(now)
    }


@pytest.fixture(scope="module")
def demo() -> dict[str, list[dict[str, Any]]]:
    """The demo of a morning."""
    return tables_at(MORNING)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this file's own: the demo drops databases."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        with PostgresServer(Path(name)) as server:
            yield server


def rollup(events: list[dict[str, Any]], days: int) -> dict[Any, tuple[int, int]]:
    """Account to its total and its number of events over the last days, today included."""
    since = MIDNIGHT - timedelta(days=days - 1)
    totals: dict[Any, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for event in events:
        if event["created_at"] >= since:
            total, count = totals[event["account_id"]]
            totals[event["account_id"]] = (total + event["credits_deducted_cents"], count + 1)
    return dict(totals)


def test_the_demo_depends_on_nothing_but_the_day() -> None:
    program = "from test_demo import digest; print(digest())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": "tests:."},
            cwd=Path(__file__).parent.parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed, zone in (("1", "America/New_York"), ("2", "Asia/Kolkata"))
    }
    assert seen == {digest()}


def digest() -> str:
    return hashlib.sha256(repr(list(demo_tables(MORNING))).encode()).hexdigest()


def test_another_day_has_other_events_of_the_same_accounts(demo: dict[str, list[dict[str, Any]]]) -> None:
    other = tables_at(MORNING + timedelta(days=1))
    assert other["accounts"] == demo["accounts"]
    assert rollup(other["usage_events"], 10_000) != rollup(demo["usage_events"], 10_000)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(MIDNIGHT, id="first instant of the day"),
        pytest.param(MIDNIGHT + timedelta(microseconds=7), id="when many events share an instant"),
        pytest.param(LAST_MOMENT, id="last instant of the day"),
    ],
)
def test_only_the_times_of_todays_events_depend_on_the_hour(
    demo: dict[str, list[dict[str, Any]]], now: datetime
) -> None:
    other = tables_at(now)

    def fixed(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        events = [
            {**event, "created_at": min(event["created_at"], MIDNIGHT)}  # today's: no matter when
            for event in tables["usage_events"]
        ]
        wallets = [
            {**wallet, '"timestamp"': min(wallet['"timestamp"'], MIDNIGHT)} for wallet in tables["credits_usage"]
        ]
        events.sort(key=lambda event: (event["created_at"], event["id"]))
        return {**tables, "usage_events": events, "credits_usage": wallets}

    assert fixed(other) == fixed(demo)
    for days in PERIODS.values():
        assert rollup(other["usage_events"], days) == rollup(demo["usage_events"], days)
    assert max(event["created_at"] for event in other["usage_events"]) <= now
    assert max(wallet['"timestamp"'] for wallet in other["credits_usage"]) <= now


def test_ninety_days_hold_some_fifty_thousand_events_and_no_period_is_empty(
    demo: dict[str, list[dict[str, Any]]],
) -> None:
    events = demo["usage_events"]
    assert 49_500 <= len(events) <= 50_500
    assert len({event["created_at"].date() for event in events}) == 90
    assert MIDNIGHT - timedelta(days=89) <= events[0]["created_at"] < MIDNIGHT - timedelta(days=88)
    assert [event["created_at"] for event in events] == sorted(event["created_at"] for event in events)
    sizes = [len(rollup(events, days)) for days in PERIODS.values()]
    assert 100 < sizes[0] < sizes[1] < sizes[2] < sizes[3] < len(demo["accounts"])


def test_spend_has_a_long_tail_and_exact_ties_in_every_period(demo: dict[str, list[dict[str, Any]]]) -> None:
    for days in PERIODS.values():
        found = rollup(demo["usage_events"], days).values()
        totals = sorted((total for total, _ in found), reverse=True)
        assert sum(totals[: len(totals) // 10]) > 0.4 * sum(totals)
        # Chance alone gives small accounts equal totals on a day, but hardly ever equal numbers of events too.
        shared = [key for key, number in Counter(found).items() if number > 1 and key[0] > 0]
        assert len(shared) >= 15
    amounts = Counter(
        (event["credits_deducted_cents"] > 0) - (event["credits_deducted_cents"] < 0) for event in demo["usage_events"]
    )
    assert amounts[0] > 100
    assert amounts[-1] > 30
    # On the house: events, and a total of zero.
    assert [total for total, _ in rollup(demo["usage_events"], 10_000).values()].count(0) == 3


def test_accounts_lack_names_and_addresses_or_have_many(demo: dict[str, list[dict[str, Any]]]) -> None:
    accounts, emails = demo["accounts"], demo["account_emails"]
    assert len(accounts) == 302
    names = [account["name"] for account in accounts]
    assert names.count(None) > 5
    assert "<b>Bold</b> & Sons" in names
    assert any(name and len(name) > 100 for name in names)
    assert any(name and not name.isascii() for name in names)
    addresses = Counter(email["account_id"] for email in emails if email["email"])
    assert 10 < len(accounts) - len(addresses) < 40
    assert max(addresses.values()) == 5
    moments = Counter((email["account_id"], email["updated_at"]) for email in emails if email["email"])
    assert len([count for count in moments.values() if count > 1]) > 20
    assert any(email["email"] is None for email in emails)


def test_three_wallets_disagree_with_the_last_grant_and_the_events_after_it(
    demo: dict[str, list[dict[str, Any]]],
) -> None:
    grants = demo["credit_grants"]
    assert 130 <= len(grants) <= 170
    assert {grant["granted_by"] for grant in grants} == {ADMIN}
    assert 10 < [grant["previous_credits"] for grant in grants].count(None) < len(grants) / 2
    last = {grant["account_id"]: grant for grant in grants}  # oldest first: the last one stays
    expected = {
        account: grant["remaining_credits"]
        - sum(
            event["credits_deducted_cents"]
            for event in demo["usage_events"]
            if event["account_id"] == account and event["created_at"] > grant["created_at"]
        )
        for account, grant in last.items()
    }
    wallets = demo["credits_usage"]
    assert len(wallets) == len(last)
    missing = [expected[wallet["account_id"]] - wallet["remaining_credits"] for wallet in wallets]
    assert sorted(filter(None, missing)) == sorted(UNRECORDED_CHARGES.values())


@pytest.fixture
def database(server: PostgresServer) -> str:
    return load_demo(server, MORNING)


def answer(url: str, query: str) -> Any:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_the_reader_sees_what_was_loaded(server: PostgresServer, database: str, demo: dict[str, Any]) -> None:
    assert answer(database, "SELECT current_user::text") == [("credits_reader",)]
    for table in ("accounts", "usage_events", "credit_grants"):
        assert answer(database, f"SELECT count(id) FROM {table}") == [(len(demo[table]),)]
    last = max(event["created_at"] for event in demo["usage_events"])
    total = sum(event["credits_deducted_cents"] for event in demo["usage_events"])
    found = answer(database, "SELECT sum(credits_deducted_cents)::bigint, max(created_at) FROM usage_events")
    assert found == [(total, last)]


def test_the_two_keys_are_an_admins_and_a_users(server: PostgresServer, database: str) -> None:
    owner = server.url(database.rpartition("/")[2].partition("?")[0])
    assert (ADMIN_KEY, USER_KEY) == ("demo-admin-key", "demo-user-key")
    by_key = dict(answer(owner, "SELECT key_hash, account::text FROM account_api_keys"))
    assert by_key == {
        # printf %s demo-admin-key | openssl dgst -sha256 -hmac demo-secret
        "32d3ac97594cd50121529aaac09733ddf12f146d8438c0b28b857bf37e3ef481": str(ADMIN),
        # printf %s demo-user-key | openssl dgst -sha256 -hmac demo-secret
        "a5ca4cea416ccbc4238e1c8a4f6e253628435c1fe54e056836b8924fd0fe30e3": str(TOP_SPENDER),
    }
    members = answer(owner, "SELECT account_id::text, organization_id::text FROM account_organization_ids")
    assert members == [(str(ADMIN), str(ORGANIZATION))]


def databases(server: PostgresServer) -> dict[str, str]:
    listed = server.psql("-At", "-F=", "-c", "SELECT datname, oid FROM pg_database WHERE datname LIKE 'demo%'")
    return dict(line.split("=") for line in listed.split())


def test_a_demo_is_loaded_once_a_day(server: PostgresServer, database: str) -> None:
    before = databases(server)
    assert load_demo(server, LAST_MOMENT) == database
    assert databases(server) == before
    # Still the 23rd in New York, but days are UTC's.
    midnight = LAST_MOMENT + timedelta(microseconds=1)
    tomorrow = load_demo(server, midnight.astimezone(ZoneInfo("America/New_York")))
    assert "/demo_20261124_" in tomorrow
    assert list(databases(server)) == [tomorrow.rpartition("/")[2].partition("?")[0]]
    assert answer(tomorrow, "SELECT max(created_at)::date::text FROM usage_events") == [("2026-11-24",)]


def test_what_an_interrupted_load_has_left_is_replaced(server: PostgresServer) -> None:
    for old in databases(server):
        server.psql("-c", f"DROP DATABASE {old}")
    server.psql("-c", "CREATE DATABASE demo_partial")
    server.psql("-c", "CREATE TABLE public.accounts ()", database="demo_partial")
    # Somebody is still looking at it.
    with closing(psycopg2.connect(server.url("demo_partial"))):
        url = load_demo(server, MORNING)
    assert list(databases(server)) == [url.rpartition("/")[2].partition("?")[0]]
    assert answer(url, "SELECT count(id) FROM accounts") == [(302,)]


def test_a_load_that_fails_leaves_no_demo(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ("schema", "dba"):
        (tmp_path / folder).mkdir()
    (tmp_path / "schema" / "01_broken.sql").write_text("CREATE TABLE public.accounts (id uuid); SELECT 1 / 0;")
    (tmp_path / "dba" / "reader_role.sql").write_text("")
    monkeypatch.setattr("service.embedded.demo.SQL", tmp_path)
    with pytest.raises(EmbeddedPostgresError, match="division by zero"):
        load_demo(server, MORNING)
    assert list(databases(server)) == ["demo_partial"]
