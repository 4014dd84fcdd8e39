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

from live import ROOT
from tools.demo.demo import SQL, demo_tables, load_demo
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
LAST_MOMENT = MIDNIGHT + timedelta(days=1, microseconds=-1)
Demo = dict[str, list[dict[str, Any]]]


def tables_at(now: datetime) -> Demo:
    """Return the demo that is loaded at an instant, as table name -> rows."""
    return {
        table: [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
        for table, columns, rows in demo_tables(now)
    }


def digest(demo: Demo) -> str:
    """Return a digest of all rows, in which every instant of today is midnight."""

    def of_the_day(value: Any) -> Any:
        return min(value, MIDNIGHT) if isinstance(value, datetime) else value

    rows = [f"{table}: {[of_the_day(value) for value in row.values()]}" for table, rows in demo.items() for row in rows]
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


@pytest.fixture(scope="module")
def demo() -> Demo:
    """The demo of the first instant of a day, which all events of that day share."""
    return tables_at(MIDNIGHT)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for this file alone, because loading drops databases."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        with PostgresServer(Path(name)) as server:
            yield server


def test_all_but_the_times_of_todays_events_depends_on_the_day_alone(demo: Demo) -> None:
    assert max(event["created_at"] for event in demo["usage_events"]) == MIDNIGHT
    done = subprocess.run(
        [sys.executable, "-c", "from test_demo import *; print(digest(tables_at(LAST_MOMENT)))"],
        env={**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Kolkata", "PYTHONPATH": "tests:tests/system:."},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == digest(demo)


def test_no_period_is_empty_and_each_has_a_long_tail_and_exact_ties(demo: Demo) -> None:
    events = demo["usage_events"]
    assert 49_500 <= len(events) <= 50_500
    assert len({event["created_at"].date() for event in events}) == 90
    listed = []
    for days in (1, 7, 30, 90):
        found: dict[Any, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for event in events:
            if event["created_at"] >= MIDNIGHT - timedelta(days=days - 1):
                total, count = found[event["account_id"]]
                found[event["account_id"]] = (total + event["credits_deducted_cents"], count + 1)
        listed.append(len(found))
        totals = sorted((total for total, _ in found.values()), reverse=True)
        assert sum(totals[: len(totals) // 10]) > 0.4 * sum(totals)
        # By chance, small accounts have equal totals, but rarely equal numbers of events too.
        assert len([key for key, number in Counter(found.values()).items() if number > 1 and key[0] > 0]) >= 15
    assert 100 < listed[0] < listed[1] < listed[2] < listed[3] < len(demo["accounts"])
    # Refunds, and accounts that are charged nothing.
    assert min(event["credits_deducted_cents"] for event in events) < 0
    assert totals.count(0) == 3


def test_accounts_have_odd_names_and_up_to_five_addresses(demo: Demo) -> None:
    names = [account["name"] for account in demo["accounts"]]
    assert {None, "<b>Bold</b> & Sons", "=SUM(A1:A9)", "Åse Ødegård 音楽 🎧"} < set(names)
    assert any(name and len(name) > 100 for name in names)
    addresses = Counter(email["account_id"] for email in demo["account_emails"] if email["email"])
    assert (min(addresses.values()), max(addresses.values())) == (1, 5)
    assert len(addresses) < len(names)


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
            load_demo(server, MIDNIGHT)
    assert list(databases(server)) == ["demo_partial"]
    # An open connection must not prevent the drop of the incomplete database.
    with closing(psycopg2.connect(server.url("demo_partial"))):
        url = load_demo(server, MIDNIGHT)
    assert list(databases(server)) == [name_of(url)]


def test_three_wallets_disagree_with_the_last_grant_and_the_events_after_it(server: PostgresServer) -> None:
    listed = server.psql("-At", "-f", SQL / "dba" / "reconcile.sql", database=name_of(load_demo(server, MIDNIGHT)))
    assert sorted(int(line.rpartition("|")[2]) for line in listed.splitlines()) == [75, 250, 1_200]


def test_a_demo_is_loaded_once_a_day(server: PostgresServer) -> None:
    today = load_demo(server, MIDNIGHT)
    before = databases(server)
    assert load_demo(server, LAST_MOMENT) == today
    assert databases(server) == before
    # In New York it is still the 23rd, but the days are UTC's.
    midnight = LAST_MOMENT + timedelta(microseconds=1)
    tomorrow = load_demo(server, midnight.astimezone(ZoneInfo("America/New_York")))
    assert "/demo_20261124_" in tomorrow
    assert list(databases(server)) == [name_of(tomorrow)]
    with closing(psycopg2.connect(tomorrow)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT max(created_at) = %s FROM usage_events", (midnight,))
        assert cursor.fetchall() == [(True,)]
