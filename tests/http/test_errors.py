"""Every failure is an error envelope, and neither it nor the log quotes the text of an exception."""

import logging
from dataclasses import replace

import pytest
from flask import Flask, abort, g
from flask.testing import FlaskClient
from werkzeug.exceptions import default_exceptions

from conftest import ROLLUP, Tables, admin_client
from service import create_app
from service.config import Settings
from service.database.snapshot import Snapshot
from service.endpoint import ApiBlueprint
from service.listing import List
from service.question import Question
from service.schemas.requests import RollupArguments
from service.schemas.responses import RollupEnvelope


@pytest.fixture
def failing(settings: Settings) -> FlaskClient:
    """An application with views that fail."""
    app: Flask = create_app(settings)

    @app.get("/http/<int:code>")
    def http(code: int) -> None:
        abort(code)

    @app.get("/unexpected")
    def unexpected() -> None:
        raise RuntimeError("the secret of ada@example.com is key-of-the-admin")

    return app.test_client()


@pytest.mark.parametrize("code", sorted(default_exceptions))
def test_every_http_error_has_the_envelope(failing: FlaskClient, code: int) -> None:
    response = failing.get(f"/http/{code}")
    body = response.get_json()
    assert response.status_code == code
    assert response.content_type == "application/json"
    assert body.get("missing_fields") == ([] if code == 400 else None)
    assert list(body)[:2] == ["status", "error"]
    assert body["status"] == "error"
    assert len(body["error"]) > 3
    assert body["error"].endswith(".")


def test_the_text_of_an_exception_is_neither_answered_nor_logged(
    failing: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        response = failing.get("/unexpected")
    assert (response.status_code, response.get_json()) == (
        500,
        {"status": "error", "error": "Something went wrong on the server."},
    )
    assert "RuntimeError" in caplog.text
    assert "ada@example.com" not in caplog.text
    assert "key-of-the-admin" not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/api/admins/credits", id="parent"),
        pytest.param(f"{ROLLUP}/", id="slash after"),
        pytest.param("/api//admins/credits/rollup", id="two slashes"),
        pytest.param("/API/admins/credits/rollup", id="capitals"),
        pytest.param("/static/x", id="no static folder"),
    ],
)
def test_no_such_path_is_a_404(admin: FlaskClient, path: str) -> None:
    response = admin.get(path)
    assert (response.status_code, response.get_json()) == (
        404,
        {"status": "error", "error": "Nothing matches the given URI."},
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_another_method_is_a_405_with_allow_even_without_a_key(client: FlaskClient, method: str) -> None:
    response = client.open(ROLLUP, method=method)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert response.get_json() == {"status": "error", "error": "Specified method is invalid for this resource."}


def test_the_time_of_a_request_includes_work_without_the_database(settings: Settings, tables: Tables) -> None:
    app = create_app(replace(settings, request_timeout_ms=300))

    blueprint = ApiBlueprint("busy", __name__)

    @blueprint.list("/busy", RollupArguments(), RollupEnvelope())
    def busy(_snapshot: Snapshot, _question: Question) -> List:
        while g.budget.spent_ms() < 300:
            pass
        return List((), [], 0, ())

    app.register_blueprint(blueprint)
    assert admin_client(app).get("/busy").status_code == 504
