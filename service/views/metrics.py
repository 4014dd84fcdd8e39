"""The metrics of the service."""

from flask import Blueprint, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST

from service.budget import Budget
from service.metrics import exposition
from service.readiness import Readiness

blueprint = Blueprint("metrics", __name__)
CHECK_MS = 2_000  # less than Prometheus waits for an answer


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer with the metrics of all workers and the checks of the database, in the text format of Prometheus."""
    readiness: Readiness = current_app.extensions["readiness"]
    checks = "# TYPE admin_credits_check gauge\n" + "".join(
        f'admin_credits_check{{check="{name}"}} {int(ok)}\n' for name, ok in readiness.checks(Budget(CHECK_MS)).items()
    )
    return Response(exposition() + checks.encode(), content_type=CONTENT_TYPE_LATEST)
