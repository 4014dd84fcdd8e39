"""Who spends the credits."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from service.database.snapshot import Row, Snapshot
from service.endpoint import ApiBlueprint
from service.listing import List
from service.question import Question
from service.schemas.requests import (
    BreakdownArguments,
    ChangesArguments,
    DaysArguments,
    EventsArguments,
    RollupArguments,
)
from service.schemas.responses import (
    COMPARED,
    BreakdownEnvelope,
    ChangesEnvelope,
    DaysEnvelope,
    EventsEnvelope,
    RollupEnvelope,
)

# Rows of an export that are compared at a time.
BATCH = 2_000

blueprint = ApiBlueprint("credits", __name__, url_prefix="/api/admins/credits")


@blueprint.list("/rollup", RollupArguments(), RollupEnvelope())
def rollup(snapshot: Snapshot, question: Question) -> List:
    """List the accounts that spent credits in a window, most credits first.

    An account is listed if it has an event in the window, also when its total is 0 or negative. Of equal totals, the
    one with the smaller account_id comes first.
    """
    query = "credits_rollup_search" if "search" in question.arguments else "credits_rollup"
    found = page_of(snapshot, question, query, f"{query}_count")
    if not question.previous:
        return found
    # nothing is looked up for an empty page
    queries = (*found.queries, "credits_rollup_previous") if found.rows else found.queries
    return List((*found.columns, *COMPARED), compared(snapshot, question, found.rows), found.total_count, queries)


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
    """List the accounts that spent credits in a window or in the previous one, the largest change first.

    The previous window is the same window one period earlier; with since, it has the length of the window and ends at
    since. A change can be up or down. Of equal ones, the one with the smaller account_id comes first.
    """
    if "search" in question.arguments:
        return page_of(snapshot, question, "credits_changes_search", "credits_changes_search_count")
    # Without the filter an account is counted without its credits, which is faster.
    count = "credits_changes_only_count" if "only" in question.arguments else "credits_changes_count"
    return page_of(snapshot, question, "credits_changes", count)


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


def page_of(snapshot: Snapshot, question: Question, query: str, count: str) -> List:
    """Read the rows of a query file that are asked for, and unless these are all, how many there are on all pages.

    The file ``count`` is not run where the envelope's page shows the number: a page with fewer rows than ``limit`` is
    the last, if it has rows or is the first.
    """
    columns, parameters = snapshot.columns_of(query), question.parameters
    if not question.is_paged:
        return List(columns, snapshot.stream(query, parameters), None, (query,))
    rows = snapshot.rows(query, parameters)
    if len(rows) < parameters["limit"] and (rows or not parameters["offset"]) and not question.only_rows:
        return List(columns, rows, parameters["offset"] + len(rows), (query,))
    ((total_count,),) = snapshot.rows(count, parameters)
    return List(columns, rows, total_count, (query, count))
