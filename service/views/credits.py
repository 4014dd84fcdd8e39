"""Who spends the credits."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Blueprint, g, request
from marshmallow import Schema

from service.auth import admin_only
from service.database import Row, Snapshot
from service.periods import window_of
from service.representations import Answer, Page, csv_file, represented, wants_csv
from service.schemas.requests import DaysArguments, EventsArguments, RollupArguments, load_arguments
from service.schemas.responses import Day, DaysEnvelope, Event, EventsEnvelope, RollupEnvelope, RollupRow

ALL_ROWS = {"limit": 2**63 - 1, "offset": 0}
# A schema costs more to make than to use, and keeps nothing of what it loads or dumps.
ROLLUP_ARGUMENTS, EVENTS_ARGUMENTS, DAYS_ARGUMENTS = RollupArguments(), EventsArguments(), DaysArguments()
ROLLUP_ENVELOPE, EVENTS_ENVELOPE, DAYS_ENVELOPE = RollupEnvelope(), EventsEnvelope(), DaysEnvelope()

blueprint = Blueprint("credits", __name__, url_prefix="/api/admins/credits")


@blueprint.get("/rollup")
@represented
@admin_only
def rollup(snapshot: Snapshot, now: datetime) -> Answer:
    """Answer the accounts that spent credits in a period, most credits first."""
    arguments = load_arguments(ROLLUP_ARGUMENTS, request.args, now)
    window = window_of(arguments["period"], now, arguments.get("as_of"))
    parameters = window.parameters()
    if wants_csv():
        return Answer(*exported(snapshot, "credits_rollup", RollupRow(), parameters, arguments), window)
    rows, page = paged(snapshot, "credits_rollup", parameters, arguments)
    found = {**arguments, "total_count": page.total_count, "rows": rows}
    return Answer(ROLLUP_ENVELOPE.dump(found), page, window)


@blueprint.get("/events")
@represented
@admin_only
def events(snapshot: Snapshot, now: datetime) -> Answer:
    """Answer an account's usage events in a period, newest first, and its grants beside them."""
    arguments = load_arguments(EVENTS_ARGUMENTS, request.args, now)
    window = window_of(arguments["period"], now, arguments.get("as_of"))
    parameters = {"account_id": arguments["account_id"], **window.parameters()}
    if wants_csv():
        return Answer(*exported(snapshot, "credits_events", Event(), parameters, arguments), window)
    rows, page = paged(snapshot, "credits_events", parameters, arguments)
    grants = snapshot.rows("credits_grants", **parameters)
    found = {**arguments, "total_count": page.total_count, "events": rows, "grants": grants}
    return Answer(EVENTS_ENVELOPE.dump(found), page, window)


@blueprint.get("/days")
@represented
@admin_only
def days(snapshot: Snapshot, now: datetime) -> Answer:
    """Answer the credits spent on each UTC day of a period, oldest first, by one account or by all together."""
    arguments = load_arguments(DAYS_ARGUMENTS, request.args, now)
    window = window_of(arguments["period"], now, arguments.get("as_of"))
    parameters = {"account_id": arguments.get("account_id", ""), "last_day": window.last_day, **window.parameters()}
    if wants_csv():
        return Answer(csv_file(Day(), snapshot.stream("credits_days", **parameters)), None, window)
    rows = snapshot.rows("credits_days", **parameters)
    g.row_count = len(rows)
    return Answer(DAYS_ENVELOPE.dump({**arguments, "total_count": len(rows), "days": rows}), None, window)


def paged(
    snapshot: Snapshot, name: str, parameters: Mapping[str, object], arguments: Mapping[str, Any]
) -> tuple[list[Row], Page]:
    """Read one page of a query file's rows, and count them all where the page does not prove how many there are."""
    page = cut(arguments)
    rows = snapshot.rows(name, **parameters, **page)
    g.row_count = len(rows)
    if 0 < len(rows) < page["limit"]:
        return rows, Page(arguments["page"], arguments["limit"], page["offset"] + len(rows))
    return rows, counted(snapshot, name, parameters, arguments)


def exported(
    snapshot: Snapshot, name: str, schema: Schema, parameters: Mapping[str, object], arguments: Mapping[str, Any]
) -> tuple[Any, Page | None]:
    """Write a query file's rows as CSV: the page that was asked for, all of them when none was."""
    page_asked_for = not request.args.keys().isdisjoint(("limit", "page"))
    rows = snapshot.stream(name, **parameters, **(cut(arguments) if page_asked_for else ALL_ROWS))
    content = csv_file(schema, rows)
    return content, counted(snapshot, name, parameters, arguments) if page_asked_for else None


def counted(snapshot: Snapshot, name: str, parameters: Mapping[str, object], arguments: Mapping[str, Any]) -> Page:
    """Count all rows of a query file, of which one page was read."""
    (count,) = snapshot.rows(f"{name}_count", **parameters)
    return Page(arguments["page"], arguments["limit"], count["total_count"])


def cut(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Return the parameters that cut a page out of a query file's rows."""
    return {"limit": arguments["limit"], "offset": (arguments["page"] - 1) * arguments["limit"]}
