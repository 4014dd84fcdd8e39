"""The metrics of the service."""

from flask import Blueprint, Response, current_app, g
from prometheus_client import CONTENT_TYPE_LATEST

from service.metrics import exposition
from service.readiness import Readiness

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer with the metrics of all workers and the checks of the database, in the text format of Prometheus."""
    readiness: Readiness = current_app.extensions["readiness"]
    lines = [
        "# HELP admin_credits_check Whether a check of /health/ready passes.",
        "# TYPE admin_credits_check gauge",
    ]
    checks = readiness.checks(g.budget)
    for name, ok in checks.passed.items():
        lines.append(f'admin_credits_check{{check="{name}"}} {int(ok)}')
    if checks.sums:
        lines += [
            "# HELP admin_credits_sums_usable Whether the sums are used, and if not, why.",
            "# TYPE admin_credits_sums_usable gauge",
            f'admin_credits_sums_usable{{reason="{checks.sums.unusable or ""}"}} {int(not checks.sums.unusable)}',
            "# HELP admin_credits_summed_until_seconds Time up to which events are summed.",
            "# TYPE admin_credits_summed_until_seconds gauge",
            f"admin_credits_summed_until_seconds {checks.sums.until}",
        ]
    counted = exposition(current_app.extensions["requests"])
    return Response(counted + "\n".join([*lines, ""]).encode(), content_type=CONTENT_TYPE_LATEST)
