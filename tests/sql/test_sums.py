"""sql/dba/sums*.sql and sql/queries/sums: the sums give the same answers as the events."""

import csv
import io
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg2.errors import ForeignKeyViolation

from conftest import (
    ADMIN,
    CREDITS_COLUMN,
    NOVA,
    ORBIT,
    ORGANIZATION,
    READER_PASSWORD,
    ROLLUP,
    SECRET,
    SQL,
    Tables,
    admin_client,
    answered,
    create_database,
    in_snapshot,
)
from live import PATIENCE_S, eventually
from model import MICROSECOND, PERIODS, Content, contents, foreign_keys_bypassed, instants_around, law
from service import create_app
from service.config import Settings
from service.queries import FILES, load_queries, query_path
from test_psql import compare
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

NAME = "sums"
REFRESH = SQL / "dba" / "sums_refresh.sql"
CHECK = SQL / "dba" / "sums_check.sql"
SUMMED = [Path(file).stem for file in FILES if file.startswith("sums/")]
EVENTS_QUERIES, SUMS_QUERIES = (load_queries(source) for source in ("events", "sums"))
NOW = datetime(2024, 11, 20, 10, 15, tzinfo=UTC)
TODAY = NOW.date()
ADMIN_TWIN = UUID("33333333-0000-4000-8000-000000000003")
NEVER = datetime(2, 1, 1, tzinfo=UTC)  # psycopg2 cannot return -infinity
MARGIN = timedelta(minutes=5)
LATE_EVENT = f"INSERT INTO public.usage_events (account_id, credits_deducted_cents) VALUES ('{NOVA}', 5)"


class Ledger(Tables):
    """The owner's connection to a database with sums, and a client of the service for each source."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server.url(NAME))
        self.server = server
        url = server.url(NAME, user="credits_reader", password=READER_PASSWORD)
        self.events, self.sums = (
            admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, spend_source=source)))
            for source in ("events", "sums")
        )

    def rewind(self) -> None:
        """Delete all sums."""
        self.execute("DELETE FROM public.usage_sums; DELETE FROM public.usage_sums_window")
        self.execute("UPDATE public.usage_sums_watermark SET instant = '-infinity', summed = '-infinity', edges = '{}'")

    def empty(self) -> None:
        super().empty()
        self.rewind()

    def script(self, path: Path, **variables: object) -> list[dict[str, str]]:
        """Run a script in psql; return its rows."""
        given = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        written = self.server.psql("--csv", *given, "-f", path, database=NAME)
        return list(csv.DictReader(io.StringIO(written)))

    def refresh(self, since: date | None = None) -> None:
        """Refresh without psql, which takes longer to start."""
        self.execute("SELECT public.usage_sums_refresh(%s)", (since,))

    def watermark(self) -> datetime:
        ((instant,),) = self.execute("SELECT greatest(instant, %s) FROM public.usage_sums_watermark", (NEVER,))
        return instant

    def rows(self, source: str, name: str, parameters: dict[str, Any]) -> Any:
        """Return the rows that the service reads with a query."""
        client, queries = {"events": (self.events, EVENTS_QUERIES), "sums": (self.sums, SUMS_QUERIES)}[source]
        database = client.application.extensions["database"]
        return in_snapshot(database, lambda snapshot: snapshot.records(name, **parameters), queries)

    def compare(self, path: str, **arguments: Any) -> None:
        """Check that both sources give the same answer to a request."""
        given = {name: str(value) for name, value in arguments.items()}
        expected, found = (
            client.get(f"/api/admins/credits/{path}", query_string=given) for client in (self.events, self.sums)
        )
        assert expected.status_code == 200, expected.text
        assert (found.status_code, found.get_json()) == (200, expected.get_json())

    def compare_all(self) -> None:
        """Check that both sources give the same answers for every period."""
        for period in PERIODS:
            self.compare("rollup", period=period)
            self.compare("rollup", period=period, limit=1)
            self.compare("days", period=period)
            for (account,) in self.execute("SELECT id FROM public.accounts LIMIT 3"):
                self.compare("events", period=period, account_id=account, limit=1)

    def check(self) -> None:
        """Check that the answers are the same and that sums_check.sql lists nothing."""
        self.compare_all()
        assert self.script(CHECK) == []


@pytest.fixture(scope="module")
def installed(server: PostgresServer) -> Iterator[Ledger]:
    create_database(server, NAME)
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    ledger = Ledger(server)
    yield ledger
    ledger.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def ledger(installed: Ledger) -> Ledger:
    """Two accounts with events at the edges of days, and no sums."""
    installed.empty()
    installed.seed_admin()
    installed.fix_now(NOW)
    installed.account(NOVA, "Nova Records")
    installed.account(ORBIT)
    for days_ago in (0, 1, 6, 7, 29, 30, 400):
        midnight = datetime(2024, 11, 20, tzinfo=UTC) - timedelta(days=days_ago)
        installed.event(NOVA, 10 + days_ago, midnight)
        installed.event(NOVA, -3, midnight + timedelta(days=1) - MICROSECOND)
        installed.event(ORBIT, days_ago, midnight + timedelta(hours=12))
    return installed


@contextmanager
def transaction(ledger: Ledger, statement: str = "SELECT 1") -> Iterator[psycopg2.extensions.cursor]:
    """A transaction in another session, begun with a statement."""
    with closing(psycopg2.connect(ledger.server.url(NAME))) as raw, raw.cursor() as cursor:
        cursor.execute(statement)
        yield cursor


@contextmanager
def blocked_refreshes(ledger: Ledger, count: int = 1, since: str | None = None) -> Iterator[list[int]]:
    """Start refreshes that wait for a lock; yield their process ids, then wait for their end."""

    def refresh() -> None:
        with closing(psycopg2.connect(f"{ledger.server.url(NAME)}&application_name=refresh")) as raw:
            raw.autocommit = True
            # a test terminates one of them
            with raw.cursor() as cursor, suppress(psycopg2.OperationalError):
                cursor.execute(f"SET lock_timeout = '{PATIENCE_S}s'; SELECT public.usage_sums_refresh(%s)", (since,))

    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'refresh' AND wait_event_type = 'Lock' ORDER BY pid"
    )
    threads = [threading.Thread(target=refresh) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield eventually(
            lambda: len(found := ledger.execute(waiting)) == count and [pid for (pid,) in found],
            "the refreshes to wait",
        )
    finally:
        for thread in threads:
            thread.join()


# Both sources


@hypothesis_settings(law, max_examples=40)
@given(data=st.data(), content=contents(2**53, orphans=False))
def test_both_sources_give_the_same_answers_after_any_history(
    ledger: Ledger, data: st.DataObject, content: Content
) -> None:
    content.store(ledger)
    accounts = [account for account, _ in content.accounts]
    steps = ["insert", "delete", "refresh", "repair", "move the clock", "compare"]
    for step in [*data.draw(st.lists(st.sampled_from(steps), max_size=9)), "compare"]:
        match step:
            case "insert" if accounts:
                # new events are dated at the watermark or later
                for instant in data.draw(st.lists(instants_around(content.now), max_size=4)):
                    created_at = max(instant, ledger.watermark())
                    ledger.event(data.draw(st.sampled_from(accounts)), data.draw(st.integers(-5, 5)), created_at)
            case "delete" if accounts:
                gone = accounts.pop()
                ledger.execute("DELETE FROM public.credit_grants WHERE %s IN (account_id, granted_by)", (gone,))
                ledger.execute("DELETE FROM public.accounts WHERE id = %s", (gone,))
            case "refresh":
                ledger.refresh()
            case "repair" if accounts:
                changed = data.draw(st.lists(instants_around(content.now), min_size=1, max_size=3))
                for instant in changed:
                    ledger.event(data.draw(st.sampled_from(accounts)), data.draw(st.integers(-5, 5)), instant)
                removed = ledger.execute(
                    "DELETE FROM public.usage_events WHERE id IN (SELECT id FROM public.usage_events LIMIT 2)"
                    " RETURNING created_at"
                )
                ledger.refresh(since=min([*changed, *(instant for (instant,) in removed)]).astimezone(UTC).date())
            case "move the clock":
                content.now += data.draw(st.sampled_from([-1, 1, 2, 40])) * timedelta(hours=12)
                ledger.fix_now(content.now)
            case "compare":
                watermark = ledger.watermark()
                past = instants_around(content.now)
                if watermark > NEVER:
                    past |= st.sampled_from([watermark + step * MICROSECOND for step in (-1, 0, 1)])
                past = past.filter(lambda instant: instant <= content.now)
                pin = data.draw(st.none() | past)
                pinned = {} if pin is None else {"as_of": pin.isoformat()}
                cut = {"limit": data.draw(st.integers(1, 9)), "page": data.draw(st.integers(1, 3))}
                period = data.draw(st.sampled_from(list(PERIODS)))
                ledger.compare("rollup", period=period, **cut, **pinned)
                ledger.compare("days", period=period, **pinned)
                for account in accounts[:1]:
                    ledger.compare("events", period=period, account_id=account, **cut, **pinned)
                    ledger.compare("days", period=period, account_id=account, **pinned)


@pytest.fixture
def infinite(ledger: Ledger) -> Ledger:
    """The same database with events dated infinity and -infinity, and an account with one event."""
    ledger.event(ORGANIZATION, 5, NOW - timedelta(days=6))
    for number, instant in enumerate(("infinity", "-infinity"), 1):
        ledger.event(ORBIT, number, instant)
        ledger.event(ADMIN, -number, instant)
    return ledger


ENDS = st.just("infinity") | instants_around(NOW).map(str)


@hypothesis_settings(law, max_examples=60)
@given(data=st.data(), since=ENDS | st.just("-infinity"), until=ENDS)
@pytest.mark.parametrize("name", SUMMED)
def test_both_sources_return_the_same_rows_for_any_window(
    infinite: Ledger, name: str, data: st.DataObject, since: str, until: str
) -> None:
    # a list of days needs a first day
    assume(name != "credits_days" or since != "infinity")
    infinite.rewind()
    for ago in data.draw(st.sampled_from([(), (0,), (2, 1), (1, 0)])):
        infinite.fix_now(NOW - timedelta(days=ago))
        infinite.refresh()
    infinite.fix_now(NOW)
    values = {
        "since": since,
        "until": until,
        "previous_since": since,
        "previous_until": until,
        "account_ids": f"{{{NOVA},{ORBIT},{ADMIN}}}",
        "limit": data.draw(st.sampled_from([1, 500, 2**63 - 1])),
        "offset": data.draw(st.integers(0, 1)),
        "last_day": TODAY,
        "credits_column": CREDITS_COLUMN,
        "account_id": str(NOVA) if name == "credits_events_count" else data.draw(st.sampled_from(["", str(NOVA)])),
    }
    given_ = {parameter: values[parameter] for parameter in EVENTS_QUERIES[name].parameters}
    expected, found = (infinite.rows(source, name, given_) for source in ("events", "sums"))
    assert found == expected


@pytest.mark.parametrize("window", [{"period": "daily"}, {"period": "all"}, {"since": "2024-11-17"}])
def test_the_smallest_bigint_is_subtracted(ledger: Ledger, window: dict[str, str]) -> None:
    ledger.event(NOVA, -(2**63), NOW - timedelta(hours=1))
    ledger.refresh()
    for name in ("rollup", "days"):
        ledger.compare(name, as_of=(NOW - timedelta(hours=2)).isoformat(), **window)


def test_a_sum_that_no_bigint_holds_leaves_the_sums_unused(ledger: Ledger) -> None:
    ledger.refresh()
    for minutes in (60, 61):
        ledger.event(NOVA, 2**63 - 1, NOW - timedelta(minutes=minutes))
    ledger.rewind()
    for _ in range(2):
        (row,) = ledger.script(REFRESH)
        assert (row["watermark"], row["held_back_by"]) == (
            "-infinity",
            "a sum exceeds bigint: all sums were deleted",
        )
        assert ledger.execute("SELECT FROM public.usage_sums") == []
        ledger.compare_all()
    ledger.execute("DELETE FROM public.usage_events WHERE credits_deducted_cents = %s", (2**63 - 1,))
    ledger.refresh()
    assert ledger.watermark() == NOW - MARGIN
    ledger.check()


def test_a_null_counts_as_0_in_the_sums(ledger: Ledger) -> None:
    null = "ALTER TABLE public.usage_events ALTER credits_deducted_cents {} NOT NULL"
    ledger.execute(null.format("DROP"))
    try:
        ledger.account(ADMIN_TWIN)
        for ago in (1, 2_000):  # after the watermark and before it
            ledger.execute(
                "INSERT INTO public.usage_events (account_id, created_at, credits_deducted_cents)"
                " VALUES (%s, %s, NULL)",
                (ADMIN_TWIN, NOW - timedelta(minutes=ago)),
            )
        ledger.refresh()
        ledger.check()
    finally:
        ledger.execute("DELETE FROM public.usage_events WHERE credits_deducted_cents IS NULL")
        ledger.execute(null.format("SET"))


@pytest.mark.parametrize("name", SUMMED)
def test_psql_and_the_service_read_the_same_rows_from_sums(ledger: Ledger, name: str) -> None:
    ledger.refresh()
    for since in ("-infinity", "2024-11-19 12:00:00+00"):
        values = {"since": since, "until": "2024-11-20 09:00:00+00", "limit": 1, "offset": 1}
        values |= {"last_day": TODAY, "account_id": str(NOVA), "account_ids": f"{{{NOVA}}}"}
        values |= {"previous_since": since, "previous_until": values["until"], "credits_column": CREDITS_COLUMN}
        parameters = {parameter: values[parameter] for parameter in SUMS_QUERIES[name].parameters}
        expected = ledger.rows("sums", name, parameters)
        compare(ledger.server, query_path(name, "sums"), parameters, expected, NAME)


@pytest.mark.parametrize("name", SUMMED)
def test_both_sources_have_the_same_parameters_and_columns(name: str) -> None:
    expected, found = EVENTS_QUERIES[name], SUMS_QUERIES[name]
    assert (found.parameters, found.columns) == (expected.parameters, expected.columns)


@pytest.mark.parametrize(("name", "start"), [("credits_rollup", "\npage AS ("), ("credits_days", "\ncalendar AS (")])
def test_both_sources_have_the_same_sql_after_the_spending(name: str, start: str) -> None:
    expected, found = (queries[name].text.partition(start)[1:] for queries in (EVENTS_QUERIES, SUMS_QUERIES))
    assert found == expected != ("", "")


@pytest.mark.parametrize(
    "names", [("credits_rollup", "credits_rollup_count"), ("credits_days", "credits_events_count")]
)
def test_the_queries_with_and_without_windows_have_the_same_edge(names: tuple[str, ...]) -> None:
    texts = [SUMS_QUERIES[name].text for name in names]
    assert len({text[text.index("WITH edge AS (") : text.index("    ) AS summed\n")] for text in texts}) == 1


# The refresh


def test_the_answers_are_the_same_before_and_after_each_refresh(ledger: Ledger) -> None:
    ledger.check()
    for _ in range(2):
        assert ledger.script(REFRESH)[-1]["watermark"] == "2024-11-20 10:10:00+00"
        ledger.check()


def test_an_answer_from_the_sums_names_their_files(ledger: Ledger) -> None:
    response = ledger.sums.get("/api/admins/credits/events", query_string={"account_id": str(NOVA), "limit": "1"})
    files = ["credits_events", "sums/credits_events_count", "credits_grants", "credits_account"]
    described = [f'</queries/{file}.sql>; rel="describedby"' for file in files]
    assert response.headers["Link"].startswith(", ".join(described))


def test_a_refresh_returns_what_it_summed_and_what_holds_it_back(ledger: Ledger) -> None:
    def row(summed_from: str, watermark: str) -> list[dict[str, str]]:
        return [{"summed_from": summed_from, "watermark": watermark, "held_back_by": ""}]

    assert ledger.script(REFRESH) == row("-infinity", "2024-11-20 10:10:00+00")
    ledger.fix_now("2024-11-21 00:04:59+00")
    assert ledger.script(REFRESH) == row("2024-11-20 10:10:00+00", "2024-11-20 23:59:59+00")
    assert ledger.script(REFRESH, margin="1 day") == row("2024-11-20 23:59:59+00", "2024-11-20 23:59:59+00")


def test_the_watermark_is_not_later_than_the_start_of_the_oldest_transaction(ledger: Ledger) -> None:
    with transaction(ledger) as writer:
        writer.execute("SELECT system_now()")
        ((began,),) = writer.fetchall()
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        (row,) = ledger.script(REFRESH)
        assert row["held_back_by"].startswith("a transaction that began")
        assert ledger.watermark() == began - MARGIN
        writer.execute(LATE_EVENT)  # dated at the start of its transaction
        writer.execute("COMMIT")
        ledger.compare_all()
    ledger.refresh()
    ledger.check()


@pytest.mark.parametrize(
    ("beginning", "ending"),
    [
        pytest.param(
            f"BEGIN; {LATE_EVENT}; PREPARE TRANSACTION 'late'", "COMMIT PREPARED 'late'", id="prepared transaction"
        ),
        pytest.param(f"SET track_activities = off; BEGIN; {LATE_EVENT}", "COMMIT", id="track_activities off"),
        pytest.param(
            f"SET track_activities = off; BEGIN; {LATE_EVENT}; SET track_activities = on", "COMMIT", id="and on again"
        ),
    ],
)
def test_the_watermark_stays_while_the_start_of_a_transaction_is_unknown(
    ledger: Ledger, beginning: str, ending: str
) -> None:
    ledger.refresh()
    with closing(psycopg2.connect(ledger.server.url(NAME))) as raw, raw.cursor() as writer:
        raw.autocommit = True
        for statement in beginning.split("; "):
            writer.execute(statement)
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        try:
            (row,) = ledger.script(REFRESH)
        finally:
            writer.execute(ending)
    assert row["watermark"] == "2024-11-20 10:10:00+00"
    assert row["held_back_by"] == "a prepared transaction, or a session with track_activities off"
    ledger.compare_all()


@pytest.mark.parametrize("zone", ["Etc/GMT-14", "Etc/GMT+12"])
def test_the_time_zone_of_the_session_does_not_change_the_sums(ledger: Ledger, zone: str) -> None:
    for now in (NOW - timedelta(days=1), NOW):
        ledger.fix_now(now)
        ledger.execute("SET TimeZone = %s; SELECT public.usage_sums_refresh(); RESET TimeZone", (zone,))
        assert ledger.watermark() == now - MARGIN
    ledger.check()


def test_deleting_an_account_deletes_its_sums(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute("DELETE FROM public.accounts WHERE id = %s", (NOVA,))
    assert ledger.execute("SELECT DISTINCT account_id FROM public.usage_sums") == [(ORBIT,)]
    ledger.check()


@pytest.mark.parametrize(("ending", "refreshes"), [("COMMIT", 1), ("ROLLBACK", 2)])
def test_refreshes_wait_for_the_deletion_of_an_account(ledger: Ledger, ending: str, refreshes: int) -> None:
    with (
        transaction(ledger, f"DELETE FROM public.accounts WHERE id = '{NOVA}'") as remover,
        blocked_refreshes(ledger, refreshes),
    ):
        remover.execute(ending)
    assert ledger.watermark() == NOW - MARGIN
    ledger.check()


@pytest.mark.parametrize("accounts", [(NOVA, ORBIT), (ORBIT, NOVA)])
@pytest.mark.parametrize("since", [None, "2024-01-01"])
def test_a_transaction_can_delete_several_accounts_during_a_refresh(
    ledger: Ledger, accounts: tuple[UUID, ...], since: str | None
) -> None:
    ledger.refresh()
    for account in accounts:
        ledger.event(account, 1, NOW)
    ledger.fix_now(NOW + timedelta(hours=1))
    delete = "DELETE FROM public.accounts WHERE id = '{}'"
    with (
        transaction(ledger, delete.format(accounts[0])) as remover,
        blocked_refreshes(ledger, since=since),
    ):
        remover.execute(delete.format(accounts[1]))
        remover.execute("COMMIT")
    assert ledger.execute("SELECT FROM public.usage_sums") == []
    ledger.check()


def test_a_refresh_does_not_block_writers(ledger: Ledger) -> None:
    with (
        transaction(ledger, f"DELETE FROM public.accounts WHERE id = '{ORBIT}'") as remover,
        transaction(ledger, "SET lock_timeout = '10s'") as writer,
        blocked_refreshes(ledger) as (pid,),
    ):
        writer.execute("INSERT INTO public.usage_events (account_id) VALUES (%s), (%s)", (NOVA, ADMIN))
        writer.execute("UPDATE public.accounts SET name = 'renamed' WHERE id = %s", (NOVA,))
        writer.execute("COMMIT")
        held = "SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND relation = 'public.usage_events'::regclass"
        assert ledger.execute(held, (pid,)) == [("AccessShareLock",)]
        remover.execute("COMMIT")
    assert ledger.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
    ledger.compare_all()


def test_a_refresh_that_is_interrupted_changes_nothing(ledger: Ledger) -> None:
    with (
        transaction(ledger, f"DELETE FROM public.accounts WHERE id = '{NOVA}'"),
        blocked_refreshes(ledger) as (pid,),
    ):
        ledger.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert ledger.watermark() == NEVER
    assert ledger.execute("SELECT count(*) FROM public.usage_sums") == [(0,)]
    ledger.check()


def test_an_event_of_an_account_that_does_not_exist_is_added_to_the_sums_and_stops_the_refresh(ledger: Ledger) -> None:
    ledger.refresh()
    nobody = UUID(int=1)
    with foreign_keys_bypassed(ledger):
        ledger.event(nobody, 10**6, NOW - timedelta(minutes=1))
    try:
        ledger.compare_all()
        for period in PERIODS:
            assert answered(ledger.sums, ROLLUP, period=period)["rows"][0]["account_id"] == str(nobody)
        ledger.fix_now(NOW + timedelta(hours=1))
        with transaction(ledger, "SET statement_timeout = '10s'") as cursor, pytest.raises(ForeignKeyViolation):
            cursor.execute("SELECT public.usage_sums_refresh()")
    finally:
        ledger.execute("DELETE FROM public.usage_events WHERE account_id = %s", (nobody,))


@pytest.mark.parametrize(
    ("before", "message"),
    [
        pytest.param(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "must run READ COMMITTED", id="repeatable read"
        ),
        pytest.param(
            "SET ROLE refresher", "must see when transactions of other roles began", id="not in pg_read_all_stats"
        ),
        pytest.param(
            "GRANT pg_read_all_stats TO refresher; SET ROLE refresher", "row-level security", id="hidden events"
        ),
        pytest.param("DELETE FROM public.usage_sums_watermark", "query returned no rows", id="no watermark"),
    ],
)
def test_a_refresh_that_could_be_wrong_fails(ledger: Ledger, before: str, message: str) -> None:
    ledger.execute(
        "CREATE ROLE refresher; GRANT EXECUTE ON FUNCTION public.usage_sums_refresh TO refresher;"
        "GRANT ALL ON public.usage_events, public.usage_sums, public.usage_sums_window TO refresher;"
        "GRANT ALL ON public.usage_sums_watermark TO refresher;"
        "CREATE POLICY refresher ON public.usage_sums_watermark TO refresher USING (true)"
    )
    try:
        with transaction(ledger, f"ROLLBACK; BEGIN; {before}") as cursor, pytest.raises(psycopg2.Error, match=message):
            cursor.execute("SELECT public.usage_sums_refresh()")
    finally:
        ledger.execute("DROP OWNED BY refresher; DROP ROLE refresher")


def test_without_a_watermark_the_answers_come_from_the_events(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute("DELETE FROM public.usage_sums_watermark")
    try:
        ledger.compare_all()
    finally:
        ledger.execute("INSERT INTO public.usage_sums_watermark VALUES ('-infinity', true, '{}', '-infinity')")


# The check and the repair


def test_changes_before_the_watermark_are_listed_and_repaired(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute("DELETE FROM public.usage_events WHERE created_at = '2024-11-13 00:00:00+00'")  # Nova's 17
    ledger.execute(
        "UPDATE public.usage_events SET credits_deducted_cents = 100 WHERE credits_deducted_cents = 6"
    )  # Orbit's
    ledger.event(ORBIT, 4, "2024-11-16 08:00:00+00")
    ledger.event(ORBIT, -4, "2024-11-16 09:00:00+00")
    # moved to another account: the total of the day stays the same
    ledger.execute("UPDATE public.usage_events SET account_id = %s WHERE credits_deducted_cents = 1", (NOVA,))
    columns = (
        "day", "account_count", "credits_deducted_cents", "event_count", "summed_credits_deducted_cents",
        "summed_event_count",
    )  # fmt: skip
    assert ledger.script(CHECK) == [
        dict(zip(columns, row.split(), strict=True))
        for row in (
            "2024-11-13 1 -3 1 14 2",
            "2024-11-14 1 100 1 6 1",
            "2024-11-16 1 0 2 0 0",
            "2024-11-19 2 9 3 9 3",
        )
    ]
    assert [row["day"] for row in ledger.script(CHECK, since="2024-11-16")] == ["2024-11-16", "2024-11-19"]

    assert ledger.script(REFRESH, since="2024-11-13 23:59:59+00") == [
        {"summed_from": "2024-11-13 00:00:00+00", "watermark": "2024-11-20 10:10:00+00", "held_back_by": ""}
    ]
    ledger.check()


@pytest.mark.parametrize("since", ["", "2024-11-14"])
def test_a_refresh_deletes_all_sums_if_their_events_have_changed(ledger: Ledger, since: str) -> None:
    ledger.refresh()
    ledger.execute("UPDATE public.usage_events SET credits_deducted_cents = credits_deducted_cents * 10000")
    # the sample consists of ten pages: without dead rows it is the whole table
    ledger.execute("VACUUM FULL public.usage_sums")
    (row,) = ledger.script(REFRESH, since=since)
    assert tuple(row.values())[:2] == ("-infinity", "-infinity")
    assert re.fullmatch("the sums of .* differed from its events: all sums were deleted", row["held_back_by"])
    ledger.check()
    (row,) = ledger.script(REFRESH)
    assert tuple(row.values()) == ("-infinity", "2024-11-20 10:10:00+00", "")
    ledger.check()


@pytest.mark.parametrize("since", ["-infinity", "2024-11-20", "infinity"])
def test_any_since_leaves_the_sums_right(ledger: Ledger, since: str) -> None:
    ledger.fix_now(NOW - timedelta(days=3))
    ledger.refresh()
    ledger.fix_now(NOW)
    assert ledger.script(REFRESH, since=since)[0]["watermark"] == "2024-11-20 10:10:00+00"
    ledger.check()


def test_wrong_windows_are_listed_without_a_day_and_repaired(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute(
        "UPDATE public.usage_sums_window SET event_count = 8 WHERE edge = '-infinity' AND account_id = %s", (ORBIT,)
    )
    ledger.execute("DELETE FROM public.usage_sums_window WHERE edge = '2024-11-20' AND account_id = %s", (NOVA,))
    (row,) = ledger.script(CHECK)
    assert tuple(row.values()) == ("", "2", "483", "7", "473", "8")
    assert ledger.script(CHECK, since="2024-11-20") == []
    ledger.script(REFRESH, since="2024-11-20")
    ledger.check()


def test_the_check_fails_for_a_role_that_cannot_see_all_rows(ledger: Ledger) -> None:
    with pytest.raises(EmbeddedPostgresError, match="row-level security"):
        ledger.server.psql("-c", "SET ROLE credits_reader", "-f", CHECK, database=NAME)


def test_the_metrics_tell_up_to_when_events_are_summed(ledger: Ledger) -> None:
    def line() -> str:
        return ledger.sums.get("/metrics").text.splitlines()[-1]

    assert line() == "admin_credits_summed_until_seconds -inf"
    ledger.refresh()
    assert line() == f"admin_credits_summed_until_seconds {(NOW - MARGIN).timestamp()}"


# Installation


def test_running_sums_sql_again_keeps_the_sums(ledger: Ledger) -> None:
    ledger.refresh()
    sums = (
        "SELECT days::text, mark::text FROM public.usage_sums AS days, public.usage_sums_watermark AS mark ORDER BY 1"
    )
    before = ledger.execute(sums)
    ledger.server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    assert ledger.execute(sums) == before


def test_sums_sql_takes_over_the_tables_of_an_earlier_version(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute(
        "DELETE FROM public.usage_sums WHERE day >= '2024-11-19';"
        "DROP TABLE public.usage_sums_watermark, public.usage_sums_window;"
        "CREATE TABLE public.usage_sums_total (account_id uuid);"
        "CREATE TABLE public.usage_sums_watermark (day date NOT NULL CHECK (day < 'infinity'), is_only_row boolean"
        " PRIMARY KEY DEFAULT true CHECK (is_only_row));"
        "INSERT INTO public.usage_sums_watermark VALUES ('2024-11-19');"
        "DROP FUNCTION public.usage_sums_refresh;"
        "CREATE FUNCTION public.usage_sums_refresh(date, interval, OUT first_day date) LANGUAGE sql AS 'SELECT $1'"
    )
    ledger.server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    assert ledger.execute("SELECT to_regclass('public.usage_sums_total')") == [(None,)]
    assert ledger.script(REFRESH)[0]["summed_from"] == "2024-11-19 00:00:00+00"
    ledger.check()


def test_the_service_is_not_ready_without_the_sums_that_it_is_set_to_read(settings: Settings, tables: Tables) -> None:
    client = admin_client(
        create_app(Settings(database_url=settings.database_url, api_key_secret=SECRET, spend_source="sums"))
    )
    response = client.get("/health/ready")
    assert (response.status_code, response.get_json()) == (
        503,
        {
            "status": "error",
            "error": "Not ready: sums.",
            "checks": {"database": "ok", "privileges": "ok", "policies": "ok", "sums": "failed"},
        },
    )
    assert client.get("/api/admins/credits/rollup").status_code == 503
