"""The query files, which an answer names in ``Link``."""

import re

from flask import Response, current_app
from werkzeug.routing import PathConverter

from service.endpoint import ApiBlueprint, for_admin
from service.queries import FILES
from service.representations.response import script_response


class QueryFile(PathConverter):
    """The path of a query file below sql/queries; another path is a 404, with or without a key."""

    regex = "|".join(map(re.escape, FILES))


blueprint = ApiBlueprint("queries", __name__, url_prefix="/queries")
blueprint.record(lambda state: state.app.url_map.converters.update(query_file=QueryFile))


@blueprint.script("/<query_file:name>")
def file(name: str) -> Response:
    """Return a query file as the service loaded it.

    The header Link of an answer names its query files. psql runs them as they are; the comment at the top of a file has
    its parameters and columns.
    """
    return for_admin(lambda *_: script_response(current_app.extensions["query_files"][name]))
