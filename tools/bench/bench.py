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
SECONDS_TO_COMPARE = 5
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


def compare(*ways: Callable[[], float]) -> list[list[float]]:
    """Time several ways in turn, so that other load on the machine affects all of them; the first round warms up."""
    samples: list[list[float]] = [[] for _ in ways]
    deadline = time.monotonic() + SECONDS_TO_COMPARE
    while len(samples[0]) < 6 or time.monotonic() < deadline:
        for sample, way in zip(samples, ways, strict=True):
            sample.append(way())
    return [sample[1:] for sample in samples]


def serve(database: Database, **settings: Any) -> Gunicorn:
    """Start the service as production does, but have it keep idle connections open."""
    settings = {"WEB_CONCURRENCY": 2, "API_KEY_SECRET": DEMO_SECRET, **PATIENT, **settings}
    return Gunicorn(database.url, "--keep-alive", "3600", **settings)


def api(resource: str, period: str, **arguments: object) -> str:
    return f"/api/admins/credits/{resource}?{urlencode({'period': period, **arguments})}"


def latency(_: PostgresServer, database: Database) -> None:
    """Time one request of each kind and its SQL in psql."""
    paths = {f"rollup {period}, 100 rows": api("rollup", period, limit=100) for period in PERIODS}
    paths["rollup monthly, 100 rows, page 20"] = api("rollup", "monthly", limit=100, page=20)
    paths["days monthly"] = api("days", "monthly")
    paths["drill-down all, 100 rows"] = api("events", "all", account_id=ACCOUNT, limit=100)
    paths["days all, one account"] = api("days", "all", account_id=ACCOUNT)
    paths["rollup monthly, 100 rows, compared"] = api("rollup", "monthly", limit=100, compare="previous")
    paths["rollup monthly, 100 rows, search"] = api("rollup", "monthly", limit=100, q="account 77")
    paths["changes monthly, 100 rows"] = api("changes", "monthly", limit=100)
    paths["breakdown monthly by model"] = api("breakdown", "monthly", by="model")
    paths["breakdown monthly by model, compared"] = api("breakdown", "monthly", by="model", compare="previous")
    paths["breakdown all by model, one account"] = api("breakdown", "all", by="model", account_id=ACCOUNT)
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


def sums(server: PostgresServer, database: Database) -> None:
    """Time the rollup with both values of SPEND_SOURCE, and the first refresh of the sums."""
    server.psql("-f", SQL / "dba" / "sums.sql", database="bench")
    with closing(Psql(server.url("bench"))) as owner:
        first = owner.time("\\i sql/dba/sums_refresh.sql")
    server.psql("-c", "VACUUM ANALYZE", database="bench")
    say(
        "## Events or sums",
        "A first page of 100 accounts with `SPEND_SOURCE=events` and with `SPEND_SOURCE=sums`, in turn: medians in "
        "milliseconds, in parentheses the 95th percentile. The first run of `sql/dba/sums_refresh.sql`, over "
        f"{DAYS - 1} days, took {figure(first)} ms.",
    )
    table("period", "endpoint, events", "endpoint, sums", "times faster", "psql, events", "psql, sums")
    summed = Database(database.url, "sums")
    with serve(database) as plain, serve(summed, SPEND_SOURCE="sums") as fast, closing(Psql(summed.url)) as psql:
        clients = (Client(plain), Client(fast))
        for period in PERIODS:
            path = api("rollup", period, limit=100)
            http = [partial(client.time, path) for client in clients]
            sql = [partial(psql.time, source.sql(path)) for source in (database, summed)]
            samples = compare(*http, *sql)
            faster = f"{median(samples[0]) / median(samples[1]):.2f}"
            row(period, *map(cell, samples[:2]), faster, *map(cell, samples[2:]))


def pages(server: PostgresServer, database: Database) -> None:
    """Time pages of every period at the clock of the database, five minutes after a refresh of the sums."""
    now = datetime.fromisoformat(server.psql("-At", "-c", "SELECT instant FROM clock.fixed", database="bench").strip())
    server.psql("-f", SQL / "dba" / "sums.sql", database="bench")
    for minutes in (6, 5):
        set_clock(server, "bench", now - timedelta(minutes=minutes))
        with closing(Psql(server.url("bench"))) as owner:
            refreshed = owner.time("\\i sql/dba/sums_refresh.sql")
    set_clock(server, "bench", now)
    server.psql("-c", "VACUUM ANALYZE", database="bench")
    size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname ~ '^usage_{}'"
    sums_size, events_size = (
        int(server.psql("-At", "-c", size.format(name), database="bench")) / 1e6 for name in ("sums", "events$")
    )
    say(
        f"## Pages at {now:%H:%M} UTC",
        "Pages of 100 accounts with their count, five minutes after a refresh: medians in milliseconds, in parentheses "
        f"the 95th percentile. *Pinned*: `as_of` is twenty minutes ago. The refresh of one minute took "
        f"{figure(refreshed)} ms. The sums take {figure(sums_size)} MB, the events {figure(events_size)} MB.",
    )
    table("request", "endpoint, sums", "psql, sums", "endpoint, events")
    summed = Database(database.url, "sums")
    with serve(database) as plain, serve(summed, SPEND_SOURCE="sums") as fast, closing(Psql(summed.url)) as psql:
        slow, quick = Client(plain), Client(fast)
        pins: dict[str, dict[str, str]] = {"": {}, ", pinned": {"as_of": f"{now - timedelta(minutes=20):%FT%TZ}"}}
        for period, (label, pin) in product(PERIODS, pins.items()):
            paths = {f"rollup {period}, page {page}": api("rollup", period, page=page, **pin) for page in (1, 50)}
            if period == "monthly":
                paths["days monthly"] = api("days", "monthly", **pin)
            for name, path in paths.items():
                # Apart, because there would be too few rounds for a percentile beside answers that take seconds.
                times = compare(partial(quick.time, path), partial(psql.time, summed.sql(path)))
                row(name + label, *map(cell, times + compare(partial(slow.time, path))))


SECTIONS: dict[str, Callable[[PostgresServer, Database], None]] = {"latency": latency, "load": rates, "sums": sums}


def main() -> None:
    """Describe machine and data, run the sections, and write the report."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what an answer costs.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--clock", help="UTC time, such as 23:59: a month of 100 million events a year, and only pages")
    arguments = parser.parse_args()
    days, now, sections, name = DAYS, None, arguments.only or SECTIONS, f"bench-{arguments.events}-events"
    if arguments.clock:
        days, sections, arguments.events = 31, ["pages"], 100_000_000 * 31 // 365
        now = datetime.fromisoformat(f"{datetime.now(UTC):%F}T{arguments.clock}Z")
        # not in the future: the watermark is never later than the start of the refresh by the clock of the server
        now -= timedelta(days=now > datetime.now(UTC))
        name = f"bench-{arguments.accounts}-accounts-{now:%H%M}"
    with private_server(OPTIONS) as server:
        database = Database(seed(server, "bench", arguments.events, arguments.accounts, days, now))
        say(
            f"# Bench: {arguments.events:,} events of {arguments.accounts:,} accounts",
            f"`make bench`, {datetime.now(UTC):%-d %B %Y, %H:%M} UTC: {os.cpu_count()} processors, "
            f"{psutil.virtual_memory().total / 1e9:.0f} GB, load average {os.getloadavg()[0]:.2f}, Linux "
            f"{platform.release()}, PostgreSQL {server.psql('-At', '-c', 'SHOW server_version').split()[0]}, Python "
            f"{platform.python_version()}. Clients, service and database share the machine. Settings that are not the "
            f"default: `{PATIENT | OPTIONS}`; the database is not durable.",
            f"Data: events spread evenly over the {days} days before now. The k-th account has a share of about 1 / k.",
        )
        for section in sections:
            {**SECTIONS, "pages": pages}[section](server, database)
    output = ROOT / "docs" / f"{name}.md"
    output.write_text("\n".join(report).lstrip() + "\n")
    progress(f"wrote {output}")


main()
