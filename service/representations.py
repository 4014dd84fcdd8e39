"""The representations of an answer, JSON and CSV, and the headers that describe it."""

import csv
import errno
import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import IO, Any
from urllib.parse import urlencode

import orjson
from flask import Response, g, request
from marshmallow import fields
from werkzeug.wsgi import FileWrapper

from service.errors import NoSpaceLeft, NotAcceptable
from service.periods import Window

JSON = "application/json"
CSV = "text/csv"
# Where a spreadsheet would begin a formula: at the start or after a separator, with characters of either width. It may
# drop white space at the start.
FORMULA = re.compile(r'(?<![^,;|"\t\r\n])(?=[=+@＝＋－＠-])|\A(?=[\t\r\n])')  # noqa: RUF001 - the wide ones
SPOOLED_IN_MEMORY = 2**20
BLOCK = 2**16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A page of a list of ``total_count`` rows."""

    number: int
    limit: int
    total_count: int

    def others(self) -> Iterator[tuple[str, int]]:
        """Yield the relation and the number of each page to link to (RFC 8288)."""
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
    """The content of a 200: a body for JSON or a file of CSV, its window, and its page where there are others.

    ``previous`` holds the edges of the window that it is compared with. ``files`` are the paths of its query files
    below sql/queries; the first is the file of the list.
    """

    content: dict[str, Any] | IO[bytes]
    page: Page | None
    window: Window
    previous: tuple[datetime, datetime] | None
    files: Sequence[str]

    def close(self) -> None:
        """Remove the file of an answer that is not sent."""
        if not isinstance(self.content, dict):
            self.content.close()


def response_of(answer: Answer) -> Response:
    """Return the response of an answer, with its ETag, its links and the edges of its windows.

    The caller is part of the ETag, so that no client is told that another's copy is current.
    """
    digest = hashlib.sha256(f"{g.caller} ".encode())
    if isinstance(answer.content, dict):
        body = json_of(answer.content)
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
        # With a length, a client can tell that it did not receive all of it.
        response.content_length = answer.content.tell()
        answer.content.seek(0)
    window = answer.window
    edges = {"As-Of": window.until, "Window-Start": window.since, "Window-End": window.until}
    if answer.previous:
        edges["Previous-Start"], edges["Previous-End"] = answer.previous
    response.headers.update({name: spelled(instant) for name, instant in edges.items() if instant})
    links = [(f"/queries/{file}", "describedby") for file in answer.files]
    if answer.page:
        links += [(_address(number, window.until), relation) for relation, number in answer.page.others()]
    response.headers["Link"] = ", ".join(f'<{address}>; rel="{relation}"' for address, relation in links)
    return _validated(response, digest.hexdigest())


def json_of(content: dict[str, Any]) -> bytes:
    """Return the JSON of a body in one line; its integers are exact, however long."""
    try:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # An integer of more than 64 bits, which only the slower standard library writes.
        return f"{json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n".encode()


def script_response(script: str) -> Response:
    """Return the response that is a query file."""
    response = Response(script, mimetype="text/plain")
    return _validated(response, hashlib.sha256(script.encode()).hexdigest())


def _validated(response: Response, etag: str) -> Response:
    """Set the ETag, and answer the condition of the request if it has one."""
    response.set_etag(etag)
    # make_conditional() costs time even where the request has no condition.
    if request.if_none_match or request.if_match:
        response.make_conditional(request)
    return response


def wants_csv() -> bool:
    """Return whether the client prefers CSV; JSON where it is indifferent.

    Raises:
        NotAcceptable: when it accepts neither.
    """
    json_quality, csv_quality = _quality(JSON), _quality(CSV)
    if not json_quality and not csv_quality:
        raise NotAcceptable
    return csv_quality > json_quality


def _quality(offer: str) -> float:
    """Return the quality of a media type in the Accept header: that of the most specific range (RFC 9110, 12.5.1).

    Parameters of a range are ignored, because each type is served in one form.
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


def csv_file(columns: Mapping[str, fields.Field[Any]], rows: Iterable[tuple[Any, ...]]) -> tuple[IO[bytes], int]:
    """Write rows, in the order of their columns, to a temporary file; return it, rewound, and their number.

    In text an apostrophe is put before each formula.

    Raises:
        NoSpaceLeft: when the disk is full.
    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED_IN_MEMORY)  # noqa: SIM115 - the response closes it
    text = TextIOWrapper(spool, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    are_text = [isinstance(field, fields.String) for field in columns.values()]
    row_count = 0
    try:
        writer.writerow(columns)
        for row in rows:
            writer.writerow(
                FORMULA.sub("'", cell) if is_text and cell else cell
                for is_text, cell in zip(are_text, row, strict=True)
            )
            row_count += 1
        text.detach()
    except BaseException as error:
        # Closing the file writes what it still buffers.
        with suppress(OSError):
            spool.close()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            log.warning("no space left in %s", tempfile.gettempdir())
            raise NoSpaceLeft from None
        raise
    spool.seek(0)
    return spool, row_count


def spelled(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC, without characters that a URL has to escape."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _address(number: int, as_of: datetime) -> str:
    """Return the path of another page as of the same instant; the Host header is not trusted."""
    parameters = {**request.args, "page": number, "as_of": spelled(as_of)}
    return f"{request.path}?{urlencode(parameters, safe=':')}"
