"""One read-only transaction, and what its failures mean.

The service sends no statement but the query files and those written here. Their settings are local to the transaction,
because a transaction pooler keeps no session. "Settings" in sql/README.md says which settings a result depends on.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self

import psycopg2
from psycopg2.extensions import AsIs

from service.budget import Budget
from service.database.connection import APPLICATION_NAME, Connection
from service.errors import (
    DatabaseFailing,
    DatabaseTimeout,
    QueryFailed,
    SnapshotLost,
    UnreadableText,
    WindowTooLong,
    own_frames,
)
from service.queries import CREDITS_COLUMNS, NO_FILTER, Query

Row = tuple[Any, ...]

SET_STATEMENT_TIMEOUT = "SET LOCAL statement_timeout = %(milliseconds)s"
# What names and instants in any query depend on.
SETTINGS = """\
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL DateStyle = ISO;
SET LOCAL TimeZone = 'UTC';"""
BEGIN = f"""\
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
{SETTINGS}
SET LOCAL application_name = '{APPLICATION_NAME}';
SET LOCAL row_security = on;
SET LOCAL standard_conforming_strings = on;
SET LOCAL gin_fuzzy_search_limit = 0;
{SET_STATEMENT_TIMEOUT}
"""
# Plan for all rows; by default a cursor is planned for the first 10 %.
DECLARE = "SET LOCAL cursor_tuple_fraction = 1; DECLARE {name} NO SCROLL CURSOR FOR\n{text}"
FETCH = "FETCH 500 FROM {name}"
# The statements of a message after ROLLBACK are a transaction of their own, which sees the newest catalogs. A pooler
# sends a message to one server.
ALONE = f"{SETTINGS}\n{{text}}"
ROLLBACK = f"ROLLBACK;\n{ALONE}"
# The parameters that have text of a client, and what restricts nothing. Where the database cannot contain the text, the
# windows are empty instead.
RESTRICTING = {"search": "", "filters": NO_FILTER}
# Fails if the encoding of the database lacks a character of the text.
PROBE = "SELECT length(%(text)s)"
# Grace after the statement timeout before the connection is dropped.
GRACE_MS = 1_000
# How a query names the column of credits. Only these two texts are put into SQL unquoted.
IDENTIFIERS = {name: AsIs(f'"{name}"') for name in CREDITS_COLUMNS}
# Classes of SQLSTATEs.
LOST = ("08", "40")  # connection exception, also to a worker of Citus; transaction rollback
# insufficient resources, program limit exceeded, object not in prerequisite state, operator intervention, system error,
# internal error, such as a damaged page
FAILING = ("53", "54", "55", "57", "58", "XX")

log = logging.getLogger(__name__)


class Fingerprint(NamedTuple):
    """The row of ``fingerprint.sql``."""

    text: str
    server: str
    is_standby: bool


class Snapshot:
    """A REPEATABLE READ READ ONLY transaction on a connection, as a context manager: all rows are of one moment.

    That does not hold for a table that is rewritten meanwhile, nor for privileges and policies: see ``trust.py``.
    ``replayed`` is the instant up to which a standby had replayed all commits before; None on a primary.
    ``credits_column``, one of CREDITS_COLUMNS, is the column of credits that the queries read.
    ``fingerprint_after`` is the fingerprint of the database after the transaction; None if the connection was lost.
    """

    def __init__(
        self,
        connection: Connection,
        queries: Mapping[str, Query],
        statement_timeout_ms: int,
        budget: Budget,
        replayed: datetime | None = None,
        credits_column: str = CREDITS_COLUMNS[0],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._budget = budget
        self._timeout_ms = min(statement_timeout_ms, budget.left_ms())
        self.replayed = replayed
        self.credits_column = credits_column
        self.fingerprint_after: Fingerprint | None = None

    def __enter__(self) -> Self:
        try:
            self._execute("BEGIN", BEGIN, {"milliseconds": self._timeout_ms})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Roll back and read the fingerprint; close the connection where that fails."""
        if not self._connection.closed:
            text = ROLLBACK.format(text=self._queries["fingerprint"].text)
            try:
                with self._budget.database_time():
                    (row,) = self._connection.execute(text, {}, GRACE_MS)
                self.fingerprint_after = Fingerprint(*row)
            except psycopg2.Error:
                self._connection.close()

    def rows(self, query_name: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run a query file and return its rows, each a tuple in the order of the file's columns.

        Raises:
            DatabaseTimeout: when the statement or the request exceeds its time limit.
            DatabaseUnavailable: when the connection is lost or the server is short of a resource.
            AnswerTooLarge: when the rows are more than a worker may hold.
            QueryFailed: when PostgreSQL refuses the statement.
        """
        query = self._query(query_name, parameters)
        return self._run(query, query.text, parameters)

    def records(self, query_name: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a query file as dicts; raise what rows() raises."""
        columns = self._queries[query_name].columns
        return [dict(zip(columns, row, strict=True)) for row in self.rows(query_name, parameters)]

    def stream(self, query_name: str, parameters: Mapping[str, object]) -> Iterator[Row]:
        """Run a query file through a cursor and return an iterator of its rows; 500 of them are in memory at a time.

        The iterator raises what rows() raises, at any row.
        """
        return self._fetch(self._query(query_name, parameters), parameters)

    def columns_of(self, query_name: str) -> tuple[str, ...]:
        """Return the columns of a query file."""
        return self._queries[query_name].columns

    def file_of(self, query_name: str, parameters: Mapping[str, object]) -> str:
        """Return the path, below sql/queries, of the query file that is run with these parameters."""
        return self._query(query_name, parameters).file

    def alone(self, query_name: str) -> Row:
        """Return the row of a query file that is run in a transaction of its own, before this one begins.

        Raises:
            DatabaseUnavailable: when the connection is lost.
        """
        (row,) = self._execute(query_name, ALONE.format(text=self._queries[query_name].text), {})
        return row

    def _query(self, name: str, parameters: Mapping[str, object]) -> Query:
        return self._queries[name].for_filters(parameters.get("filters", NO_FILTER))

    def _fetch(self, query: Query, parameters: Mapping[str, object]) -> Iterator[Row]:
        self._run(query, DECLARE.format(name=query.name, text=query.text), parameters)
        while rows := self._execute(query.name, FETCH.format(name=query.name), {}):
            yield from rows
            self._keep_to_budget()

    def _run(self, query: Query, text: str, parameters: Mapping[str, object]) -> list[Row]:
        """Execute a text with the parameters of a query file."""
        self._keep_to_budget()
        if query.parameters.get("credits_column") == "identifier":
            parameters = {**parameters, "credits_column": IDENTIFIERS[self.credits_column]}
        if not self._connection.is_utf8:
            for name in RESTRICTING.keys() & query.parameters.keys():
                if not self._can_be_found(parameters[name]):
                    edges = {"until": parameters["since"], "previous_until": parameters["previous_since"]}
                    parameters = {**parameters, **edges, name: RESTRICTING[name]}
        return self._execute(query.name, text, parameters)

    def _can_be_found(self, text: object) -> bool:
        """Whether the encoding of the database has all characters of a text."""
        if str(text).isascii():
            return True
        self._execute("SAVEPOINT", "SAVEPOINT probe", {})
        try:
            self._execute("PROBE", PROBE, {"text": text})
        except UnreadableText:
            self._execute("ROLLBACK", "ROLLBACK TO SAVEPOINT probe", {})
            return False
        return True

    def _keep_to_budget(self) -> None:
        """Lower the statement timeout to the time that the request has left."""
        left = self._budget.left_ms()
        if left < self._timeout_ms:
            self._timeout_ms = left
            self._execute("SET LOCAL", SET_STATEMENT_TIMEOUT, {"milliseconds": left})

    def _execute(self, name: str, text: str, parameters: Mapping[str, object]) -> list[Row]:
        try:
            with self._budget.database_time():
                return self._connection.execute(text, parameters, self._timeout_ms + GRACE_MS)
        except psycopg2.Error as error:
            raise self._failure(name, error) from None

    def _failure(self, name: str, error: psycopg2.Error) -> Exception:
        """Return the failure that an error of the driver means. Its text quotes values and is not logged."""
        log.warning("%s, SQLSTATE %s, in query %s: %s", type(error).__name__, error.pgcode, name, own_frames(error))
        if isinstance(error, psycopg2.errors.QueryCanceled | psycopg2.errors.LockNotAvailable):
            windowed = name in self._queries and {"since", "previous_since"} & self._queries[name].parameters.keys()
            return WindowTooLong() if windowed else DatabaseTimeout()
        # A lost connection is closed, or fails with class 08 or without SQLSTATE; a wrong call of the driver fails
        # without SQLSTATE too, with another class. A standby cancels a query that delays replay with class 40.
        misused = isinstance(error, psycopg2.ProgrammingError | psycopg2.DataError)
        sqlstate = error.pgcode or ("" if misused else "08")
        if self._connection.closed or sqlstate.startswith(LOST):
            return SnapshotLost()
        if sqlstate.startswith(FAILING):
            return DatabaseFailing()
        if isinstance(error, psycopg2.errors.UntranslatableCharacter | psycopg2.errors.CharacterNotInRepertoire):
            return UnreadableText()
        return QueryFailed(name)
