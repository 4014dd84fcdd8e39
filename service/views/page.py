"""The page for a person: a client of the API that runs in the browser, served from files."""

from flask import Blueprint, Response, current_app, render_template

from service.config import Settings

HEADERS = {
    # Everything comes from here as a file: nothing inline runs, and nothing is sent anywhere else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Referrer-Policy": "no-referrer",
}

blueprint = Blueprint(
    "page", __name__, template_folder="../templates", static_folder="../static", static_url_path="/assets"
)


@blueprint.get("/")
def page() -> str:
    """Answer the page; what it knows beside the API is how many credits make a dollar."""
    settings: Settings = current_app.extensions["settings"]
    return render_template("index.html", credits_per_usd=settings.credits_per_usd)


@blueprint.after_request
def restrict(response: Response) -> Response:
    """Tell the browser what the page may do."""
    response.headers.update(HEADERS)
    return response
