"""The query files, which an answer names in ``Link``."""

from flask import Blueprint, Response, current_app

from service.endpoint import for_admin
from service.queries import QUERY_NAMES, SUMS_QUERY_NAMES
from service.representations import script_response

blueprint = Blueprint("queries", __name__, url_prefix="/queries")


@blueprint.get(f"/<any({', '.join(QUERY_NAMES)}):name>.sql")
def file(name: str) -> Response:
    """Return a query file as the service loaded it."""
    return for_admin(lambda *_: script_response(current_app.extensions["query_files"][f"{name}.sql"]))


@blueprint.get(f"/sums/<any({', '.join(SUMS_QUERY_NAMES)}):name>.sql")
def sums_file(name: str) -> Response:
    """Return a query file that reads the sums, as the service loaded it."""
    return for_admin(lambda *_: script_response(current_app.extensions["query_files"][f"sums/{name}.sql"]))
