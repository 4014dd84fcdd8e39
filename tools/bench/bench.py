"""Measure what an answer costs: `make bench`.

A private PostgreSQL with data of a chosen size, gunicorn and the clients share this machine. Things that are compared
are measured in turn. Progress goes to standard error, the report to docs/.
"""

import argparse
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from statistics import median
from typing import Any
from urllib.parse import urlencode

import psutil

from clients import Client, Psql, load, pgbench
from database import ACCOUNT, DAYS, Database, private_server, seed, set_clock
from live import ROOT, Gunicorn
from tools.demo.demo import DEMO_SECRET, READER, SQL
from tools.demo.postgres import PostgresServer

PERIODS = ("daily", "weekly", "monthly", "all")
CLIENTS = (1, 8, 32)
PASSES, SECONDS = 5, 2  # of load; the median of the passes counts
SECONDS_TO_COMPARE = 2
# UTC times at which the lists are timed, and the refreshes before, by what they add up, in minutes before.
CLOCKS = {"00:01": {"all": 24 * 60}, "12:00": {"the first minutes of a day": 11 * 60 + 55}, "23:59": {}}
OPTIONS = {"shared_buffers": f"{min(psutil.virtual_memory().total // 2**22, 2**11)}MB", "max_wal_size": "8GB"}
# No request is refused or cancelled while 32 clients wait; every other setting has its default.
PATIENT = {"QUEUE_SIZE": 32, "QUEUE_TIMEOUT_MS": 60_000, "STATEMENT_TIMEOUT_MS": 60_000, "REQUEST_TIMEOUT_MS": 180_000}
STARTED = time.monotonic()

report: list[str] = []


def say(*paragraphs: str) -> None:
    report.extend(f"\n{paragraph}" for paragraph in paragraphs)


def table(*columns: str) -> None:
    """Begin a table: text in the first column, numbers in the others."""
    say(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")


def row(*cells: str) -> None:
    report.append(f"| {' | '.join(cells)} |")
    progress(report[-1])


def progress(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


def figure(number: float) -> str:
    """Return a number with at least three digits."""
    return f"{number:,.{2 if number < 10 else 1 if number < 100 else 0}f}"


def cell(sample: list[float]) -> str:
    """Return the median and, in parentheses, the 95th percentile."""
    return f"{figure(median(sample))} ({figure(sorted(sample)[len(sample) * 95 // 100])})"


def compare(*ways: Callable[[], float], least: int = 6) -> list[list[float]]:
    """Time several ways in turn, so that other load on the machine affects all of them; the first round warms up."""
    samples: list[list[float]] = [[] for _ in ways]
    deadline = time.monotonic() + SECONDS_TO_COMPARE
    while len(samples[0]) < least or time.monotonic() < deadline:
        for sample, way in zip(samples, ways, strict=True):
            sample.append(way())
    return [sample[1:] for sample in samples]


def serve(database: Database, **settings: Any) -> Gunicorn:
    """Start the service as production does, but have it keep idle connections open."""
    settings = {"WEB_CONCURRENCY": 2, "API_KEY_SECRET": DEMO_SECRET, **PATIENT, **settings}
    return Gunicorn(database.url, "--keep-alive", "3600", **settings)


def api(resource: str, period: str | None = None, **arguments: object) -> str:
    given = arguments if period is None else {"period": period, **arguments}
    return f"/api/admins/credits/{resource}?{urlencode(given)}"


def latency(_: PostgresServer, database: Database) -> None:
    """Time one request of each kind and its SQL in psql."""
    paths = {f"rollup {period}, 100 rows": api("rollup", period, limit=100) for period in PERIODS}
    paths["days monthly"] = api("days", "monthly")
    paths["drill-down all, 100 rows"] = api("events", "all", account_id=ACCOUNT, limit=100)
    paths["drill-down all, by credits"] = api("events", "all", account_id=ACCOUNT, limit=100, sort="credits")
    paths["rollup monthly, 100 rows, compared"] = api("rollup", "monthly", limit=100, compare="previous")
    paths["changes monthly, 100 rows"] = api("changes", "monthly", limit=100)
    paths["breakdown monthly by model"] = api("breakdown", "monthly", by="model")
    say(
        "## One request at a time",
        "Medians in milliseconds, in parentheses the 95th percentile. *psql*: the statements that the service sends, "
        "in one psql session, each timed from sending it to its last row.",
    )
    table("request", "endpoint", "psql", "endpoint / psql")
    with serve(database) as service, closing(Psql(database.url)) as psql:
        client = Client(service)
        for label, path in paths.items():
            http, sql = compare(partial(client.time, path), partial(psql.time, database.sql(path)))
            row(label, cell(http), cell(sql), f"{median(http) / median(sql):.2f}")


def rates(server: PostgresServer, database: Database) -> None:
    """Count answers per second, beside the same SQL in pgbench and an answer that needs no database."""
    # The clients of pgbench and the service need more than the role's 32 connections.
    server.psql("-c", f"ALTER ROLE {READER} CONNECTION LIMIT 90")
    measured: dict[tuple[str, int], list[float]] = defaultdict(list)
    with serve(database) as service:
        ways: dict[str, Callable[[int], float]] = {"/health/live": partial(load, service, "/health/live", SECONDS)}
        for label, path in (
            ("drill-down, 100 rows", api("events", "monthly", account_id=ACCOUNT, limit=100)),
            ("rollup daily", api("rollup", "daily", limit=100)),
            ("rollup monthly", api("rollup", "monthly", limit=100)),
        ):
            ways[label] = partial(load, service, path, SECONDS)
            script = server.folder / f"{len(ways)}.sql"
            script.write_text(database.sql(path))
            ways[f"{label}: pgbench"] = partial(pgbench, database.url, script, SECONDS)
        for turn, count, (label, way) in product(range(PASSES), CLIENTS, ways.items()):
            measured[label, count].append(way(count))
            progress(f"pass {turn + 1} of {PASSES}, {count} clients, {label}")
    say(
        "## Requests per second",
        f"Each client sends its next request as soon as it has an answer; medians of {PASSES} runs of {SECONDS} s. "
        "*pgbench*: the statements that the service sends, with two threads of pgbench.",
    )
    table("", *(f"{count} client{'s' * (count > 1)}" for count in CLIENTS))
    for label in ways:
        row(label, *(figure(median(measured[label, count])) for count in CLIENTS))


def lists_at(now: datetime) -> dict[str, str]:
    """Return the lists to time, by label, in windows that end now or ended before."""
    this_month, last_month = f"{now:%Y-%m-01}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m-01}"
    month, closed = {"since": this_month}, {"since": last_month, "as_of": this_month}
    pages = product(PERIODS, (1, 50))
    paths = {f"rollup {period}, page {page}": api("rollup", period, page=page) for period, page in pages}
    paths |= {f"rollup last month, page {page}": api("rollup", **closed, page=page) for page in (1, 50)}
    paths |= {
        "rollup this month": api("rollup", **month),
        "rollup monthly, totals": api("rollup", "monthly", totals="true"),
    }
    for label, q in {"few": "account 7777", "many": "account 7", "all": "account"}.items():
        paths[f"rollup monthly, search that finds {label}"] = api("rollup", "monthly", q=q)
    paths["rollup monthly, one model"] = api("rollup", "monthly", model="model 7")
    for period in PERIODS[:3]:
        paths[f"rollup {period}, compared"] = api("rollup", period, compare="previous")
        paths[f"changes {period}"] = api("changes", period)
        paths[f"breakdown {period} by model, compared"] = api("breakdown", period, by="model", compare="previous")
    paths["changes this month, with last month"] = api("changes", **month, compare=f"{last_month}/{this_month}")
    for period in ("monthly", "all"):
        paths[f"breakdown {period} by model"] = api("breakdown", period, by="model")
        paths[f"days {period}"] = api("days", period)
        paths[f"series {period} by model"] = api("series", period, by="model")
    paths["breakdown monthly by provider, one model"] = api("breakdown", "monthly", by="provider", model="model 7")
    days = {"since": f"{now - timedelta(days=45):%F}", "as_of": f"{now - timedelta(days=7):%F}"}
    paths["rollup of 38 other days"] = api("rollup", **days)
    paths["breakdown monthly by model, largest account"] = api("breakdown", "monthly", by="model", account_id=ACCOUNT)
    return paths


def lists(server: PostgresServer, database: Database) -> None:
    """Time every list at three times of one day, each five minutes after a refresh of the sums."""
    last = datetime.fromisoformat(server.psql("-At", "-c", "SELECT instant FROM clock.fixed", database="bench").strip())
    server.psql("-f", SQL / "dba" / "sums.sql", database="bench")
    summed = Database(database.url, "sums")
    refreshes, cells = {}, defaultdict(list)
    with (
        serve(database, SPEND_SOURCE="events") as plain,
        serve(summed, SPEND_SOURCE="sums") as fast,
        closing(Psql(summed.url)) as psql,
        closing(Psql(server.url("bench"))) as owner,
    ):
        slow, quick = Client(plain), Client(fast)
        for clock, before in CLOCKS.items():
            now = last.replace(hour=int(clock[:2]), minute=int(clock[3:]))
            for label, ago in {**before, "some hours": 6, "a minute": 5}.items():
                set_clock(server, "bench", now - timedelta(minutes=ago))
                refreshes[label] = owner.time("\\i sql/dba/sums_refresh.sql")
                progress(f"refresh of {label}: {figure(refreshes[label])} ms")
            set_clock(server, "bench", now)
            server.psql("-c", "VACUUM ANALYZE", database="bench")
            for label, path in lists_at(now).items():
                pinned = path if "as_of" in path else f"{path}&as_of={now - timedelta(minutes=20):%FT%TZ}"
                ways = [partial(quick.time, path), partial(quick.time, pinned)]
                if now == last:
                    ways.append(partial(psql.time, summed.sql(path)))
                cells[label] += map(cell, compare(*ways))
                progress(f"{clock} {label}: {cells[label][-len(ways) :]}")
        # Apart, and in fewer rounds, because some take many seconds.
        for label, path in lists_at(last).items():
            cells[label] += map(cell, compare(partial(slow.time, path), least=3))
            progress(f"events {label}: {cells[label][-1]}")
    sizes = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'usage_sums'::regnamespace"
        " AND relkind = 'r' UNION ALL SELECT pg_total_relation_size('public.usage_events')"
    )
    sums, events = (int(size) / 1e6 for size in server.psql("-At", "-c", sizes, database="bench").split())
    say(
        "## Lists",
        "Pages of 100 rows with their count, from the sums, five minutes after a refresh: medians in milliseconds, in "
        "parentheses the 95th percentile. *Pinned*: `as_of` is twenty minutes ago. *psql* and *events* are of "
        f"{last:%H:%M}. Refreshes took, of {', '.join(f'{label} {figure(ms)} ms' for label, ms in refreshes.items())}. "
        f"The sums take {figure(sums)} MB, the events {figure(events)} MB.",
    )
    table("request", *(f"{clock}{pinned}" for clock, pinned in product(CLOCKS, ("", ", pinned"))), "psql", "events")
    for label, found in cells.items():
        row(label, *found)


def owner_side(server: PostgresServer, _: Database) -> None:
    """Time statements of the owner of usage_events with the triggers of the sums and without them, in turn."""
    server.psql("-c", "CREATE DATABASE owned")
    for script in (*sorted((SQL / "schema").glob("*.sql")), SQL / "dba" / "indexes.sql", SQL / "dba" / "sums.sql"):
        server.psql("-f", script, database="owned")
    who, insert = f"'{ACCOUNT}'", "INSERT INTO public.usage_events (account_id, created_at)"
    loop = f"DO $$ BEGIN FOR i IN 1..10000 LOOP {insert} VALUES ({who}, now() - interval '{{}}'); END LOOP; END $$\n;\n"
    million = f"{insert} SELECT {who}, now() - interval '1 day' FROM generate_series(1, {{}} * 1000000);\n"
    restored = f"INSERT INTO public.accounts VALUES ('{ACCOUNT}');\n"
    always = (f"ENABLE ALWAYS TRIGGER usage_sums_{name}" for name in ("clock", "insert", "update", "delete"))
    states = {
        "on": f"ALTER TABLE public.usage_events {', '.join(always)};\n",
        "off": "ALTER TABLE public.usage_events DISABLE TRIGGER USER;\n",
    }
    # label, statements before, statement, and microseconds or seconds of it
    statements = {
        "an insertion of now, µs": (restored, loop.format("0"), 10),
        "an insertion dated yesterday, µs": (restored, loop.format("1 day"), 10),
        "deletion of an account with a million events, s": (
            restored + million.format(1), f"DELETE FROM public.accounts WHERE id = '{ACCOUNT}';\n", 1000
        ),
        "an UPDATE of two million events, s": (
            restored + million.format(2), "UPDATE public.usage_events SET credits_deducted_cents = 2;\n", 1000
        ),
    }  # fmt: skip
    say("## The owner of the events", "Medians, the triggers of the sums on and off in turn; synchronous_commit off.")
    table("", "on", "off")
    with closing(Psql(server.url("owned"))) as owner:
        owner.time("SET synchronous_commit = off;\n")
        for label, (before, statement, unit) in statements.items():
            samples: dict[str, list[float]] = {state: [] for state in states}
            for state in list(states) * (PASSES if unit < 1000 else 2):
                owner.time("TRUNCATE public.accounts CASCADE; TRUNCATE usage_sums.ledger;\n")
                owner.time(states["off"] + before + states[state])
                samples[state].append(owner.time(statement) / unit)
            row(label, *(figure(median(samples[state])) for state in states))


SECTIONS = {"latency": latency, "load": rates, "lists": lists, "owner": owner_side}


def main() -> None:
    """Describe machine and data, run the sections, and write the report."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what an answer costs.")
    parser.add_argument("--events", type=int)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--large", action="store_true", help="two months of 100 million events a year, and all lists")
    arguments = parser.parse_args()
    days, now, sections, events = DAYS, None, ["latency", "load"], arguments.events or 1_000_000
    name = f"bench-{events}-events"
    if arguments.large:
        days, sections, events = 62, ["lists", "owner"], arguments.events or 100_000_000 * 62 // 365
        # not in the future: the watermark is never later than the start of the refresh by the clock of the server
        now = datetime.now(UTC).replace(hour=23, minute=59, second=0, microsecond=0) - timedelta(days=1)
        name = f"bench-{arguments.accounts}-accounts"
    with private_server(OPTIONS) as server:
        database = Database(seed(server, "bench", events, arguments.accounts, days, now))
        say(
            f"# Bench: {events:,} events of {arguments.accounts:,} accounts",
            f"`make bench`, {datetime.now(UTC):%-d %B %Y, %H:%M} UTC: {os.cpu_count()} processors, "
            f"{psutil.virtual_memory().total / 1e9:.0f} GB, load average {os.getloadavg()[0]:.2f}, Linux "
            f"{platform.release()}, PostgreSQL {server.psql('-At', '-c', 'SHOW server_version').split()[0]}, Python "
            f"{platform.python_version()}. Clients, service and database share the machine. Settings that are not the "
            f"default: `{PATIENT | OPTIONS}`; the database is not durable.",
            f"Data: events spread evenly over the {days} days before now. The k-th account has a share of about 1 / k.",
        )
        for section in arguments.only or sections:
            SECTIONS[section](server, database)
    output = ROOT / "docs" / f"{name}.md"
    output.write_text("\n".join(report).lstrip() + "\n")
    progress(f"wrote {output}")


main()
