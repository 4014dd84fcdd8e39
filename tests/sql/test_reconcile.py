"""sql/dba/reconcile.sql lists the accounts whose balance differs from their last grant and the events since."""

import csv
import io
from uuid import UUID

import pytest

from conftest import DATABASE, NOVA, ORBIT, SQL, Tables
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

SCRIPT = SQL / "dba" / "reconcile.sql"
COLUMNS = [
    "account_id", "account_name", "last_grant_at", "granted_credits", "credits_since", "event_count_since",
    "expected_credits", "wallet_credits", "unexplained_credits",
]  # fmt: skip
# Accounts without a name: two with more than they should have, two of which nothing can be said.
RICH, RICHER, UNGRANTED, WITHOUT_WALLET = (UUID(int=number) for number in range(1, 5))


def at(minute: int) -> str:
    return f"2026-11-01 00:{minute:02}:00+00"


def test_reconcile_lists_the_accounts_that_differ_most_first(server: PostgresServer, tables: Tables) -> None:
    tables.account(NOVA, "Nova Records")
    for account in (ORBIT, RICH, RICHER, UNGRANTED, WITHOUT_WALLET):
        tables.account(account)
    tables.insert(
        "credits_usage",
        'account_id, "timestamp", remaining_credits',
        [
            # the latest counts, then the smallest; one without an instant counts last
            *((NOVA, at(8), 1), (NOVA, at(9), 60), (NOVA, at(9), 45), (NOVA, None, 7)),
            (ORBIT, at(9), 0),
            (RICH, None, 2**40),
            (RICHER, at(9), -8),
            (UNGRANTED, at(9), 1),
        ],
    )
    tables.insert(
        "credit_grants",
        "id, account_id, granted_by, reason, created_at, remaining_credits",
        [
            (UUID(int=id_), account, NOVA, "", at(minute), credits)
            for id_, account, minute, credits in (
                # the latest counts, then the greatest id
                *((4, NOVA, 1, 500), (2, NOVA, 2, 100), (1, NOVA, 2, 999)),
                (3, ORBIT, 0, 0),
                (5, RICH, 0, 0),
                (6, RICHER, 0, -33),
                (7, WITHOUT_WALLET, 0, 1),
            )
        ],
    )
    # 30 of the 55 credits missing from the wallet, and an event at the instant of the grant, which is before it
    for minute, credits in ((2, 7), (3, 20), (4, 10)):
        tables.event(NOVA, credits, at(minute))
    columns, *rows = csv.reader(io.StringIO(server.psql("--csv", "-f", SCRIPT, database=DATABASE), newline=""))
    assert columns == COLUMNS
    assert rows == [
        [str(RICH), "", at(0), "0", "0", "0", "0", str(2**40), str(-(2**40))],
        # the same difference: the smaller id first
        [str(RICHER), "", at(0), "-33", "0", "0", "-33", "-8", "-25"],
        [str(NOVA), "Nova Records", at(2), "100", "30", "2", "70", "45", "25"],
    ]


def test_reconcile_fails_for_a_role_that_cannot_see_all_rows(server: PostgresServer, tables: Tables) -> None:
    tables.execute(
        "CREATE ROLE auditor; "
        'GRANT SELECT (account_id, remaining_credits, "timestamp") ON public.credits_usage TO auditor; '
        "GRANT SELECT (id, account_id, remaining_credits, created_at) ON public.credit_grants TO auditor; "
        "GRANT SELECT (account_id, created_at, credits_deducted_cents) ON public.usage_events TO auditor; "
        "GRANT SELECT (id, name) ON public.accounts TO auditor"
    )
    try:
        with pytest.raises(EmbeddedPostgresError, match="row-level security"):
            server.psql("-c", "SET ROLE auditor", "-f", SCRIPT, database=DATABASE)
        tables.execute("ALTER ROLE auditor BYPASSRLS")
        server.psql("-c", "SET ROLE auditor", "-f", SCRIPT, database=DATABASE)
    finally:
        tables.execute("DROP OWNED BY auditor; DROP ROLE auditor")
