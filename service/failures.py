"""How every failure becomes an answer, in one envelope."""

import logging
from http import HTTPStatus

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from service.errors import ServiceError, own_frames

log = logging.getLogger(__name__)


def register_error_handlers(app: Flask) -> None:
    """Make every failure of the application an error envelope."""

    @app.errorhandler(ServiceError)
    def service_error(error: ServiceError) -> Response:
        return _envelope(error.status, error.body(), error.headers)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if error.code is None or error.code < 400:
            return error.get_response()  # type: ignore[return-value]  # the handler may return werkzeug's response class
        status = HTTPStatus(error.code)
        headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
        body: dict[str, object] = {"error": f"{(status.description or status.phrase).rstrip('.')}."}
        if status == HTTPStatus.BAD_REQUEST:
            # Werkzeug refuses the request itself here, such as a malformed Host header: no parameter is bad.
            body["missing_fields"] = []
        return _envelope(error.code, body, headers)

    @app.errorhandler(Exception)
    def unexpected_error(error: Exception) -> Response:
        log.error("unexpected %s in %s", type(error).__name__, own_frames(error))
        return _envelope(500, {"error": "Something went wrong on the server."}, {})


def _envelope(status: int, body: dict[str, object], headers: dict[str, str]) -> Response:
    response = jsonify({"status": "error", **body})
    response.status_code = status
    response.headers.update(headers)
    return response
