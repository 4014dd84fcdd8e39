"""Demo data: a platform of a few hundred accounts that spends credits, made anew for every UTC day.

Everything is a function of the day alone, but for the times of today's events: each is a fixed fraction of the span
from midnight to the moment of loading. So a rollup is the same whenever on a day the data is loaded, and nothing lies ahead.
"""

import csv
import hashlib
import hmac
import io
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2

from service.embedded.postgres import PostgresServer

SQL = Path(__file__).parents[2] / "sql"
DEMO_SECRET = "demo-secret"  # noqa: S105 - of the demo, which listens on this machine alone
ADMIN_KEY = "demo-admin-key"
USER_KEY = "demo-user-key"
ADMIN_ORGANIZATION = UUID("04e3aba9-c130-4fb8-8b92-34e95d43e66b")
DAYS = 90
EVENTS = 50_000
ACCOUNTS = 300
TWIN_CREDITS = (120, 80, 300)  # what each of the accounts with equal totals spent, one event each

FIRST_WORDS = (
    "Nova",
    "Orbit",
    "Pulsar",
    "Juniper",
    "Cobalt",
    "Lantern",
    "Maple",
    "Harbor",
    "Quartz",
    "Willow",
    "Ember",
)
SECOND_WORDS = ("Records", "Studio", "Labs", "Music", "Press", "Audio", "Films", "Works", "Radio", "Sound", "House")
REMARKABLE_NAMES = (
    "<b>Bold</b> & Sons",
    "Åse Ødegård 音楽",
    "The Extraordinarily Long-Winded Society for the Preservation and Performance of Forgotten Chamber Music, Ltd.",
    "O'Brien; DROP TABLE accounts",
    "=SUM(A1:A9)",
)
MAILBOXES = ("ops", "team", "me", "hello", "billing")
MODELS = (
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("anthropic", "claude-sonnet"),
    ("google", "gemini-pro"),
    (None, None),
)
REASONS = ("launch promotion", "welcome credits", "apology for an outage", "annual plan", "correction by support")


def load_demo(server: PostgresServer, now: datetime) -> str:
    """Make the demo database of the day where it is missing, and return the service's URI of it.

    Its name holds the day and a digest of what it is made from; it gets that name when it is complete.
    """
    name = f"demo_{now:%Y%m%d}_{_digest()}"
    with _superuser(server, "postgres") as cursor:
        cursor.execute("SELECT datname FROM pg_catalog.pg_database WHERE datname LIKE 'demo%%'")
        present = {datname for (datname,) in cursor.fetchall()}
        if name not in present:
            for old in present:
                cursor.execute(f"DROP DATABASE {old} WITH (FORCE)")
            cursor.execute("CREATE DATABASE demo_loading")
            for script in [*sorted((SQL / "schema").glob("*.sql")), SQL / "dba" / "reader_role.sql"]:
                server.psql("-f", str(script), database="demo_loading")
            _load(server, "demo_loading", now)
            cursor.execute(f"ALTER DATABASE demo_loading RENAME TO {name}")
        cursor.execute("ALTER ROLE credits_reader PASSWORD %s", (server.password,))
    return server.url(name, user="credits_reader")


def _digest() -> str:
    """Name a version of the demo: another schema, or other data, is another database."""
    sources = [*sorted((SQL / "schema").glob("*.sql")), *sorted((SQL / "dba").glob("*.sql")), Path(__file__)]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


class _superuser:  # noqa: N801 - reads as a function where it is used
    """A cursor of an autocommit connection, closed at the end of the block."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._connection = psycopg2.connect(server.url(database))
        self._connection.autocommit = True

    def __enter__(self) -> Any:
        return self._connection.cursor()

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _load(server: PostgresServer, database: str, now: datetime) -> None:
    with _superuser(server, database) as cursor:
        for table, columns, rows in demo_rows(now):
            text = io.StringIO()
            csv.writer(text).writerows(rows)
            text.seek(0)
            cursor.copy_expert(f"COPY public.{table} ({columns}) FROM STDIN (FORMAT csv)", text)
        cursor.execute("VACUUM (ANALYZE)")


def key_hash(key: str) -> str:
    """Return what the demo's database knows a key by."""
    return hmac.new(DEMO_SECRET.encode(), key.encode(), hashlib.sha256).hexdigest()


def demo_rows(now: datetime) -> Iterable[tuple[str, str, Sequence[tuple[Any, ...]]]]:
    """Return table, columns and rows of everything in the demo, in the order in which it can be inserted."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rng = random.Random(f"{midnight:%Y-%m-%d}")  # noqa: S311 - the same for everybody, on purpose

    def identifier() -> UUID:
        return UUID(int=rng.getrandbits(128), version=4)

    def instant(days_ago: int) -> datetime:
        span = now - midnight if days_ago == 0 else timedelta(days=1)
        return midnight - timedelta(days=days_ago) + span * rng.random()

    admin, twins = identifier(), [identifier() for _ in range(6)]
    spenders = [identifier() for _ in range(ACCOUNTS - len(twins) - 20)]
    idle = [identifier() for _ in range(20)]
    named = [*spenders, *twins, *idle]
    names = [f"{rng.choice(FIRST_WORDS)} {rng.choice(SECOND_WORDS)}" for _ in named]
    names[3 : 3 + len(REMARKABLE_NAMES)] = REMARKABLE_NAMES
    accounts: list[tuple[UUID, str | None]] = [(ADMIN_ORGANIZATION, "The platform"), (admin, "Ada Admin")]
    accounts += [(id_, None if rng.random() < 0.06 else name) for id_, name in zip(named, names, strict=True)]
    yield "accounts", "id, name", accounts

    addresses = []
    for number, (id_, _) in enumerate(accounts):
        same_moment = instant(rng.randrange(1, DAYS))
        for copy in range(rng.choices((0, 1, 2, 5), (8, 70, 16, 6))[0]):
            updated_at = same_moment if copy < 2 else instant(rng.randrange(1, DAYS))
            addresses.append((id_, f"{MAILBOXES[copy]}@account{number}.example", updated_at))
    yield "account_emails", "account_id, email, updated_at", addresses
    yield "account_organization_ids", "account_id, organization_id", [(admin, ADMIN_ORGANIZATION)]
    yield (
        "account_api_keys",
        "name, account, key_hash",
        [("demo admin", admin, key_hash(ADMIN_KEY)), ("demo user", spenders[0], key_hash(USER_KEY))],
    )

    events = []

    def spend(account: UUID, cents: int, days_ago: int) -> None:
        provider, model = rng.choice(MODELS)
        tokens = rng.randrange(200, 60_000)
        events.append(
            (
                f"evt_{rng.getrandbits(64):016x}",
                account,
                rng.choice(("web", "web", "api")),
                rng.choice(("main", "main", "subagent")),
                provider,
                model,
                tokens,
                tokens // rng.randrange(2, 9),
                tokens // rng.randrange(3, 30),
                rng.randrange(6),
                instant(days_ago),
                cents,
            )
        )

    weights = [rng.paretovariate(0.9) for _ in spenders]
    for account in rng.choices(spenders, weights, k=EVENTS - len(twins) * len(TWIN_CREDITS)):
        kind = rng.random()
        # A few cost nothing, a few are given back.
        cents = 0 if kind < 0.01 else -rng.randrange(1, 50) if kind < 0.013 else int(rng.lognormvariate(2.3, 1.2)) + 1
        spend(account, cents, rng.randrange(DAYS))
    for twin in twins:
        for cents, days_ago in zip(TWIN_CREDITS, (0, 2, 20), strict=True):
            spend(twin, cents, days_ago)
    columns = (
        "id, account_id, source, agent_type, provider, model_id, input_tokens, cached_input_tokens, output_tokens, "
        "tool_call_count, created_at, credits_deducted_cents"
    )
    yield "usage_events", columns, events

    grants: list[tuple[UUID, UUID, UUID, str, int | None, int, datetime]] = []
    for account in [*rng.sample(spenders, 110), *twins[:2]]:
        before: int | None = None
        for days_ago in sorted(rng.sample(range(1, DAYS), rng.choice((1, 1, 2))), reverse=True):
            after = rng.randrange(1, 40) * 1_000
            grants.append((identifier(), account, admin, rng.choice(REASONS), before, after, instant(days_ago)))
            before = after - rng.randrange(1_000)
    yield "credit_grants", "id, account_id, granted_by, reason, previous_credits, remaining_credits, created_at", grants

    # What is left of the last grant; three wallets were debited without an event, which reconcile.sql finds.
    last = {account: (remaining, at) for _, account, _, _, _, remaining, at in grants}
    spent = dict.fromkeys(last, 0)
    for event in events:
        account, at, cents = event[1], event[10], event[11]
        if account in last and at > last[account][1]:
            spent[account] += cents
    wallets = [
        (account, remaining - spent[account] - (250 if number < 3 else 0), now)
        for number, (account, (remaining, _)) in enumerate(last.items())
    ]
    yield "credits_usage", 'account_id, remaining_credits, "timestamp"', wallets
