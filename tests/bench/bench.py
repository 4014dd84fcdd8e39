"""What an answer costs, `make bench`: the service beside its own SQL in psql, and beside what one could do instead.

Everything runs on this machine: a private PostgreSQL with skewed data of a chosen size, gunicorn before it, clients.
What is compared is measured in turn, in one run; times are in milliseconds. Progress goes to standard error, the report
to standard output and into a file of docs/. Interrupted, it prints what it has and writes no file.
"""

import argparse
import math
import os
import platform
import re
import shlex
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg2
from psycopg2.extensions import connection, parse_dsn

from load import PATIENCE, ROOT, Client, Psql, Rate, Served, pgbench, request_of
from service.embedded.demo import ADMIN, ADMIN_KEY, ORGANIZATION, READER, SQL, TOP_SPENDER, key_hash, load_demo
from service.embedded.postgres import STOP_SIGNALS, PostgresServer
from service.periods import window_of
from service.queries import load_query
from service.snapshot import BEGIN, ROLLBACK
from test_plans import Plan

QUERIES, DAILY = SQL / "queries", SQL / "queries" / "daily"
PERIODS = ("daily", "weekly", "monthly", "all")
DATABASE = "bench"
DAYS = 365
LIMITS = (20, 100, 500)
CLIENTS = (1, 8, 32)
PASSES = 5  # over all phases of load; the median counts
FEWEST_ROUNDS = 5
PATIENCE_S = 10  # with the rounds of one line of a table, when they are more than the fewest
FETCHED_ROWS, FETCHED_AT_MOST = 1_000, 200_000
COUNTED_ACCOUNTS = (1_000, 10_000, 100_000)
FASTER = {"all": 20, "monthly": 2}  # how many times the rollup from closed days is to be
OPTIONS = {
    "shared_buffers": f"{min(psutil.virtual_memory().total // 4, 2**31) // 2**20}MB",
    "max_wal_size": "8GB",
}

SEED = """
-- without the check of every foreign key
SET session_replication_role = replica;
SET maintenance_work_mem = '512MB';
CREATE FUNCTION pg_temp.account (rank integer) RETURNS uuid LANGUAGE sql IMMUTABLE
AS 'SELECT md5(''account '' || rank)::uuid';

INSERT INTO public.accounts (id, name)
SELECT pg_temp.account(n), 'Account ' || n FROM generate_series(1, {accounts}) AS n
UNION ALL VALUES ('{admin}'::uuid, 'The admin'), ('{organization}', 'The platform');
INSERT INTO public.account_api_keys (name, account, key_hash) VALUES ('The key', '{admin}', '{key_hash}');
INSERT INTO public.account_organization_ids (account_id, organization_id) VALUES ('{admin}', '{organization}');
INSERT INTO public.account_emails (account_id, email, updated_at)
SELECT pg_temp.account(n), format('%s@%s.example', k, n), timestamptz '2026-01-01' + k * interval '1 day'
FROM generate_series(1, {accounts}) AS n, generate_series(1, 2) AS k;

-- indexes are faster made than kept
ALTER TABLE public.usage_events DROP CONSTRAINT usage_events_pkey;
DROP INDEX public.usage_events_account_id_created_at_idx, public.usage_events_model_id_idx;

-- in the order in which they happened; the account and the credits of an event are hashes of its number
INSERT INTO public.usage_events (id, account_id, created_at, credits_deducted_cents)
SELECT
    'evt_' || event.n,
    -- Zipf: the k-th account has a share in proportion to 1 / k, near enough
    pg_temp.account(floor(exp(
        (hashint8extended(event.n, 8) & 9007199254740991) / 9007199254740992.0::float8 * ln({accounts} + 1)
    ))::integer),
    today.midnight - ({days} - 1 - floor(event.day)) * interval '1 day' + (event.day - floor(event.day))
    * CASE WHEN event.day >= {days} - 1 THEN now() - today.midnight ELSE interval '1 day' END,
    1 + abs(hashint8extended(event.n, 9) % 200)
FROM (SELECT n, (n - 0.5)::float8 / {events} * {days} AS day FROM generate_series(1, {events}) AS n) AS event
CROSS JOIN (SELECT date_trunc('day', now(), 'UTC') AS midnight) AS today;

ALTER TABLE public.usage_events ADD PRIMARY KEY (id);
CREATE INDEX usage_events_account_id_created_at_idx ON public.usage_events (account_id, created_at);
CREATE INDEX usage_events_model_id_idx ON public.usage_events (model_id) WHERE model_id IS NOT NULL;
"""
# pgbench's 32 clients, the pools, psql and us
ROOM = f"ALTER ROLE {READER} CONNECTION LIMIT 90"
ACCOUNT_EVENTS = """
SELECT account_id::text, count(*) FROM public.usage_events GROUP BY account_id ORDER BY count(*) DESC, account_id ASC
"""
ACCOUNT_DAYS = """
SELECT count(*)
FROM (SELECT FROM public.usage_events GROUP BY account_id, (created_at AT TIME ZONE 'UTC')::date) AS account_day
"""
IN_WINDOW = "SELECT count(*), count(DISTINCT account_id) FROM public.usage_events WHERE created_at >= %(since)s"
FETCH = """
SELECT account_id, credits_deducted_cents FROM public.usage_events
ORDER BY created_at DESC, id COLLATE "C" DESC LIMIT %s OFFSET %s
"""
# As if it had not been closed yet.
OPEN_DAY = """
BEGIN;
UPDATE public.usage_sums_total AS total
SET credits_deducted_cents = total.credits_deducted_cents - closed.credits_deducted_cents,
    event_count = total.event_count - closed.event_count
FROM public.usage_sums AS closed
WHERE closed.account_id = total.account_id AND closed.day = '{day}';
DELETE FROM public.usage_sums_total WHERE event_count = 0;
DELETE FROM public.usage_sums WHERE day = '{day}';
UPDATE public.usage_sums_watermark SET day = '{day}';
COMMIT;
VACUUM public.usage_sums, public.usage_sums_total;
"""
SCAN_DAY = """
SELECT account_id, sum(credits_deducted_cents), count(*) FROM public.usage_events
WHERE created_at >= timestamptz '{day} 00:00:00Z' AND created_at < timestamptz '{day} 00:00:00Z' + interval '1 day'
GROUP BY account_id;
"""
REFRESH = "\\i sql/dba/sums_refresh.sql"
IN_SINCE_UNTIL = """created_at >= :'since'::timestamptz
    AND (created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')"""
COUNTS = {
    "groups": f"""
SELECT count(*)
FROM (SELECT account_id FROM public.usage_events WHERE {IN_SINCE_UNTIL} GROUP BY account_id) AS spenders;
""",
    "count(DISTINCT)": f"SELECT count(DISTINCT account_id) FROM public.usage_events WHERE {IN_SINCE_UNTIL};",
    "loose index scan": f"""
WITH RECURSIVE spender AS (
    (SELECT account_id FROM public.usage_events ORDER BY account_id ASC LIMIT 1)
    UNION ALL
    SELECT (
        SELECT account_id FROM public.usage_events
        WHERE account_id > spender.account_id ORDER BY account_id ASC LIMIT 1
    ) FROM spender WHERE spender.account_id IS NOT NULL
)
SELECT count(*) FROM spender
WHERE EXISTS (SELECT FROM public.usage_events WHERE account_id = spender.account_id AND {IN_SINCE_UNTIL});
""",
    "semi-join": f"""
SELECT count(*) FROM public.accounts
WHERE EXISTS (SELECT FROM public.usage_events WHERE account_id = accounts.id AND {IN_SINCE_UNTIL});
""",
}

Sample = list[float]


class Interrupted(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        self.exit_status = 128 + number


@dataclass
class Report:
    """Markdown, as far as it has come."""

    lines: list[str] = field(default_factory=list)
    targets: list[tuple[str, ...]] = field(default_factory=list)

    def say(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self.lines += ["", paragraph]

    def table(self, *columns: str) -> None:
        """Begin a table: text in the first column, figures in the others."""
        self.lines += ["", f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]

    def row(self, *cells: str | int) -> None:
        text = " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells)
        self.lines.append(f"| {text} |")
        progress(text)

    def target(self, what: str, measured: float, *, at_least: float = 0, at_most: float = math.inf) -> None:
        wanted = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
        met = "met" if at_least <= measured <= at_most else "**missed**"
        self.targets.append((what, wanted, f"{measured:.2f}", met))

    def text(self) -> str:
        """Return all of it, the targets last."""
        if self.targets:
            self.say("## Targets")
            self.table("target", "wanted", "measured", "")
            while self.targets:
                self.row(*self.targets.pop(0))
        return "\n".join(self.lines).lstrip() + "\n"


@dataclass(frozen=True)
class Ask:
    """A request to the service, and the query files that answer it, with their parameters."""

    path: str
    files: tuple[Path, ...]
    parameters: Mapping[str, str]

    def request(self) -> bytes:
        return request_of(self.path, x_api_key=ADMIN_KEY)

    def psql(self) -> str:
        """Return what psql runs to do the same: the files, in the service's transaction."""
        variables = [f"\\set {name} '{value}'" for name, value in self.parameters.items()]
        first, *others = self.files
        files = [first.read_text(), *(f"\\i {file.relative_to(ROOT)}" for file in others)]
        return "\n".join([*variables, begin(), *files, f"{ROLLBACK};"])

    def pgbench(self, raw: connection) -> str:
        """Return the same for pgbench: what the service sends."""
        with raw.cursor() as cursor:
            texts = [cursor.mogrify(load_query(file).text, self.parameters).decode() for file in self.files]
        return "\n".join([begin(), *texts, f"{ROLLBACK};\n"])


def begin() -> str:
    """Return the service's BEGIN and SET LOCALs; the backslashes make them one message with the query that follows."""
    return f"{BEGIN.strip()};".replace(";", "\\;") % {"milliseconds": PATIENCE["STATEMENT_TIMEOUT_MS"]}


def window(period: str) -> dict[str, str]:
    return window_of(period, datetime.now(UTC)).parameters()


def ask(path: str, period: str, *files: Path, **parameters: str) -> Ask:
    caller = {"key_hash": key_hash(ADMIN_KEY), "organization_id": str(ORGANIZATION)}
    return Ask(path, (QUERIES / "caller.sql", *files), {**window(period), **caller, **parameters})


def ask_rollup(period: str, limit: int, page: int, accounts: int, folder: Path = QUERIES) -> Ask:
    """Ask for a page of the rollup of so many accounts; the last, shorter one is not counted by the service."""
    offset = (page - 1) * limit
    names = ("credits_rollup",) if 0 < accounts - offset < limit else ("credits_rollup", "credits_rollup_count")
    return ask(
        f"/api/admins/credits/rollup?period={period}&limit={limit}&page={page}",
        period,
        *(folder / f"{name}.sql" for name in names),
        limit=str(limit),
        offset=str(offset),
    )


def ask_events(account: str, events: int, period: str, limit: int = 100) -> Ask:
    """Ask for the first page of an account's events, of which there are so many in the window."""
    names = ("credits_events",) if events < limit else ("credits_events", "credits_events_count")
    return ask(
        f"/api/admins/credits/events?account_id={account}&period={period}&limit={limit}",
        period,
        *(QUERIES / f"{name}.sql" for name in (*names, "credits_grants")),
        account_id=account,
        limit=str(limit),
        offset="0",
    )


def ask_days(period: str, account: str = "") -> Ask:
    """Ask for the days of a period, of one account or of all."""
    path = f"/api/admins/credits/days?period={period}{f'&account_id={account}' if account else ''}"
    today = str(datetime.now(UTC).date())
    return ask(path, period, QUERIES / "credits_days.sql", account_id=account, last_day=today)


@dataclass(frozen=True)
class Bench:
    """What every section works with."""

    server: PostgresServer
    folder: Path
    report: Report
    events: int
    accounts: int
    seconds: int
    rounds: int

    def url(self, database: str = DATABASE) -> str:
        return self.server.url(database, user=READER)

    def psql(self, database: str = DATABASE, user: str = READER) -> closing[Psql]:
        return closing(Psql(self.server, database, user))

    @contextmanager
    def reader(self, database: str = DATABASE) -> Iterator[connection]:
        with closing(psycopg2.connect(self.url(database))) as raw:
            raw.autocommit = True
            yield raw

    def compare(self, *ways: Callable[[], float]) -> list[Sample]:
        """Time several ways in turn, so that what else the machine does meets them all; each returns milliseconds."""
        for way in ways:
            way()
        samples: list[Sample] = [[] for _ in ways]
        started = time.monotonic()
        for done in range(self.rounds):
            if done >= FEWEST_ROUNDS and time.monotonic() > started + PATIENCE_S:
                break
            for sample, way in zip(samples, ways, strict=True):
                sample.append(way())
        return samples


@dataclass(frozen=True)
class Data:
    """What lies in a database: accounts with their events, most first; events and accounts in each period's window."""

    spenders: list[tuple[str, int]]
    windows: dict[str, tuple[int, int]]


median = statistics.median


def cell(sample: Sample) -> str:
    """Return the median and, in brackets, p95: the least value that 95 of 100 do not exceed."""
    return f"{figure(median(sample))} ({figure(sorted(sample)[math.ceil(len(sample) * 0.95) - 1])})"


def figure(number: float) -> str:
    """Return a number with three digits or more."""
    return f"{number:,.{2 if number < 10 else 1 if number < 100 else 0}f}"


def progress(text: str) -> None:
    elapsed_s = time.time() - psutil.Process().create_time()
    print(f"[{elapsed_s:4.0f} s] {text}", file=sys.stderr, flush=True)


def seed(bench: Bench, database: str, accounts: int) -> None:
    """Make a database of production's shape and fill it."""
    owner = partial(bench.server.psql, database=database)
    progress(f"seeding {bench.events:,} events of {accounts:,} accounts")
    bench.server.psql("-c", f"CREATE DATABASE {database}")
    for script in (*sorted((SQL / "schema").glob("*.sql")), SQL / "dba" / "reader_role.sql"):
        owner("-f", script)
    names = {"admin": ADMIN, "organization": ORGANIZATION, "key_hash": key_hash(ADMIN_KEY)}
    owner("-c", SEED.format(events=bench.events, accounts=accounts, days=DAYS, **names))
    progress("making the indexes of sql/dba/indexes.sql")
    owner("-f", SQL / "dba" / "indexes.sql")
    owner("-c", "VACUUM ANALYZE")
    owner("-c", f"{ROOM} PASSWORD '{bench.server.password}'")


def look(bench: Bench, database: str = DATABASE) -> Data:
    """Look at what lies in a database."""
    progress(f"looking at what lies in {database}")
    with bench.reader(database) as raw, raw.cursor() as cursor:
        cursor.execute(ACCOUNT_EVENTS)
        spenders = cursor.fetchall()
        windows = {}
        for period in PERIODS:
            cursor.execute(IN_WINDOW, window(period))
            ((events, accounts),) = cursor.fetchall()
            windows[period] = (events, accounts)
    return Data(spenders, windows)


def describe_data(bench: Bench) -> None:
    """State how the events are distributed."""
    data = look(bench)
    with bench.reader() as raw, raw.cursor() as cursor:
        cursor.execute(ACCOUNT_DAYS)
        ((account_days,),) = cursor.fetchall()
    counts = [events for _, events in data.spenders]
    heaviest = sum(counts[: max(1, bench.accounts // 100)]) / bench.events
    windows = "; ".join(f"`{period}` {events:,} of {accounts:,}" for period, (events, accounts) in data.windows.items())
    bench.report.say(
        f"Data: {bench.events:,} events in {DAYS} days, as many on each, today's between midnight and the seeding. "
        "Zipf's law: of the accounts, the k-th has a share in proportion to 1 / k, so that the first 1 % have "
        f"{heaviest:.0%} of the events, the first alone {counts[0] / bench.events:.1%} and the median one "
        f"{counts[len(counts) // 2]:,} events. {account_days:,} account-days with {bench.events / account_days:.1f} "
        f"events each. Events and accounts in the windows: {windows}."
    )


def latency(bench: Bench) -> None:
    """Every kind of request beside its own SQL and, for the rollup, beside the fetching of all its events."""
    report, data = bench.report, look(bench)
    fetched = fetch_and_sum(bench, data)
    asks = {
        f"rollup {period}, {limit} rows": (events, ask_rollup(period, limit, 1, accounts), fetched[period])
        for period, (events, accounts) in data.windows.items()
        for limit in LIMITS
    }
    events, accounts = data.windows["monthly"]
    page = max(1, accounts // 200)
    asks[f"rollup monthly, 100 rows, page {page}"] = (events, ask_rollup("monthly", 100, page, accounts), "")
    for kind, (account, own) in {"first": data.spenders[0], "median": data.spenders[len(data.spenders) // 2]}.items():
        asks[f"events all, 100 rows, {kind} account"] = (own, ask_events(account, own, "all"), "")
        asks[f"days all, {kind} account"] = (own, ask_days("all", account), "")
    asks["days monthly"] = (events, ask_days("monthly"), "")
    report.say(
        "## One request at a time",
        "Medians and, in brackets, p95, in milliseconds. *psql*: the same statements in the same transaction (key, "
        "page, count where the service counts) in one psql session, each from being sent to its last row. *Fetch and "
        f"sum*: the window's events in pages of {FETCHED_ROWS:,} rows, newest first, summed by the client.",
    )
    report.table("request", "events", "endpoint", "psql", "endpoint / psql", "fetch and sum")
    with Served(bench.url()) as service, bench.psql() as psql, closing(Client(service.port)) as client:
        service.load(next(iter(asks.values()))[1].request(), 0.5, 8)
        for label, (events, asked, fetching) in asks.items():
            http, sql = bench.compare(partial(client.ask, asked.request()), partial(psql.time, asked.psql()))
            ratio = median(http) / median(sql)
            report.row(label, events, cell(http), cell(sql), f"{ratio:.2f}", fetching)
            if bench.events == 1_000_000 and re.fullmatch("rollup .*, 100 rows", label):
                report.target(f"{label}, endpoint / psql", ratio, at_most=1.25)
        report.say(f"Memory of the service after it: {service.memory()}.")


def fetch_and_sum(bench: Bench, data: Data) -> dict[str, str]:
    """Time what a client without a rollup does, for each period's window.

    Every window ends now: the first events that are fetched for the longest are those of the others.
    """
    progress("fetching and summing")
    pages = {period: -(-events // FETCHED_ROWS) for period, (events, _) in data.windows.items()}
    most = min(max(pages.values()), FETCHED_AT_MOST // FETCHED_ROWS)
    with bench.reader() as raw:
        passes = [fetched_pages(raw, most) for _ in range(FEWEST_ROUNDS)]
    after = [list(times) for times in zip(*passes, strict=True)]
    return {
        period: cell(after[count - 1])
        if count <= most
        else f"about {figure(extrapolated([median(times) for times in after], count) / 1_000)} s (extrapolated)"
        for period, count in pages.items()
    }


def fetched_pages(raw: connection, pages: int) -> Sample:
    """Return the milliseconds until after each page."""
    sums: Counter[str] = Counter()
    times = []
    started = time.perf_counter()
    with raw.cursor() as cursor:
        for page in range(pages):
            cursor.execute(FETCH, (FETCHED_ROWS, page * FETCHED_ROWS))
            for account, credits in cursor:
                sums[account] += credits
            times.append((time.perf_counter() - started) * 1_000)
    return times


def extrapolated(times: Sample, pages: int) -> float:
    """Return the time of so many pages, by least squares: something for each page, and for each page passed over."""
    points = list(enumerate(times, 1))
    squares, cubes, fourths = (sum(n**power for n, _ in points) for power in (2, 3, 4))
    once, twice = (sum(t * n**power for n, t in points) for power in (1, 2))
    linear, quadratic = once * fourths - twice * cubes, squares * twice - cubes * once
    return (linear * pages + quadratic * pages**2) / (squares * fourths - cubes**2)


def load(bench: Bench) -> None:
    """How many requests a second, beside the same SQL in pgbench and a route that does next to nothing."""
    report, seconds = bench.report, bench.seconds
    progress("loading the demo")
    demo_url = load_demo(bench.server, datetime.now(UTC))
    bench.server.psql("-c", ROOM)
    demo = parse_dsn(demo_url)["dbname"]
    of_demo, of_bench = look(bench, demo), look(bench)
    spender = str(TOP_SPENDER)
    asks = {
        "drill-down, 100 rows": (demo, ask_events(spender, dict(of_demo.spenders)[spender], "monthly")),
        "rollup": (demo, ask_rollup("monthly", 100, 1, of_demo.windows["monthly"][1])),
        f"rollup daily, {bench.events:,} events": (DATABASE, ask_rollup("daily", 100, 1, of_bench.windows["daily"][1])),
        f"rollup monthly, {bench.events:,} events": (
            DATABASE,
            ask_rollup("monthly", 100, 1, of_bench.windows["monthly"][1]),
        ),
    }
    with (
        Served(demo_url, "tests.bare:app", probe="/") as bare,
        Served(demo_url) as demo_service,
        Served(bench.url()) as bench_service,
    ):
        ways: dict[str, Callable[[int], Rate]] = {"bare route": partial(bare.load, request_of("/"), seconds)}
        for number, (label, (database, asked)) in enumerate(asks.items()):
            service = demo_service if database == demo else bench_service
            service.load(asked.request(), 0.5, 8)
            ways[label] = partial(service.load, asked.request(), seconds)
            script = bench.folder / f"{number}.sql"
            with bench.reader(database) as raw:
                script.write_text(asked.pgbench(raw))
            ways[f"{label}: pgbench"] = partial(pgbench, bench.server, database, script, seconds)
        rates = loaded(ways)
        memory = f"{demo_service.memory()}; of the bare route: {bare.memory()}"
    report.say(
        "## Requests per second",
        f"Each client asks again as soon as it has its answer; medians of {PASSES} phases of {seconds} s, in turn. "
        "*Bare route*: Flask, `SELECT 1`, the same gunicorn. *pgbench*: the statements that the service sends, by two "
        "threads of pgbench. *Refused*: answered 503. The first lines are of the demo, where a monthly rollup sums "
        "{:,} events of {:,} accounts.".format(*of_demo.windows["monthly"]),
    )
    report.table("", *(f"{clients} client{'s' * (clients > 1)}" for clients in CLIENTS), "refused")
    for label in ways:
        found = [rates[label, clients] for clients in CLIENTS]
        medians = [figure(median([rate.per_second for rate in passes])) for passes in found]
        report.row(label, *medians, sum(rate.refused for passes in found for rate in passes))
    against_pgbench = compared(rates["rollup", 8], rates["rollup: pgbench", 8])
    against_bare = compared(rates["drill-down, 100 rows", 8], rates["bare route", 8])
    report.target("demo, 8 clients: rollup / pgbench", against_pgbench, at_least=0.75)
    report.target("demo, 8 clients: drill-down / bare route", against_bare, at_least=0.25)
    report.say(f"Memory of the service after it: {memory}.")


def loaded(ways: Mapping[str, Callable[[int], Rate]]) -> dict[tuple[str, int], list[Rate]]:
    """Return the rates of each way with each number of clients."""
    rates: dict[tuple[str, int], list[Rate]] = defaultdict(list)
    for turn in range(1, PASSES + 1):
        for clients in CLIENTS:
            for label, way in ways.items():
                rates[label, clients].append(rate := way(clients))
                progress(f"pass {turn} of {PASSES}, {clients} clients, {label}: {figure(rate.per_second)} a second")
    return rates


def compared(rates: list[Rate], others: list[Rate]) -> float:
    """Return the median of the ratios of each pass: what else the machine did then slowed both."""
    return median([rate.per_second / other.per_second for rate, other in zip(rates, others, strict=True)])


def daily(bench: Bench) -> None:
    """The rollup from closed days beside the rollup from events, what each reads, and what closing a day costs."""
    report, windows = bench.report, look(bench).windows
    progress("closing all days")
    bench.server.psql("-f", SQL / "dba" / "sums.sql", database=DATABASE)
    with bench.psql(user="postgres") as owner:
        filled = owner.time(REFRESH)
    bench.server.psql("-c", "VACUUM ANALYZE", database=DATABASE)
    report.say(
        "## From closed days",
        "A first page of 100 accounts with `SPEND_SOURCE=events` and with `SPEND_SOURCE=sums`, in turn: medians and "
        "p95 in milliseconds. Then the rows that the page alone, without the count, reads of each table (from EXPLAIN "
        "ANALYZE), and what one costs in nanoseconds: the median of the page in psql, without parallel workers, by all "
        "these rows.",
    )
    report.table("period", "endpoint, events", "endpoint, daily", "times faster", "psql, events", "psql, daily")
    costs: list[tuple[tuple[str | int, ...], float]] = []
    with (
        Served(bench.url()) as events,
        Served(bench.url(), SPEND_SOURCE="daily") as closed,
        bench.psql() as psql,
        closing(Client(events.port)) as events_client,
        closing(Client(closed.port)) as closed_client,
    ):
        for service in (events, closed):
            service.load(ask_rollup("daily", 100, 1, windows["daily"][1]).request(), 0.5, 8)
        for period, (_, accounts) in windows.items():
            both = [ask_rollup(period, 100, 1, accounts, folder) for folder in (QUERIES, DAILY)]
            samples = bench.compare(
                partial(events_client.ask, both[0].request()),
                partial(closed_client.ask, both[1].request()),
                *(partial(psql.time, asked.psql()) for asked in both),
            )
            faster = median(samples[0]) / median(samples[1])
            report.row(period, *map(cell, samples[:2]), f"{faster:.2f}", *map(cell, samples[2:]))
            if bench.events == 10_000_000 and period in FASTER:
                report.target(f"{period}, daily times faster than events", faster, at_least=FASTER[period])
            costs.append(cost_of_rows(bench, period, [replace(asked, files=asked.files[1:2]) for asked in both]))
    report.table(
        "period",
        "events: events",
        "cost",
        "daily: account-days",
        "accounts",
        "events",
        "cost",
        "daily cost / events cost",
    )
    for cells, ratio in costs:
        report.row(*cells, f"{ratio:.2f}")
        if bench.events == 10_000_000:
            report.target(f"{cells[0]}, cost of a row, daily / events", ratio, at_most=1.5)
    refresh(bench, filled)


def cost_of_rows(bench: Bench, period: str, pages: list[Ask]) -> tuple[tuple[str | int, ...], float]:
    """Return what a page reads from events and from closed days and what a row costs, and how these costs compare."""
    with bench.reader() as raw, bench.psql() as psql:
        from_events, from_days = (reads(raw, page) for page in pages)
        # What is cheaper, not what is given more processors.
        psql.time("SET max_parallel_workers_per_gather = 0;")
        samples = bench.compare(*(partial(psql.time, page.psql()) for page in pages))
    days, totals, events = (from_days[name] for name in ("usage_sums", "usage_sums_total", "usage_events"))
    rows = (from_events["usage_events"], days + totals + events)
    costs = [median(sample) * 1e6 / max(1, count) for sample, count in zip(samples, rows, strict=True)]
    cells = (period, rows[0], figure(costs[0]), days, totals, events, figure(costs[1]))
    return cells, costs[1] / costs[0]


def reads(raw: connection, asked: Ask) -> Counter[str]:
    """Return how many rows of each table the statements of a request read."""
    found: Counter[str] = Counter()
    with raw.cursor() as cursor:
        # two parallel workers could each round a row away
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        for file in asked.files:
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {load_query(file).text}", asked.parameters)
            (((explained,),),) = cursor.fetchall()
            found += Plan(explained["Plan"]).rows
    return found


def refresh(bench: Bench, filled: float) -> None:
    """Close yesterday again and again, beside a plain scan of its events."""
    day = datetime.now(UTC).date() - timedelta(days=1)
    with bench.psql(user="postgres") as owner:

        def close() -> float:
            owner.time(OPEN_DAY.format(day=day))
            return owner.time(REFRESH)

        scanned, refreshed = bench.compare(partial(owner.time, SCAN_DAY.format(day=day)), close)
        (repaired,) = bench.compare(partial(owner.time, f"\\set since {day}\n{REFRESH}"))
    bench.report.table("refresh", "ms")
    bench.report.row("scan of yesterday's events, by account", cell(scanned))
    bench.report.row("refresh that closes yesterday", cell(refreshed))
    bench.report.row("refresh with `since` of yesterday: its sums and all totals anew", cell(repaired))
    bench.report.row(f"first refresh, {DAYS - 1} days", figure(filled))
    if bench.events == 10_000_000:
        ratio = median(refreshed) / median(scanned)
        bench.report.target("refresh of one day / scan of its events", ratio, at_most=25)


def counts(bench: Bench) -> None:
    """Several ways to count the accounts in a window, for few and for many of them."""
    report = bench.report
    forms = {"sql/queries": QUERIES / "credits_rollup_count.sql"}
    for number, (name, text) in enumerate(COUNTS.items()):
        forms[name] = bench.folder / f"count-{number}.sql"
        forms[name].write_text(text)
    report.say(
        "## Ways to count",
        f"How many accounts have one of {bench.events:,} events in a window, in psql: medians and, in brackets, p95, "
        "in milliseconds. The first is the file that the service runs.",
    )
    report.table("accounts, period: in the window", *forms)
    for accounts in COUNTED_ACCOUNTS:
        database = f"counts_{accounts}"
        seed(bench, database, accounts)
        with bench.psql(database) as psql:
            for period in PERIODS:
                edges = [f"{name}={value}" for name, value in window(period).items()]
                variables = [part for edge in edges for part in ("-v", edge)]
                found = {bench.server.psql("-At", *variables, "-f", form, database=database) for form in forms.values()}
                assert len(found) == 1, found
                for edge in edges:
                    psql.time(f"\\set {edge.replace('=', ' ')}")
                samples = bench.compare(*(partial(psql.time, f"\\i '{form}'") for form in forms.values()))
                report.row(f"{accounts:,}, {period}: {int(found.pop()):,}", *map(cell, samples))
        bench.server.psql("-c", f"DROP DATABASE {database} WITH (FORCE)")


SECTIONS: dict[str, Callable[[Bench], None]] = {"latency": latency, "load": load, "daily": daily, "counts": counts}


def describe_machine(bench: Bench) -> None:
    """Say when and where, and with what."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE) or ["processor"]
    kernel = ".".join(platform.release().split(".")[:2])
    packages = ", ".join(f"{name} {version(name)}" for name in ("flask", "gunicorn", "psycopg2-binary"))
    server = bench.server.psql("-At", "-c", "SHOW server_version").split()[0]
    options = ", ".join(f"`{name}={value}`" for name, value in OPTIONS.items())
    patience = ", ".join(f"`{name}={value}`" for name, value in PATIENCE.items())
    arguments = f" ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else ""
    bench.report.say(
        f"# Bench: {bench.events:,} events of {bench.accounts:,} accounts",
        f"`make bench{arguments}`, {datetime.now(UTC):%-d %B %Y, %H:%M} UTC.",
        f"{os.cpu_count()} × {models[0]}, {psutil.virtual_memory().total / 1e9:.0f} GB, Linux {kernel}, load average "
        f"{os.getloadavg()[0]:.2f} before it; PostgreSQL {server} ({options}, durability off), Python "
        f"{platform.python_version()}, {packages}. Clients, service and server share the machine. The service has its "
        f"default settings but for {patience}: here it is to refuse nothing.",
    )


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what an answer costs.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=2, help="length of each phase of load")
    parser.add_argument("--rounds", type=int, default=51, help=f"slow requests have fewer, at least {FEWEST_ROUNDS}")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated; then no file is written")
    parser.add_argument("--output", type=Path, help="by default docs/bench-EVENTS-events.md, when all sections are run")
    found = parser.parse_args(arguments)
    if not found.only and not found.output:
        found.output = ROOT / "docs" / f"bench-{found.events}-events.md"
    return found


def raise_on_signals() -> None:
    def leave(number: int, _: object) -> None:
        # Through every `finally`, which a second signal must not cut short.
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    for number in STOP_SIGNALS:
        signal.signal(number, leave)


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Run the sections that were chosen."""
    chosen = arguments.only or list(SECTIONS)
    # Not the system's own: the server's user must reach it, and there must be room.
    with tempfile.TemporaryDirectory(prefix="admin-credits-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with PostgresServer(folder, options=OPTIONS) as server:
            sizes = (arguments.events, arguments.accounts, arguments.seconds, arguments.rounds)
            bench = Bench(server, folder, report, *sizes)
            describe_machine(bench)
            if chosen != ["counts"]:
                seed(bench, DATABASE, bench.accounts)
                describe_data(bench)
            for section, measure in SECTIONS.items():
                if section in chosen:
                    measure(bench)


def main() -> int:
    """Print the report, return the exit status."""
    arguments, report = parsed(sys.argv[1:]), Report()
    raise_on_signals()
    try:
        run(arguments, report)
    except BaseException as error:
        report.say(f"**Ended early, {type(error).__name__}: this is what had been measured until then.**")
        print(report.text())
        if isinstance(error, Interrupted):
            return error.exit_status
        raise
    text = report.text()
    print(text)
    if arguments.output:
        arguments.output.write_text(text)
        progress(f"written into {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
