"""How an answer is represented: JSON or CSV, and the headers that depend on both."""

import csv
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from io import TextIOWrapper
from typing import IO, Any
from urllib.parse import urlencode

import orjson
from flask import Response, g, request
from marshmallow import Schema, fields
from werkzeug.wsgi import FileWrapper

from service.errors import NotAcceptable
from service.periods import Window

JSON = "application/json"
CSV = "text/csv"
# A cell that a spreadsheet would take for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SPOOLED_IN_MEMORY = 2**20
BLOCK = 2**16


@dataclass(frozen=True)
class Page:
    """Which page of how many rows in all: what the links to the others are made from."""

    number: int
    limit: int
    total_count: int

    def others(self) -> Iterator[tuple[str, int]]:
        """Yield the relation and number of each page there is to link to (RFC 8288)."""
        last = -(-self.total_count // self.limit)
        yield "first", 1
        if self.number > 1:
            yield "prev", min(self.number - 1, max(last, 1))
        if self.number < last:
            yield "next", self.number + 1
        if last:
            yield "last", last


@dataclass(frozen=True)
class Answer:
    """What a view found: a body for JSON or a file of CSV, and the page and window it is of."""

    content: dict[str, Any] | IO[bytes]
    page: Page | None
    window: Window


def represented(view: Callable[[], Answer]) -> Callable[[], Response]:
    """Make the response of a view's answer, with As-Of, Window-Start, Window-End, Link and ETag."""

    @wraps(view)
    def respond() -> Response:
        answer = view()
        digest = hashlib.sha256(f"{g.caller} ".encode())
        if isinstance(answer.content, dict):
            body = orjson.dumps(answer.content, option=orjson.OPT_APPEND_NEWLINE)
            digest.update(f"{JSON} ".encode())
            digest.update(body)
            response = Response(body, mimetype=JSON)
        else:
            digest.update(f"{CSV} ".encode())
            while block := answer.content.read(BLOCK):
                digest.update(block)
            response = Response(
                FileWrapper(answer.content, BLOCK),
                content_type=f"{CSV}; charset=utf-8; header=present",
                direct_passthrough=True,
            )
            # The file is complete and has a length: the client gets all of it, or knows that it did not.
            response.content_length = answer.content.tell()
            answer.content.seek(0)
        response.headers["As-Of"] = spelled(answer.window.as_of)
        if answer.window.since:
            response.headers["Window-Start"] = spelled(answer.window.since)
        if answer.window.until:
            response.headers["Window-End"] = spelled(answer.window.until)
        if answer.page:
            response.headers["Link"] = ", ".join(
                f'<{_address(number, answer.window)}>; rel="{relation}"' for relation, number in answer.page.others()
            )
        response.set_etag(digest.hexdigest())
        # Without either there is no condition, and working that out is not free.
        if request.if_none_match or request.if_match:
            response.make_conditional(request)
        return response

    return respond


def wants_csv() -> bool:
    """Return whether CSV is the better of what the client accepts; JSON where it is indifferent.

    Raises:
        NotAcceptable: when it accepts neither.
    """
    json_quality, csv_quality = _quality(JSON), _quality(CSV)
    if not json_quality and not csv_quality:
        raise NotAcceptable
    return csv_quality > json_quality


def _quality(offer: str) -> float:
    """Return how much the client wants a media type (RFC 9110, 12.5.1): the most specific range that fits decides.

    A range's parameters do not matter here: each type is served in one form.
    """
    if not request.accept_mimetypes:
        return 1.0
    for fitting in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        found = [
            quality for media, quality in request.accept_mimetypes if media.partition(";")[0].strip().lower() == fitting
        ]
        if found:
            return max(found)
    return 0.0


def csv_file(schema: Schema, rows: Iterable[tuple[Any, ...]]) -> IO[bytes]:
    """Write rows, in the order of a row schema's fields, into a temporary file, and return it at its start."""
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED_IN_MEMORY)  # noqa: SIM115 - the response closes it
    text = TextIOWrapper(spool, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    cells = [_cell(field) for field in schema.fields.values()]
    try:
        writer.writerow(schema.fields)
        g.row_count = 0
        for g.row_count, row in enumerate(rows, 1):
            writer.writerow([cell(value) for cell, value in zip(cells, row, strict=True)])
    except BaseException:
        text.close()
        raise
    text.detach()
    spool.seek(0)
    return spool


def _cell(field: fields.Field[Any]) -> Callable[[Any], Any]:
    """Return what turns a field's values into cells, as in JSON, but that no text begins a formula."""
    if isinstance(field, fields.Integer):
        return lambda value: value
    if isinstance(field, fields.String):
        return lambda value: f"'{value}" if value and value.startswith(FORMULA_STARTS) else value
    return lambda value: field.serialize("value", {"value": value})


def spelled(instant: datetime) -> str:
    """Spell an instant for a header: RFC 3339 in UTC, with nothing that a URL would have to escape."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _address(number: int, window: Window) -> str:
    """Return the path-absolute address of another page, pinned: the Host header is not to be trusted."""
    parameters = {**request.args, "page": number, "as_of": spelled(window.as_of)}
    return f"{request.path}?{urlencode(parameters, safe=':')}"
