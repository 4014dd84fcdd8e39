"""The page of top spenders, a client of the API that runs in the browser."""

from flask import Blueprint, Response, current_app, render_template

from service.config import Settings

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
    """Return the page; ``credits_per_usd`` is all that it does not get from the API."""
    settings: Settings = current_app.extensions["settings"]
    return render_template("index.html", credits_per_usd=settings.credits_per_usd)


@blueprint.after_request
def restrict(response: Response) -> Response:
    """Add the headers that restrict what the page may do in the browser."""
    response.headers.update(HEADERS)
    return response
