"""What the queries read, with sql/dba/indexes.sql: a million events over a year, counted in rows, not in plan nodes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg2.errors import UniqueViolation
from psycopg2.extensions import connection

from conftest import ADMIN_KEY, ORGANIZATION, SQL, Tables, create_database, key_hash
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer
from service.periods import PERIOD_DAYS, window_of
from service.queries import load_queries
from service.snapshot import DECLARE

NAME = "plans"
NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)
QUERIES = {source: load_queries(source=source) for source in ("events", "sums")}
LARGE = ("account_api_keys", "account_emails", "account_organization_ids", "accounts", "usage_events")
EVERY_ROW = 2**63 - 1
ACCOUNTS = 20_000
ADDRESSES = 3  # of each account
# The account with a tenth of all events, and one with few.
HEAVY, LIGHT = UUID(int=1), UUID(int=ACCOUNTS)
LOAD = f"""
    -- without the check of every foreign key
    SET session_replication_role = replica;
    CREATE FUNCTION pg_temp.account (number integer) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS 'SELECT lpad(to_hex(number), 32, ''0'')::uuid';

    INSERT INTO public.accounts (id, name)
    SELECT pg_temp.account(n), 'account ' || n FROM generate_series(1, {ACCOUNTS}) AS n;

    INSERT INTO public.account_emails (account_id, email, updated_at)
    SELECT pg_temp.account(n), format('%s@%s.example', k, n), timestamptz '2026-01-01' + k * interval '1 day'
    FROM generate_series(1, {ACCOUNTS}) AS n, generate_series(1, {ADDRESSES}) AS k;

    INSERT INTO public.account_api_keys (name, account, key_hash)
    SELECT 'key', pg_temp.account(n), md5(n::text) FROM generate_series(1, {ACCOUNTS}) AS n;

    INSERT INTO public.account_organization_ids (account_id, organization_id)
    SELECT pg_temp.account(n), pg_temp.account(1 + n % 100) FROM generate_series(1, {ACCOUNTS}) AS n;

    -- indexes are faster made than kept
    ALTER TABLE public.usage_events DROP CONSTRAINT usage_events_pkey;
    DROP INDEX public.usage_events_account_id_created_at_idx, public.usage_events_model_id_idx;

    SELECT setseed(0.5);
    -- in the order in which they happened, few accounts with many events and many with few
    INSERT INTO public.usage_events (id, account_id, created_at, credits_deducted_cents)
    SELECT
        n::text,
        pg_temp.account(CASE n % 10 WHEN 0 THEN 1 ELSE 1 + floor({ACCOUNTS} * random() ^ 3)::integer END),
        timestamptz '{NOW}' - (1000000 - n) * interval '31.5 seconds',
        n % 100
    FROM generate_series(1, 1000000) AS n;

    ALTER TABLE public.usage_events ADD PRIMARY KEY (id);
    CREATE INDEX usage_events_account_id_created_at_idx ON public.usage_events (account_id, created_at);
    CREATE INDEX usage_events_model_id_idx ON public.usage_events (model_id) WHERE model_id IS NOT NULL;

    INSERT INTO public.credit_grants (account_id, granted_by, reason, remaining_credits, created_at)
    SELECT pg_temp.account(n), pg_temp.account(1), 'grant', n, timestamptz '{NOW}' - n * interval '1 minute'
    FROM generate_series(1, {ACCOUNTS}) AS n;

    SET session_replication_role = origin;
"""


@pytest.fixture(scope="module")
def year(server: PostgresServer) -> Iterator[Tables]:
    create_database(server, NAME)
    tables = Tables(server.url(NAME))
    tables.seed_admin()
    tables.execute(LOAD)
    server.psql("-f", SQL / "dba" / "indexes.sql", database=NAME)
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    tables.fix_now(NOW)
    tables.execute("SET search_path = clock, pg_catalog, public; SELECT public.usage_sums_refresh()")
    tables.execute("VACUUM ANALYZE")
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def transaction(year: Tables, server: PostgresServer) -> Iterator[connection]:
    """A transaction of the owner that is rolled back; plan() switches to the service's role."""
    tables = Tables(server.url(NAME))
    with closing(tables.connection) as raw:
        raw.autocommit = False
        yield raw


class Plan:
    """What a query read: ``rows`` of each table, in all its scans, and how many pairs its joins tried in vain."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.answered = round(root["Actual Rows"])
        self.rows: Counter[str] = Counter()
        self.mismatches = 0
        self._add(root)

    def _add(self, node: dict[str, Any]) -> None:
        loops = node["Actual Loops"]
        if "Relation Name" in node:
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            # of several loops, or parallel workers, the mean is given, rounded
            self.rows[node["Relation Name"]] += round((node["Actual Rows"] + removed) * loops)
        self.mismatches += round(node.get("Rows Removed by Join Filter", 0) * loops)
        for child in node.get("Plans", []):
            self._add(child)


def plan(raw: connection, name: str, *, exported: bool = False, source: str = "events", **parameters: object) -> Plan:
    """Run a query as the service's role and return what it read; ``exported`` as for a CSV file, through a cursor."""
    text = QUERIES[source][name].text
    text = DECLARE.format(name=name, text=text) if exported else text
    setting, declared, statement = text.rpartition("; DECLARE")
    with raw.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE credits_reader; SET LOCAL TimeZone = 'UTC'; {setting}")
        # two parallel workers could each round a row away
        cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {declared.lstrip('; ')}{statement}", parameters)
        (((explained,),),) = cursor.fetchall()
        cursor.execute("RESET ROLE")
    return Plan(explained["Plan"])


def sums_of(raw: connection, period: str, account: UUID | None = None) -> Counter[str]:
    """How much there is to read of a window whose closed days are summed, up to the names."""
    with raw.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM public.usage_sums WHERE day >= (%s::timestamptz AT TIME ZONE 'UTC')::date "
            "AND (account_id = %s OR %s)",
            (window(period)["since"], account or UUID(int=0), account is None),
        )
        ((account_days,),) = cursor.fetchall()
        today, _ = events_of(raw, "daily", account)
        return Counter(usage_sums=account_days, usage_sums_watermark=1, usage_events=today)


def totals_of(raw: connection, period: str) -> Counter[str]:
    """The same for a query that needs no days: without a cutoff there is a total of each account."""
    sums = sums_of(raw, period)
    if period == "all":
        del sums["usage_sums"]
        sums["usage_sums_total"] = events_of(raw, "all")[1]
    return sums


def window(period: str) -> dict[str, str]:
    return window_of(period, NOW).parameters()


def events_of(raw: connection, period: str, account: UUID | None = None) -> tuple[int, int]:
    """How many events, and how many accounts that have one, are in a window."""
    with raw.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), count(DISTINCT account_id) FROM public.usage_events "
            "WHERE created_at >= %s AND (account_id = %s OR %s)",
            (window(period)["since"], account or UUID(int=0), account is None),
        )
        ((events, accounts),) = cursor.fetchall()
        return events, accounts


PAGES = [
    pytest.param(100, 0, id="first page"),
    pytest.param(500, 0, id="longest page"),
    pytest.param(100, 1_500, id="deep page"),
    pytest.param(100, 10**15, id="page past the end"),
]


@pytest.mark.parametrize(("limit", "offset"), PAGES)
@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_a_rollup_reads_the_window_s_events_once_and_looks_up_the_page_s_accounts_alone(
    transaction: connection, period: str, limit: int, offset: int
) -> None:
    events, accounts = events_of(transaction, period)
    on_page = max(0, min(limit, accounts - offset))
    found = plan(transaction, "credits_rollup", **window(period), limit=limit, offset=offset)
    assert found.answered == on_page
    assert found.rows == found.rows & Counter(usage_events=events, accounts=on_page, account_emails=on_page * ADDRESSES)
    # the page against the names found for it, at worst
    assert found.mismatches <= limit**2


@pytest.mark.parametrize(("limit", "offset"), PAGES)
@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_a_rollup_from_sums_reads_them_once_and_today_s_events(
    transaction: connection, period: str, limit: int, offset: int
) -> None:
    _, accounts = events_of(transaction, period)
    on_page = max(0, min(limit, accounts - offset))
    found = plan(transaction, "credits_rollup", source="sums", **window(period), limit=limit, offset=offset)
    assert found.answered == on_page
    most = totals_of(transaction, period) + Counter(accounts=on_page, account_emails=on_page * ADDRESSES)
    assert found.rows == found.rows & most
    assert found.mismatches <= limit**2


def test_a_rollup_from_sums_that_ends_in_a_closed_day_reads_that_day_s_events(transaction: connection) -> None:
    """Without a cutoff the days after it are read too: they are in the totals."""
    end = NOW - timedelta(days=3)
    with transaction.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM public.usage_events WHERE created_at >= date_trunc('day', %(end)s, 'UTC') "
            "AND created_at < %(end)s), (SELECT count(*) FROM public.usage_sums WHERE day >= %(end)s::date)",
            {"end": end},
        )
        ((events, later),) = cursor.fetchall()
    pinned = window_of("all", NOW, end).parameters()
    found = plan(transaction, "credits_rollup", source="sums", **pinned, limit=1, offset=0)
    assert found.rows["usage_events"] == events
    assert found.rows["usage_sums"] == later


@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_what_is_counted_from_sums_reads_them_and_today_s_events(transaction: connection, period: str) -> None:
    found = plan(transaction, "credits_rollup_count", source="sums", **window(period))
    assert found.rows == +totals_of(transaction, period)
    more = {"account_id": "", "last_day": NOW.date()}
    found = plan(transaction, "credits_days", source="sums", **window(period), **more)
    assert found.rows == +sums_of(transaction, period)


@pytest.mark.parametrize("account", [pytest.param(HEAVY, id="many events"), pytest.param(LIGHT, id="few events")])
@pytest.mark.parametrize("period", PERIOD_DAYS)
@pytest.mark.parametrize("name", ["credits_events_count", "credits_days"])
def test_what_is_counted_of_one_account_from_sums_reads_its_own_alone(
    transaction: connection, name: str, period: str, account: UUID
) -> None:
    more = {"last_day": NOW.date()} if name == "credits_days" else {}
    found = plan(transaction, name, source="sums", **window(period), **more, account_id=str(account))
    assert found.rows == +sums_of(transaction, period, account)


@pytest.mark.parametrize("source", ["events", "sums"])
@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_an_export_reads_each_account_and_address_once_at_most_and_compares_no_pair_in_vain(
    transaction: connection, period: str, source: str
) -> None:
    events, accounts = events_of(transaction, period)
    cut = {"limit": EVERY_ROW, "offset": 0}
    found = plan(transaction, "credits_rollup", exported=True, source=source, **window(period), **cut)
    assert found.answered == accounts
    # with the admin and the admin organisation
    everybody = Counter(usage_events=events) if source == "events" else totals_of(transaction, period)
    everybody += Counter(accounts=ACCOUNTS + 2, account_emails=ACCOUNTS * ADDRESSES)
    assert found.rows == found.rows & everybody
    assert found.mismatches == 0


@pytest.mark.parametrize("period", PERIOD_DAYS)
@pytest.mark.parametrize("name", ["credits_rollup_count", "credits_days"])
def test_what_is_counted_over_all_accounts_reads_the_window_s_events_alone(
    transaction: connection, name: str, period: str
) -> None:
    events, _ = events_of(transaction, period)
    more = {"account_id": "", "last_day": NOW.date()} if name == "credits_days" else {}
    expected = Counter(usage_events=events)
    if (name, period) == ("credits_rollup_count", "all"):
        # one event of each account at most, the admin and the admin organisation have none
        expected = Counter(usage_events=ACCOUNTS + 2, accounts=ACCOUNTS + 2)
    assert plan(transaction, name, **window(period), **more).rows == expected


@pytest.mark.parametrize("account", [pytest.param(HEAVY, id="many events"), pytest.param(LIGHT, id="few events")])
@pytest.mark.parametrize("period", PERIOD_DAYS)
@pytest.mark.parametrize("name", ["credits_events_count", "credits_days"])
def test_what_is_counted_of_one_account_reads_its_events_in_the_window_alone(
    transaction: connection, name: str, period: str, account: UUID
) -> None:
    events, _ = events_of(transaction, period, account)
    more = {"last_day": NOW.date()} if name == "credits_days" else {}
    found = plan(transaction, name, **window(period), **more, account_id=str(account))
    assert found.rows == Counter(usage_events=events)


@pytest.mark.parametrize(("limit", "offset"), PAGES)
@pytest.mark.parametrize("account", [pytest.param(HEAVY, id="many events"), pytest.param(LIGHT, id="few events")])
@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_a_page_of_events_reads_down_to_its_last_row_in_the_order_of_the_index(
    transaction: connection, period: str, account: UUID, limit: int, offset: int
) -> None:
    events, _ = events_of(transaction, period, account)
    found = plan(transaction, "credits_events", **window(period), account_id=str(account), limit=limit, offset=offset)
    assert found.answered == max(0, min(limit, events - offset))
    # ties are settled instant by instant, for which the row of the next instant is seen too
    assert found.rows["usage_events"] <= min(events, offset + limit + 1)
    assert set(found.rows) == {"usage_events"}


@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_grants_are_those_of_the_account_alone(transaction: connection, period: str) -> None:
    found = plan(transaction, "credits_grants", **window(period), account_id=str(HEAVY))
    assert (found.answered, found.rows) == (1, Counter(credit_grants=1))


@pytest.mark.parametrize(
    ("digest", "keys", "memberships"),
    [
        pytest.param(key_hash(ADMIN_KEY), 1, 1, id="admin"),
        pytest.param("c4ca4238a0b923820dcc509a6f75849b", 1, 0, id="known"),  # md5('1')
        pytest.param("unknown", 0, 0, id="unknown"),
    ],
)
def test_a_key_is_looked_up_not_searched(transaction: connection, digest: str, keys: int, memberships: int) -> None:
    found = plan(transaction, "caller", key_hash=digest, organization_id=str(ORGANIZATION))
    assert found.rows == +Counter(account_api_keys=keys, account_organization_ids=memberships)


def test_a_day_that_the_statistics_do_not_know_yet_is_read_alone(transaction: connection) -> None:
    tomorrow = NOW + timedelta(days=1)
    with transaction.cursor() as cursor:
        cursor.execute(
            "INSERT INTO public.usage_events (id, account_id, created_at) "
            "SELECT 'new ' || n, lpad(to_hex(1 + n), 32, '0')::uuid, %s FROM generate_series(0, 2499) AS n",
            (tomorrow,),
        )
    day = window_of("daily", tomorrow).parameters()
    found = plan(transaction, "credits_rollup", **day, limit=100, offset=0)
    assert found.rows == found.rows & Counter(usage_events=2_500, accounts=100, account_emails=100 * ADDRESSES)
    found = plan(transaction, "credits_rollup", exported=True, **day, limit=EVERY_ROW, offset=0)
    assert (found.rows["usage_events"], found.mismatches) == (2_500, 0)
    assert plan(transaction, "credits_rollup_count", **day).rows == Counter(usage_events=2_500)


def test_the_page_s_accounts_are_looked_up_alone_without_any_statistics(transaction: connection) -> None:
    with transaction.cursor() as cursor:
        cursor.execute(
            "DELETE FROM pg_catalog.pg_statistic "
            "WHERE starelid IN ('public.accounts'::regclass, 'public.account_emails'::regclass)"
        )
    found = plan(transaction, "credits_rollup", **window("daily"), limit=500, offset=0)
    events, _ = events_of(transaction, "daily")
    assert found.rows == found.rows & Counter(usage_events=events, accounts=500, account_emails=500 * ADDRESSES)


def test_the_leftover_of_a_cancelled_build_stops_the_script_of_the_indexes(
    server: PostgresServer, year: Tables
) -> None:
    script = SQL / "dba" / "indexes.sql"
    built = "SELECT count(*) FROM pg_class WHERE relname = 'account_api_keys_key_hash_idx'"
    year.execute("DROP INDEX public.account_api_keys_key_hash_idx")
    try:
        with pytest.raises(UniqueViolation):
            year.execute("CREATE UNIQUE INDEX CONCURRENTLY leftover ON public.account_emails (account_id)")
        with pytest.raises(EmbeddedPostgresError, match="stopped: there are INVALID indexes, listed above"):
            server.psql("-f", script, database=NAME)
        assert year.execute(built) == [(0,)]
    finally:
        year.execute("DROP INDEX public.leftover")
        server.psql("-f", script, database=NAME)
    assert year.execute(built) == [(1,)]
