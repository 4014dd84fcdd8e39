"""What happens before and after every request: its time budget, its headers, its line in the access log."""

import json
import logging
import re
import uuid
from datetime import UTC, datetime

from flask import Flask, Response, g, request
from werkzeug.exceptions import PreconditionFailed

from service.budget import Budget
from service.config import Settings
from service.metrics import Requests

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "As-Of, Credits-Column, ETag, Link, Previous-End, Previous-Start, Retry-After, Server-Timing, Window-End, "
        "Window-Start, X-Request-Id"
    ),
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Max-Age": "86400",
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # A browser may store the answer, and revalidates it each time.
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization, x-api-key",
}
# The name of a header (RFC 9110, 5.6.2).
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# A request id that is safe in a log line.
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# The position of a request in a trace (W3C Trace Context, 3.2).
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

access_log = logging.getLogger("service.access")


def register_hooks(app: Flask, settings: Settings) -> None:
    """Register the functions that Flask calls before and after every request; all routes exist already."""
    requests = app.extensions["requests"] = Requests(app.view_functions)

    @app.before_request
    def start() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if SANE_REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        g.budget = Budget(settings.request_timeout_ms)
        # Werkzeug compares it as the tag "*".
        if request.headers.get("If-Match") == "*":
            del request.environ["HTTP_IF_MATCH"]

    @app.after_request
    def finish(response: Response) -> Response:
        if response.status_code == PreconditionFailed.code:
            # Werkzeug sets this status where If-Match fails, and leaves the body.
            response.close()
            response = app.make_response(app.handle_http_exception(PreconditionFailed()))
        response.headers.update({**HEADERS, **CORS_HEADERS, "X-Request-Id": g.request_id})
        response.headers["Server-Timing"] = f"db;dur={g.budget.database_ms:.1f}, total;dur={g.budget.spent_ms():.1f}"
        if request.method == "OPTIONS":
            asked = request.headers.get("Access-Control-Request-Headers", "").split(",")
            allowed = ", ".join(filter(TOKEN.fullmatch, map(str.strip, asked)))
            response.headers.update({**PREFLIGHT_HEADERS, "Access-Control-Allow-Headers": allowed})
        traceparent = request.headers.get("traceparent", "")
        total_ms, database_ms = g.budget.spent_ms(), g.budget.database_ms
        requests.count(request.endpoint or "none", response.status_code, total_ms / 1_000, database_ms / 1_000)
        access_log.info(
            json.dumps(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "request_id": g.request_id,
                    "traceparent": traceparent if TRACEPARENT.fullmatch(traceparent) else None,
                    "method": request.method,
                    # not the path, in which a client may put anything
                    "route": str(request.url_rule) if request.url_rule else None,
                    "status": response.status_code,
                    "total_ms": round(total_ms, 1),
                    "database_ms": round(database_ms, 1),
                    "caller": g.get("caller"),
                    "rows": g.get("row_count"),
                }
            )
        )
        return response
