"""The kinds of failure: what is wrong, the status, and a sentence for a person."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

SERVICE_FOLDER = str(Path(__file__).parent)


class ServiceError(Exception):
    """An expected failure: its status, a sentence for a person, and the headers of the answer."""

    status: ClassVar[int]
    sentence: str
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, sentence: str | None = None) -> None:
        self.sentence = sentence or self.sentence
        super().__init__(self.sentence)

    def body(self) -> dict[str, object]:
        """Return the keys of the envelope beside ``status``."""
        return {"error": self.sentence}


class NotAuthenticated(ServiceError):
    """No credential, more than one, a malformed one, or an unknown or expired key; the answer does not say which."""

    status = 401
    sentence = "A valid API key is required, in x-api-key or as Authorization: Bearer, not in both."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="admin credits"'}


class NotAdmin(ServiceError):
    """The key is known, but its owner is not an admin."""

    status = 403
    sentence = "This API key does not belong to an administrator."


class BadParameters(ServiceError):
    """A request parameter is missing, malformed, out of bounds, unknown or repeated.

    ``problems`` maps the name of each bad parameter to what is wrong with it.
    """

    status = 400

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__("Bad parameters: " + "; ".join(f"{name} {problems[name]}" for name in sorted(problems)) + ".")

    def body(self) -> dict[str, object]:
        """Add the names, each once, sorted."""
        return {"error": self.sentence, "missing_fields": sorted(self.problems)}


class TooManyRows(ServiceError):
    """A list has more rows than a workbook ``holds``; no parameter is wrong by itself."""

    status = 400

    def __init__(self, holds: int) -> None:
        super().__init__(f"The list has more than the {holds:,} rows that a workbook holds; ask for text/csv.")

    def body(self) -> dict[str, object]:
        """Add the names of the bad parameters, as every 400 does: none."""
        return {"error": self.sentence, "missing_fields": []}


class NotAcceptable(ServiceError):
    """The client accepts no representation that exists."""

    status = 406

    def __init__(self, media_types: Sequence[str]) -> None:
        *others, last = media_types
        super().__init__(f"Only {', '.join(others)} and {last} can be served here.")


class DatabaseTimeout(ServiceError):
    """A statement, a lock or the whole request exceeded its time limit."""

    status = 504
    sentence = "The database took too long to answer; try again."


class WindowTooLong(DatabaseTimeout):
    """A statement over a window exceeded its time limit."""

    sentence = "The database took too long to answer; ask for a shorter period."


class Unavailable(ServiceError):
    """A resource that the answer needs is temporarily unavailable."""

    status = 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class DatabaseUnavailable(Unavailable):
    """No connection can be opened, or it is lost before the answer is complete."""

    sentence = "The database cannot be reached; try again shortly."


class SnapshotLost(DatabaseUnavailable):
    """The snapshot is lost, alone or with its connection; another one may succeed."""


class DatabaseChanged(SnapshotLost):
    """A table, a privilege or a policy that the answer depends on was changed while it was read."""

    sentence = "The database was changed while it was read; try again shortly."


class SeveralServers(DatabaseChanged):
    """One request was answered by different servers, as a pooler in transaction mode can do before two standbys."""

    sentence = "The address of the database leads to several servers, which cannot answer a request together."


class DatabaseBehind(DatabaseUnavailable):
    """A standby has not yet replayed the commits up to an instant of the request."""

    sentence = "The database is a standby that has not reached this instant yet; try again shortly."


class DatabaseFailing(DatabaseUnavailable):
    """PostgreSQL is short of a resource, such as memory or disk, or met an error of its system or of its own."""

    sentence = "The database has failed to answer; try again shortly."


class UnreadableText(ServiceError):
    """A text in the database has bytes that are no characters in its encoding."""

    status = 503
    sentence = "A text in the database cannot be read: it has bytes that are no characters."


class DatabaseNotReady(DatabaseUnavailable):
    """A table, column, privilege or policy is missing or of a wrong type: queries would fail, or find no rows."""

    sentence = "The database does not let this service read what it needs."


class AnswerTooLarge(ServiceError):
    """A result has more bytes than a worker may hold."""

    status = 503
    sentence = "The answer is too large; ask for fewer rows, a shorter period, or CSV."


class NoSpaceLeft(Unavailable):
    """The disk is full on which a long answer is stored until it is sent; ``what`` it is."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The server has no space left for this {what}; ask for fewer rows.")


class Overloaded(Unavailable):
    """The queue for a connection is full, or the wait in it was too long."""

    sentence = "Too many requests are being answered; try again shortly."
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class QueryFailed(Exception):
    """PostgreSQL refused a statement for an unexpected reason; the message is the name of the query."""


def own_frames(error: BaseException) -> str:
    """Return the frames of an error that are in this package, innermost first, without the error's text."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in reversed(frames)
        if frame.filename.startswith(SERVICE_FOLDER)
    )
