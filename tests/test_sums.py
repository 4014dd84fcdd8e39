"""The sums of closed days, sql/dba/sums*.sql: sql/queries/sums answers from them what the events say."""

import csv
import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conftest import (
    ADMIN,
    NOVA,
    ORBIT,
    READER_PASSWORD,
    SECRET,
    SQL,
    Tables,
    admin_client,
    create_database,
    in_snapshot,
)
from live import PATIENCE_S, eventually
from model import MICROSECOND, PERIODS, Content, contents, instants_around
from service import create_app
from service.config import Settings
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer
from service.queries import SUMS_QUERY_NAMES, load_queries, query_path
from test_psql import as_psql_wrote, rows_of_psql

NAME = "sums"
REFRESH = SQL / "dba" / "sums_refresh.sql"
CHECK = SQL / "dba" / "sums_check.sql"
# Before the queries' now() stands the tests', for the refresh as for the service's role.
CLOCK = "SET search_path = clock, pg_catalog, public"
NOW = datetime(2024, 11, 20, 10, 15, tzinfo=UTC)
TODAY = NOW.date()
NEVER = date(1, 1, 1)  # as psycopg2 cannot say -infinity
AGREED: list[dict[str, str]] = []


class Ledger(Tables):
    """The owner's hand in a database with the sums of closed days, and the two services that read it."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server.url(NAME))
        self.server = server
        self.execute(CLOCK)
        url = server.url(NAME, user="credits_reader", password=READER_PASSWORD)
        self.events, self.sums = (
            admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, spend_source=source)))
            for source in ("events", "sums")
        )

    def rewind(self) -> None:
        """Bring the sums back to where none is made."""
        self.execute("DELETE FROM public.usage_sums; DELETE FROM public.usage_sums_total")
        self.execute("UPDATE public.usage_sums_watermark SET day = '-infinity'")

    def empty(self) -> None:
        super().empty()
        self.rewind()

    def script(self, path: Path, **variables: object) -> list[dict[str, str]]:
        """Run a script as a DBA does, but by the tests' clock; return its rows."""
        given = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        return list(
            csv.DictReader(io.StringIO(self.server.psql("--csv", "-c", CLOCK, *given, "-f", path, database=NAME)))
        )

    def refresh(self, since: date | None = None) -> None:
        """Refresh without psql, which is slower to start than the refresh is."""
        self.execute("SELECT public.usage_sums_refresh(%s)", (since,))

    def watermark(self) -> date:
        ((day,),) = self.execute("SELECT greatest(day, %s) FROM public.usage_sums_watermark", (NEVER,))
        return day

    def assert_agreed(self, path: str, **arguments: Any) -> None:
        given = {name: str(value) for name, value in arguments.items()}
        expected, found = (
            client.get(f"/api/admins/credits/{path}", query_string=given) for client in (self.events, self.sums)
        )
        assert expected.status_code == 200, expected.text
        assert (found.status_code, found.get_json()) == (200, expected.get_json())

    def assert_all_agreed(self) -> None:
        """Compare what the two services say of every period."""
        for period in PERIODS:
            self.assert_agreed("rollup", period=period)
            self.assert_agreed("rollup", period=period, limit=1)
            self.assert_agreed("days", period=period)
            for (account,) in self.execute("SELECT id FROM public.accounts LIMIT 3"):
                self.assert_agreed("events", period=period, account_id=account, limit=1)


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
    """Two accounts with an event at each edge of a day, of which none is summed."""
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
def another(ledger: Ledger) -> Iterator[psycopg2.extensions.cursor]:
    """A session of its own with a transaction that has begun."""
    with closing(psycopg2.connect(ledger.server.url(NAME))) as raw, raw.cursor() as cursor:
        cursor.execute("SELECT 1")
        yield cursor


@contextmanager
def refreshing(ledger: Ledger, count: int = 1, since: str | None = None) -> Iterator[list[int]]:
    """Refreshes under way, all of which wait for something: their process ids."""

    def refresh() -> None:
        with closing(psycopg2.connect(f"{ledger.server.url(NAME)}&application_name=refresh")) as raw:
            raw.autocommit = True
            # one of them is killed
            with raw.cursor() as cursor, suppress(psycopg2.OperationalError):
                cursor.execute(
                    f"{CLOCK}; SET lock_timeout = '{PATIENCE_S}s'; SELECT public.usage_sums_refresh(%s)", (since,)
                )

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


# The law


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), content=contents())
def test_both_sources_give_equal_bodies_after_any_history(
    ledger: Ledger, data: st.DataObject, content: Content
) -> None:
    content.store(ledger)
    accounts = [account for account, _ in content.accounts]
    steps = data.draw(
        st.lists(st.sampled_from(["insert", "delete", "refresh", "repair", "move", "compare"]), max_size=9)
    )
    for step in [*steps, "compare"]:
        match step:
            case "insert" if accounts:
                # The rule: what is new is dated at the watermark or later.
                for instant in data.draw(st.lists(instants_around(content.now), max_size=4)):
                    floor = datetime.combine(ledger.watermark(), datetime.min.time(), UTC)
                    ledger.event(
                        data.draw(st.sampled_from(accounts)), data.draw(st.integers(-5, 5)), max(instant, floor)
                    )
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
            case "move":
                content.now += data.draw(st.sampled_from([-1, 1, 2, 40])) * timedelta(hours=12)
                ledger.fix_now(content.now)
            case "compare":
                past = instants_around(content.now).filter(lambda instant: instant <= content.now)
                pin = data.draw(st.none() | past)
                pinned = {} if pin is None else {"as_of": pin.isoformat()}
                cut = {"limit": data.draw(st.integers(1, 9)), "page": data.draw(st.integers(1, 3))}
                for period in PERIODS:
                    ledger.assert_agreed("rollup", period=period, **cut, **pinned)
                    ledger.assert_agreed("days", period=period, **pinned)
                    for account in accounts[:1]:
                        ledger.assert_agreed("events", period=period, account_id=account, **cut, **pinned)
                        ledger.assert_agreed("days", period=period, account_id=account, **pinned)


@pytest.fixture
def extremes(ledger: Ledger) -> Ledger:
    """The same, with events at no finite instant."""
    for number, instant in enumerate(("infinity", "-infinity"), 1):
        ledger.event(ORBIT, number, instant)
        ledger.event(ADMIN, -number, instant)
    return ledger


EDGES = st.just("-infinity") | st.just("infinity") | instants_around(NOW).map(str)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), since=EDGES, until=EDGES)
@pytest.mark.parametrize("name", SUMS_QUERY_NAMES)
def test_a_query_of_any_window_gives_the_rows_of_its_namesake(
    extremes: Ledger, name: str, data: st.DataObject, since: str, until: str
) -> None:
    # a list of days has to begin on one
    assume(name != "credits_days" or since != "infinity")
    extremes.rewind()
    if data.draw(st.booleans()):
        extremes.refresh()
    values = {
        "since": since,
        "until": until,
        "limit": data.draw(st.sampled_from([1, 500, 2**63 - 1])),
        "offset": data.draw(st.integers(0, 1)),
        "last_day": TODAY,
        "account_id": str(NOVA) if name == "credits_events_count" else data.draw(st.sampled_from(["", str(NOVA)])),
    }
    given_ = {parameter: values[parameter] for parameter in load_queries()[name].parameters}
    raw, summed = (
        in_snapshot(
            client.application.extensions["database"],
            lambda snapshot: snapshot.rows(name, **given_),
            client.application.extensions["queries"],
        )
        for client in (extremes.events, extremes.sums)
    )
    assert raw == summed


@pytest.mark.parametrize("name", SUMS_QUERY_NAMES)
def test_a_query_of_closed_days_has_the_parameters_and_columns_of_its_namesake(name: str) -> None:
    raw, summed = (load_queries(source=source)[name] for source in ("events", "sums"))
    assert (summed.parameters, summed.columns) == (raw.parameters, raw.columns)


@pytest.mark.parametrize("name", SUMS_QUERY_NAMES)
@pytest.mark.parametrize("since", ["-infinity", "2024-10-22 00:00:00+00", "2024-11-19 12:00:00+00"])
def test_psql_and_the_service_read_the_same_rows_of_closed_days(ledger: Ledger, name: str, since: str) -> None:
    ledger.refresh()
    query = load_queries(source="sums")[name]
    values = {"since": since, "until": "2024-11-20 09:00:00+00", "limit": 1, "offset": 1}
    values |= {"last_day": TODAY, "account_id": str(NOVA)}
    parameters = {parameter: values[parameter] for parameter in query.parameters}
    app = ledger.sums.application
    expected = in_snapshot(
        app.extensions["database"], lambda snapshot: snapshot.rows(name, **parameters), app.extensions["queries"]
    )
    columns, rows = rows_of_psql(ledger.server, query_path(name, "sums"), parameters, NAME)
    assert (columns, len(rows)) == (list(query.columns), len(expected))
    assert [
        {column: as_psql_wrote(row[column], text) for column, text in found.items()}
        for found, row in zip(rows, expected, strict=True)
    ] == expected


@pytest.mark.parametrize(("name", "start"), [("credits_rollup", "\npage AS ("), ("credits_days", "\nedges AS (")])
def test_what_is_made_of_the_spending_is_made_alike_from_both_sources(name: str, start: str) -> None:
    raw, summed = (load_queries(source=source)[name].text.partition(start) for source in ("events", "sums"))
    assert raw[1:] == summed[1:] != ("", "")


def test_the_sums_end_at_one_edge_in_every_query() -> None:
    texts = [load_queries(source="sums")[name].text for name in SUMS_QUERY_NAMES]
    assert len({text[text.index("WITH edge AS (") : text.index("    ) AS bound\n")] for text in texts}) == 1


# The refresh


@pytest.mark.parametrize("times", [0, 1, 2], ids=["never refreshed", "refreshed once", "refreshed twice"])
def test_how_often_it_was_refreshed_makes_no_difference(ledger: Ledger, times: int) -> None:
    for _ in range(times):
        assert ledger.script(REFRESH)[-1]["watermark"] == "2024-11-20"
    ledger.assert_all_agreed()
    assert ledger.script(CHECK) == AGREED


def test_a_refresh_says_what_it_summed_and_what_holds_it_back(ledger: Ledger) -> None:
    assert ledger.script(REFRESH) == [{"first_day": "-infinity", "watermark": "2024-11-20", "held_back_by": ""}]
    ledger.fix_now("2024-11-21 00:04:59+00")
    (row,) = ledger.script(REFRESH)
    assert (row["first_day"], row["watermark"]) == ("2024-11-20", "2024-11-20")
    assert row["held_back_by"].endswith("or the margin")
    ledger.fix_now("2024-11-21 00:05:00+00")
    assert ledger.script(REFRESH) == [{"first_day": "2024-11-20", "watermark": "2024-11-21", "held_back_by": ""}]
    (row,) = ledger.script(REFRESH, margin="1 day")
    assert (row["first_day"], row["watermark"]) == ("2024-11-21", "2024-11-21")


def test_the_sums_are_those_of_the_days_before_the_watermark(ledger: Ledger) -> None:
    ledger.refresh()
    assert ledger.execute(
        "SELECT account_id, day, credits_deducted_cents, event_count FROM public.usage_sums"
        " WHERE day > '2024-10-30' ORDER BY day, account_id"
    ) == [
        (NOVA, date(2024, 11, 13), 14, 2),
        (ORBIT, date(2024, 11, 13), 7, 1),
        (NOVA, date(2024, 11, 14), 13, 2),
        (ORBIT, date(2024, 11, 14), 6, 1),
        (NOVA, date(2024, 11, 19), 8, 2),
        (ORBIT, date(2024, 11, 19), 1, 1),
    ]
    assert ledger.execute("SELECT * FROM public.usage_sums_total ORDER BY account_id") == [
        (NOVA, 14 + 13 + 8 + 36 + 37 + 407, 12),
        (ORBIT, 7 + 6 + 1 + 29 + 30 + 400, 6),
    ]


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_the_day_in_which_the_oldest_transaction_began_stays_open(ledger: Ledger, ending: str) -> None:
    with another(ledger) as writer:
        writer.execute("SELECT (pg_catalog.now() AT TIME ZONE 'UTC')::date")
        ((began,),) = writer.fetchall()
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        (row,) = ledger.script(REFRESH)
        assert (row["watermark"], row["held_back_by"][:12]) == (str(began), "a transactio")
        # dated by the default: the start of its transaction
        writer.execute("INSERT INTO public.usage_events (account_id, credits_deducted_cents) VALUES (%s, 5)", (NOVA,))
        writer.execute(ending)
        ledger.assert_all_agreed()
    # What runs now began on a day that the clock of the tests has left behind.
    ledger.refresh()
    ledger.assert_all_agreed()
    assert ledger.script(CHECK) == AGREED


def test_while_a_transaction_is_prepared_no_day_is_closed(ledger: Ledger) -> None:
    ledger.refresh()
    with another(ledger) as writer:
        writer.execute("INSERT INTO public.usage_events (account_id, credits_deducted_cents) VALUES (%s, 5)", (NOVA,))
        writer.execute("PREPARE TRANSACTION 'late'")
        writer.connection.rollback()
        writer.connection.autocommit = True
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        try:
            (row,) = ledger.script(REFRESH)
            assert row["watermark"] == "2024-11-20"
            assert row["held_back_by"] == "a transaction that is prepared, or of a session with track_activities off"
        finally:
            writer.execute("COMMIT PREPARED 'late'")
    ledger.assert_all_agreed()


def test_while_a_session_hides_when_it_began_no_day_is_closed(ledger: Ledger) -> None:
    ledger.refresh()
    with another(ledger) as writer:
        writer.execute("SET track_activities = off")
        writer.connection.commit()
        writer.execute("INSERT INTO public.usage_events (account_id, credits_deducted_cents) VALUES (%s, 5)", (NOVA,))
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        assert ledger.script(REFRESH)[0]["watermark"] == "2024-11-20"
        writer.connection.commit()
    ledger.assert_all_agreed()


def test_a_deleted_account_is_gone_from_the_sums_at_once(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute("DELETE FROM public.accounts WHERE id = %s", (NOVA,))
    ledger.assert_all_agreed()
    assert ledger.execute("SELECT DISTINCT account_id FROM public.usage_sums") == [(ORBIT,)]
    assert ledger.script(CHECK) == AGREED


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_an_account_that_is_being_deleted_is_waited_for(ledger: Ledger, ending: str) -> None:
    with another(ledger) as writer:
        writer.execute("DELETE FROM public.accounts WHERE id = %s", (NOVA,))
        with refreshing(ledger):
            writer.execute(ending)
    assert ledger.watermark() == TODAY
    ledger.assert_all_agreed()
    assert ledger.script(CHECK) == AGREED


def test_two_refreshes_at_once_count_nothing_twice(ledger: Ledger) -> None:
    with another(ledger) as writer:
        writer.execute("DELETE FROM public.accounts WHERE id = %s", (ORBIT,))
        with refreshing(ledger, 2):
            writer.execute("ROLLBACK")
    assert ledger.watermark() == TODAY
    ledger.assert_all_agreed()
    assert ledger.script(CHECK) == AGREED


def test_a_repair_keeps_nobody_from_deleting_an_account(ledger: Ledger) -> None:
    ledger.refresh()
    with another(ledger) as remover, another(ledger) as another_remover:
        # as one who is about to
        remover.execute("SELECT FROM public.accounts WHERE id = %s FOR UPDATE", (NOVA,))
        with refreshing(ledger, since="2024-01-01"):
            another_remover.execute("SET lock_timeout = '10s'; DELETE FROM public.accounts WHERE id = %s", (ORBIT,))
            another_remover.execute("COMMIT")
            remover.execute("ROLLBACK")
    assert ledger.execute("SELECT DISTINCT account_id FROM public.usage_sums") == [(NOVA,)]
    ledger.assert_all_agreed()
    assert ledger.script(CHECK) == AGREED


def test_who_writes_events_waits_for_no_refresh(ledger: Ledger) -> None:
    with another(ledger) as remover, another(ledger) as writer:
        remover.execute("DELETE FROM public.accounts WHERE id = %s", (ORBIT,))
        with refreshing(ledger) as (pid,):
            writer.execute("SET lock_timeout = '10s'")
            writer.execute("INSERT INTO public.usage_events (account_id) VALUES (%s), (%s)", (NOVA, ADMIN))
            writer.execute("UPDATE public.accounts SET name = 'renamed' WHERE id = %s", (NOVA,))
            writer.execute("COMMIT")
            held = "SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND relation = 'public.usage_events'::regclass"
            assert ledger.execute(held, (pid,)) == [("AccessShareLock",)]
            remover.execute("COMMIT")
    ledger.assert_all_agreed()


def test_a_crash_in_the_middle_of_a_refresh_changes_nothing(server_folder: Path) -> None:
    folder = server_folder / "crash"
    folder.mkdir(mode=0o755)
    with PostgresServer(folder) as server:
        create_database(server, NAME)
        server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
        ledger = Ledger(server)
        ledger.seed_admin()
        ledger.fix_now(NOW)
        ledger.account(NOVA)
        ledger.event(NOVA, 5, NOW - timedelta(days=3))
        with another(ledger) as writer:
            writer.execute("DELETE FROM public.accounts WHERE id = %s", (NOVA,))
            with refreshing(ledger) as (pid,):
                # Of one process of the server: it ends every connection and recovers.
                os.kill(pid, signal.SIGKILL)
        ledger.connection.close()

        def recovered() -> Ledger | None:
            try:
                return Ledger(server)
            except psycopg2.OperationalError:
                return None

        ledger = eventually(recovered, "the server to recover")
        assert ledger.watermark() == NEVER
        assert ledger.execute("SELECT count(*) FROM public.usage_sums") == [(0,)]
        ledger.assert_all_agreed()
        ledger.refresh()
        assert ledger.watermark() == TODAY
        ledger.assert_all_agreed()
        ledger.connection.close()


@pytest.mark.parametrize(
    ("before", "message"),
    [
        pytest.param(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "must run READ COMMITTED", id="an old snapshot"
        ),
        pytest.param("SET ROLE refresher", "must see when the transactions of other roles began", id="blind"),
        pytest.param(
            "GRANT pg_read_all_stats TO refresher; SET ROLE refresher", "row-level security", id="events are hidden"
        ),
        pytest.param("DELETE FROM public.usage_sums_watermark", "query returned no rows", id="no watermark"),
    ],
)
def test_a_refresh_that_could_be_wrong_is_refused(ledger: Ledger, before: str, message: str) -> None:
    ledger.execute(
        "CREATE ROLE refresher; GRANT EXECUTE ON FUNCTION public.usage_sums_refresh TO refresher;"
        "GRANT ALL ON public.usage_events, public.usage_sums, public.usage_sums_total TO refresher;"
        "GRANT ALL ON public.usage_sums_watermark TO refresher;"
        "CREATE POLICY refresher ON public.usage_sums_watermark TO refresher USING (true)"
    )
    try:
        with another(ledger) as cursor:
            cursor.execute(f"ROLLBACK; BEGIN; {before}")
            with pytest.raises(psycopg2.Error, match=message):
                cursor.execute("SELECT public.usage_sums_refresh()")
    finally:
        ledger.execute("DROP OWNED BY refresher; DROP ROLE refresher")


def test_without_a_watermark_everything_is_read_from_the_events(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute("DELETE FROM public.usage_sums_watermark")
    try:
        ledger.assert_all_agreed()
    finally:
        ledger.execute("INSERT INTO public.usage_sums_watermark (day) VALUES ('-infinity')")


# The check and the repair


def test_what_was_changed_behind_the_watermark_is_listed_and_repaired(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute("DELETE FROM public.usage_events WHERE created_at = '2024-11-13 00:00:00+00'")  # Nova's 17
    ledger.execute(
        "UPDATE public.usage_events SET credits_deducted_cents = 100 WHERE credits_deducted_cents = 6"
    )  # Orbit's
    ledger.event(ORBIT, 4, "2024-11-16 08:00:00+00")
    ledger.event(ORBIT, -4, "2024-11-16 09:00:00+00")
    # Of two accounts, that the day's sum stays the same.
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

    assert ledger.script(REFRESH, since="2024-11-14 23:59:59+00") == [
        {"first_day": "2024-11-14", "watermark": "2024-11-20", "held_back_by": ""}
    ]
    assert [row["day"] for row in ledger.script(CHECK)] == ["2024-11-13"]
    ledger.script(REFRESH, since="2024-11-13")
    assert ledger.script(CHECK) == AGREED
    ledger.assert_all_agreed()


@pytest.mark.parametrize("since", ["-infinity", "2024-11-20", "2025-01-01", "infinity"])
def test_any_since_leaves_the_sums_right(ledger: Ledger, since: str) -> None:
    ledger.fix_now(NOW - timedelta(days=3))
    ledger.refresh()
    ledger.fix_now(NOW)
    assert ledger.script(REFRESH, since=since)[0]["watermark"] == "2024-11-20"
    ledger.assert_all_agreed()
    assert ledger.script(CHECK) == AGREED


def test_totals_that_are_not_the_sums_of_their_days_are_listed_without_a_day(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute(
        "UPDATE public.usage_sums_total SET event_count = 7, credits_deducted_cents = 0 WHERE event_count = 6"
    )
    ledger.execute("DELETE FROM public.usage_sums_total WHERE account_id = %s", (NOVA,))
    (row,) = ledger.script(CHECK)
    assert tuple(row.values()) == ("", "2", "988", "18", "0", "7")
    ledger.script(REFRESH, since="2024-11-19")
    assert ledger.script(CHECK) == AGREED
    ledger.assert_all_agreed()


def test_the_check_is_refused_where_rows_would_be_hidden_from_it(ledger: Ledger) -> None:
    with pytest.raises(EmbeddedPostgresError, match="row-level security"):
        ledger.server.psql("-c", "SET ROLE credits_reader", "-f", CHECK, database=NAME)


# Installing it


def test_the_script_may_be_run_again_and_keeps_the_sums(ledger: Ledger) -> None:
    ledger.refresh()
    before = ledger.execute("SELECT * FROM public.usage_sums ORDER BY account_id, day")
    ledger.server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    assert (ledger.watermark(), ledger.execute("SELECT * FROM public.usage_sums ORDER BY account_id, day")) == (
        TODAY,
        before,
    )


def test_readiness_says_that_the_sums_are_asked_for_and_absent(settings: Settings, tables: Tables) -> None:
    client: FlaskClient = admin_client(
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


def test_readiness_says_that_the_sums_are_there(ledger: Ledger) -> None:
    assert ledger.sums.get("/health/ready").get_json()["checks"]["sums"] == "ok"
