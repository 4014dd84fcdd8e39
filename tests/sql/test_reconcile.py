"""sql/dba/reconcile.sql lists the accounts that a comparison in Python lists."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATABASE, NOVA, ORBIT, SQL, Tables
from model import law
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

SCRIPT = SQL / "dba" / "reconcile.sql"
COLUMNS = [
    "account_id", "account_name", "last_grant_at", "granted_credits", "credits_since", "event_count_since",
    "expected_credits", "wallet_credits", "unexplained_credits",
]  # fmt: skip
START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Books:
    """Wallets, grants and events of two accounts; instants are whole minutes after START, so that some are equal.

    A wallet may have no instant.
    """

    wallets: list[tuple[UUID, int | None, int]] = field(default_factory=list)
    grants: list[tuple[UUID, UUID, int, int]] = field(default_factory=list)
    events: list[tuple[UUID, int, int]] = field(default_factory=list)

    def store(self, tables: Tables) -> None:
        tables.empty()
        tables.insert("accounts", "id, name", [(NOVA, "Nova Records"), (ORBIT, None)])
        at = {minute: START + timedelta(minutes=minute) for minute in range(100)}
        tables.insert(
            "credits_usage",
            'account_id, "timestamp", remaining_credits',
            [(account, None if minute is None else at[minute], credits) for account, minute, credits in self.wallets],
        )
        tables.insert(
            "credit_grants",
            "id, account_id, granted_by, reason, created_at, remaining_credits",
            [(id_, account, NOVA, "", at[minute], credits) for id_, account, minute, credits in self.grants],
        )
        tables.insert(
            "usage_events",
            "account_id, created_at, credits_deducted_cents",
            [(account, at[minute], credits) for account, minute, credits in self.events],
        )

    def differences(self) -> list[list[str]]:
        """Return the rows that the script must list, as psql writes them."""
        rows = []
        for account in (NOVA, ORBIT):
            wallets = [
                (-1 if minute is None else minute, -credits)
                for owner, minute, credits in self.wallets
                if owner == account
            ]
            grants = [(minute, id_, credits) for id_, owner, minute, credits in self.grants if owner == account]
            if not wallets or not grants:
                continue
            wallet = -max(wallets)[1]
            granted_at, _, granted = max(grants)
            since = [credits for owner, minute, credits in self.events if owner == account and minute > granted_at]
            expected = granted - sum(since)
            if expected != wallet:
                rows.append(
                    (
                        str(account),
                        "Nova Records" if account == NOVA else "",
                        f"{START + timedelta(minutes=granted_at):%Y-%m-%d %H:%M:%S}+00",
                        *(granted, sum(since), len(since), expected, wallet, expected - wallet),
                    )
                )
        rows.sort(key=lambda row: (-abs(row[-1]), row[0]))
        return [[str(value) for value in row] for row in rows]


@pytest.fixture
def books(tables: Tables) -> Iterator[Tables]:
    yield tables
    tables.empty()


def listed(server: PostgresServer) -> list[list[str]]:
    columns, *rows = csv.reader(io.StringIO(server.psql("--csv", "-f", SCRIPT, database=DATABASE), newline=""))
    assert columns == COLUMNS
    return rows


OWNERS = st.sampled_from([NOVA, ORBIT])
MINUTES = st.integers(0, 3)
CREDITS = st.integers(-3, 3) | st.just(2**40)
BOOKS = st.builds(
    Books,
    st.lists(st.tuples(OWNERS, st.none() | MINUTES, CREDITS), max_size=4),
    st.lists(st.tuples(st.uuids(), OWNERS, MINUTES, CREDITS), max_size=4, unique_by=lambda row: row[0]),
    st.lists(st.tuples(OWNERS, MINUTES, CREDITS), max_size=8),
)


@settings(law, max_examples=40)
@given(random=BOOKS)
def test_reconcile_lists_the_accounts_that_differ(server: PostgresServer, books: Tables, random: Books) -> None:
    random.store(books)
    assert listed(server) == random.differences()


def test_a_charge_without_an_event_is_listed_with_the_missing_credits(server: PostgresServer, books: Tables) -> None:
    Books(
        # the latest counts, then the smallest; one without an instant counts last
        wallets=[(NOVA, 8, 1), (NOVA, 9, 60), (NOVA, 9, 45), (NOVA, None, 7), (ORBIT, 9, 0)],
        # the latest counts, then the greatest id
        grants=[(UUID(int=2), NOVA, 2, 100), (UUID(int=1), NOVA, 2, 999), (UUID(int=3), ORBIT, 0, 0)],
        # 30 of the 55 credits missing from the wallet, and an event at the instant of the grant, which is before it
        events=[(NOVA, 2, 7), (NOVA, 3, 20), (NOVA, 4, 10)],
    ).store(books)
    assert listed(server) == [
        [str(NOVA), "Nova Records", "2026-11-01 00:02:00+00", "100", "30", "2", "70", "45", "25"],
    ]


def test_reconcile_fails_for_a_role_that_cannot_see_all_rows(server: PostgresServer, books: Tables) -> None:
    books.execute(
        "CREATE ROLE auditor; "
        'GRANT SELECT (account_id, remaining_credits, "timestamp") ON public.credits_usage TO auditor; '
        "GRANT SELECT (id, account_id, remaining_credits, created_at) ON public.credit_grants TO auditor; "
        "GRANT SELECT (account_id, created_at, credits_deducted_cents) ON public.usage_events TO auditor; "
        "GRANT SELECT (id, name) ON public.accounts TO auditor"
    )
    try:
        with pytest.raises(EmbeddedPostgresError, match="row-level security"):
            server.psql("-c", "SET ROLE auditor", "-f", SCRIPT, database=DATABASE)
        books.execute("ALTER ROLE auditor BYPASSRLS")
        server.psql("-c", "SET ROLE auditor", "-f", SCRIPT, database=DATABASE)
    finally:
        books.execute("DROP OWNED BY auditor; DROP ROLE auditor")
