"""The way of a request: key, admin, arguments, window, view, response."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, wraps
from typing import Any, TypeVar

from flask import Response, current_app, g, request
from marshmallow import Schema

from service.auth import AdminKeys, key_hash, key_of, require_admin
from service.config import Settings
from service.database import Connection, Database
from service.errors import DatabaseBehind, UnknownCharacter
from service.periods import Window, window_of
from service.readiness import Readiness
from service.representations import Answer, Page, csv_file, response_of, wants_csv
from service.schemas.requests import load_arguments
from service.schemas.responses import COMPARED, Envelope
from service.snapshot import Snapshot


@dataclass(frozen=True)
class Question:
    """A request whose arguments are checked: ``arguments`` by name, their window, and whether the answer is CSV."""

    arguments: Mapping[str, Any]
    window: Window
    as_csv: bool

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The values of the parameters of query files, and other arguments, which psycopg2 ignores."""
        return {"account_id": "", **self.arguments, **self.window.parameters()}


@dataclass(frozen=True)
class Found:
    """The result of a view.

    ``rows`` are those of the list: dicts for JSON, tuples for CSV. ``total_count`` is the length of the whole list,
    None where it was not counted. ``beside`` holds the other keys of the envelope.
    """

    rows: Iterable[Any]
    total_count: int | None
    beside: Mapping[str, Any] = field(default_factory=dict)


View = Callable[[Snapshot, Question], Found]
Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result", Answer, Response)


def endpoint(arguments: Schema, envelope: Envelope) -> Callable[[View], Callable[[], Response]]:
    """Serve a view to admins; ``arguments`` loads the query string, ``envelope`` dumps the body.

    All that is read for an answer is read in one snapshot. When it is lost, or the database was changed meanwhile,
    everything is read once more in another. The reference describes the endpoint from the two schemas and the docstring
    of the view.
    """

    def decorate(view: View) -> Callable[[], Response]:
        @wraps(view)
        def respond() -> Response:
            def answer(snapshot: Snapshot, now: datetime) -> Answer:
                question = _question(arguments, now, snapshot)
                try:
                    return _answer(envelope, question, view(snapshot, question), snapshot)
                except UnknownCharacter:
                    return _answer(envelope, question, Found([], 0), snapshot)

            return response_of(for_admin(answer))

        respond.arguments, respond.envelope = arguments, envelope  # type: ignore[attr-defined]  # for the reference
        return respond

    return decorate


def for_admin(work: Callable[[Snapshot, datetime], Result]) -> Result:
    """Do the work of a request in a snapshot if its key is an admin's; the instant of the request is passed too.

    A key that is not known to be an admin's is looked up once more before, in the queue for first lookups. A result
    that cannot be trusted is closed.
    """
    settings: Settings = current_app.extensions["settings"]
    database: Database = current_app.extensions["database"]
    readiness: Readiness = current_app.extensions["readiness"]
    admin_keys: AdminKeys = current_app.extensions["admin_keys"]
    hash_of_key = key_hash(settings.api_key_secret, key_of(request.headers))

    def admitted(snapshot: Snapshot) -> datetime:
        (caller,) = snapshot.rows("caller", key_hash=hash_of_key, organization_id=settings.admin_organization_id)
        g.caller = caller["account_id"]
        admin_keys.note(hash_of_key, caller["is_admin"])
        require_admin(caller)
        return datetime.fromisoformat(caller["now"])

    def lookup(connection: Connection) -> None:
        with readiness.snapshot(connection, g.budget) as snapshot:
            admitted(snapshot)

    def result(connection: Connection) -> Result:
        with ExitStack() as untrusted:
            with readiness.snapshot(connection, g.budget) as snapshot:
                done = work(snapshot, admitted(snapshot))
                untrusted.callback(done.close)
                # what Python did with the rows counts too
                g.budget.left_ms()
            untrusted.pop_all()
            return done

    if hash_of_key not in admin_keys:
        with database.first_lookup(g.budget):
            # A request with the same key may have been looked up while this one waited.
            if hash_of_key not in admin_keys:
                database.run(lookup, g.budget, needs_place=False)
    return database.run(result, g.budget)


def documented(envelope: Schema, statuses: Mapping[int, str]) -> Callable[[Function], Function]:
    """Include a view that needs no key in the reference; ``statuses`` says when each is the answer."""

    def decorate(view: Function) -> Function:
        view.envelope, view.statuses = envelope, statuses  # type: ignore[attr-defined]  # for the reference
        return view

    return decorate


def _question(schema: Schema, now: datetime, snapshot: Snapshot) -> Question:
    # The clock of a standby may differ from that of its primary.
    instant = snapshot.replayed or now
    arguments = load_arguments(schema, request.args, max(now, instant))
    as_of, since = arguments.get("as_of"), arguments.get("since")
    if (as_of or since or instant) > instant:
        raise DatabaseBehind
    window = window_of(arguments["period"], instant, as_of, since)
    return Question(arguments, window, wants_csv())


def _answer(envelope: Envelope, question: Question, found: Found, snapshot: Snapshot) -> Answer:
    content: Any
    if question.as_csv:
        columns = {
            name: field
            for name, field in envelope.row_schema.fields.items()
            if "compare" in question.arguments or name not in COMPARED
        }
        content, g.row_count = csv_file(columns, found.rows)
    else:
        rows = list(found.rows)
        g.row_count = len(rows)
        listed = {"total_count": found.total_count, envelope.list_name: rows}
        content = envelope.dump({**question.arguments, **listed, **found.beside})
    page = None
    if "page" in question.arguments and found.total_count is not None:
        page = Page(question.arguments["page"], question.arguments["limit"], found.total_count)
    files = [query.file for name, query in snapshot.read.items() if name != "caller"]
    previous = question.window.previous if "compare" in question.arguments else None
    return Answer(content, page, question.window, previous, files)
