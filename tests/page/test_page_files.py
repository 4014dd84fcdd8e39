"""The files of the page, and their headers."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from conftest import BufferedClient
from live import ROOT
from service import create_app
from service.config import ConfigurationError, Settings
from service.schemas.requests import BREAKDOWN_KEYS

ASSETS = ROOT / "service" / "static"
NAMES = sorted(path.name for path in ASSETS.iterdir())
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}


def test_the_page_needs_no_key_and_is_restricted(client: FlaskClient) -> None:
    response = client.get("/")
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy == POLICY
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "private, no-cache"


def test_the_page_has_each_key_of_the_breakdown(client: FlaskClient) -> None:
    links = client.get("/").text.partition('id="by"')[2].partition("</nav>")[0]
    assert re.findall(r'data-show="(\w+)"', links) == list(BREAKDOWN_KEYS)
    names = re.findall(r"BREAKDOWNS = \{(.*)\}", (ASSETS / "address.js").read_text())
    assert re.findall(r"(\w+):", names[0]) == list(BREAKDOWN_KEYS)


def test_the_scripts_import_each_other_without_a_cycle() -> None:
    """TopologicalSorter raises CycleError."""
    imports = {path.name: re.findall(r' from "\./(.+)";', path.read_text()) for path in ASSETS.glob("*.js")}
    assert [*TopologicalSorter(imports).static_order()][-1] == "page.js"


@pytest.mark.parametrize("credits_per_usd", ["0.5", "1000000"])
def test_the_page_knows_how_many_credits_make_a_dollar(settings: Settings, credits_per_usd: str) -> None:
    given = Settings(
        database_url=settings.database_url, api_key_secret=settings.api_key_secret, credits_per_usd=credits_per_usd
    )
    client = BufferedClient(create_app(given))
    assert re.findall(r"<body ([^>]*)>", client.get("/").text) == [f'data-credits-per-usd="{credits_per_usd}"']


@pytest.mark.parametrize("value", ["0", "0.00", "-1", "1e3", "1_0", "١", "abc", "100 ", ".5", '"><script>'])
def test_an_invalid_number_of_credits_stops_the_start(settings: Settings, value: str) -> None:
    environment = {"DATABASE_URL": settings.database_url, "API_KEY_SECRET": "s", "CREDITS_PER_USD": value}
    with pytest.raises(ConfigurationError, match=r"^CREDITS_PER_USD must be a positive number in decimal notation$"):
        Settings.from_environment(environment)


@pytest.mark.parametrize("name", NAMES)
def test_each_file_has_its_type_and_is_revalidated(client: FlaskClient, name: str) -> None:
    types = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    response = client.get(f"/assets/{name}")
    assert (response.status_code, response.data) == (200, (ASSETS / name).read_bytes())
    assert types[Path(name).suffix] in response.content_type
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "Content-Security-Policy" in response.headers
    again = client.get(f"/assets/{name}", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/assets/", id="the folder"),
        pytest.param("/assets/nothing.js", id="no such file"),
        pytest.param("/assets/../index.html", id="the parent folder"),
        pytest.param("/assets/%2fetc%2fpasswd", id="an absolute path"),
    ],
)
def test_nothing_else_is_served(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.get_json()) == (
        404,
        {"status": "error", "error": "Nothing matches the given URI."},
    )
