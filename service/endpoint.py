"""The way of a request: key, admin, question, view, representation."""

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from inspect import cleandoc
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, g, request
from marshmallow import Schema

from service.auth import AdminKeys, key_hashes, key_of, require_admin
from service.config import Settings
from service.database.connection import Connection
from service.database.pool import Database
from service.database.snapshot import Snapshot
from service.database.trust import Trust
from service.errors import BadParameters
from service.listing import List
from service.question import Question, asked
from service.representations import json, negotiated
from service.representations.response import response_of
from service.representations.written import Context
from service.schemas.requests import WindowArguments
from service.schemas.responses import Envelope

View = Callable[[Snapshot, Question], List]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """What the reference says of a route, from its view and its schemas.

    ``summary`` is the first line of the view's docstring, ``description`` the rest; ``tag`` is the name of the
    blueprint. A list has arguments. A route without a key has ``statuses``, which says when each is the answer. A query
    file has neither.
    """

    name: str
    rule: str
    summary: str
    description: str
    tag: str
    arguments: WindowArguments | None = None
    envelope: Schema | None = None
    statuses: Mapping[int, str] | None = None


class ApiBlueprint(Blueprint):
    """A blueprint that registers a route and what the reference says of it at once."""

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self.operations: list[Operation] = []

    def list(self, rule: str, arguments: WindowArguments, envelope: Envelope) -> Callable[[View], View]:
        """Serve a view to admins; ``arguments`` loads the query string, ``envelope`` dumps the body.

        All that is read for an answer is read in one snapshot. When it is lost, or the database was changed meanwhile,
        everything is read once more in another.
        """

        def decorate(view: View) -> View:
            @wraps(view)
            def respond() -> Response:
                return for_admin(lambda snapshot, now: _answer(view, arguments, envelope, snapshot, now))

            self._register(rule, respond, arguments=arguments, envelope=envelope)
            return view

        return decorate

    def status(self, rule: str, envelope: Schema, statuses: Mapping[int, str]) -> Callable[[Function], Function]:
        """Serve a view that needs no key; ``statuses`` says when each status is the answer."""
        return lambda view: self._register(rule, view, envelope=envelope, statuses=statuses)

    def script(self, rule: str) -> Callable[[Function], Function]:
        """Serve a view that answers with a query file."""
        return lambda view: self._register(rule, view)

    def _register(self, rule: str, view: Function, **described: Any) -> Function:
        name = self.name + view.__name__.capitalize()
        summary, _, rest = cleandoc(view.__doc__ or "").partition("\n\n")
        # a paragraph is one line in the reference
        description = re.sub(r"(?<!\n)\n(?!\n)", " ", rest)
        path = f"{self.url_prefix or ''}{rule}"
        self.operations.append(Operation(name, path, summary, description, self.name, **described))
        return self.get(rule)(view)


def for_admin(work: Callable[[Snapshot, datetime], Response]) -> Response:
    """Run ``work`` in a snapshot if the key is an administrator's; pass the instant of the request too.

    A key that is not known to be an administrator's is looked up once more before, in the queue for first lookups. If
    the snapshot proves invalid, the response is closed.
    """
    settings: Settings = current_app.extensions["settings"]
    database: Database = current_app.extensions["database"]
    trust: Trust = current_app.extensions["trust"]
    admin_keys: AdminKeys = current_app.extensions["admin_keys"]
    # The second is looked up if the first is unknown. AdminKeys has the first of each key.
    hashes = key_hashes((settings.api_key_secret, settings.api_key_secret_previous), key_of(request.headers))
    hash_of_key = hashes[0]

    def admitted(snapshot: Snapshot) -> datetime:
        for key_hash in hashes:
            (caller,) = snapshot.records("caller", key_hash=key_hash, organization_id=settings.admin_organization_id)
            if caller["account_id"] is not None:
                break
        g.caller = caller["account_id"]
        admin_keys.note(hash_of_key, caller["is_admin"])
        require_admin(caller)
        return datetime.fromisoformat(caller["now"])

    def lookup(connection: Connection) -> None:
        trust.read(connection, g.budget, admitted)

    def result(connection: Connection) -> Response:
        with ExitStack() as untrusted:

            def respond(snapshot: Snapshot) -> Response:
                response = work(snapshot, admitted(snapshot))
                untrusted.callback(response.close)
                response.headers["Credits-Column"] = snapshot.credits_column
                # what Python did with the rows counts too
                g.budget.left_ms()
                return response

            response = trust.read(connection, g.budget, respond)
            untrusted.pop_all()
            return response

    if hash_of_key not in admin_keys:
        with database.first_lookup(g.budget):
            # A request with the same key may have been looked up while this one waited.
            if hash_of_key not in admin_keys:
                database.run(lookup, g.budget, needs_place=False)
    return database.run(result, g.budget)


def _answer(view: View, arguments: WindowArguments, envelope: Envelope, snapshot: Snapshot, now: datetime) -> Response:
    """Return the response to a question; its rows are read while they are written."""
    question = asked(arguments, request.args, now, snapshot.replayed)
    representation = negotiated(request.headers.get("Accept"), envelope)
    if question.with_totals and representation is not json:
        raise BadParameters({"totals": "can only be had in JSON"})
    question = replace(question, only_rows=representation.ONLY_ROWS)
    settings: Settings = current_app.extensions["settings"]
    context = Context(
        list_name=view.__name__,
        caller=g.caller,
        credits_column=snapshot.credits_column,
        credits_per_usd=settings.credits_per_usd_of(snapshot.credits_column),
        count=lambda: _count(view, snapshot, question),
    )
    listed = view(snapshot, question)
    written = representation.write(envelope, question, listed, context)
    g.row_count = written.row_count
    files = [snapshot.file_of(query, question.parameters) for query in listed.queries]
    return response_of(written, question, listed.total_count, files)


def _count(view: View, snapshot: Snapshot, question: Question) -> int | None:
    """Return how many rows a list has on all pages, None if it has no pages."""
    if "page" not in question.arguments:
        return None
    one = replace(question, arguments={**question.arguments, "limit": 1, "page": 1}, names_page=True)
    return view(snapshot, one).total_count
