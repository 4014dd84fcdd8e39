"""The OpenAPI document, made from the same marshmallow schemas that load the requests and dump the answers."""

from functools import cache
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from service.schemas.requests import DaysArguments, EventsArguments, Instant, RollupArguments
from service.schemas.responses import DaysEnvelope, EventsEnvelope, RollupEnvelope, Timestamp

Json = dict[str, Any]

DESCRIPTION = """\
Who spends the credits of the platform. Read-only; every answer is of one snapshot of the database, and exact.

Integers may be greater than 2^53: read them with a parser that keeps them exact. Every answer that is an error has the
same envelope, whatever its Accept header."""
UNPINNED = """\
Every 200 says its instant in As-Of. Sent back as as_of it pins a walk: pages fetched minutes apart, while events stream
in, are disjoint, complete and add up to one total. What a pin cannot know is a transaction that began before it and
commits after the first page. Events dated in the future are in an answer without as_of, and in none with it."""
ROW = {
    "account_id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
    "account_name": "Nova Records",
    "account_email": "ops@nova.example",
    "total_credits_deducted_cents": 1840,
    "event_count": 1,
}
EVENT = {
    "id": "evt_0001",
    "created_at": "2026-10-31T10:15:00.000000+00:00",
    "source": "web",
    "agent_type": "main",
    "provider": "acme",
    "model_id": "large-1",
    "input_tokens": 1200,
    "cached_input_tokens": 200,
    "output_tokens": 300,
    "tool_call_count": 2,
    "credits_deducted_cents": 1840,
}
GRANT = {
    "id": "7d3f7a52-64a0-4c0c-9f5f-0d3a4f6f1c11",
    "account_id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
    "created_at": "2026-10-30T09:00:00.000000+00:00",
    "granted_by": "5b0a6c7e-2a53-4f0e-9c58-0c9c1d3f2a10",
    "reason": "welcome credits",
    "previous_credits": None,
    "remaining_credits": 5000,
}
# One endpoint a line: path, what it answers, its schemas, and an answer to the example values of its parameters.
ENDPOINTS: tuple[tuple[str, str, str, type[Schema], type[Schema], Json], ...] = (
    (
        "/api/admins/credits/rollup",
        "creditsRollup",
        "Credits spent and events of each account in a period, most credits first.",
        RollupArguments,
        RollupEnvelope,
        {"status": "success", "period": "weekly", "page": 1, "limit": 100, "total_count": 1, "rows": [ROW]},
    ),
    (
        "/api/admins/credits/events",
        "creditsEvents",
        "The usage events of one account in a period, newest first, and the grants beside them (the 500 newest).",
        EventsArguments,
        EventsEnvelope,
        {
            "status": "success",
            "account_id": ROW["account_id"],
            "period": "weekly",
            "page": 1,
            "limit": 100,
            "total_count": 1,
            "events": [EVENT],
            "grants": [GRANT],
        },
    ),
    (
        "/api/admins/credits/days",
        "creditsDays",
        "Credits spent and events of each UTC day in a period, oldest first, days without events included.",
        DaysArguments,
        DaysEnvelope,
        {
            "status": "success",
            "account_id": ROW["account_id"],
            "period": "weekly",
            "total_count": 7,
            "days": [
                {
                    "day": f"2026-10-{day}",
                    "total_credits_deducted_cents": 1840 if day == 31 else 0,
                    "event_count": int(day == 31),
                }
                for day in range(25, 32)
            ],
        },
    ),
)
HEALTH = (
    ("/health/live", "healthLive", "Whether the process takes requests.", {200: "It does."}),
    (
        "/health/ready",
        "healthReady",
        "Whether requests can be answered now: database, privileges, policies and, if in use, sums of closed days.",
        {200: "All checks are ok.", 503: "A check failed; why is in the service's log."},
    ),
)
ERRORS = {
    400: "A parameter is missing, malformed, out of bounds, unknown or repeated.",
    401: "No key, two, a malformed, unknown or expired one.",
    403: "The key's owner is not an administrator.",
    406: "Neither JSON nor CSV is acceptable.",
    500: "Something unforeseen.",
    503: "The database cannot be reached or is not ready, or too many requests are waiting.",
    504: "A statement or the whole request ran past its time limit.",
}
TEXT_HEADERS = {
    "As-Of": "The instant of the answer.",
    "Window-Start": "Start of the window, inclusive; absent when unbounded.",
    "Window-End": "End of the window, exclusive; absent when unbounded.",
    "ETag": "Strong validator of body, representation and caller.",
    "Server-Timing": "Milliseconds: db and total.",
    "X-Request-Id": "The request's id, also in the access log.",
}
LINK = {"Link": "Pages first, prev, next and last, pinned to As-Of (RFC 8288)."}


@cache
def openapi_document() -> Json:
    """Return the OpenAPI 3.1 document of the service, made once."""
    plugin = MarshmallowPlugin()
    spec = APISpec(
        title="Admin credits",
        version="1.0.0",
        openapi_version="3.1.0",
        plugins=[plugin],
        info={"description": DESCRIPTION},
        servers=[{"url": "/"}],
        security=[{"apiKey": []}, {"bearer": []}],
    )
    assert plugin.converter is not None  # noqa: S101 - for the type checker: APISpec has set it
    for instant in (Timestamp, Instant):
        plugin.map_to_openapi_type(instant, "string", "date-time")  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    plugin.converter.add_attribute_function(constant)  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    spec.components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "x-api-key"})
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.schema("Error", error_schema())
    spec.components.schema("BadParameters", error_schema(missing_fields={"type": "array", "items": {"type": "string"}}))
    for path, operation_id, summary, arguments, envelope, example in ENDPOINTS:
        paged = "limit" in arguments().fields
        headers = TEXT_HEADERS | (LINK if paged else {})
        operation = {
            "operationId": operation_id,
            "summary": summary,
            "description": UNPINNED,
            "parameters": [
                {"in": "query", "schema": arguments},
                {
                    "in": "header",
                    "name": "If-None-Match",
                    "schema": {"type": "string"},
                    "description": "The ETag of an answer at hand: 304 when it still holds.",
                },
            ],
            "responses": {
                "200": {
                    "description": "The answer.",
                    "headers": header_objects(headers),
                    "content": {
                        "application/json": {"schema": envelope, "example": example},
                        "text/csv": {"schema": {"type": "string"}},
                    },
                },
                "304": {"description": "The answer at hand still holds.", "headers": header_objects(headers)},
                **{str(status): error_response(status) for status in ERRORS},
            },
        }
        spec.path(path, operations={"get": operation})
    for path, operation_id, summary, statuses in HEALTH:
        responses = {str(status): health_response(description) for status, description in statuses.items()}
        spec.path(
            path,
            operations={
                "get": {"operationId": operation_id, "summary": summary, "security": [], "responses": responses}
            },
        )
    document: Json = spec.to_dict()
    for name, schema in document["components"]["schemas"].items():
        # An answer has all of its keys, but for the one echo of what need not be asked.
        schema["required"] = [key for key in schema["properties"] if (name, key) != ("DaysEnvelope", "account_id")]
        schema["additionalProperties"] = False
    return document


def constant(_converter: Any, field: fields.Field[Any], **_: Any) -> Json:
    """Describe a constant, which apispec leaves open."""
    return {"type": "string", "const": field.constant} if isinstance(field, fields.Constant) else {}


def error_schema(**more: Json) -> Json:
    """Return the schema of the error envelope."""
    return {
        "type": "object",
        "properties": {"status": {"type": "string", "const": "error"}, "error": {"type": "string"}, **more},
    }


def error_response(status: int) -> Json:
    """Return the response object of an error."""
    name = "BadParameters" if status == 400 else "Error"
    response: Json = {
        "description": ERRORS[status],
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }
    if status == 503:
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "Bearer."}}
    return response


def health_response(description: str) -> Json:
    """Return the response object of a health check."""
    checks = {"type": "object", "additionalProperties": {"type": "string", "enum": ["ok", "failed"]}}
    schema = {
        "type": "object",
        "properties": {
            "status": {"type": "string", "enum": ["success", "error"]},
            "error": {"type": "string"},
            "checks": checks,
        },
        "required": ["status"],
    }
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def header_objects(headers: dict[str, str]) -> Json:
    """Return the header objects of texts."""
    return {name: {"schema": {"type": "string"}, "description": text} for name, text in headers.items()}
