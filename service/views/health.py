"""Whether the process is alive, and whether it can answer."""

from typing import Any

from flask import current_app, g

from service.endpoint import ApiBlueprint
from service.readiness import Readiness
from service.schemas.responses import Liveness, ReadinessReport

blueprint = ApiBlueprint("health", __name__, url_prefix="/health")


@blueprint.status("/live", Liveness(), {200: "The process accepts requests."})
def live() -> dict[str, Any]:
    """Tell whether the process accepts requests.

    The database is not asked. If there is no answer, restart the process.
    """
    return {"status": "success"}


@blueprint.status("/ready", ReadinessReport(), {200: "All checks pass.", 503: "A check fails; the log says why."})
def ready() -> tuple[dict[str, Any], int]:
    """Tell whether requests can be answered now.

    The checks are of the database, privileges, policies and, if they are required, the sums.
    """
    readiness: Readiness = current_app.extensions["readiness"]
    found = readiness.checks(g.budget)
    passed, sentence = found.passed, found.sentence
    checks = {name: "ok" if ok else "failed" for name, ok in passed.items()}
    if all(passed.values()):
        return {"status": "success", "checks": checks, "spend_source": found.spend_source}, 200
    failed = ", ".join(name for name, ok in passed.items() if not ok)
    return {"status": "error", "error": f"Not ready: {failed}. {sentence}".rstrip(), "checks": checks}, 503
