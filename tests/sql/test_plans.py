"""The rows that each query reads with sql/dba/indexes.sql, counted in EXPLAIN ANALYZE on a year of events."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from psycopg2.errors import UniqueViolation
from psycopg2.extensions import connection

from conftest import ADMIN_KEY, CREDITS_COLUMN, ORGANIZATION, SQL, Tables, create_database, key_hash
from model import ONLY
from service.database.snapshot import DECLARE, IDENTIFIERS
from service.periods import PERIOD_DAYS, window_of
from service.queries import load_queries
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

NAME = "plans"
NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)
SOURCES = ("events", "sums")
QUERIES = {source: load_queries(source) for source in SOURCES}
ALL_ROWS = 2**63 - 1
EVENTS = 100_000
ACCOUNTS = 2_000
ADDRESSES = 3  # of each account
# The account with a tenth of all events, and one with few.
HEAVY, LIGHT = UUID(int=1), UUID(int=ACCOUNTS)
LOAD = f"""
    -- do not check foreign keys
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

    SELECT setseed(0.5);
    -- in order of created_at; few accounts have many events and many have few
    INSERT INTO public.usage_events (id, account_id, created_at, credits_deducted_cents)
    SELECT
        n::text,
        pg_temp.account(CASE n % 10 WHEN 0 THEN 1 ELSE 1 + floor({ACCOUNTS} * random() ^ 3)::integer END),
        timestamptz '{NOW}' - ({EVENTS} + 1 - n) * interval '365 days' / {EVENTS},
        n % 100
    FROM generate_series(1, {EVENTS}) AS n;

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
    for script in ("indexes.sql", "sums.sql"):
        server.psql("-f", SQL / "dba" / script, database=NAME)
    tables.fix_now(NOW)
    for _ in range(2):
        tables.execute("SELECT usage_sums.refresh()")
    tables.execute("VACUUM ANALYZE")
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def transaction(year: Tables, server: PostgresServer) -> Iterator[connection]:
    """A transaction of the owner that is rolled back; plan() switches to the service's role."""
    with closing(Tables(server.url(NAME)).connection) as raw:
        raw.autocommit = False
        yield raw


class Plan:
    """The rows that a query read of each table and CTE, in all scans, and the pairs that its joins rejected."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.answered = round(root["Actual Rows"])
        self.rows: Counter[str] = Counter()
        self.cte_rows: Counter[str] = Counter()
        self.mismatches = 0
        self._add(root)

    def _add(self, node: dict[str, Any]) -> None:
        loops = node["Actual Loops"]
        if "Relation Name" in node:
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            # EXPLAIN rounds the average of several loops
            name = node["Relation Name"] if node["Schema"] == "public" else f"sums_{node['Relation Name']}"
            self.rows[name] += round((node["Actual Rows"] + removed) * loops)
        if "CTE Name" in node:
            self.cte_rows[node["CTE Name"]] += round(node["Actual Rows"] * loops)
        self.mismatches += round(node.get("Rows Removed by Join Filter", 0) * loops)
        for child in node.get("Plans", []):
            self._add(child)


def plan(raw: connection, name: str, *, exported: bool = False, source: str = "events", **parameters: object) -> Plan:
    """Run a query as the service's role and return what it read; with ``exported``, through a cursor as for CSV."""
    text = QUERIES[source][name].text
    text = DECLARE.format(name=name, text=text) if exported else text
    setting, declared, statement = text.rpartition("; DECLARE")
    with raw.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE credits_reader; SET LOCAL TimeZone = 'UTC'; {setting}")
        # EXPLAIN would round the average of parallel workers
        cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        unrestricted = {"search": "", "filters": "{}", "only": "", "totals": False}
        parameters = {**unrestricted, **parameters, "credits_column": IDENTIFIERS[CREDITS_COLUMN]}
        cursor.execute(f"EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) {declared.lstrip('; ')}{statement}", parameters)
        (((explained,),),) = cursor.fetchall()
        cursor.execute("RESET ROLE")
    return Plan(explained["Plan"])


def window(period: str) -> dict[str, str]:
    found = window_of(period, NOW)
    return found.parameters(found.previous)


@cache
def counts(year: Tables, period: str, account: UUID | None = None) -> tuple[int, int, int, int]:
    """Return the numbers of events, of accounts with an event, of days with one, and of events after the watermark."""
    (found,) = year.execute(
        "SELECT count(*), count(DISTINCT account_id), "
        "count(DISTINCT (created_at AT TIME ZONE 'UTC')::date), "
        "count(*) FILTER (WHERE created_at >= (SELECT instant FROM usage_sums.watermark)) "
        "FROM public.usage_events WHERE created_at >= %(since)s AND (account_id = %(account)s OR %(all)s)",
        {**window(period), "account": account or UUID(int=0), "all": account is None},
    )
    return found


def spending(
    year: Tables, source: str, period: str, account: UUID | None = None, *, by_day: bool, best: int = ALL_ROWS
) -> Counter[str]:
    """Return the most rows that a query may read: the events of the window, or the sums and the events after them.

    A query of all accounts that is not by day reads the windows of the ``best`` accounts and of those with an event
    after the watermark, in order and by key, and these events twice.
    """
    events, accounts, days, late = counts(year, period, account)
    by_window = not (by_day or account)
    if source == "events":
        return Counter(usage_events=events)
    if not by_window:
        # the events have one key
        return +Counter({"sums_days" if account else "sums_keys": days, "usage_events": late})
    windows = min(accounts, best + 300)  # so few more may be read and sorted
    return Counter(sums_accounts=2 * (windows + late), usage_events=2 * late)


PAGES = [
    pytest.param("weekly", 500, 0, id="largest page of a week"),
    pytest.param("monthly", 100, 500, id="deep page of a month"),
    pytest.param("all", 100, 0, id="first page of all"),
    pytest.param("all", 100, 10**15, id="page past the end"),
]
ACCOUNT = pytest.mark.parametrize("account", [pytest.param(HEAVY, id="many"), pytest.param(LIGHT, id="few")])


@pytest.mark.parametrize(("period", "limit", "offset"), PAGES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_rollup_reads_its_spending_once_and_only_the_accounts_of_the_page(
    year: Tables, transaction: connection, source: str, period: str, limit: int, offset: int
) -> None:
    _, accounts, _, _ = counts(year, period)
    on_page = max(0, min(limit, accounts - offset))
    found = plan(transaction, "credits_rollup", source=source, **window(period), limit=limit, offset=offset)
    assert found.answered == on_page
    most = Counter(accounts=on_page, account_emails=on_page * ADDRESSES)
    assert found.rows <= spending(year, source, period, by_day=False, best=offset + limit) + most
    # a nested loop over the page and its accounts is acceptable
    assert found.mismatches <= limit**2


@pytest.mark.parametrize("period", ["monthly", "all"])
@pytest.mark.parametrize("source", SOURCES)
def test_an_export_reads_all_accounts_and_addresses_once(
    year: Tables, transaction: connection, source: str, period: str
) -> None:
    found = plan(
        transaction, "credits_rollup", exported=True, source=source, **window(period), limit=ALL_ROWS, offset=0
    )
    assert found.answered == counts(year, period)[1]
    everything = Counter(accounts=ACCOUNTS + 2, account_emails=ACCOUNTS * ADDRESSES)
    assert found.rows <= spending(year, source, period, by_day=False) + everything
    assert found.mismatches == 0


@pytest.mark.parametrize("period", ["monthly", "all"])
@pytest.mark.parametrize("source", SOURCES)
def test_counts_and_days_of_all_accounts_read_only_the_window(
    year: Tables, transaction: connection, source: str, period: str
) -> None:
    count = plan(transaction, "credits_rollup_count", source=source, **window(period))
    assert count.rows <= spending(year, source, period, by_day=False)
    days = plan(transaction, "credits_days", source=source, **window(period), account_id="")
    assert days.rows == spending(year, source, period, by_day=True)


@ACCOUNT
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["credits_events_count", "credits_days"])
def test_counts_and_days_of_one_account_read_only_its_rows(
    year: Tables, transaction: connection, name: str, source: str, account: UUID
) -> None:
    for period in PERIOD_DAYS:
        found = plan(transaction, name, source=source, **window(period), account_id=str(account))
        assert found.rows == spending(year, source, period, account, by_day=True), period


@pytest.mark.parametrize("period", ["daily", "weekly", "monthly"])
def test_a_comparison_reads_each_event_of_both_windows_at_most_once(
    year: Tables, transaction: connection, period: str
) -> None:
    edges = window(period)
    events = "SELECT count(*) FROM public.usage_events WHERE created_at >= %(previous_since)s"
    ((both,),) = year.execute(events, edges)
    ((before,),) = year.execute(f"{events} AND created_at < %(previous_until)s", edges)
    page = {"limit": 100, "offset": 0}
    for only in ONLY:
        found = plan(transaction, "credits_changes", **edges, **page, only=only)
        assert found.rows <= Counter(usage_events=both, accounts=100, account_emails=100 * ADDRESSES)
        found = plan(transaction, "credits_changes_count", **edges, only=only)
        assert found.rows <= Counter(usage_events=both)
    keys = {"by": "model", "account_id": ""}
    assert plan(transaction, "credits_breakdown_compared", **edges, **page, **keys).rows <= Counter(usage_events=both)
    accounts = ",".join(str(UUID(int=number)) for number in range(1, 101))
    found = plan(transaction, "credits_rollup_previous", **edges, account_ids=f"{{{accounts}}}")
    assert found.rows <= Counter(usage_events=before)


@pytest.mark.parametrize("account", [pytest.param(None, id="all"), pytest.param(HEAVY, id="many")])
@pytest.mark.parametrize("period", PERIOD_DAYS)
def test_a_breakdown_reads_only_the_events_of_the_window(
    year: Tables, transaction: connection, period: str, account: UUID | None
) -> None:
    keys = {"by": "model", "account_id": str(account or ""), **window(period)}
    events = Counter(usage_events=counts(year, period, account)[0])
    assert plan(transaction, "credits_breakdown", **keys, limit=100, offset=0).rows == events
    assert plan(transaction, "credits_breakdown_count", **keys).rows == events


def test_a_search_reads_every_name_and_address_once_and_the_events_that_it_finds(
    year: Tables, transaction: connection
) -> None:
    everything = Counter(accounts=ACCOUNTS + 2, account_emails=ACCOUNTS * ADDRESSES)
    events = Counter(usage_events=counts(year, "all", LIGHT)[0])
    search = {"search": f"Account {ACCOUNTS}", **window("all")}
    page = plan(transaction, "credits_rollup", **search, limit=100, offset=0)
    assert page.rows <= everything + events + Counter(accounts=1, account_emails=ADDRESSES)
    assert plan(transaction, "credits_rollup_count", **search).rows == everything + events


def test_a_search_in_the_changes_reads_the_events_that_it_finds(year: Tables, transaction: connection) -> None:
    everything = Counter(accounts=ACCOUNTS + 2, account_emails=ACCOUNTS * ADDRESSES)
    edges = {**window("monthly"), "account": LIGHT}
    ((events,),) = year.execute(
        "SELECT count(*) FROM public.usage_events WHERE account_id = %(account)s AND created_at >= %(previous_since)s",
        edges,
    )
    search = {"search": f"Account {ACCOUNTS}", "only": "", **window("monthly")}
    page = plan(transaction, "credits_changes", **search, limit=100, offset=0)
    assert page.rows <= everything + Counter(usage_events=events, accounts=1, account_emails=ADDRESSES)
    count = plan(transaction, "credits_changes_count", **search)
    assert count.rows <= everything + Counter(usage_events=events)


@pytest.mark.parametrize("name", [name for name, query in QUERIES["sums"].items() if query.file.startswith("sums/")])
def test_sums_that_are_not_used_leave_their_ledger_unread(transaction: connection, name: str) -> None:
    with transaction.cursor() as cursor:
        # a row without an event, after which the sums are not used
        cursor.execute("INSERT INTO usage_sums.ledger (sign, event) SELECT 1, NULL FROM generate_series(1, 1000)")
        cursor.execute("ANALYZE usage_sums.ledger")
    choices = {"by": "model", "bucket": "day", "top": 8, "account_ids": f"{{{LIGHT}}}", "account_id": str(LIGHT)}
    given = {**choices, **window("monthly"), "limit": 100, "offset": 0}
    if QUERIES["sums"][name].parameters.get("account_id") == "text":
        given["account_id"] = ""
    assert plan(transaction, name, source="sums", **given).rows["sums_ledger"] == 0


def test_the_filters_of_keys_are_answered_by_the_sums(year: Tables, transaction: connection) -> None:
    keys = {"account_id": "", "by": "provider", "filters": '{"model": "large"}', **window("monthly")}
    for name, more in (
        ("credits_breakdown", {"limit": 100, "offset": 0}),
        ("credits_days", {}),
        ("credits_series", {"bucket": "day", "top": 8, "limit": 20_001}),
    ):
        found = plan(transaction, name, source="sums", **keys, **more)
        assert found.rows == spending(year, "sums", "monthly", by_day=True), name


@pytest.mark.parametrize("name", ["credits_rollup", "credits_rollup_count", "credits_changes", "credits_changes_count"])
def test_with_the_index_of_the_readme_a_filter_reads_only_its_events(transaction: connection, name: str) -> None:
    header = re.sub("^-- *", "", (SQL / "dba" / "indexes.sql").read_text(), flags=re.MULTILINE)
    (index,) = re.findall("CREATE INDEX CONCURRENTLY ON [^;]*coalesce[^;]*;", header)
    with transaction.cursor() as cursor:
        cursor.execute(index.replace(" CONCURRENTLY", ""))
        cursor.execute("UPDATE public.usage_events SET model_id = 'rare' WHERE id IN ('99990', '99980', '99970')")
        cursor.execute("ANALYZE public.usage_events")
    asked = {**window("monthly"), "filters": '{"model": "rare"}', "limit": 100, "offset": 0}
    assert plan(transaction, name, **asked).rows["usage_events"] == 3


@pytest.mark.parametrize("source", SOURCES)
def test_with_the_indexes_of_pg_trgm_the_beginning_of_an_id_reads_only_these_accounts(
    transaction: connection, source: str
) -> None:
    with transaction.cursor() as cursor:
        cursor.execute(
            "CREATE EXTENSION pg_trgm;"
            "CREATE INDEX ON public.accounts USING gin (pg_catalog.lower(name) gin_trgm_ops);"
            "CREATE INDEX ON public.account_emails USING gin (pg_catalog.lower(email) gin_trgm_ops);"
            "INSERT INTO public.accounts (id) VALUES ('3c90c3cc-0d44-4b50-8888-8dd25736052a');"
            # The tables are so small that reading them would be cheaper.
            "SET LOCAL enable_seqscan = off"
        )
    found = plan(transaction, "credits_rollup_count", source=source, search="3c90c3cc", **window("monthly"))
    assert found.rows["accounts"] == 1


@ACCOUNT
@pytest.mark.parametrize(("period", "limit", "offset"), PAGES)
def test_a_page_of_events_stops_at_its_last_row(
    year: Tables, transaction: connection, account: UUID, period: str, limit: int, offset: int
) -> None:
    events, _, _, _ = counts(year, period, account)
    asked = {**window(period), "account_id": str(account), "sort": "created_at"}
    found = plan(transaction, "credits_events", **asked, limit=limit, offset=offset)
    assert found.answered == max(0, min(limit, events - offset))
    # the incremental sort also reads the first row of the next instant
    assert found.rows <= Counter(usage_events=min(events, offset + limit + 1))


@ACCOUNT
def test_a_page_of_events_by_credits_reads_only_the_events_of_the_account_in_the_window(
    year: Tables, transaction: connection, account: UUID
) -> None:
    events, _, _, _ = counts(year, "monthly", account)
    asked = {**window("monthly"), "account_id": str(account), "sort": "credits"}
    found = plan(transaction, "credits_events", **asked, limit=100, offset=0)
    assert (found.answered, found.rows) == (min(100, events), Counter(usage_events=events))


@pytest.mark.parametrize(
    ("ago", "days", "events"),
    [
        pytest.param(6, "false", "created_at BETWEEN %(end)s AND instant", id="after the end of the window"),
        pytest.param(
            72,
            "day >= %(since)s AND day <= %(end)s::date",
            "created_at >= %(end)s AND created_at < date_trunc('day', %(end)s, 'UTC') + interval '1 day'",
            id="days, less the evening of the last",
        ),
        pytest.param(
            84,
            "day >= %(since)s AND day < %(end)s::date",
            "created_at >= date_trunc('day', %(end)s, 'UTC') AND created_at < %(end)s",
            id="days and the morning of the last",
        ),
    ],
)
def test_a_pinned_rollup_reads_the_events_between_its_end_and_the_watermark_or_the_days_before(
    transaction: connection, ago: int, days: str, events: str
) -> None:
    end = NOW - timedelta(hours=ago)
    pinned = window_of("monthly", NOW, end).parameters(None)
    with transaction.cursor() as cursor:
        cursor.execute(
            f"SELECT (SELECT count(*) FROM usage_sums.days WHERE {days}),"
            f" (SELECT count(*) FROM public.usage_events WHERE {events}) FROM usage_sums.watermark",
            {"since": pinned["since"], "end": end},
        )
        ((summed, counted),) = cursor.fetchall()
    found = plan(transaction, "credits_rollup", source="sums", **pinned, limit=1, offset=0)
    assert found.rows["sums_days"] == summed
    assert counted <= found.rows["usage_events"] <= 2 * counted


def test_a_page_from_the_sums_looks_each_account_up_once_however_many_events_are_expected(
    transaction: connection,
) -> None:
    with transaction.cursor() as cursor:
        # as with two thousand million events; the same as more accounts
        cursor.execute(
            "UPDATE pg_catalog.pg_class SET reltuples = reltuples * 20000 WHERE oid = 'public.usage_events'::regclass;"
            "SET LOCAL work_mem = '64kB'; SET LOCAL hash_mem_multiplier = 1;"
            # the sums stay usable
            "UPDATE usage_sums.watermark SET token = usage_sums.token();"
            "UPDATE usage_sums.watermark SET written_by = xmin"
        )
        cursor.execute(
            "SELECT count(DISTINCT account_id) FROM public.usage_events"
            " WHERE created_at >= (SELECT instant FROM usage_sums.watermark) - interval '23 hours'"
            " AND created_at < (SELECT instant FROM usage_sums.watermark)"
        )
        ((moved,),) = cursor.fetchall()
    pinned = window_of("monthly", NOW, NOW - timedelta(hours=23)).parameters(None)
    found = plan(transaction, "credits_rollup", source="sums", **pinned, limit=100, offset=0)
    assert 0 < found.cte_rows["moved"] <= 2 * moved


def test_a_window_newer_than_the_statistics_is_read_by_the_account(year: Tables, transaction: connection) -> None:
    with transaction.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_sums.windows (since, until, account_count) VALUES ('2026-11-02', 'infinity', 1)"
            " RETURNING window_id"
        )
        ((window_id,),) = cursor.fetchall()
        cursor.execute(
            "INSERT INTO usage_sums.accounts (window_id, account_id, event_count, credits_deducted_cents)"
            " SELECT %s, account_id, 1, 1 FROM usage_sums.days WHERE day >= '2026-11-02' GROUP BY account_id",
            (window_id,),
        )
    since = {"since": "2026-11-02 00:00:00+00", "until": NOW}
    found = plan(transaction, "credits_rollup", source="sums", **since, limit=1, offset=0)
    assert 0 < found.rows["sums_accounts"] < 100


def test_grants_of_one_account_read_only_its_rows(transaction: connection) -> None:
    found = plan(transaction, "credits_grants", **window("monthly"), account_id=str(HEAVY))
    assert (found.answered, found.rows) == (1, Counter(credit_grants=1))


def test_a_key_and_its_membership_are_found_by_index(transaction: connection) -> None:
    for digest, keys, memberships in (
        (key_hash(ADMIN_KEY), 1, 1),
        ("c4ca4238a0b923820dcc509a6f75849b", 1, 0),  # md5('1'), not an admin's
        ("unknown", 0, 0),
    ):
        found = plan(transaction, "caller", key_hash=digest, organization_id=str(ORGANIZATION))
        assert found.rows == +Counter(account_api_keys=keys, account_organization_ids=memberships)


def test_a_day_newer_than_the_statistics_is_read_alone(transaction: connection) -> None:
    tomorrow = NOW + timedelta(days=1)
    with transaction.cursor() as cursor:
        cursor.execute(
            "INSERT INTO public.usage_events (id, account_id, created_at) "
            "SELECT 'new ' || n, lpad(to_hex(1 + n), 32, '0')::uuid, %s FROM generate_series(0, 1499) AS n",
            (tomorrow,),
        )
    day = window_of("daily", tomorrow + timedelta(microseconds=1)).parameters(None)
    found = plan(transaction, "credits_rollup", **day, limit=100, offset=0)
    assert found.rows <= Counter(usage_events=1_500, accounts=100, account_emails=100 * ADDRESSES)
    found = plan(transaction, "credits_rollup", exported=True, **day, limit=ALL_ROWS, offset=0)
    assert (found.rows["usage_events"], found.mismatches) == (1_500, 0)
    assert plan(transaction, "credits_rollup_count", **day).rows == Counter(usage_events=1_500)


def test_without_statistics_a_rollup_reads_only_the_accounts_of_the_page(year: Tables, transaction: connection) -> None:
    with transaction.cursor() as cursor:
        cursor.execute(
            "DELETE FROM pg_catalog.pg_statistic "
            "WHERE starelid IN ('public.accounts'::regclass, 'public.account_emails'::regclass)"
        )
    found = plan(transaction, "credits_rollup", **window("weekly"), limit=500, offset=0)
    most = Counter(accounts=500, account_emails=500 * ADDRESSES)
    assert found.rows <= spending(year, "events", "weekly", by_day=False) + most


def test_indexes_sql_stops_at_an_invalid_index(server: PostgresServer, year: Tables) -> None:
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
