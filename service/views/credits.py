"""Who spends the credits."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from service.database.snapshot import Row, Snapshot
from service.endpoint import ApiBlueprint
from service.errors import BadParameters
from service.listing import List
from service.question import Question
from service.schemas.requests import (
    BreakdownArguments,
    ChangesArguments,
    DaysArguments,
    EventsArguments,
    RollupArguments,
    SeriesArguments,
)
from service.schemas.responses import (
    COMPARED,
    BreakdownEnvelope,
    ChangesEnvelope,
    DaysEnvelope,
    EventsEnvelope,
    RollupEnvelope,
    SeriesEnvelope,
)

# Rows of an export that are compared at a time.
BATCH = 2_000
MOST_ROWS_OF_A_SERIES = 20_000

blueprint = ApiBlueprint("credits", __name__, url_prefix="/api/admins/credits")


@blueprint.list("/rollup", RollupArguments(), RollupEnvelope())
def rollup(snapshot: Snapshot, question: Question) -> List:
    """List the accounts that spent credits in a window, most credits first.

    An account is listed if it has an event in the window, also when its total is 0 or negative. Of equal totals, the
    one with the smaller account_id comes first.
    """
    # The totals need the sums of each account, which are not read to count the accounts.
    count = "credits_changes_count" if question.with_totals else "credits_rollup_count"
    found = page_of(snapshot, question, "credits_rollup", count, only="spending")
    if not question.previous:
        return found
    # nothing is looked up for an empty page
    queries = (*found.queries, "credits_rollup_previous") if found.rows else found.queries
    return replace(
        found, columns=(*found.columns, *COMPARED), rows=compared(snapshot, question, found.rows), queries=queries
    )


@blueprint.list("/breakdown", BreakdownArguments(), BreakdownEnvelope())
def breakdown(snapshot: Snapshot, question: Question) -> List:
    """List on which models, providers, sources or agent types credits were spent in a window, most credits first.

    Equal totals are in the order of their keys, null last. Without account_id, the sums over all keys are those of the
    rollup of the same window.
    """
    query = "credits_breakdown_compared" if question.previous else "credits_breakdown"
    return page_of(snapshot, question, query, "credits_breakdown_count")


@blueprint.list("/changes", ChangesArguments(), ChangesEnvelope())
def changes(snapshot: Snapshot, question: Question) -> List:
    """List the accounts that spent credits in a window or in the one to compare with, the largest change first.

    A change can be up or down. Of equal ones, the one with the smaller account_id comes first.
    """
    return page_of(snapshot, question, "credits_changes", "credits_changes_count")


@blueprint.list("/series", SeriesArguments(), SeriesEnvelope())
def series(snapshot: Snapshot, question: Question) -> List:
    """List the credits spent in each hour, day, week or month of a window, oldest first, also split by a key.

    The keys with the most credits in the window have rows of their own, in the order of the breakdown; the others are
    added up in one row, the rest. A bucket or a key in it without events has no row. The list has no pages; one of more
    than 20,000 rows is refused.
    """
    query = "credits_series"
    rows = snapshot.rows(query, {**question.parameters, "limit": MOST_ROWS_OF_A_SERIES + 1})
    if len(rows) > MOST_ROWS_OF_A_SERIES:
        raise BadParameters({"bucket": f"must be larger, because there are more than {MOST_ROWS_OF_A_SERIES} rows"})
    return List(snapshot.columns_of(query), rows, None, (query,))


@blueprint.list("/events", EventsArguments(), EventsEnvelope())
def events(snapshot: Snapshot, question: Question) -> List:
    """List the usage events of one account in a window, newest or most credits first, and its 500 newest grants.

    A grant is a balance that staff set by hand, in the same window. Grants have no pages, and CSV has only the events.
    """
    found = page_of(snapshot, question, "credits_events", "credits_events_count")
    if question.only_rows:
        return found
    grants = snapshot.records("credits_grants", **question.parameters)
    return with_account(snapshot, question, found, "credits_grants", grants=grants)


@blueprint.list("/days", DaysArguments(), DaysEnvelope())
def days(snapshot: Snapshot, question: Question) -> List:
    """List the credits spent on each UTC day of a window, oldest first, by one account or by all together.

    A day without events has zeros. The list begins with the day on which the window starts. In a window without a start
    it begins with the first event since 2000, and earlier days are listed only if they have events. It has no pages.
    """
    read = snapshot.stream if question.only_rows else snapshot.rows
    found = List(
        snapshot.columns_of("credits_days"), read("credits_days", question.parameters), None, ("credits_days",)
    )
    if question.only_rows or "account_id" not in question.arguments:
        return found
    return with_account(snapshot, question, found)


def with_account(snapshot: Snapshot, question: Question, found: List, *queries: str, **beside: Any) -> List:
    """Add the key ``account``, None if there is no such account, and what else is beside the rows."""
    beside["account"] = next(iter(snapshot.records("credits_account", **question.parameters)), None)
    return List(found.columns, found.rows, found.total_count, (*found.queries, *queries, "credits_account"), beside)


def compared(snapshot: Snapshot, question: Question, rows: Iterable[Row]) -> Iterator[Row]:
    """Add to rows that begin with an account what it spent in the previous window; look up no other account."""
    rest = iter(rows)
    while batch := list(islice(rest, BATCH)):
        account_ids = f"{{{','.join(row[0] for row in batch)}}}"
        spent = snapshot.rows("credits_rollup_previous", {**question.parameters, "account_ids": account_ids})
        previous = {account: sums for account, *sums in spent}
        for row in batch:
            yield (*row, *previous.get(row[0], (0, 0)))


def page_of(snapshot: Snapshot, question: Question, query: str, count: str, **more: str) -> List:
    """Read the rows of a query file that are asked for, and unless these are all, how many there are on all pages.

    The file ``count`` is run with ``more`` parameters. It is not run where the envelope's page shows the number: a page
    with fewer rows than ``limit`` is the last, if it has rows or is the first.
    """
    columns, parameters = snapshot.columns_of(query), question.parameters
    if not question.is_paged:
        return List(columns, snapshot.stream(query, parameters), None, (query,))
    rows = snapshot.rows(query, parameters)
    is_last = len(rows) < parameters["limit"] and (rows or not parameters["offset"])
    if is_last and not question.only_rows and not question.with_totals:
        return List(columns, rows, parameters["offset"] + len(rows), (query,))
    (counted,) = snapshot.records(count, **{**parameters, **more})
    total_count = counted.pop("total_count")
    if not question.with_totals:
        return List(columns, rows, total_count, (query, count))
    shown = {*columns, *COMPARED} if question.previous else {*columns}
    totals = {name: total for name, total in counted.items() if name in shown}
    return List(columns, rows, total_count, (query, count), {"totals": totals})
