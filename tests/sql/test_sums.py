"""sql/dba/sums*.sql and sql/queries/sums: the sums give the same answers as the events, without a repair."""

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg2
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conftest import (
    ADMIN,
    CREDITS_COLUMN,
    NOVA,
    ORBIT,
    ORGANIZATION,
    ROLLUP,
    SECRET,
    SQL,
    Tables,
    admin_client,
    answered,
)
from live import PATIENCE_S, eventually
from model import ONLY, PERIODS, Content, contents, foreign_keys_bypassed, instants_around, law
from service import create_app
from service.config import Settings
from service.schemas.requests import BUCKETS
from sums import (
    CHECK,
    KEYS,
    MARGIN,
    NEVER,
    NOW,
    QUERIES,
    REFRESH,
    SUMMED,
    Ledger,
    compare_in_a_snapshot,
    database_with_sums,
    fill,
    questions,
)
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

TODAY = NOW.date()
LATE_EVENT = f"INSERT INTO public.usage_events (account_id, credits_deducted_cents) VALUES ('{NOVA}', 5)"
OLD_EVENT = (
    "INSERT INTO public.usage_events (account_id, credits_deducted_cents, created_at)"
    f" VALUES ('{NOVA}', 5, '2024-11-15 12:00:00+00')"
)
CHANGED = "a table, a column, a trigger or a function was changed since the refresh"


@pytest.fixture(scope="module")
def installed(server: PostgresServer) -> Iterator[Ledger]:
    with database_with_sums(server, "sums") as ledger:
        yield ledger


@pytest.fixture
def ledger(installed: Ledger) -> Ledger:
    """Two accounts with events at the edges of days, and no sums."""
    fill(installed)
    return installed


@contextmanager
def transaction(ledger: Ledger, statement: str = "SELECT 1") -> Iterator[psycopg2.extensions.cursor]:
    """A transaction in another session, begun with a statement."""
    with closing(psycopg2.connect(ledger.server.url(ledger.name))) as raw, raw.cursor() as cursor:
        cursor.execute(statement)
        yield cursor


# Both sources


@hypothesis_settings(law, max_examples=25)
@given(data=st.data(), content=contents(2**53, orphans=False))
def test_every_list_is_the_same_from_both_sources_after_any_history(
    ledger: Ledger, data: st.DataObject, content: Content
) -> None:
    content.store(ledger)
    ledger.rewind()
    accounts = [account for account, _ in content.accounts]
    instants = st.lists(instants_around(content.now), min_size=1, max_size=4)
    steps = ["insert", "update", "delete", "delete an account", "refresh", "move the clock", "compare"]
    for step in [*data.draw(st.lists(st.sampled_from(steps), max_size=12)), "refresh", "compare"]:
        match step:
            case "insert" if accounts:
                for instant in data.draw(instants):
                    account, credits = data.draw(st.sampled_from(accounts)), data.draw(st.integers(-5, 5))
                    ledger.event(account, credits, instant, model_id=data.draw(st.sampled_from([None, "", "small"])))
            case "update" if accounts:
                ledger.execute(
                    "UPDATE public.usage_events SET account_id = %s, created_at = coalesce(%s, created_at),"
                    " credits_deducted_cents = %s, source = 'api', input_tokens = %s"
                    " WHERE id IN (SELECT id FROM public.usage_events ORDER BY credits_deducted_cents LIMIT %s)",
                    (
                        data.draw(st.sampled_from(accounts)),
                        data.draw(st.none() | instants_around(content.now)),
                        data.draw(st.integers(-5, 5)),
                        data.draw(st.integers(0, 9)),
                        data.draw(st.integers(1, 3)),
                    ),
                )
            case "delete":
                ledger.execute(
                    "DELETE FROM public.usage_events"
                    " WHERE id IN (SELECT id FROM public.usage_events ORDER BY credits_deducted_cents LIMIT 2)"
                )
            case "delete an account" if accounts:
                gone = accounts.pop()
                ledger.execute("DELETE FROM public.credit_grants WHERE %s IN (account_id, granted_by)", (gone,))
                ledger.execute("DELETE FROM public.accounts WHERE id = %s", (gone,))
            case "refresh":
                ledger.refresh(data.draw(st.integers(1, 2)))
            case "move the clock":
                content.now += data.draw(st.sampled_from([-2, 1, 6, 24, 960])) * timedelta(hours=1)
                ledger.fix_now(content.now)
            case "compare":
                period = data.draw(st.sampled_from(list(PERIODS)))
                ledger.compare_all(period)
                watermark = ledger.watermark()
                past = instants_around(content.now)
                if watermark > NEVER:
                    past |= st.sampled_from([watermark + step * timedelta(microseconds=1) for step in (-1, 0, 1)])
                pin = data.draw(past.filter(lambda instant: instant <= content.now))
                cut = {"limit": data.draw(st.integers(1, 9)), "page": data.draw(st.integers(1, 3))}
                compared = {} if period == "all" else {"compare": "previous"}
                ledger.compare("rollup", period=period, as_of=pin.isoformat(), **cut, **compared)
                ledger.compare("days", period=period, as_of=pin.isoformat())
                ledger.compare("breakdown", period=period, as_of=pin.isoformat(), by="model", **cut, **compared)
                if compared:
                    only = data.draw(st.sampled_from([{}, *({"only": only} for only in ONLY if only)]))
                    search = data.draw(st.sampled_from([{}, *({"q": str(account)[:8]} for account in accounts)]))
                    ledger.compare("changes", period=period, as_of=pin.isoformat(), **cut, **only, **search)
    if ledger.unusable() is None:
        assert ledger.script(CHECK) == []


@pytest.fixture
def infinite(ledger: Ledger) -> Ledger:
    """The same database with events dated infinity and -infinity, and an account with one event."""
    ledger.event(ORGANIZATION, 5, NOW - timedelta(days=6))
    for number, instant in enumerate(("infinity", "-infinity"), 1):
        ledger.event(ORBIT, number, instant)
        ledger.event(ADMIN, -number, instant)
    return ledger


EDGES = st.sampled_from(["2024-10-01 00:00:00+00", "2024-11-01 00:00:00+00"])


def moment(instant: str) -> float:
    """Return seconds since 1970."""
    return float(instant) if instant.endswith("infinity") else datetime.fromisoformat(instant).timestamp()


ENDS = st.just("infinity") | instants_around(NOW).map(str) | EDGES


@hypothesis_settings(law, max_examples=12)
@given(data=st.data(), since=ENDS | st.just("-infinity"), until=ENDS)
@pytest.mark.parametrize("name", SUMMED)
def test_both_sources_return_the_same_rows_for_any_window(
    infinite: Ledger, name: str, data: st.DataObject, since: str, until: str
) -> None:
    since, until = sorted((since, until), key=moment)
    # a list of days needs a first day
    assume(name != "credits_days" or since != "infinity")
    infinite.rewind()
    for ago in data.draw(st.sampled_from([(), (0,), (2, 1), (1, 0)])):
        infinite.fix_now(NOW - timedelta(days=ago))
        infinite.refresh()
    infinite.fix_now(NOW)
    infinite.event(NOVA, 1, data.draw(instants_around(NOW)), provider="late")
    earlier = since
    if not since.endswith("infinity"):
        earlier = str(datetime.fromisoformat(since) - timedelta(days=data.draw(st.sampled_from([1, 6, 29, 30, 31]))))
    values = {
        "since": since,
        "until": until,
        "previous_since": earlier,
        "previous_until": until if name == "credits_rollup_previous" else since,
        "account_ids": f"{{{NOVA},{ORBIT},{ADMIN}}}",
        "limit": data.draw(st.sampled_from([1, 500, 2**63 - 1])),
        "offset": data.draw(st.integers(0, 1)),
        "last_day": TODAY,
        "search": data.draw(st.sampled_from(["nova", "a", "", str(NOVA), str(ORBIT)[:8], f"{ADMIN}"[:21].upper()])),
        "by": data.draw(st.sampled_from(KEYS)),
        "only": data.draw(st.sampled_from([*ONLY, "spending"] if name == "credits_changes_count" else list(ONLY))),
        "filters": "{}",
        "bucket": data.draw(st.sampled_from(BUCKETS)),
        "top": data.draw(st.sampled_from([1, 20])),
        "totals": data.draw(st.booleans()),
        "credits_column": CREDITS_COLUMN,
        "account_id": str(NOVA) if name == "credits_events_count" else data.draw(st.sampled_from(["", str(NOVA)])),
    }
    if not QUERIES["sums"][name].filtered:
        values["filters"] = data.draw(
            st.sampled_from(["{}", '{"model": "large"}', '{"provider": "", "source": "web"}'])
        )
    given_ = {parameter: values[parameter] for parameter in QUERIES["events"][name].parameters}
    try:
        expected, found = (infinite.rows(source, name, given_) for source in ("events", "sums"))
    finally:
        infinite.execute("DELETE FROM public.usage_events WHERE provider = 'late'")
    assert found == expected


@pytest.mark.parametrize("name", [name for name in SUMMED if QUERIES["sums"][name].filtered])
def test_the_sums_of_accounts_refuse_filters(ledger: Ledger, name: str) -> None:
    (given,) = [parameters for query, parameters in questions("daily", NOW) if query == name][:1]
    with pytest.raises(psycopg2.errors.InvalidTextRepresentation, match="large"):
        ledger.execute(QUERIES["sums"][name].text, {**given, "filters": '{"model": "large"}'})


@pytest.mark.parametrize("name", SUMMED)
def test_both_sources_have_the_same_parameters_and_columns(name: str) -> None:
    expected, found = QUERIES["events"][name], QUERIES["sums"][name]
    assert (found.parameters, found.columns) == (expected.parameters, expected.columns)


@pytest.mark.parametrize(
    ("name", "start"),
    [("credits_changes", "\npage AS ("), ("credits_days", "\ncalendar AS ("), ("credits_series", "\nranked AS (")],
)
def test_both_sources_have_the_same_sql_after_the_spending(name: str, start: str) -> None:
    expected, found = (QUERIES[source][name].text.partition(start)[1:] for source in ("events", "sums"))
    assert found == expected != ("", "")


def test_no_list_is_wrong_while_writers_write_and_refreshes_run(ledger: Ledger) -> None:
    ledger.fix_now(None)
    for _ in range(2):
        ledger.refresh()
    now = datetime.now(UTC)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(statements: list[str]) -> None:
        with closing(psycopg2.connect(ledger.server.url(ledger.name))) as raw, raw.cursor() as cursor:
            try:
                for number in iter(uuid4, None):
                    if stop.is_set():
                        return
                    for statement in statements:
                        with suppress(psycopg2.errors.DeadlockDetected):
                            cursor.execute(statement, {"number": number.int % 1000, "ago": number.int % 10**7})
                    (raw.rollback if number.int % 5 == 0 else raw.commit)()
            except BaseException as error:
                failures.append(error)
                raise

    an_event = "SELECT id FROM public.usage_events"
    work_of = [
        [
            (
                "INSERT INTO public.usage_events (account_id, credits_deducted_cents, model_id, created_at) VALUES"
                f"('{NOVA}', %(number)s, 'a', now()), ('{ORBIT}', 1, 'b', now() - %(ago)s * interval '1 second')"
            )
        ],
        [
            (
                f"UPDATE public.usage_events SET account_id = '{NOVA}', credits_deducted_cents = %(number)s"
                f" WHERE id IN ({an_event} WHERE model_id = 'b' LIMIT 2)"
            ),
            f"DELETE FROM public.usage_events WHERE id IN ({an_event} WHERE model_id = 'a' LIMIT 1)",
        ],
        [
            (
                "UPDATE public.usage_events SET created_at = now() - %(ago)s * interval '1 second', model_id = 'c'"
                f" WHERE id IN ({an_event} OFFSET %(number)s %% 50 LIMIT 1)"
            )
        ],
        ["SELECT usage_sums.refresh()"],
    ]
    threads = [threading.Thread(target=work, args=(statements,)) for statements in work_of]
    for thread in threads:
        thread.start()
    try:
        with closing(psycopg2.connect(ledger.server.url(ledger.name))) as raw:
            raw.set_session(isolation_level="REPEATABLE READ", readonly=True)
            for number in range(12):
                compare_in_a_snapshot(raw, (list(PERIODS)[number % len(PERIODS)],))
        assert ledger.unusable() is None
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert ledger.watermark() > now - timedelta(hours=1)
    ledger.compare_all()
    assert ledger.script(CHECK) == []


# What no trigger sees

REPLACED = (
    "ALTER TABLE public.usage_events ADD replacement bigint NOT NULL DEFAULT 0;"
    "UPDATE public.usage_events SET replacement = credits_deducted_cents * 10;"
    "ALTER TABLE public.usage_events DROP credits_deducted_cents;"
    "ALTER TABLE public.usage_events RENAME replacement TO credits_deducted_cents"
)
UNSEEN = [
    pytest.param("TRUNCATE public.usage_events", id="events truncated"),
    pytest.param(
        "ALTER TABLE public.usage_events ALTER credits_deducted_cents TYPE bigint USING credits_deducted_cents * 10",
        id="column converted",
    ),
    pytest.param(REPLACED, id="column replaced in three steps"),
    pytest.param(
        f"ALTER TABLE public.usage_events DISABLE TRIGGER USER; {OLD_EVENT};"
        "ALTER TABLE public.usage_events ENABLE ALWAYS TRIGGER usage_sums_clock,"
        " ENABLE ALWAYS TRIGGER usage_sums_insert, ENABLE ALWAYS TRIGGER usage_sums_update,"
        " ENABLE ALWAYS TRIGGER usage_sums_delete",
        id="triggers disabled and enabled again",
    ),
    pytest.param(
        "CREATE TABLE public.copy (LIKE public.usage_events INCLUDING ALL);"
        "INSERT INTO public.copy SELECT * FROM public.usage_events LIMIT 3;"
        "ALTER TABLE public.usage_events RENAME TO former; ALTER TABLE public.copy RENAME TO usage_events;"
        "GRANT SELECT ON public.usage_events TO credits_reader",
        id="events replaced by another table",
    ),
    pytest.param("VACUUM FULL public.usage_events", id="events rewritten"),
    pytest.param("VACUUM FULL usage_sums.watermark", id="watermark rewritten"),
    pytest.param("TRUNCATE usage_sums.days", id="days truncated"),
    pytest.param("TRUNCATE usage_sums.accounts", id="accounts truncated"),
    pytest.param("TRUNCATE usage_sums.keys", id="keys truncated"),
    pytest.param("TRUNCATE usage_sums.windows", id="windows truncated"),
    pytest.param(f"{OLD_EVENT}; TRUNCATE usage_sums.ledger", id="ledger truncated"),
    pytest.param("TRUNCATE usage_sums.watermark", id="watermark truncated"),
    pytest.param("ALTER TABLE usage_sums.days SET UNLOGGED", id="days unlogged"),
    pytest.param("ALTER TABLE public.usage_events SET UNLOGGED", id="events unlogged"),
    pytest.param(
        "CREATE TABLE public.saved AS SELECT * FROM usage_sums.watermark;"
        "DELETE FROM usage_sums.watermark; INSERT INTO usage_sums.watermark SELECT * FROM public.saved",
        id="watermark restored",
    ),
    pytest.param(
        "CREATE TABLE public.child () INHERITS (public.usage_events); INSERT INTO public.child (id, account_id)"
        f" VALUES ('child', '{NOVA}')",
        id="child table",
    ),
    pytest.param(
        "DO $$ DECLARE kept text := pg_get_functiondef('usage_sums.note_change'::regproc)\\; BEGIN"
        " CREATE OR REPLACE FUNCTION usage_sums.note_change() RETURNS trigger LANGUAGE plpgsql"
        f" AS 'BEGIN RETURN NULL\\; END'\\; {OLD_EVENT}\\; EXECUTE kept\\; END $$",
        id="function replaced for a time",
    ),
    pytest.param(
        "ALTER TABLE public.usage_events RENAME model_id TO model;"
        f"{OLD_EVENT}; ALTER TABLE public.usage_events RENAME model TO model_id",
        id="column renamed for a time",
    ),
    pytest.param("GRANT SELECT ON public.usage_events TO pg_monitor", id="privilege"),
    pytest.param(
        f"ALTER SCHEMA usage_sums RENAME TO hidden; {OLD_EVENT}; ALTER SCHEMA hidden RENAME TO usage_sums",
        id="schema renamed for a time",
    ),
    pytest.param(
        f"ALTER TABLE usage_sums.ledger RENAME TO hidden; {OLD_EVENT}; ALTER TABLE usage_sums.hidden RENAME TO ledger",
        id="ledger renamed for a time",
    ),
    pytest.param(
        "ALTER TABLE public.usage_events ADD credits_deducted bigint DEFAULT 7 NOT NULL;"
        "ALTER TABLE public.usage_events RENAME credits_deducted_cents TO former;"
        f"{OLD_EVENT.replace('credits_deducted_cents', 'former')};"
        "ALTER TABLE public.usage_events RENAME former TO credits_deducted_cents",
        id="migration of the column rolled back",
    ),
    pytest.param(
        "ALTER TABLE public.usage_events ALTER account_id DROP NOT NULL;"
        "INSERT INTO public.usage_events (account_id, created_at) VALUES (NULL, '2024-11-15');"
        "DELETE FROM public.usage_events WHERE account_id IS NULL;"
        "ALTER TABLE public.usage_events ALTER account_id SET NOT NULL",
        id="account null for a time",
    ),
    pytest.param(
        "CREATE TABLE public.parent (LIKE public.usage_events INCLUDING DEFAULTS);"
        "ALTER TABLE public.usage_events INHERIT public.parent",
        id="child of another table",
    ),
    pytest.param(
        f"INSERT INTO clock.fixed VALUES ('2024-11-20 08:00:00+00'); DELETE FROM clock.fixed WHERE instant = '{NOW}';"
        f"{LATE_EVENT}",
        id="clock two hours back",
    ),
]


@pytest.fixture(scope="module")
def template(server: PostgresServer) -> Iterator[str]:
    with database_with_sums(server, "template_sums") as ledger:
        fill(ledger)
        ledger.refresh()
        assert ledger.unusable() is None
        # nobody may be connected to a database that is copied
        ledger.connection.close()
        yield ledger.name


@pytest.fixture
def disposable(server: PostgresServer, template: str) -> Iterator[Ledger]:
    """A database of its own, because a test changes its tables."""
    with database_with_sums(server, "disposable", template) as ledger:
        yield ledger


@pytest.mark.parametrize("statements", UNSEEN)
def test_what_no_trigger_sees_leaves_the_sums_unused_and_right(disposable: Ledger, statements: str) -> None:
    ledger = disposable
    with ledger.connection.cursor() as cursor:
        for statement in re.split(r"(?<!\\);", statements):
            cursor.execute(statement.replace("\\;", ";"))
    assert ledger.unusable() is not None
    ledger.compare_all()
    # The next refreshes make the sums again, or say what stands against it.
    with suppress(psycopg2.Error):
        ledger.refresh(4)
    ledger.compare_all()
    ledger.execute(OLD_EVENT)
    ledger.compare_all()
    if ledger.unusable() is None:
        assert ledger.script(CHECK) == []
    else:
        assert ledger.unusable() in [
            "a table of the sums is absent or unlogged",
            "usage_events has child tables, or is one",
            "usage_events is unlogged",
            "a trigger is absent, or not ENABLE ALWAYS: run sums.sql again",
            "nothing is summed yet",
        ]


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            "COPY public.usage_events (id, account_id, credits_deducted_cents, created_at) FROM PROGRAM"
            f" 'printf \"a\\t{NOVA}\\t7\\t2024-11-03\\n\"'",
            id="COPY",
        ),
        pytest.param(
            f"SET session_replication_role = replica; {OLD_EVENT}; RESET session_replication_role", id="replica"
        ),
        pytest.param(
            "INSERT INTO public.usage_events (id, account_id, created_at)"
            f" VALUES ('twice', '{NOVA}', '2024-11-03') ON CONFLICT (id) DO UPDATE SET credits_deducted_cents = 9;"
            f"INSERT INTO public.usage_events (id, account_id, created_at) VALUES ('twice', '{NOVA}', '2024-11-04')"
            " ON CONFLICT (id) DO UPDATE SET credits_deducted_cents = 9, created_at = excluded.created_at",
            id="ON CONFLICT",
        ),
        pytest.param(
            "MERGE INTO public.usage_events USING (VALUES (1)) AS one ON credits_deducted_cents < 0"
            " WHEN MATCHED THEN DELETE",
            id="MERGE",
        ),
        pytest.param(
            f"BEGIN; SAVEPOINT one; {OLD_EVENT}; ROLLBACK TO one; {OLD_EVENT}; COMMIT", id="savepoint rolled back"
        ),
        pytest.param(f"DELETE FROM public.accounts WHERE id = '{ORBIT}'", id="cascade"),
        pytest.param(
            "UPDATE public.usage_events SET created_at = '2024-11-20 10:14:00+00' WHERE credits_deducted_cents < 0",
            id="old events made new",
        ),
        pytest.param(
            f"{LATE_EVENT}; UPDATE public.usage_events SET created_at = '2023-01-01' WHERE credits_deducted_cents = 5",
            id="a new event made old",
        ),
        pytest.param(
            "UPDATE public.usage_events SET credits_deducted_cents = credits_deducted_cents * 10", id="rescaled"
        ),
        pytest.param("ANALYZE; VACUUM", id="vacuumed"),
        pytest.param("CREATE INDEX ON public.usage_events (provider)", id="index"),
        pytest.param(f"SET TimeZone = 16; {OLD_EVENT}; RESET TimeZone", id="an offset that no input may have"),
    ],
)
def test_the_sums_stay_in_use_after_any_change_that_a_trigger_sees(disposable: Ledger, statements: str) -> None:
    ledger = disposable
    with ledger.connection.cursor() as cursor:
        for statement in re.split(r"(?<!\\);", statements):
            cursor.execute(statement.replace("\\;", ";"))
    assert ledger.unusable() is None
    ledger.compare_all()
    ledger.refresh()
    assert ledger.unusable() is None
    ledger.compare_all()
    assert ledger.script(CHECK) == []
    assert ledger.execute("SELECT count(*) FROM usage_sums.ledger") == [(0,)]


def test_a_change_of_other_columns_is_not_in_the_ledger(disposable: Ledger) -> None:
    disposable.execute("ALTER TABLE public.usage_events ADD resource_url text")
    assert disposable.unusable() == CHANGED
    disposable.refresh()
    disposable.execute("UPDATE public.usage_events SET resource_url = '/'")
    assert disposable.execute("SELECT FROM usage_sums.ledger") == []
    assert disposable.unusable() is None


@pytest.mark.parametrize("table", ["public.usage_events", "usage_sums.days", "usage_sums.keys", "usage_sums.accounts"])
def test_a_table_that_is_truncated_after_the_snapshot_is_not_mixed_with_the_other_source(
    disposable: Ledger, table: str
) -> None:
    with closing(psycopg2.connect(disposable.server.url(disposable.name))) as raw:
        raw.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with raw.cursor() as cursor:
            cursor.execute("SELECT 1")
        disposable.execute(f"TRUNCATE {table}")
        compare_in_a_snapshot(raw, ("monthly",))


def test_triggers_of_a_table_that_was_replaced_are_dropped(disposable: Ledger) -> None:
    disposable.execute(
        "ALTER TABLE public.usage_events RENAME TO archive; CREATE TABLE public.usage_events (LIKE public.archive"
        " INCLUDING ALL); INSERT INTO public.usage_events SELECT * FROM public.archive"
    )
    disposable.server.psql("-f", SQL / "dba" / "sums.sql", database=disposable.name)
    disposable.refresh()
    disposable.execute("DELETE FROM public.archive")
    assert (disposable.unusable(), disposable.execute("SELECT FROM usage_sums.ledger")) == (None, [])
    disposable.compare_all()


def test_another_owner_of_the_events_gets_the_sums_with_the_next_run_of_sums_sql(disposable: Ledger) -> None:
    disposable.execute(
        "CREATE ROLE heir; ALTER TABLE public.usage_events OWNER TO heir; GRANT SELECT ON public.accounts TO heir"
    )
    try:
        disposable.server.psql("-f", SQL / "dba" / "sums.sql", database=disposable.name)
        disposable.execute(f"SET ROLE heir; {OLD_EVENT}; DELETE FROM public.usage_events; RESET ROLE")
        disposable.refresh()
        disposable.compare_all()
    finally:
        disposable.execute("RESET ROLE; REASSIGN OWNED BY heir TO postgres; DROP OWNED BY heir; DROP ROLE heir")


def test_a_long_ledger_leaves_the_sums_unused_until_they_are_made_again(disposable: Ledger) -> None:
    disposable.execute(f"{OLD_EVENT}; UPDATE public.usage_events SET credits_deducted_cents = 1")
    disposable.execute(
        "INSERT INTO usage_sums.ledger SELECT sign, event FROM usage_sums.ledger,"
        " generate_series(1, 200000) LIMIT 200001"
    )
    assert disposable.unusable() == "the ledger has more than 200,000 rows"
    disposable.compare_all()
    disposable.refresh()
    assert disposable.unusable() is None
    disposable.compare_all()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("ALTER TABLE public.usage_events RENAME credits_deducted_cents TO points", id="column renamed"),
        pytest.param("ALTER TABLE public.usage_events DROP credits_deducted_cents", id="column dropped"),
        pytest.param("ALTER TABLE public.usage_events DROP source", id="key dropped"),
        pytest.param("ALTER TABLE public.usage_events ALTER input_tokens TYPE text", id="type changed"),
        pytest.param("ALTER TABLE public.usage_events RENAME created_at TO at", id="time renamed"),
        pytest.param("DROP TABLE usage_sums.ledger CASCADE", id="ledger dropped"),
        pytest.param(
            "ALTER TABLE public.usage_events ADD raw json DEFAULT '\"\\u0000\"'", id="a value that jsonb does not take"
        ),
        pytest.param("DROP TABLE usage_sums.watermark", id="watermark dropped"),
        pytest.param("DROP TABLE usage_sums.days", id="days dropped"),
        pytest.param("REVOKE ALL ON FUNCTION usage_sums.copy FROM PUBLIC", id="privileges revoked"),
    ],
)
def test_no_statement_of_the_owner_fails_for_a_changed_table(disposable: Ledger, statement: str) -> None:
    disposable.execute(
        "CREATE ROLE writer; GRANT ALL ON ALL TABLES IN SCHEMA public TO writer;"
        "CREATE POLICY writer ON public.usage_events TO writer USING (true)"
    )
    try:
        disposable.execute(statement)
        at = "at" if "TO at" in statement else "created_at"
        disposable.execute(
            f"SET ROLE writer; INSERT INTO public.usage_events (account_id, {at}) VALUES ('{NOVA}', '2024-01-01');"
            "UPDATE public.usage_events SET output_tokens = 3; DELETE FROM public.usage_events"
        )
    finally:
        disposable.execute("RESET ROLE; DROP OWNED BY writer; DROP ROLE writer")


# The refresh


def test_an_answer_from_the_sums_names_their_files(ledger: Ledger) -> None:
    response = ledger.sums.get("/api/admins/credits/events", query_string={"account_id": str(NOVA), "limit": "1"})
    files = ["credits_events", "sums/credits_events_count", "credits_grants", "credits_account"]
    described = [f'</queries/{file}.sql>; rel="describedby"' for file in files]
    assert response.headers["Link"].startswith(", ".join(described))


def test_a_refresh_sums_up_to_what_the_one_before_has_planned(ledger: Ledger) -> None:
    def row(watermark: str, made_again: str = "") -> list[dict[str, str]]:
        return [{"watermark": watermark, "made_again": made_again, "held_back_by": ""}]

    assert ledger.script(REFRESH) == row("2024-11-20 10:05:00+00", "nothing is summed yet")
    ledger.fix_now("2024-11-21 00:04:59+00")
    ledger.refresh(1)
    assert ledger.watermark() == NOW - MARGIN
    assert ledger.script(REFRESH) == row("2024-11-20 23:54:59+00")


def test_the_watermark_is_not_later_than_the_start_of_the_oldest_transaction(ledger: Ledger) -> None:
    ledger.refresh()
    with transaction(ledger) as writer:
        writer.execute("SELECT system_now()")
        ((began,),) = writer.fetchall()
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        (row,) = ledger.script(REFRESH)
        assert row["held_back_by"].startswith("a transaction that began")
        assert ledger.watermark() == began - MARGIN
        ledger.fix_now(began)
        writer.execute(LATE_EVENT)  # dated at the start of its transaction
        writer.execute("COMMIT")
        ledger.compare_all()
    assert ledger.unusable() is None
    ledger.refresh()
    ledger.compare_all()


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
    with closing(psycopg2.connect(ledger.server.url(ledger.name))) as raw, raw.cursor() as writer:
        raw.autocommit = True
        for statement in beginning.split("; "):
            writer.execute(statement)
        ledger.fix_now(datetime.now(UTC) + timedelta(days=2))
        try:
            (row,) = ledger.script(REFRESH)
        finally:
            writer.execute(ending)
    assert row["watermark"] == "2024-11-20 10:05:00+00"
    assert row["held_back_by"] == "a prepared transaction, or a session with track_activities off"
    ledger.compare_all()


def test_an_event_written_with_a_clock_that_was_set_back_during_a_refresh_is_not_lost(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.fix_now(NOW + timedelta(hours=3))
    ledger.refresh(1)  # plans 13:05, sums nothing more
    with transaction(ledger, "SELECT usage_sums.refresh()") as refresher:
        ledger.fix_now(NOW)
        ledger.execute(LATE_EVENT)
        refresher.execute("COMMIT")
    assert ledger.watermark() == NOW + timedelta(hours=3) - MARGIN
    assert ledger.unusable() == "the clock was set back, or a column had another name"
    ledger.compare_all()
    ledger.refresh(3)
    assert (ledger.unusable(), ledger.watermark()) == (None, NOW - MARGIN)
    ledger.compare_all()


@pytest.mark.parametrize("zone", ["Etc/GMT-14", "Etc/GMT+12"])
def test_the_time_zone_of_the_session_does_not_change_the_sums(ledger: Ledger, zone: str) -> None:
    ledger.execute("SET TimeZone = %s", (zone,))
    try:
        ledger.refresh()
        ledger.execute(OLD_EVENT)
        ledger.refresh()
    finally:
        ledger.execute("RESET TimeZone")
    ledger.compare_all()
    assert ledger.script(CHECK) == []


def test_a_refresh_and_the_deletion_of_an_account_do_not_wait_for_each_other(ledger: Ledger) -> None:
    ledger.refresh()
    with transaction(ledger, f"SET lock_timeout = '10s'; DELETE FROM public.accounts WHERE id = '{NOVA}'") as remover:
        ledger.execute("SET lock_timeout = '10s'; SELECT usage_sums.refresh(); RESET lock_timeout")
        with transaction(ledger, "SET lock_timeout = '10s'; SELECT usage_sums.refresh()") as refresher:
            remover.execute("COMMIT")
            ledger.execute(f"DELETE FROM public.accounts WHERE id = '{ORBIT}'")
            refresher.execute("COMMIT")
    ledger.compare_all()
    ledger.refresh()
    assert ledger.execute("SELECT FROM usage_sums.days") == []
    ledger.compare_all()


def test_two_refreshes_follow_each_other_and_one_that_is_killed_changes_nothing(ledger: Ledger) -> None:
    ledger.refresh(1)
    with transaction(ledger, "SELECT usage_sums.refresh()") as first:
        killed = psycopg2.connect(f"{ledger.server.url(ledger.name)}&application_name=killed")
        with closing(killed), killed.cursor() as cursor:

            def refresh() -> None:
                with suppress(psycopg2.OperationalError):
                    cursor.execute("SELECT usage_sums.refresh()")

            thread = threading.Thread(target=refresh)
            thread.start()
            waiting = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'killed' AND wait_event_type = 'Lock'"
            )
            eventually(lambda: ledger.execute(waiting), "the second refresh to wait")
            thread.join(PATIENCE_S)
        first.execute("ROLLBACK")
    assert ledger.watermark() == NEVER
    ledger.compare_all()
    ledger.refresh()
    assert ledger.watermark() == NOW - MARGIN
    ledger.compare_all()


def test_an_event_of_an_account_that_does_not_exist_is_in_the_sums(ledger: Ledger) -> None:
    ledger.refresh()
    nobody = UUID(int=1)
    with foreign_keys_bypassed(ledger):
        ledger.event(nobody, 10**6, NOW - timedelta(minutes=1))
        ledger.event(nobody, 10**6, NOW - timedelta(days=1))
    try:
        for _ in range(2):
            for period in PERIODS:
                body = answered(ledger.sums, ROLLUP, period=period, limit=1)
                assert body["rows"][0]["account_id"] == str(nobody)
                assert body["total_count"] == len(answered(ledger.sums, ROLLUP, period=period)["rows"])
            ledger.fix_now(NOW + timedelta(hours=1))
            ledger.refresh()
            ledger.fix_now(NOW)
    finally:
        ledger.execute("DELETE FROM public.usage_events WHERE account_id = %s", (nobody,))


def test_the_smallest_bigint_is_subtracted(ledger: Ledger) -> None:
    ledger.event(NOVA, -(2**63), NOW - timedelta(hours=1))
    ledger.refresh()
    for as_of in (NOW, NOW - timedelta(hours=2)):
        for name in ("rollup", "days"):
            ledger.compare(name, as_of=as_of.isoformat(), period="daily")
    ledger.execute("DELETE FROM public.usage_events WHERE credits_deducted_cents = %s", (-(2**63),))
    ledger.compare_all()


def test_a_sum_that_no_bigint_holds_leaves_the_sums_unused(ledger: Ledger) -> None:
    ledger.refresh()
    for minutes in (60, 61):
        ledger.event(NOVA, 2**63 - 1, NOW - timedelta(minutes=minutes))
    for _ in range(3):
        ledger.compare_all()
        (row,) = ledger.script(REFRESH)
        assert (row["watermark"], row["held_back_by"]) == (
            "-infinity",
            "a sum of an account exceeds bigint, or a number of events integer",
        )
    ledger.execute("DELETE FROM public.usage_events WHERE credits_deducted_cents = %s", (2**63 - 1,))
    ledger.compare_all()
    ledger.refresh()
    assert ledger.watermark() == NOW - MARGIN
    ledger.compare_all()


def test_a_null_counts_as_0_in_the_sums(ledger: Ledger) -> None:
    null = "ALTER TABLE public.usage_events ALTER credits_deducted_cents {0} NOT NULL, ALTER input_tokens {0} NOT NULL"
    ledger.execute(null.format("DROP"))
    try:
        insert = (
            "INSERT INTO public.usage_events (account_id, created_at, credits_deducted_cents, input_tokens)"
            " VALUES (%s, %s, NULL, NULL)"
        )
        for ago in (1, 2_000):  # after the watermark and before it
            ledger.execute(insert, (NOVA, NOW - timedelta(minutes=ago)))
        ledger.refresh()
        ledger.execute(insert, (NOVA, NOW - timedelta(minutes=2_000)))  # in the ledger
        ledger.compare_all()
        ledger.refresh()
        ledger.compare_all()
    finally:
        ledger.execute("DELETE FROM public.usage_events WHERE credits_deducted_cents IS NULL")
        ledger.execute(null.format("SET"))


@pytest.mark.parametrize(
    ("before", "message"),
    [
        pytest.param("BEGIN ISOLATION LEVEL REPEATABLE READ", "must run READ COMMITTED", id="repeatable read"),
        pytest.param(f"BEGIN; {LATE_EVENT}", "the first in its transaction that writes", id="after a change"),
        pytest.param(
            "SET ROLE refresher", "must see when transactions of other roles began", id="not in pg_read_all_stats"
        ),
        pytest.param(
            "GRANT pg_read_all_stats TO refresher; SET ROLE refresher", "row-level security", id="hidden events"
        ),
        pytest.param(
            "ALTER TABLE usage_sums.keys SET UNLOGGED",
            "cannot be used: a table of the sums is absent or unlogged",
            id="unlogged sums",
        ),
        pytest.param(
            "ALTER TABLE public.usage_events ENABLE TRIGGER usage_sums_insert",
            "cannot be used: a trigger is absent, or not ENABLE ALWAYS",
            id="trigger not always",
        ),
        pytest.param(
            "SET allow_system_table_mods = on; INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)"
            " VALUES (1, 'public.usage_events'::regclass, 'r')",
            "cannot be used: usage_events is a subscriber of logical replication",
            id="subscriber",
        ),
        pytest.param(
            "CREATE PUBLICATION everything FOR ALL TABLES",
            "cannot be used: a publication FOR ALL TABLES would publish the sums",
            id="publication",
        ),
        pytest.param(
            "ALTER TABLE public.usage_events ALTER account_id DROP NOT NULL",
            "cannot be used: a column of usage_events is virtual, or account_id may be null",
            id="nullable account",
        ),
        pytest.param(
            "CREATE DOMAIN public.tag AS text; ALTER DOMAIN public.tag OWNER TO refresher;"
            "ALTER TABLE public.usage_events ADD tag public.tag",
            "cannot be used: a column of usage_events has a type of another role",
            id="type of another role",
        ),
    ],
)
def test_a_refresh_that_could_be_wrong_fails(disposable: Ledger, before: str, message: str) -> None:
    disposable.execute(
        "CREATE ROLE refresher; GRANT USAGE ON SCHEMA usage_sums TO refresher;"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_sums TO refresher;"
        "GRANT ALL ON ALL TABLES IN SCHEMA usage_sums TO refresher; GRANT SELECT ON public.usage_events TO refresher;"
        "CREATE POLICY refresher ON usage_sums.watermark TO refresher USING (true)"
    )
    try:
        disposable.execute(before)
        with pytest.raises(psycopg2.Error, match=message):
            disposable.execute("SELECT usage_sums.refresh()")
        disposable.execute("ROLLBACK; RESET ROLE")
        disposable.compare_all("monthly")
    finally:
        disposable.execute("ROLLBACK; RESET ROLE; DROP OWNED BY refresher CASCADE; DROP ROLE refresher")


def test_a_lost_watermark_is_made_again(disposable: Ledger) -> None:
    disposable.execute("DELETE FROM usage_sums.watermark")
    disposable.compare_all("weekly")
    disposable.refresh()
    assert disposable.unusable() is None
    disposable.compare_all("weekly")


def test_the_check_lists_sums_that_were_changed_by_hand(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.execute(OLD_EVENT)
    assert ledger.script(CHECK) == []
    ledger.execute(
        "UPDATE usage_sums.days SET event_count = 5 WHERE account_id = %s AND day = '2024-11-14';"
        "DELETE FROM usage_sums.keys WHERE day = '2024-11-19' AND model_id = 'small';"
        "UPDATE usage_sums.windows SET account_count = 7 WHERE since = '-infinity'",
        (ORBIT,),
    )
    found = [tuple(row.values()) for row in ledger.script(CHECK)]
    assert [(sums, day) for sums, day, *_ in found] == [
        ("usage_sums.accounts", ""),
        ("usage_sums.days", "2024-11-14"),
        ("usage_sums.keys", "2024-11-19"),
        ("usage_sums.windows", ""),
    ]
    assert found[1] == ("usage_sums.days", "2024-11-14", "1", "6", "1", "6", "5")


def test_the_check_fails_for_a_role_that_cannot_see_all_rows(ledger: Ledger) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"row-level security|permission denied"):
        ledger.server.psql("-c", "SET ROLE credits_reader", "-f", CHECK, database=ledger.name)


# The service


def test_metrics_and_readiness_tell_whether_the_sums_are_used(ledger: Ledger) -> None:
    def told() -> tuple[str, list[str]]:
        lines = ledger.sums.get("/metrics").text.splitlines()
        source = ledger.sums.get("/health/ready").get_json()["spend_source"]
        return source, [line for line in lines if line.startswith("admin_credits_sum")]

    assert told() == (
        "events",
        [
            'admin_credits_sums_usable{reason="nothing is summed yet"} 0',
            "admin_credits_summed_until_seconds -inf",
        ],
    )
    ledger.refresh()
    assert told() == (
        "sums",
        [
            'admin_credits_sums_usable{reason=""} 1',
            f"admin_credits_summed_until_seconds {(NOW - MARGIN).timestamp()}",
        ],
    )


@pytest.mark.parametrize(
    ("before", "source"),
    [
        pytest.param("SELECT 1", "sums", id="installed"),
        pytest.param("REVOKE SELECT ON usage_sums.keys FROM credits_reader", "events", id="no privilege"),
        pytest.param("REVOKE EXECUTE ON FUNCTION usage_sums.cover FROM credits_reader", "events", id="no function"),
        pytest.param("DROP POLICY credits_reader ON usage_sums.days", "events", id="no policy"),
        pytest.param("DROP TABLE usage_sums.accounts", "events", id="no table"),
        pytest.param("DROP TABLE usage_sums.watermark", "events", id="no watermark"),
        pytest.param("DROP FUNCTION usage_sums.columns", "events", id="no helper"),
    ],
)
def test_by_default_the_sums_are_used_if_the_role_can_read_them(disposable: Ledger, before: str, source: str) -> None:
    client = disposable.client("auto")
    assert client.get(ROLLUP).status_code == 200
    disposable.execute(before)
    response = client.get(ROLLUP)
    assert response.status_code == 200
    assert ("/queries/sums/" in response.headers["Link"]) == (source == "sums")
    assert client.get("/health/ready").get_json()["spend_source"] == source


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


# Installation


def test_running_sums_sql_again_makes_the_sums_again(ledger: Ledger) -> None:
    ledger.refresh()
    ledger.server.psql("-f", SQL / "dba" / "sums.sql", database=ledger.name)
    assert ledger.unusable() == CHANGED
    ledger.compare_all()
    (row,) = ledger.script(REFRESH)
    assert row == {"watermark": "2024-11-20 10:05:00+00", "made_again": CHANGED, "held_back_by": ""}
    ledger.compare_all()


def test_sums_sql_replaces_the_tables_of_an_earlier_version(disposable: Ledger) -> None:
    disposable.execute(
        "DROP SCHEMA usage_sums CASCADE;"
        "CREATE TABLE public.usage_sums (account_id uuid REFERENCES public.accounts ON DELETE CASCADE, day date);"
        "CREATE TABLE public.usage_sums_window (edge timestamptz);"
        "CREATE TABLE public.usage_sums_watermark (instant timestamptz);"
        "CREATE FUNCTION public.usage_sums_refresh(date, interval) RETURNS date LANGUAGE sql AS 'SELECT $1'"
    )
    disposable.server.psql("-f", SQL / "dba" / "sums.sql", database=disposable.name)
    (row,) = disposable.script(REFRESH)
    assert row["watermark"] == "2024-11-20 10:05:00+00"
    disposable.compare_all()
