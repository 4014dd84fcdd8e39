"""The OpenAPI document, made from the routes and their marshmallow schemas."""

import re
from collections.abc import Iterable
from itertools import product
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from service.endpoint import Operation
from service.queries import FILES
from service.representations import media_types_of, metrics
from service.representations.json import MEDIA_TYPE as JSON
from service.representations.workbook import MEDIA_TYPE as WORKBOOK
from service.schemas.requests import FILTERS, Comparison, Instant, PageArguments
from service.schemas.responses import COMPARED, Envelope, Rows, Timestamp
from service.version import VERSION

Json = dict[str, Any]

DESCRIPTION = """\
Who spends the credits of the platform. Totals are exact. An answer is read from one snapshot of the database, except on
Citus.

Integers may exceed 2^53: use a JSON parser that keeps them exact. A sum that does not fit in 64 bits is sent as an
exact integer too, with more digits. Errors are always JSON, also if the Accept header asks for something else."""
LICENCE = {"name": "MIT License", "identifier": "MIT"}
# By the name of the blueprint.
TAGS = {
    "credits": "Lists of who spends credits, on what and when, for administrators.",
    "health": "Whether the service runs and can answer; no key is needed.",
    "queries": "The SQL of the lists.",
}
INSTANT = """\
A 200 has its instant in As-Of. An event that is dated later is counted when its time has come."""
PAGES = """\
Send As-Of back as as_of to read further pages as of that instant. Transactions open at that instant may commit later
and then appear on later pages."""
ERRORS = {
    400: "A parameter is missing, malformed, out of bounds, unknown, repeated or excluded by another.",
    401: "There is no key, more than one, or a malformed, unknown or expired one.",
    403: "The owner of the key is not an administrator.",
    412: "The ETag of the answer is not in If-Match.",
    500: "An unexpected error.",
    503: "The database cannot be reached or is not ready, too many requests are waiting, or the answer is too large.",
    504: "A statement or the whole request exceeded its time limit.",
}
ERROR_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "Bearer."}},
    503: {
        "Retry-After": {
            "schema": {"type": "integer", "format": "int64", "minimum": 1},
            "description": "Seconds to wait.",
        }
    },
}
HEADERS = {
    "As-Of": "The instant of the answer: as_of, or the time of the request; on a standby, of the last commit replayed.",
    "Window-Start": "Start of the window, inclusive; absent when unbounded.",
    "Window-End": "End of the window, exclusive: the instant of the answer.",
    "Credits-Column": "The column of credits that was read: credits_deducted_cents, or credits_deducted.",
    "ETag": "A strong validator, different for each representation and caller.",
    "Link": "The query files of the answer, as describedby; the first is the file of the list. Also the first, prev, "
    "next and last page as of the same instant (RFC 8288).",
    "Server-Timing": "Milliseconds: db and total.",
    "X-Request-Id": "The id of the request, as in the access log.",
}
PREVIOUS = {
    "Previous-Start": "Start of the previous window, inclusive; absent without a comparison.",
    "Previous-End": "End of the previous window, exclusive; absent without a comparison.",
}
ACCEPTED = """\
The media type of the answer, one of {}. In CSV, null is an empty cell, and an empty text is "". An apostrophe is put
before = + - @ (of either width) and ' at the start of a text or after one of , ; | " tab CR LF, and before a tab, CR or
LF at the start; remove one at each of these places to get the text."""
GAUGES = """\
Metrics are for Prometheus, one page as in JSON: a gauge for each column of numbers, exact up to 2^53."""
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "description": "The ETag of the client's copy; 304 when the copy is current.",
}


def openapi_document(operations: Iterable[Operation]) -> Json:
    """Return the OpenAPI 3.1 document of the routes that are documented."""
    spec = _spec()
    for operation in operations:
        path = re.sub("<.*>", "{name}", operation.rule)
        description = operation.description
        if isinstance(operation.envelope, Envelope):
            description += f"\n\n{INSTANT}"
        if isinstance(operation.arguments, PageArguments):
            description += f" {PAGES}"
        described: Json = {
            "operationId": operation.name,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": description,
        }
        if operation.statuses:
            content = {JSON: {"schema": operation.envelope}}
            statuses = operation.statuses.items()
            responses = {str(status): {"description": text, "content": content} for status, text in statuses}
            described |= {"security": [], "responses": responses}
        elif operation.arguments and isinstance(operation.envelope, Envelope):
            described |= _list_operation(operation.arguments, operation.envelope)
        else:
            described |= _script_operation()
        spec.path(path, operations={"get": described})
    document: Json = spec.to_dict()
    optional = {
        ("DaysEnvelope", "account_id"),
        ("DaysEnvelope", "account"),
        ("ReadinessReport", "error"),
        ("BreakdownEnvelope", "account_id"),
        ("SeriesEnvelope", "account_id"),
        ("SeriesEnvelope", "by"),
        *product(["RollupRow", "BreakdownRow", "Totals"], COMPARED),
        *product(["RollupEnvelope", "BreakdownEnvelope", "ChangesEnvelope"], ["totals"]),
        *((name, key) for name in document["components"]["schemas"] if name.endswith("Envelope") for key in FILTERS),
    }
    for name, schema in document["components"]["schemas"].items():
        schema["required"] = [key for key in schema["properties"] if (name, key) not in optional]
        schema["additionalProperties"] = False
    return document


def _spec() -> APISpec:
    plugin = MarshmallowPlugin()
    spec = APISpec(
        title="Admin credits",
        version=VERSION,
        openapi_version="3.1.0",
        plugins=[plugin],
        info={"description": DESCRIPTION, "license": LICENCE},
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        servers=[{"url": "/"}],
        security=[{"apiKey": []}, {"bearer": []}],
    )
    assert plugin.converter is not None  # noqa: S101 - for the type checker: APISpec has set it
    # Without a format, some generated clients take integers of 32 bits.
    plugin.map_to_openapi_type(fields.Integer, "integer", "int64")  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    plugin.map_to_openapi_type(Timestamp, "string", "date-time")  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    plugin.map_to_openapi_type(Comparison, "string", None)  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    plugin.map_to_openapi_type(Instant, "string", None)  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    plugin.converter.add_attribute_function(_constant)  # type: ignore[no-untyped-call]  # apispec leaves it unannotated
    spec.components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "x-api-key"})
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.schema("Error", _error_schema())
    spec.components.schema(
        "BadParameters", _error_schema(missing_fields={"type": "array", "items": {"type": "string"}})
    )
    return spec


def _list_operation(arguments: Schema, envelope: Envelope) -> Json:
    """Return the parameters and responses of an endpoint that answers with a list."""
    headers = _headers(HEADERS | (PREVIOUS if COMPARED[0] in envelope.row_schema.fields else {}))
    media_types = media_types_of(envelope)
    content: Json = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    content[JSON] = {"schema": envelope, "example": _example(envelope, arguments)}
    content[WORKBOOK] = {"schema": {"type": "string", "format": "binary"}}
    accept = {
        "in": "header",
        "name": "Accept",
        # no enum: a list of types with qualities is valid too
        "schema": {"type": "string", "default": JSON, "examples": list(media_types)},
        "description": ACCEPTED.format(", ".join(media_types)) + (f" {GAUGES}" if metrics.describes(envelope) else ""),
    }
    return {
        "parameters": [{"in": "query", "schema": arguments}, accept, IF_NONE_MATCH],
        "responses": {
            "200": {"description": "The answer.", "headers": headers, "content": content},
            "304": {"description": "The client's copy is current.", "headers": headers},
            **{str(status): _error_response(status) for status in ERRORS},
            "406": _error_response(406, f"The client accepts none of {', '.join(media_types)}."),
        },
    }


def _script_operation() -> Json:
    """Return the parameters and responses of an endpoint that answers with a query file."""
    name = {"in": "path", "name": "name", "required": True, "schema": {"type": "string", "enum": list(FILES)}}
    headers = _headers({name: HEADERS[name] for name in ("Credits-Column", "ETag", "Server-Timing", "X-Request-Id")})
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "parameters": [name, IF_NONE_MATCH],
        "responses": {
            "200": {"description": "The file.", "headers": headers, "content": content},
            "304": {"description": "The client's copy is current.", "headers": headers},
            "404": _error_response(404, "There is no such path."),
            **{str(status): _error_response(status) for status in ERRORS if status != 400},
        },
    }


def _headers(descriptions: dict[str, str]) -> Json:
    return {name: {"schema": {"type": "string"}, "description": text} for name, text in descriptions.items()}


def _example(schema: Schema, arguments: Schema) -> Json:
    """Return the answer to the example values of the arguments, which has one row of each kind."""
    example: Json = {}
    for name, field in schema.fields.items():
        if isinstance(schema, Envelope) and name in (*FILTERS, "totals"):
            continue
        argument = arguments.fields.get(name, field)
        if isinstance(field, fields.Constant):
            example[name] = field.constant
        elif isinstance(field, Rows):
            example[name] = [_example(field.row_schema, Schema())]
        elif isinstance(field, fields.Nested):
            example[name] = _example(field.schema, Schema())
        else:
            example[name] = argument.metadata.get("example", argument.load_default)
    return example


def _constant(_converter: Any, field: fields.Field[Any], **_: Any) -> Json:
    """Describe a constant, which apispec does not."""
    return {"type": "string", "const": field.constant} if isinstance(field, fields.Constant) else {}


def _error_schema(**more: Json) -> Json:
    return {
        "type": "object",
        "properties": {"status": {"type": "string", "const": "error"}, "error": {"type": "string"}, **more},
    }


def _error_response(status: int, description: str | None = None) -> Json:
    name = "BadParameters" if status == 400 else "Error"
    response: Json = {
        "description": description or ERRORS[status],
        "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }
    return response | ({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {})
