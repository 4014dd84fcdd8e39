"""A model of the service in Python: random databases, and the answers that the contract demands for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from conftest import Tables

PERIODS = {"all": None, "daily": 1, "weekly": 7, "monthly": 30}
COLUMNS = {"model": "model_id", "provider": "provider", "source": "source", "agent_type": "agent_type"}
TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens", "tool_call_count")
INTEGER_MAX = 2**31 - 1
MICROSECOND = timedelta(microseconds=1)
Rows = list[dict[str, Any]]
ECHOED = ("by", "account_id", *COLUMNS)
# Which changes are listed.
ONLY: dict[str, Callable[[dict[str, Any]], bool]] = {
    "": lambda _: True,
    "started": lambda row: row["previous_event_count"] == 0,
    "stopped": lambda row: row["event_count"] == 0,
    "up": lambda row: row["change_credits_deducted_cents"] > 0,
    "down": lambda row: row["change_credits_deducted_cents"] < 0,
}
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


@dataclass(frozen=True)
class Window:
    """The edges that a request means: ``since``, inclusive, is None without a cutoff; ``until`` is exclusive.

    ``arguments`` ask for it.
    """

    arguments: dict[str, str]
    since: datetime | None
    until: datetime
    last_moment: datetime

    @property
    def period(self) -> str:
        return self.arguments.get("period", "custom")

    @property
    def previous(self) -> tuple[datetime, datetime] | None:
        """The edges of the same span, earlier."""
        if self.since is None:
            return None
        shift = timedelta(days=PERIODS.get(self.period) or 0) or self.until - self.since
        return self.since - shift, self.until - shift


def window(
    now: datetime, period: str = "custom", as_of: datetime | None = None, since: datetime | None = None
) -> Window:
    """Return the window of a period, or from ``since`` if there is none."""
    last_moment = as_of - MICROSECOND if as_of else now
    given = {"as_of": as_of, "since": since}
    arguments = {name: instant.isoformat() for name, instant in given.items() if instant}
    if since is None:
        arguments["period"] = period
        since = window_start(period, last_moment)
    return Window(arguments, since, as_of or now, last_moment.astimezone(UTC))


def window_start(period: str, last_moment: datetime) -> datetime | None:
    days = PERIODS[period]
    midnight = datetime(last_moment.year, last_moment.month, last_moment.day, tzinfo=UTC)
    return None if days is None else midnight - timedelta(days=days - 1)


def between(rows: Rows, since: datetime | None, until: datetime) -> Rows:
    return [row for row in rows if (since is None or row["created_at"] >= since) and row["created_at"] < until]


def of(rows: Rows, account_id: UUID | None) -> Rows:
    return [row for row in rows if account_id in (None, row["account_id"])]


def filtered(events: Rows, filters: dict[str, str]) -> Rows:
    """Return the events that match every filter. An empty filter matches events whose value is null or empty."""
    return [event for event in events if all((event[COLUMNS[name]] or "") == value for name, value in filters.items())]


def grouped(events: Rows, key: Callable[[dict[str, Any]], Any]) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = {}
    for event in events:
        groups.setdefault(key(event), []).append(event)
    return groups


def sums(events: Rows, *columns: str) -> dict[str, int]:
    return {
        "total_credits_deducted_cents": sum(event["credits_deducted_cents"] for event in events),
        "event_count": len(events),
        **{name: sum(event[name] for event in events) for name in columns},
    }


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


def found(content: Content, q: str) -> set[UUID]:
    """Return the accounts that ``q`` finds by name, address or id; letters beyond ASCII are not modelled."""
    text = q.lower()
    named = {id_ for id_, name in content.accounts if text in (name or "").lower()}
    named |= {id_ for id_, email, _ in content.emails if id_ and text in (email or "").lower()}
    return named | {id_ for id_, _ in content.accounts if len(q) >= 8 and str(id_).startswith(text)}


def previous_of(asked: Window, compare: str) -> tuple[datetime, datetime] | None:
    """Return the edges of the window to compare with."""
    if "/" in compare:
        start, end = (datetime.fromisoformat(edge) for edge in compare.split("/"))
        return start, end
    return asked.previous


def sum_rows(
    content: Content, asked: Window, resource: str, by: str, account_id: UUID | None, compare: str, q: str
) -> Rows:
    """Return all rows of the rollup, the changes or the breakdown, in order."""
    column = COLUMNS[by] if resource == "breakdown" else "account_id"
    previous = previous_of(asked, compare)
    events = of(content.events, account_id)
    if q:
        accounts = found(content, q)
        events = [event for event in events if event["account_id"] in accounts]
    spent = grouped(between(events, asked.since, asked.until), itemgetter(column))
    before = grouped(between(events, *previous), itemgetter(column)) if previous else {}
    keys = {*spent, *before} if resource == "changes" else {*spent}
    rows = []
    for key in sorted(keys, key=lambda key: (key is None, key)):
        row = {"key": key} if resource == "breakdown" else account_columns(content, key)
        row |= sums(spent.get(key, []), *(TOKENS if resource == "breakdown" else ()))
        if compare or resource == "changes":
            row |= {f"previous_{name.removeprefix('total_')}": n for name, n in sums(before.get(key, [])).items()}
        if resource == "changes":
            change = row["total_credits_deducted_cents"] - row["previous_credits_deducted_cents"]
            row["change_credits_deducted_cents"] = change
        rows.append(row)
    if resource == "changes":
        return sorted(rows, key=lambda row: -abs(row["change_credits_deducted_cents"]))
    return sorted(rows, key=lambda row: -row["total_credits_deducted_cents"])


def day_rows(content: Content, asked: Window, account_id: UUID | None) -> Rows:
    """Return all days, without gaps from the start of the window, or the first event since 2000, to its last day."""
    events = of(between(content.events, asked.since, asked.until), account_id)
    dated = grouped(events, lambda event: event["created_at"].astimezone(UTC).date())
    first = (
        asked.since.astimezone(UTC).date() if asked.since else min((d for d in dated if d.year >= 2000), default=None)
    )
    last = asked.last_moment.date()
    gaps = [first + timedelta(days=step) for step in range((last - first).days + 1)] if first else []
    return [{"day": day.isoformat(), **sums(dated.get(day, []))} for day in sorted({*gaps, *dated})]


def bucket_start(instant: datetime, bucket: str) -> datetime:
    midnight = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "hour": instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0),
        "day": midnight,
        "week": midnight - timedelta(days=midnight.weekday()),
        "month": midnight.replace(day=1),
    }[bucket]


def series_rows(content: Content, asked: Window, by: str, bucket: str, top: int, account_id: UUID | None) -> Rows:
    """Return the buckets that have events, of the keys with the most credits and of the rest."""
    events = of(between(content.events, asked.since, asked.until), account_id)
    keyed = grouped(events, itemgetter(COLUMNS[by]) if by else lambda _: None)
    ranked = sorted(keyed, key=lambda key: (-sums(keyed[key])["total_credits_deducted_cents"], key is None, key))
    places = {key: min(place, top) for place, key in enumerate(ranked)}
    cells = grouped(
        events,
        lambda event: (bucket_start(event["created_at"], bucket), places[event[COLUMNS[by]] if by else None]),
    )
    return [
        {
            "start": start.isoformat(timespec="microseconds"),
            "key": ranked[place] if place < top else None,
            "rest": place == top,
            **sums(cells[start, place]),
        }
        for start, place in sorted(cells)
    ]


def newest_first(rows: Rows, asked: Window, account_id: UUID | None) -> Rows:
    mine = of(between(rows, asked.since, asked.until), account_id)
    return sorted(mine, key=lambda row: (row["created_at"], row["id"]), reverse=True)


def event_rows(content: Content, asked: Window, account_id: UUID | None, sort: str) -> Rows:
    """Return all events of an account, newest first or most credits first."""
    events = newest_first(content.events, asked, account_id)
    if sort == "credits":
        events.sort(key=lambda event: -event["credits_deducted_cents"])
    return [{name: value for name, value in spelled(event).items() if name != "account_id"} for event in events]


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


def rows(
    content: Content,
    asked: Window,
    resource: str,
    by: str = "",
    account_id: UUID | None = None,
    compare: str = "",
    sort: str = "created_at",
    q: str = "",
    only: str = "",
    bucket: str = "day",
    top: int = 8,
    **filters: str,
) -> Rows:
    """Return all rows of a list, in order."""
    content = replace(content, events=filtered(content.events, filters))
    if resource == "series":
        return series_rows(content, asked, by, bucket, top, account_id)
    if resource == "days":
        return day_rows(content, asked, account_id)
    if resource == "events":
        return event_rows(content, asked, account_id, sort)
    whole = sum_rows(content, asked, resource, by, account_id, compare, q)
    return [row for row in whole if ONLY[only](row)]


def answer(
    content: Content, asked: Window, resource: str, limit: int = 100, page: int = 1, **arguments: Any
) -> dict[str, Any]:
    """Return the body of an answer; ``arguments`` are those of rows(), and ``totals``."""
    totals = arguments.pop("totals", None)
    whole = rows(content, asked, resource, **arguments)
    on_page = whole[(page - 1) * limit : page * limit]
    body = {"status": "success", "period": asked.period, "total_count": len(whole)}
    body |= spelled({name: value for name, value in arguments.items() if name in ECHOED})
    if totals:
        previous = ("previous_credits_deducted_cents", "previous_event_count")
        names = ["total_credits_deducted_cents", "event_count"]
        names += previous if resource == "changes" or "compare" in arguments else ()
        names += ["change_credits_deducted_cents"] if resource == "changes" else []
        body["totals"] = {name: sum(row[name] for row in whole) for name in names}
    if resource == "series":
        body |= {"bucket": "day", "top": 8, **arguments, "rows": whole}
        body |= spelled({name: value for name, value in arguments.items() if name == "account_id"})
    elif resource == "days":
        body["days"] = whole
    else:
        body |= {"page": page, "limit": limit, ("events" if resource == "events" else "rows"): on_page}
    if resource in ("days", "events") and "account_id" in arguments:
        body["account"] = account(content, arguments["account_id"])
    if resource == "events":
        grants = newest_first(content.grants, asked, arguments["account_id"])
        body["grants"] = [spelled(grant) for grant in grants[:500]]
    return body


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
def windows(draw: st.DrawFn, content: Content) -> Window:
    """Return a window of any kind: a period or a start of its own, up to now or to an instant before."""
    as_of = draw(st.none() | instants_around(content.now).map(lambda instant: min(instant, content.now)))
    period = draw(st.sampled_from([*PERIODS, "custom"]))
    if period != "custom":
        return window(content.now, period, as_of)
    end = as_of or content.now
    starts = [start for event in content.events if (start := event["created_at"]).year >= 1970 and start < end]
    return window(
        content.now, as_of=as_of, since=draw(st.sampled_from([*starts, end - MICROSECOND, end - timedelta(days=3)]))
    )


@st.composite
def contents(draw: st.DrawFn, largest: int = 2**63 - 1, *, orphans: bool = True) -> Content:
    """Return a random database: ties, accounts without names, shared and missing addresses, totals beyond 2^31.

    ``largest`` limits the credits of an event: to the type of the column, or so that the sums can store their sum.
    With ``orphans`` some events are of accounts that do not exist.
    """
    now = draw(NOWS)
    # Without a least size most databases are almost empty.
    fewest = draw(st.sampled_from([0, 3]))
    account = st.tuples(st.uuids(), st.none() | TEXTS)
    accounts = draw(st.lists(account, min_size=fewest, max_size=8, unique_by=lambda row: row[0]))
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
    events = (
        draw(st.lists(event, min_size=2 * fewest, max_size=30, unique_by=lambda row: row["id"])) if spenders else []
    )
    grants = draw(st.lists(grant, max_size=8, unique_by=lambda row: row["id"])) if accounts else []
    return Content(now, accounts, emails, events, grants)
