"""The kinds of failure and the one envelope they leave in."""

import logging
import traceback
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

OUR_CODE = str(Path(__file__).parent)

log = logging.getLogger(__name__)


class ServiceError(Exception):
    """A failure that was foreseen: a status, a sentence for a person, and what else the answer carries."""

    status: ClassVar[int]
    sentence: str
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, sentence: str | None = None) -> None:
        self.sentence = sentence or self.sentence
        super().__init__(self.sentence)

    def body(self) -> dict[str, object]:
        """Return what the envelope holds beside its status."""
        return {"error": self.sentence}


class NotAuthenticated(ServiceError):
    """No credential, more than one, a malformed one, or a key that is unknown or expired: all alike."""

    status = 401
    sentence = "A valid API key is required, in x-api-key or as Authorization: Bearer, not in both."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="admin credits"'}


class NotAdmin(ServiceError):
    """The key is known, its owner is no admin."""

    status = 403
    sentence = "This API key does not belong to an administrator."


class BadParameters(ServiceError):
    """A request parameter is missing, malformed, out of bounds, unknown or repeated.

    ``problems`` maps each parameter to what is wrong with it.
    """

    status = 400

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__("Bad parameters: " + "; ".join(f"{name} {problems[name]}" for name in sorted(problems)) + ".")

    def body(self) -> dict[str, object]:
        """Add the names, each once, sorted."""
        return {"error": self.sentence, "missing_fields": sorted(self.problems)}


class NotAcceptable(ServiceError):
    """The client accepts neither JSON nor CSV."""

    status = 406
    sentence = "Only application/json and text/csv can be served here."


class DatabaseTimeout(ServiceError):
    """A statement, a lock or the whole request ran past its time limit."""

    status = 504
    sentence = "The database took too long to answer; try again."


class WindowTooLong(DatabaseTimeout):
    """A statement over a window ran past its time limit."""

    sentence = "The database took too long to answer; ask for a shorter period."


class DatabaseUnavailable(ServiceError):
    """No connection could be had, or it was lost before the answer was complete."""

    status = 503
    sentence = "The database cannot be reached; try again shortly."
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class DatabaseNotReady(DatabaseUnavailable):
    """The role lacks a privilege or a policy: its answers would be refused, or silently empty."""

    sentence = "The database does not let this service read what it needs."


class Overloaded(DatabaseUnavailable):
    """No place was left to wait in, or the wait for a connection was too long."""

    sentence = "Too many requests are being answered; try again shortly."
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


def own_frames(error: BaseException) -> str:
    """Name the frames of an error that are ours: never a value, never the driver's text."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in reversed(frames)
        if frame.filename.startswith(OUR_CODE)
    )


def register_error_handlers(app: Flask) -> None:
    """Let every failure leave the application as the one envelope."""

    @app.errorhandler(ServiceError)
    def service_error(error: ServiceError) -> Response:
        return _envelope(error.status, error.body(), error.headers)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if error.code is None or error.code < 400:
            return error.get_response()  # type: ignore[return-value]  # werkzeug's own response class will do
        status = HTTPStatus(error.code)
        headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
        body: dict[str, object] = {"error": f"{(status.description or status.phrase).rstrip('.')}."}
        if status == HTTPStatus.BAD_REQUEST:
            # A 400 names parameters, and it is none of them here: a Host header that is no name, for instance.
            body["missing_fields"] = []
        return _envelope(error.code, body, headers)

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> Response:
        log.error("unforeseen %s in %s", type(error).__name__, own_frames(error))
        return _envelope(500, {"error": "Something went wrong on the server."}, {})


def _envelope(status: int, body: dict[str, object], headers: dict[str, str]) -> Response:
    response = jsonify({"status": "error", **body})
    response.status_code = status
    response.headers.update(headers)
    return response
