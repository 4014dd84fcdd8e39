"""The reference of the API: the OpenAPI document, and a page made from it."""

import json
from functools import partial
from typing import Any

from flask import Blueprint, render_template

from service.openapi import openapi_document
from service.views.page import restrict

blueprint = Blueprint("reference", __name__, template_folder="../templates")
blueprint.after_request(restrict)


@blueprint.get("/openapi.json")
def document() -> dict[str, Any]:
    """Answer the OpenAPI document; it needs no key."""
    return openapi_document()


@blueprint.get("/docs")
def page() -> str:
    """Answer the reference as a page that needs neither a script nor another host."""
    # Jinja's own tojson sorts the keys, whose order is a part of what is shown.
    return render_template("reference.html", document=openapi_document(), dumps=partial(json.dumps, indent=2))
