"""The demo data: what it contains, and that it is loaded completely or not at all."""

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

from tools.demo.demo import (
    ADMIN,
    ADMIN_KEY,
    ORGANIZATION,
    SQL,
    TOP_SPENDER,
    UNRECORDED_CHARGES,
    USER_KEY,
    demo_tables,
    load_demo,
)
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
MORNING = MIDNIGHT + timedelta(hours=10, minutes=15)
LAST_MOMENT = MIDNIGHT + timedelta(days=1, microseconds=-1)
# Days of each period.
PERIODS = (1, 7, 30, 10_000)
Demo = dict[str, list[dict[str, Any]]]


def tables_at(now: datetime) -> Demo:
    """Return the demo that is loaded at an instant, as table name -> rows."""
    return {
        table: [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
        for table, columns, rows in demo_tables(now)
    }


@pytest.fixture(scope="module")
def demo() -> Demo:
    return tables_at(MORNING)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for this file alone, because loading drops databases."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        with PostgresServer(Path(name)) as server:
            yield server


def rollup(events: list[dict[str, Any]], days: int) -> dict[Any, tuple[int, int]]:
    """Return the credits and the number of events of each account over the last days, today included."""
    since = MIDNIGHT - timedelta(days=days - 1)
    totals: dict[Any, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for event in events:
        if event["created_at"] >= since:
            total, count = totals[event["account_id"]]
            totals[event["account_id"]] = (total + event["credits_deducted_cents"], count + 1)
    return dict(totals)


def digest(demo: Demo) -> str:
    return hashlib.sha256(repr(demo).encode()).hexdigest()


def test_the_demo_depends_on_the_day_alone(demo: Demo) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from test_demo import *; print(digest(tables_at(MORNING)))"],
        env={**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Kolkata", "PYTHONPATH": "tests/system:."},
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == digest(demo)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(MIDNIGHT, id="first instant of the day, shared by all of its events"),
        pytest.param(LAST_MOMENT, id="last instant of the day"),
    ],
)
def test_only_the_times_of_todays_events_depend_on_the_hour(demo: Demo, now: datetime) -> None:
    other = tables_at(now)
    for days in PERIODS:
        assert rollup(other["usage_events"], days) == rollup(demo["usage_events"], days)
    assert max(event["created_at"] for event in other["usage_events"]) <= now
    for table in demo.keys() - {"usage_events", "credits_usage"}:
        assert other[table] == demo[table]


def test_no_period_is_empty_and_each_has_a_long_tail_and_exact_ties(demo: Demo) -> None:
    events = demo["usage_events"]
    assert 49_500 <= len(events) <= 50_500
    assert len({event["created_at"].date() for event in events}) == 90
    sizes = [len(rollup(events, days)) for days in PERIODS]
    assert 100 < sizes[0] < sizes[1] < sizes[2] < sizes[3] < len(demo["accounts"])
    for days in PERIODS:
        found = rollup(events, days).values()
        totals = sorted((total for total, _ in found), reverse=True)
        assert sum(totals[: len(totals) // 10]) > 0.4 * sum(totals)
        # By chance, small accounts have equal totals, but rarely equal numbers of events too.
        shared = [key for key, number in Counter(found).items() if number > 1 and key[0] > 0]
        assert len(shared) >= 15
    # Refunds, and accounts that are charged nothing.
    assert min(event["credits_deducted_cents"] for event in events) < 0
    assert [total for total, _ in rollup(events, 10_000).values()].count(0) == 3


def test_accounts_have_odd_names_and_up_to_five_addresses(demo: Demo) -> None:
    names = [account["name"] for account in demo["accounts"]]
    assert {None, "<b>Bold</b> & Sons", "=SUM(A1:A9)"} < set(names)
    assert any(name and len(name) > 100 for name in names)
    assert any(name and not name.isascii() for name in names)
    addresses = Counter(email["account_id"] for email in demo["account_emails"] if email["email"])
    assert (min(addresses.values()), max(addresses.values())) == (1, 5)
    assert len(addresses) < len(names)


def answer(url: str, query: str) -> Any:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def databases(server: PostgresServer) -> dict[str, str]:
    """Return the oid of each demo's database by its name."""
    listed = server.psql("-At", "-F=", "-c", "SELECT datname, oid FROM pg_database WHERE datname LIKE 'demo%'")
    return dict(line.split("=") for line in listed.split())


def name_of(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


def test_a_load_that_fails_leaves_no_demo_and_can_be_repeated(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ("schema", "dba"):
        (tmp_path / folder).mkdir()
    (tmp_path / "schema" / "01_broken.sql").write_text("CREATE TABLE public.accounts (id uuid); SELECT 1 / 0;")
    (tmp_path / "dba" / "reader_role.sql").write_text("")
    with monkeypatch.context() as patched:
        patched.setattr("tools.demo.demo.SQL", tmp_path)
        with pytest.raises(EmbeddedPostgresError, match="division by zero"):
            load_demo(server, MORNING)
    assert list(databases(server)) == ["demo_partial"]
    # An open connection must not prevent the drop of the incomplete database.
    with closing(psycopg2.connect(server.url("demo_partial"))):
        url = load_demo(server, MORNING)
    assert list(databases(server)) == [name_of(url)]


@pytest.fixture
def database(server: PostgresServer) -> str:
    return load_demo(server, MORNING)


def test_three_wallets_disagree_with_the_last_grant_and_the_events_after_it(
    server: PostgresServer, database: str
) -> None:
    listed = server.psql("-At", "-f", SQL / "dba" / "reconcile.sql", database=name_of(database))
    assert sorted(int(line.rpartition("|")[2]) for line in listed.splitlines()) == sorted(UNRECORDED_CHARGES.values())


def test_the_reader_sees_what_was_loaded(database: str, demo: Demo) -> None:
    assert answer(database, "SELECT current_user::text") == [("credits_reader",)]
    for table in ("accounts", "usage_events", "credit_grants"):
        assert answer(database, f"SELECT count(id) FROM {table}") == [(len(demo[table]),)]
    last = max(event["created_at"] for event in demo["usage_events"])
    total = sum(event["credits_deducted_cents"] for event in demo["usage_events"])
    found = answer(database, "SELECT sum(credits_deducted_cents)::bigint, max(created_at) FROM usage_events")
    assert found == [(total, last)]


def test_one_key_is_an_admins_and_one_is_not(server: PostgresServer, database: str) -> None:
    owner = server.url(name_of(database))
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


def test_a_demo_is_loaded_once_a_day(server: PostgresServer, database: str) -> None:
    before = databases(server)
    assert load_demo(server, LAST_MOMENT) == database
    assert databases(server) == before
    # In New York it is still the 23rd, but the days are UTC's.
    midnight = LAST_MOMENT + timedelta(microseconds=1)
    tomorrow = load_demo(server, midnight.astimezone(ZoneInfo("America/New_York")))
    assert "/demo_20261124_" in tomorrow
    assert list(databases(server)) == [name_of(tomorrow)]
    assert answer(tomorrow, "SELECT max(created_at)::date::text FROM usage_events") == [("2026-11-24",)]
