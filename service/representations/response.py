"""The response of an answer: its body, its validator, its links and the edges of its windows."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from flask import Response, request
from werkzeug.wsgi import FileWrapper

from service.question import Question
from service.representations.written import Written

BLOCK = 2**16


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


def response_of(written: Written, question: Question, total_count: int | None, files: Iterable[str]) -> Response:
    """Return the response of an answer; ``files`` are the paths of its query files below sql/queries."""
    if isinstance(written.content, bytes):
        response = Response(written.content, content_type=written.content_type)
    else:
        response = Response(
            FileWrapper(written.content, BLOCK), content_type=written.content_type, direct_passthrough=True
        )
        # With a length, a client can tell that it did not receive all of it.
        response.content_length = written.length
    window = question.window
    edges = {"As-Of": window.until, "Window-Start": window.since, "Window-End": window.until}
    if question.previous:
        edges["Previous-Start"], edges["Previous-End"] = question.previous
    response.headers.update({name: spelled(instant) for name, instant in edges.items() if instant})
    links = [(f"/queries/{file}", "describedby") for file in files]
    if total_count is not None and "page" in question.arguments:
        page = Page(question.arguments["page"], question.arguments["limit"], total_count)
        links += [(_address(number, window.until), relation) for relation, number in page.others()]
    response.headers["Link"] = ", ".join(f'<{address}>; rel="{relation}"' for address, relation in links)
    return _validated(response, written.digest)


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


def spelled(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC, without characters that a URL has to escape."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _address(number: int, as_of: datetime) -> str:
    """Return the path of another page as of the same instant; the Host header is not trusted."""
    parameters = {**request.args, "page": number, "as_of": spelled(as_of)}
    return f"{request.path}?{urlencode(parameters, safe=':')}"
