"""Who spends the credits."""

from datetime import datetime
from typing import Any

from flask import Blueprint, g, request

from service.auth import admin_only
from service.database import Snapshot
from service.periods import window_of
from service.schemas.requests import EventsArguments, RollupArguments, load_arguments
from service.schemas.responses import EventsEnvelope, RollupEnvelope

blueprint = Blueprint("credits", __name__, url_prefix="/api/admins/credits")


@blueprint.get("/rollup")
@admin_only
def rollup(snapshot: Snapshot, now: datetime) -> dict[str, Any]:
    """Answer one page of the accounts that spent credits in a period, most credits first."""
    arguments = load_arguments(RollupArguments(), request.args)
    window = window_of(arguments["period"], now).parameters()
    rows = snapshot.rows("credits_rollup", **window, **page_parameters(arguments))
    (count,) = snapshot.rows("credits_rollup_count", **window)
    g.row_count = len(rows)
    return RollupEnvelope().dump({**arguments, **count, "rows": rows})  # type: ignore[no-any-return]


@blueprint.get("/events")
@admin_only
def events(snapshot: Snapshot, now: datetime) -> dict[str, Any]:
    """Answer one page of an account's usage events in a period, newest first, and its grants beside them."""
    arguments = load_arguments(EventsArguments(), request.args)
    window = {"account_id": arguments["account_id"], **window_of(arguments["period"], now).parameters()}
    rows = snapshot.rows("credits_events", **window, **page_parameters(arguments))
    (count,) = snapshot.rows("credits_events_count", **window)
    grants = snapshot.rows("credits_grants", **window)
    g.row_count = len(rows)
    return EventsEnvelope().dump({**arguments, **count, "events": rows, "grants": grants})  # type: ignore[no-any-return]


def page_parameters(arguments: dict[str, Any]) -> dict[str, int]:
    """Return the parameters that cut a page out of a query file's rows."""
    return {"limit": arguments["limit"], "offset": (arguments["page"] - 1) * arguments["limit"]}
