"""Demo data: about three hundred accounts that spend credits, generated for the current UTC day.

The accounts never change; events, grants and balances depend on the day alone. The times of today's events are scaled
to the time of loading, so that none lies in the future. Answers are therefore the same at every hour of a day, and no
period is empty.
"""

import csv
import hashlib
import hmac
import io
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2

from tools.demo.postgres import PostgresServer

SQL = Path(__file__).parents[2] / "sql"
DEMO_SECRET = "demo-secret"  # noqa: S105 - public, as the keys are; the demo listens on 127.0.0.1 alone
ADMIN_KEY = "demo-admin-key"
USER_KEY = "demo-user-key"
READER = "credits_reader"

ORGANIZATION = UUID("04e3aba9-c130-4fb8-8b92-34e95d43e66b")
ADMIN = UUID("0ad31b00-5a6f-4f0e-9c1d-1e7a40b0c0de")
TOP_SPENDER = UUID("3c90c3cc-0d44-4b50-8888-8dd25736052a")
SPENDERS = 280
IDLERS = 20  # accounts without events
DAYS = 90
EVENTS = 50_000
DAY_US = 86_400_000_000

FIRST_WORDS = (
    "Amber", "Aurora", "Birch", "Blue", "Cedar", "Cobalt", "Coral", "Crimson", "Delta", "Ember", "Fable",
    "Granite", "Harbor", "Indigo", "Juniper", "Lantern", "Lumen", "Maple", "Meadow", "Onyx", "Orbit", "Pulsar",
    "Quartz", "Saffron", "Silver", "Tidal", "Velvet", "Willow",
)  # fmt: skip
SECOND_WORDS = (
    "Agency", "Archive", "Audio", "Cinema", "Collective", "Films", "Games", "House", "Labs", "Media", "Music",
    "Press", "Radio", "Records", "Sound", "Studio", "Theatre", "Works",
)  # fmt: skip
# Names that a table or a spreadsheet may display wrongly, on the first page.
REMARKABLE_NAMES = {
    2: "<b>Bold</b> & Sons",
    3: "Åse Ødegård 音楽 🎧",
    5: "The Extraordinarily Long-Winded Society for the Preservation and Performance of Forgotten Chamber Music, Ltd.",
    6: "O'Brien; DROP TABLE accounts",
    8: "=SUM(A1:A9)",
}
MODELS = (
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("mistral", "mistral-large"),
    (None, None),  # a charge without a model
)
REASONS = ("launch promotion", "welcome credits", "apology for an outage", "annual plan", "correction by support")
# Cents missing in the first wallets, which were charged without an event.
UNRECORDED_CHARGES = {0: 250, 1: 1_200, 2: 75}

Rows = list[tuple[Any, ...]]


def load_demo(server: PostgresServer, now: datetime) -> str:
    """Load the demo of the UTC day of ``now`` unless it exists, and return the URI with which the service reads it.

    The name of the database has the day and a digest of the files it is made from. The database gets this name when it
    is complete. Demos of other days and of interrupted loads are dropped.
    """
    name = f"demo_{now.astimezone(UTC):%Y%m%d}_{_digest()}"
    present = server.psql("-At", "-c", "SELECT datname FROM pg_catalog.pg_database WHERE datname ^@ 'demo_'").split()
    if name not in present:
        for old in present:
            server.psql("-c", f"DROP DATABASE {old} WITH (FORCE)")
        server.psql("-c", "CREATE DATABASE demo_partial")
        for script in _scripts():
            server.psql("-f", script, database="demo_partial")
        with (
            closing(psycopg2.connect(server.url("demo_partial"))) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            for table, columns, rows in demo_tables(now):
                text = io.StringIO()
                csv.writer(text).writerows(rows)
                text.seek(0)
                cursor.copy_expert(f"COPY public.{table} ({columns}) FROM STDIN (FORMAT csv)", text)
            cursor.execute(f"ALTER ROLE {READER} PASSWORD %s", (server.password,))
        server.psql("-c", "VACUUM (ANALYZE)", database="demo_partial")
        server.psql("-c", f"ALTER DATABASE demo_partial RENAME TO {name}")
    return server.url(name, user=READER)


def _scripts() -> list[Path]:
    """Return the scripts that create the tables, then those that a DBA applies."""
    applied = (SQL / "dba" / name for name in ("reader_role.sql", "indexes.sql"))
    return [*sorted((SQL / "schema").glob("*.sql")), *(script for script in applied if script.exists())]


def _digest() -> str:
    sources = [*sorted((SQL / "schema").glob("*.sql")), *sorted((SQL / "dba").glob("*.sql")), Path(__file__)]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


def key_hash(key: str) -> str:
    """Return the hash by which the database identifies a key."""
    return hmac.new(DEMO_SECRET.encode(), key.encode(), hashlib.sha256).hexdigest()


def demo_tables(now: datetime) -> Iterator[tuple[str, str, Rows]]:
    """Yield the name, the columns and the rows of each table, in an order that the foreign keys allow."""
    now = now.astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    accounts, emails = _accounts(midnight)
    spenders = [id_ for id_, _ in accounts[2 : 2 + SPENDERS]]
    events = _events(now, midnight, spenders)
    grants, wallets = _grants(midnight, spenders, events)
    made_at = midnight - timedelta(days=DAYS)
    keys = [("Demo admin", ADMIN, ADMIN_KEY), ("Demo user", TOP_SPENDER, USER_KEY)]

    yield "accounts", "id, name", accounts
    yield "account_emails", "id, account_id, email, updated_at", emails
    yield (
        "account_api_keys",
        "id, name, account, key_hash, created_at",
        [(UUID(int=number), name, account, key_hash(key), made_at) for number, (name, account, key) in enumerate(keys)],
    )
    yield "account_organization_ids", "id, account_id, organization_id", [(UUID(int=0), ADMIN, ORGANIZATION)]
    columns = (
        "id, account_id, source, agent_type, provider, model_id, input_tokens, cached_input_tokens, output_tokens, "
        "tool_call_count, created_at, credits_deducted_cents"
    )
    yield "usage_events", columns, events
    yield "credit_grants", "id, account_id, granted_by, reason, previous_credits, remaining_credits, created_at", grants
    yield "credits_usage", 'account_id, remaining_credits, "timestamp"', wallets


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _accounts(midnight: datetime) -> tuple[Rows, Rows]:
    """Return the accounts (first the organisation and the admin, last the idle ones) and their addresses."""
    rng = random.Random("accounts")  # noqa: S311 - must be reproducible
    accounts: Rows = [(ORGANIZATION, "Platform Operations"), (ADMIN, "Ada Admin"), (TOP_SPENDER, "Nova Records")]
    emails: Rows = [(_uuid(rng), TOP_SPENDER, "ops@nova.example", midnight)]
    while len(accounts) < 2 + SPENDERS + IDLERS:
        name = f"{rng.choice(FIRST_WORDS)} {rng.choice(SECOND_WORDS)}" if rng.random() < 0.95 else None
        accounts.append((_uuid(rng), REMARKABLE_NAMES.get(len(accounts) - 2, name)))
    for number, (account, name) in enumerate(accounts):
        if account == TOP_SPENDER:
            continue
        domain = f"{re.sub('[^a-z]+', '-', (name or '').lower())[:40].strip('-') or 'account'}-{number}.example"
        updated_at = midnight - timedelta(microseconds=rng.randrange(DAYS * DAY_US))
        locals_ = ("ops", "billing", "hello", "team", "accounts")
        for copy in range(rng.choices((0, 1, 2, 5), (6, 74, 14, 6))[0]):
            # The first two have the same time, so that the text decides which is the primary address.
            earlier = timedelta(days=max(0, copy - 1))
            emails.append((_uuid(rng), account, f"{locals_[copy]}@{domain}", updated_at - earlier))
        if number % 50 == 49:
            emails.append((_uuid(rng), account, None, midnight))  # an address taken back
    return accounts, emails


def _like(rank: int) -> int:
    """Return the rank whose spending an account repeats, so that totals are equal: 41 repeats 40, and so on to 79."""
    return rank - rank % 2 if 40 <= rank < 80 else rank


def _spending(day: str, rank: int, count: int) -> list[tuple[int, int]]:
    """Return (days ago, credits) of each event of the account of a rank, unordered."""
    rng = random.Random(f"{day} {rank}")  # noqa: S311 - must be reproducible
    # One account in forty has spent nothing for a month, one in forty is new this week.
    first, last = {14: (30, DAYS - 1), 38: (0, 6)}.get(rank % 40, (0, DAYS - 1))
    price = rng.lognormvariate(2.3, 0.3)
    spending = []
    for _ in range(count):
        kind = rng.random()
        if rank >= SPENDERS - 3 or kind < 0.01:
            credits_ = 0  # free of charge
        elif kind < 0.013:
            credits_ = -rng.randrange(1, 100)  # a refund
        else:
            credits_ = 1 + int(price * rng.lognormvariate(0, 1.2))
        spending.append((rng.randint(first, last), credits_))
    return spending


def _events(now: datetime, midnight: datetime, spenders: list[UUID]) -> Rows:
    """Return the events, oldest first; a few accounts have most of them."""
    day = f"{midnight:%Y-%m-%d}"
    rng = random.Random(day)  # noqa: S311 - must be reproducible
    shares = [(_like(rank) + 1) ** -0.9 for rank in range(len(spenders))]
    today_us = (now - midnight) // timedelta(microseconds=1)
    events: Rows = []
    for rank, account in enumerate(spenders):
        for days_ago, credits_ in _spending(day, _like(rank), round(EVENTS * shares[rank] / sum(shares))):
            at_us = rng.randrange(DAY_US)
            if days_ago == 0:
                at_us = at_us * today_us // DAY_US
            provider, model = rng.choice(MODELS)
            tokens = rng.randrange(200, 60_000) if model else 0
            events.append(
                (
                    f"evt_{rng.getrandbits(64):016x}",
                    account,
                    "api" if rng.random() < 0.4 else "web",
                    "subagent" if rng.random() < 0.3 else "main",
                    provider,
                    model,
                    tokens,
                    tokens * rng.randrange(90) // 100,
                    tokens // rng.randrange(3, 30),
                    rng.randrange(6),
                    midnight - timedelta(days=days_ago) + timedelta(microseconds=at_us),
                    credits_,
                )
            )
    return sorted(events, key=lambda event: (event[10], event[0]))


def _grants(midnight: datetime, spenders: list[UUID], events: Rows) -> tuple[Rows, Rows]:
    """Return the grants, and the wallets that result from them and the events after them."""
    rng = random.Random(f"grants {midnight:%Y-%m-%d}")  # noqa: S311 - must be reproducible
    charges = defaultdict(list)
    for event in events:
        charges[event[1]].append((event[10], event[11]))
    grants: Rows = []
    wallets: Rows = []
    for account in rng.sample(spenders, 110):
        # None today: the rest after today's events would depend on the time of loading.
        moments = sorted(
            midnight - timedelta(microseconds=rng.randrange(1, (DAYS - 1) * DAY_US))
            for _ in range(rng.choice((1, 1, 2)))
        )
        previous = rng.choice((None, rng.randrange(500)))
        for at, until in zip(moments, [*moments[1:], None], strict=True):
            spent = sum(
                credits_ for when, credits_ in charges[account] if at < when and (until is None or when <= until)
            )
            granted = (max(spent, 0) // 1_000 + rng.randrange(1, 6)) * 1_000
            grants.append((_uuid(rng), account, ADMIN, rng.choice(REASONS), previous, granted, at))
            remaining = previous = granted - spent
        charged_at = max(moments[-1], charges[account][-1][0])
        wallets.append((account, remaining - UNRECORDED_CHARGES.get(len(wallets), 0), charged_at))
    return sorted(grants, key=lambda grant: (grant[6], grant[0])), wallets
