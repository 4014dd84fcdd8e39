"""Is the process alive, can it answer."""

from typing import Any

from flask import Blueprint, current_app, g

from service.database import Database

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> dict[str, Any]:
    """Answer that this process takes requests; it touches neither the database nor the pool."""
    return {"status": "success"}


@blueprint.get("/ready")
def ready() -> tuple[dict[str, Any], int]:
    """Answer whether requests can be answered now, check by check; why not stands in the log."""
    database: Database = current_app.extensions["database"]
    passed = database.readiness(g.budget)
    checks = {name: "ok" if ok else "failed" for name, ok in passed.items()}
    if all(passed.values()):
        return {"status": "success", "checks": checks}, 200
    failed = ", ".join(name for name, ok in passed.items() if not ok)
    return {"status": "error", "error": f"Not ready: {failed}.", "checks": checks}, 503
