"""Who spends the credits."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from flask import Blueprint, request

from service.endpoint import Found, Question, endpoint
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
from service.snapshot import Snapshot

ALL_ROWS = {"limit": 2**63 - 1, "offset": 0}
# Rows of an export that are compared at a time.
BATCH = 2_000
NOTHING = dict.fromkeys(COMPARED, 0)

blueprint = Blueprint("credits", __name__, url_prefix="/api/admins/credits")


@blueprint.get("/rollup")
@endpoint(RollupArguments(), RollupEnvelope())
def rollup(snapshot: Snapshot, question: Question) -> Found:
    """List the accounts that spent credits in a window, most credits first."""
    query = "credits_rollup_search" if "search" in question.arguments else "credits_rollup"
    found = page_of(snapshot, question, query, f"{query}_count")
    return compared(snapshot, question, found) if "compare" in question.arguments else found


@blueprint.get("/breakdown")
@endpoint(BreakdownArguments(), BreakdownEnvelope())
def breakdown(snapshot: Snapshot, question: Question) -> Found:
    """List on which models, providers, sources or agent types credits were spent in a window, most credits first."""
    query = "credits_breakdown_compared" if "compare" in question.arguments else "credits_breakdown"
    return page_of(snapshot, question, query, "credits_breakdown_count")


@blueprint.get("/changes")
@endpoint(ChangesArguments(), ChangesEnvelope())
def changes(snapshot: Snapshot, question: Question) -> Found:
    """List the accounts that spent credits in a window or in the previous one, the largest change first."""
    return page_of(snapshot, question, "credits_changes", "credits_changes_count")


@blueprint.get("/events")
@endpoint(EventsArguments(), EventsEnvelope())
def events(snapshot: Snapshot, question: Question) -> Found:
    """List the usage events of one account in a window, newest first, and its 500 newest grants."""
    found = page_of(snapshot, question, "credits_events", "credits_events_count")
    if question.as_csv:
        return found
    grants = snapshot.rows("credits_grants", **question.parameters)
    return Found(found.rows, found.total_count, {"grants": grants, **account_of(snapshot, question)})


@blueprint.get("/days")
@endpoint(DaysArguments(), DaysEnvelope())
def days(snapshot: Snapshot, question: Question) -> Found:
    """List the credits spent on each UTC day of a window, oldest first, by one account or by all together."""
    if question.as_csv:
        return Found(snapshot.stream("credits_days", **question.parameters), None)
    rows = snapshot.rows("credits_days", **question.parameters)
    return Found(rows, len(rows), account_of(snapshot, question))


def account_of(snapshot: Snapshot, question: Question) -> dict[str, Any]:
    """Return the key ``account`` of an envelope, None if there is no such account; no key without ``account_id``."""
    if "account_id" not in question.arguments:
        return {}
    return {"account": next(iter(snapshot.rows("credits_account", **question.parameters)), None)}


def compared(snapshot: Snapshot, question: Question, found: Found) -> Found:
    """Add to rows that begin with an account what it spent in the previous window; look up no other account."""
    account: Any = 0 if question.as_csv else "account_id"

    def rows() -> Iterator[Any]:
        rest = iter(found.rows)
        while batch := list(islice(rest, BATCH)):
            account_ids = ",".join(row[account] for row in batch)
            spent = snapshot.rows("credits_rollup_previous", account_ids=f"{{{account_ids}}}", **question.parameters)
            previous = {row.pop("account_id"): row for row in spent}
            for row in batch:
                sums = previous.get(row[account], NOTHING)
                yield (*row, *sums.values()) if question.as_csv else row | sums

    return Found(rows(), found.total_count)


def page_of(snapshot: Snapshot, question: Question, query: str, count: str) -> Found:
    """Read the requested page of a query file's rows, and how many rows there are on all pages.

    As CSV read all rows, uncounted, unless ``limit`` or ``page`` is given. The file ``count`` is not run where the page
    shows the number: a page with fewer rows than ``limit`` is the last, if it has rows or is the first.
    """
    limit = question.arguments["limit"]
    parameters = question.parameters | {"limit": limit, "offset": (question.arguments["page"] - 1) * limit}
    if question.as_csv and request.args.keys().isdisjoint(("limit", "page")):
        return Found(snapshot.stream(query, **parameters | ALL_ROWS), None)
    if question.as_csv:
        return Found(snapshot.stream(query, **parameters), count_of(snapshot, count, parameters))
    rows = snapshot.rows(query, **parameters)
    if len(rows) < limit and (rows or not parameters["offset"]):
        return Found(rows, parameters["offset"] + len(rows))
    return Found(rows, count_of(snapshot, count, parameters))


def count_of(snapshot: Snapshot, count: str, parameters: Mapping[str, object]) -> int:
    """Return the number that a query file counts."""
    (row,) = snapshot.rows(count, **parameters)
    total_count: int = row["total_count"]
    return total_count
