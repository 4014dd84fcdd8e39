"""The page of top spenders, a client of the API that runs in the browser."""

from flask import Blueprint, Response, current_app, g, render_template

from service.config import Settings
from service.database.trust import Trust
from service.queries import CREDITS_COLUMNS
from service.readiness import Readiness

HEADERS = {
    # The page loads only files of this service, runs nothing inline, and sends requests nowhere else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Referrer-Policy": "no-referrer",
}

blueprint = Blueprint("page", __name__, static_folder="../static", static_url_path="/assets")


@blueprint.get("/")
def page() -> str:
    """Return the page; ``credits_per_usd`` is all that it does not get from the API.

    Unless it is set, it depends on the column of credits. A process that has not checked the database checks it now.
    """
    settings: Settings = current_app.extensions["settings"]
    trust: Trust = current_app.extensions["trust"]
    readiness: Readiness = current_app.extensions["readiness"]
    if settings.credits_per_usd is None and trust.credits_column is None:
        readiness.checks(g.budget)
    credits_per_usd = settings.credits_per_usd_of(trust.credits_column or CREDITS_COLUMNS[0])
    return render_template("index.html", credits_per_usd=credits_per_usd)


@blueprint.after_request
def restrict(response: Response) -> Response:
    """Add the headers that restrict what the page may do in the browser."""
    response.headers.update(HEADERS)
    return response
