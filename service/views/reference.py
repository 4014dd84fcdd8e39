"""The reference of the API: the OpenAPI document, and a page made from it."""

import json
from functools import partial
from typing import Any

from flask import Blueprint, current_app, render_template

from service.views.page import restrict

blueprint = Blueprint("reference", __name__)
blueprint.after_request(restrict)


@blueprint.get("/openapi.json")
def document() -> dict[str, Any]:
    """Answer with the OpenAPI document; no key is needed."""
    openapi: dict[str, Any] = current_app.extensions["openapi"]
    return openapi


@blueprint.get("/docs")
def page() -> str:
    """Answer with the reference as a page without scripts and without content of other hosts."""
    # Jinja's tojson sorts the keys.
    return render_template(
        "reference.html", document=current_app.extensions["openapi"], dumps=partial(json.dumps, indent=2)
    )
