"""A model of the service in Python: random databases, and the answers that the contract demands for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from conftest import Tables

PERIODS = {"all": None, "daily": 1, "weekly": 7, "monthly": 30}
INTEGER_MAX = 2**31 - 1
MICROSECOND = timedelta(microseconds=1)
# Settings of the property tests. Each example empties the tables itself.
law = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@contextmanager
def foreign_keys_bypassed(tables: Tables) -> Iterator[None]:
    """Check no foreign key, as where changes arrive by logical replication."""
    tables.execute("SET session_replication_role = replica")
    try:
        yield
    finally:
        tables.execute("RESET session_replication_role")


@dataclass
class Content:
    """The rows of all tables, and the current time. Events may be of accounts that do not exist."""

    now: datetime
    accounts: list[tuple[UUID, str | None]]
    emails: list[tuple[UUID | None, str | None, datetime]]
    events: list[dict[str, Any]]
    grants: list[dict[str, Any]] = field(default_factory=list)

    def store(self, tables: Tables) -> None:
        """Replace the rows of the tables by these and the admin."""
        tables.empty()
        tables.seed_admin()
        tables.fix_now(self.now)
        tables.insert("accounts", "id, name", self.accounts)
        tables.insert("account_emails", "account_id, email, updated_at", self.emails)
        existing = {id_ for id_, _ in self.accounts}
        insert(tables, "usage_events", [event for event in self.events if event["account_id"] in existing])
        with foreign_keys_bypassed(tables):
            insert(tables, "usage_events", [event for event in self.events if event["account_id"] not in existing])
        insert(tables, "credit_grants", self.grants)


def insert(tables: Tables, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        columns = sorted(rows[0])
        tables.insert(table, ", ".join(columns), [tuple(row[column] for column in columns) for row in rows])


def window_start(period: str, last_moment: datetime) -> datetime | None:
    days = PERIODS[period]
    midnight = datetime(last_moment.year, last_moment.month, last_moment.day, tzinfo=UTC)
    return None if days is None else midnight - timedelta(days=days - 1)


def in_window(
    rows: list[dict[str, Any]], period: str, now: datetime, as_of: datetime | None = None
) -> list[dict[str, Any]]:
    start = window_start(period, as_of - MICROSECOND if as_of else now)
    return [row for row in rows if (start is None or row["created_at"] >= start) and row["created_at"] < (as_of or now)]


def rollup_rows(content: Content, period: str, as_of: datetime | None = None) -> list[dict[str, Any]]:
    """Return all rows of the rollup, in order."""
    totals: dict[UUID, list[int]] = {}
    for event in in_window(content.events, period, content.now, as_of):
        totals.setdefault(event["account_id"], []).append(event["credits_deducted_cents"])
    ranked = sorted(totals, key=lambda id_: (-sum(totals[id_]), id_))
    return [
        {
            **account_columns(content, id_),
            "total_credits_deducted_cents": sum(totals[id_]),
            "event_count": len(totals[id_]),
        }
        for id_ in ranked
    ]


def account(content: Content, id_: UUID) -> dict[str, Any] | None:
    return account_columns(content, id_) if id_ in dict(content.accounts) else None


def account_columns(content: Content, id_: UUID) -> dict[str, Any]:
    """Return the first columns of a row of the rollup; without a name if there is no such account."""
    name = dict(content.accounts).get(id_)
    return {"account_id": str(id_), "account_name": name, "account_email": primary_address(content, id_)}


def primary_address(content: Content, account: UUID) -> str | None:
    addresses = [(updated, email) for owner, email, updated in content.emails if owner == account and email is not None]
    newest = max((updated for updated, _ in addresses), default=None)
    return min((email for updated, email in addresses if updated == newest), default=None)


def rollup_body(content: Content, period: str, limit: int, page: int, as_of: datetime | None = None) -> dict[str, Any]:
    rows = rollup_rows(content, period, as_of)
    on_page = rows[(page - 1) * limit : page * limit]
    total_count = len(rows)
    if period == "all" and (len(on_page) == limit or (page > 1 and not on_page)):
        # not shown by the page, and without a cutoff only accounts that exist are counted
        total_count = sum(account(content, UUID(row["account_id"])) is not None for row in rows)
    return {
        "status": "success",
        "period": period,
        "page": page,
        "limit": limit,
        "total_count": total_count,
        "rows": on_page,
    }


def spelled(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it stands in JSON: UUIDs as text, times in UTC with six fractional digits."""
    return {
        name: value.astimezone(UTC).isoformat(timespec="microseconds")
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, UUID)
        else value
        for name, value in row.items()
    }


def events_body(
    content: Content, account_id: UUID, period: str, limit: int, page: int, as_of: datetime | None = None
) -> dict[str, Any]:
    def newest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        mine = [row for row in in_window(rows, period, content.now, as_of) if row["account_id"] == account_id]
        return sorted(mine, key=lambda row: (row["created_at"], row["id"]), reverse=True)

    events = newest_first(content.events)
    return {
        "status": "success",
        "account_id": str(account_id),
        "period": period,
        "page": page,
        "limit": limit,
        "total_count": len(events),
        "account": account(content, account_id),
        "events": [
            {name: value for name, value in spelled(event).items() if name != "account_id"}
            for event in events[(page - 1) * limit : page * limit]
        ],
        "grants": [spelled(grant) for grant in newest_first(content.grants)[:500]],
    }


def days_body(
    content: Content, period: str, account_id: UUID | None = None, as_of: datetime | None = None
) -> dict[str, Any]:
    events = [
        event
        for event in in_window(content.events, period, content.now, as_of)
        if account_id is None or event["account_id"] == account_id
    ]
    last_moment = as_of - MICROSECOND if as_of else content.now
    dated = [event["created_at"].astimezone(UTC).date() for event in events]
    start = window_start(period, last_moment)
    first = start.date() if start else min((day for day in dated if day.year >= 2000), default=None)
    gaps = [first + timedelta(days=step) for step in range((last_moment.date() - first).days + 1)] if first else []
    days = sorted({*gaps, *dated})
    return {
        "status": "success",
        **({"account_id": str(account_id)} if account_id else {}),
        "period": period,
        "total_count": len(days),
        **({"account": account(content, account_id)} if account_id else {}),
        "days": [
            {
                "day": day.isoformat(),
                "total_credits_deducted_cents": sum(
                    event["credits_deducted_cents"] for event, on in zip(events, dated, strict=True) if on == day
                ),
                "event_count": dated.count(day),
            }
            for day in days
        ],
    }


# Times at which off-by-one errors show: midnight, the microsecond before, a leap day, new year, both changes of clocks.
NOWS = st.sampled_from(
    [
        datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        datetime(2026, 11, 22, tzinfo=UTC),
        datetime(2026, 11, 22, tzinfo=UTC) - MICROSECOND,
        datetime(2028, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(2026, 11, 1, 6, 0, tzinfo=UTC),
    ]
)
# Days between them and the others are not listed.
OUTLYING = st.sampled_from([datetime(year, 12, 31, tzinfo=UTC) for year in (1, 1999, 9999)])
# PostgreSQL stores neither NUL nor half of a surrogate pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


def instants_around(now: datetime) -> st.SearchStrategy[datetime]:
    """Return instants around every edge of a window, and others in the past and the future."""
    edges = [start for period in PERIODS if (start := window_start(period, now))]
    edges += [now + timedelta(days=days) for days in (1, 0, -1, -7, -30)]
    near = st.sampled_from([edge + step * MICROSECOND for edge in edges for step in (-1, 0, 1)])
    return near | st.integers(-100 * 86_400_000_000, 86_400_000_000).map(lambda n: now + timedelta(microseconds=n))


@st.composite
def contents(draw: st.DrawFn, largest: int = 2**63 - 1, *, orphans: bool = True) -> Content:
    """Return a random database: ties, accounts without names, shared and missing addresses, totals beyond 2^31.

    ``largest`` limits the credits of an event: to the type of the column, or so that the sums can store their sum.
    With ``orphans`` some events are of accounts that do not exist.
    """
    now = draw(NOWS)
    accounts = draw(st.lists(st.tuples(st.uuids(), st.none() | TEXTS), max_size=8, unique_by=lambda row: row[0]))
    spenders = [id_ for id_, _ in accounts]
    if orphans:
        accounts = accounts[draw(st.integers(0, 2)) :]
    ids = st.sampled_from([id_ for id_, _ in accounts]) if accounts else st.nothing()
    updated = st.sampled_from([now, now - timedelta(days=1), now - timedelta(days=400)])
    emails = draw(
        st.lists(
            st.tuples(st.none() | ids, st.none() | TEXTS, updated),
            max_size=16,
            unique_by=lambda row: row[1] if row[1] is not None else object(),
        )
    )
    # In half of the databases, most totals are equal.
    ties = st.sampled_from([0, 1])
    credits = (
        ties
        if draw(st.booleans())
        else ties | st.sampled_from([-2, largest, -largest]) | st.integers(-largest, largest)
    )
    tokens = st.integers(0, INTEGER_MAX)
    event = st.fixed_dictionaries(
        {
            "id": TEXTS,
            "created_at": instants_around(now) | OUTLYING,
            "source": st.sampled_from(["web", "api"]),
            "agent_type": st.sampled_from(["main", "subagent"]),
            "provider": st.none() | TEXTS,
            "model_id": st.none() | TEXTS,
            "input_tokens": tokens,
            "cached_input_tokens": tokens,
            "output_tokens": tokens,
            "tool_call_count": tokens,
            "credits_deducted_cents": credits,
            "account_id": st.sampled_from(spenders) if spenders else st.nothing(),
        }
    )
    grant = st.fixed_dictionaries(
        {
            "id": st.uuids(),
            "account_id": ids,
            "created_at": instants_around(now),
            "granted_by": ids,
            "reason": TEXTS,
            "previous_credits": st.none() | st.integers(-(2**62), 2**62),
            "remaining_credits": st.integers(-(2**62), 2**62),
        }
    )
    events = draw(st.lists(event, max_size=30, unique_by=lambda row: row["id"])) if spenders else []
    grants = draw(st.lists(grant, max_size=8, unique_by=lambda row: row["id"])) if accounts else []
    return Content(now, accounts, emails, events, grants)
