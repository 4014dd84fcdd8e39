"""The reference of the API: the OpenAPI document, and a page made from it. Both are rendered once, at the start."""

import json
from functools import partial
from typing import Any

from flask import Blueprint, Flask, Response, current_app, render_template

from service.views.page import restrict

blueprint = Blueprint("reference", __name__)
blueprint.after_request(restrict)


def render(app: Flask, document: dict[str, Any]) -> None:
    """Render both for an application."""
    with app.test_request_context():
        # Jinja's tojson sorts the keys.
        html = render_template("reference.html", document=document, dumps=partial(json.dumps, indent=2))
        app.extensions["reference"] = {"openapi": app.make_response(document).get_data(), "html": html}


@blueprint.get("/openapi.json")
def document() -> Response:
    """Answer with the OpenAPI document; no key is needed."""
    return Response(current_app.extensions["reference"]["openapi"], mimetype="application/json")


@blueprint.get("/docs")
def page() -> Response:
    """Answer with the reference as a page without scripts and without content of other hosts."""
    return Response(current_app.extensions["reference"]["html"], mimetype="text/html")
