"""Measure what an answer costs: `make bench`.

A private PostgreSQL with data of a chosen size, gunicorn and the clients share this machine. Things that are compared
are measured in turn. Progress goes to standard error, the report to standard output and to docs/. When interrupted, it
prints what it has measured so far and writes no file.
"""

import argparse
import os
import platform
import re
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import psutil

from clients import Client, Psql, load, pgbench
from database import DAYS, Database, private_server, seed
from live import ROOT, Gunicorn
from service.embedded.demo import DEMO_SECRET, READER, SQL, TOP_SPENDER, load_demo
from service.embedded.postgres import PostgresServer

PERIODS = ("daily", "weekly", "monthly", "all")
CLIENTS = (1, 8, 32)
PASSES, SECONDS = 5, 2  # of load; the median of the passes counts
ROUNDS, FEWEST_ROUNDS, ROUNDS_S = 51, 5, 10  # after ROUNDS_S seconds, FEWEST_ROUNDS are enough
OPTIONS = {"shared_buffers": f"{min(psutil.virtual_memory().total // 2**22, 2**11)}MB", "max_wal_size": "8GB"}
# No request is refused or cancelled while 32 clients wait; every other setting has its default.
PATIENT = {"QUEUE_SIZE": 32, "QUEUE_TIMEOUT_MS": 60_000, "STATEMENT_TIMEOUT_MS": 60_000, "REQUEST_TIMEOUT_MS": 180_000}
REFRESH = "\\i sql/dba/sums_refresh.sql"
STARTED = time.monotonic()

report: list[str] = []
targets: list[str] = []


def say(*paragraphs: str) -> None:
    for paragraph in paragraphs:
        report.extend(("", paragraph))


def table(*columns: str) -> None:
    """Begin a table: text in the first column, numbers in the others."""
    say(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")


def row(*cells: str) -> None:
    report.append(f"| {' | '.join(cells)} |")
    progress(report[-1])


def target(what: str, measured: float, wanted: str, met: bool) -> None:
    targets.append(f"| {what} | {wanted} | {measured:.2f} | {'met' if met else '**missed**'} |")


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
    started = time.monotonic()
    for done in range(1 + ROUNDS):
        if done > FEWEST_ROUNDS and time.monotonic() > started + ROUNDS_S:
            break
        for sample, way in zip(samples, ways, strict=True):
            sample.append(way())
    return [sample[1:] for sample in samples]


def serve(database: Database, **options: Any) -> Gunicorn:
    """Start the service as production does, but have it keep idle connections open."""
    settings = {"WEB_CONCURRENCY": 2, "LOG_LEVEL": "WARNING", "API_KEY_SECRET": DEMO_SECRET, **PATIENT, **options}
    return Gunicorn(database.url, "--keep-alive", "3600", **settings)


def api(resource: str, period: str, **arguments: object) -> str:
    return f"/api/admins/credits/{resource}?{urlencode({'period': period, **arguments})}"


def latency(server: PostgresServer, database: Database, events: int) -> None:
    """Time one request of each kind and its SQL in psql."""
    asks = {}
    for period in PERIODS:
        count = database.events(period)
        for limit in (20, 100, 500):
            asks[f"rollup {period}, {limit} rows"] = (count, api("rollup", period, limit=limit))
    count = database.events("monthly")
    page = max(1, database.get(api("rollup", "monthly"))["total_count"] // 200)
    asks[f"rollup monthly, 100 rows, page {page}"] = (count, api("rollup", "monthly", limit=100, page=page))
    asks["days monthly"] = (count, api("days", "monthly"))
    middle = max(1, database.get(api("rollup", "all"))["total_count"] // 2)
    for kind, rank in (("first", 1), ("median", middle)):
        account = database.get(api("rollup", "all", limit=1, page=rank))["rows"][0]["account_id"]
        count = database.events("all", account)
        asks[f"events all, 100 rows, {kind} account"] = (count, api("events", "all", account_id=account, limit=100))
        asks[f"days all, {kind} account"] = (count, api("days", "all", account_id=account))
    say(
        "## One request at a time",
        "Medians in milliseconds, in parentheses the 95th percentile. *psql*: the statements that the service sends, "
        "in one psql session, each timed from sending it to its last row.",
    )
    table("request", "events", "endpoint", "psql", "endpoint / psql")
    with serve(database) as service, closing(Psql(database.url)) as psql:
        client = Client(service)
        for label, (count, path) in asks.items():
            http, sql = compare(partial(client.time, path), partial(psql.time, database.sql(path)))
            ratio = median(http) / median(sql)
            row(label, f"{count:,}", cell(http), cell(sql), f"{ratio:.2f}")
            if events == 1_000_000 and re.fullmatch("rollup .*, 100 rows", label):
                target(f"{label}, endpoint / psql", ratio, "at most 1.25", ratio <= 1.25)


def rates(server: PostgresServer, database: Database, events: int) -> None:
    """Count answers per second, beside the same SQL in pgbench and a route that only runs SELECT 1."""
    demo = Database(load_demo(server, datetime.now(UTC)))
    # The clients of pgbench and the three services need more than the role's 32 connections.
    server.psql("-c", f"ALTER ROLE {READER} CONNECTION LIMIT 90")
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    with serve(demo, app="tests.bench.bare:app") as bare, serve(demo) as small, serve(database) as large:
        ways: dict[str, Callable[[int], float]] = {"bare route": partial(load, bare, "/", SECONDS)}
        for label, service, data, path in (
            ("drill-down, 100 rows", small, demo, api("events", "monthly", account_id=TOP_SPENDER, limit=100)),
            ("rollup", small, demo, api("rollup", "monthly", limit=100)),
            (f"rollup daily, {events:,} events", large, database, api("rollup", "daily", limit=100)),
            (f"rollup monthly, {events:,} events", large, database, api("rollup", "monthly", limit=100)),
        ):
            ways[label] = partial(load, service, path, SECONDS)
            script = server.folder / f"{len(ways)}.sql"
            script.write_text(data.sql(path))
            ways[f"{label}: pgbench"] = partial(pgbench, data.url, script, SECONDS)
        for turn, count, (label, way) in product(range(PASSES), CLIENTS, ways.items()):
            rates[label, count].append(rate := way(count))
            progress(f"pass {turn + 1} of {PASSES}, {count} clients, {label}: {figure(rate)} a second")
    say(
        "## Requests per second",
        f"Each client sends its next request as soon as it has an answer; medians of {PASSES} runs of {SECONDS} s. "
        "*Bare route*: Flask and `SELECT 1` under the same gunicorn. *pgbench*: the statements that the service sends, "
        "with two threads of pgbench. Requests without a size are of the demo, which has "
        f"{demo.events('monthly'):,} events in a month.",
    )
    table("", *(f"{count} client{'s' * (count > 1)}" for count in CLIENTS))
    for label in ways:
        row(label, *(figure(median(rates[label, count])) for count in CLIENTS))
    for label, other, least in (("rollup", "rollup: pgbench", 0.75), ("drill-down, 100 rows", "bare route", 0.25)):
        ratio = median(rates[label, 8]) / median(rates[other, 8])
        target(f"demo, 8 clients: {label} / {other}", ratio, f"at least {least}", ratio >= least)


def sums(server: PostgresServer, database: Database, events: int) -> None:
    """Time the rollup with both values of SPEND_SOURCE, and the refresh of the sums."""
    progress("making the sums")
    server.psql("-f", SQL / "dba" / "sums.sql", database="bench")
    with closing(Psql(server.url("bench"))) as owner:
        first = owner.time(f"\\set margin '1 day'\n{REFRESH}")
        second = owner.time(f"\\set margin '5 minutes'\n{REFRESH}")
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        (again,) = compare(partial(owner.time, f"\\set since {yesterday}\n{REFRESH}"))
    server.psql("-c", "VACUUM ANALYZE", database="bench")
    say(
        "## Events or sums",
        "A first page of 100 accounts with `SPEND_SOURCE=events` and with `SPEND_SOURCE=sums`, in turn: medians in "
        "milliseconds, in parentheses the 95th percentile. Below, the time of `sql/dba/sums_refresh.sql`.",
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
            faster = median(samples[0]) / median(samples[1])
            row(period, *map(cell, samples[:2]), f"{faster:.2f}", *map(cell, samples[2:]))
            if events == 10_000_000 and (least := {"all": 20, "monthly": 2}.get(period)):
                target(f"{period}, sums times faster than events", faster, f"at least {least}", faster >= least)
    table("refresh", "ms")
    row(f"first refresh, {DAYS - 2} days", figure(first))
    row("refresh of the next day", figure(second))
    row("refresh since yesterday, again", cell(again))


SECTIONS: dict[str, Callable[[PostgresServer, Database, int], None]] = {"latency": latency, "load": rates, "sums": sums}


def run(events: int, accounts: int, sections: Iterable[str]) -> None:
    """Describe machine and data, then run the sections."""
    with private_server(OPTIONS) as server:
        progress(f"making {events:,} events of {accounts:,} accounts")
        database = Database(seed(server, "bench", events, accounts))
        model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        version = server.psql("-At", "-c", "SHOW server_version").split()[0]
        settings = ", ".join(f"`{name}={value}`" for name, value in (PATIENT | OPTIONS).items())
        given = f" ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else ""
        say(
            f"# Bench: {events:,} events of {accounts:,} accounts",
            f"`make bench{given}`, {datetime.now(UTC):%-d %B %Y, %H:%M} UTC.",
            f"{os.cpu_count()} × {model[1] if model else 'processor'}, {psutil.virtual_memory().total / 1e9:.0f} GB, "
            f"load average {os.getloadavg()[0]:.2f}, Linux {platform.release()}, PostgreSQL {version}, Python "
            f"{platform.python_version()}. Clients, service and database share the machine. Settings that are not the "
            f"default: {settings}; the database is not durable.",
            f"Data: as many events on each of {DAYS} days, today's before now. By Zipf's law, the share of the k-th "
            "account is in proportion to 1 / k.",
        )
        for section in sections:
            SECTIONS[section](server, database, events)


def main() -> None:
    """Print the report, however far it got."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what an answer costs.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated; then no file is written")
    parser.add_argument("--output", type=Path, help="default: docs/bench-EVENTS-events.md, when all sections run")
    arguments = parser.parse_args()
    try:
        run(arguments.events, arguments.accounts, arguments.only or SECTIONS)
    except BaseException:
        say("**Ended early; this was measured until then.**")
        raise
    finally:
        if targets:
            say("## Targets")
            table("target", "wanted", "measured", "")
        text = "\n".join([*report[1:], *targets, ""])
        print(text)
    if output := arguments.output or (not arguments.only and ROOT / "docs" / f"bench-{arguments.events}-events.md"):
        output.write_text(text)
        progress(f"wrote {output}")


if __name__ == "__main__":
    main()
