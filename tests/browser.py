"""Chromium, a tab whose errors fail the test, and what the tests of the page do in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect, sync_playwright

from live import ADMIN_KEY, PATIENCE_S, Gunicorn

if TYPE_CHECKING:
    from conftest import Tables

NOW = datetime(2026, 11, 22, 15, tzinfo=UTC)
USER_KEY = "key-of-nova"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)
# Root cannot make the sandbox. Background requests are off: the tests allow no other host.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  console.error(`CSP: ${violatedDirective} ${blockedURI}`);
});
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the installed browser; Playwright brings only its driver."""
    expect.set_options(timeout=PATIENCE_S * 1_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Browser, address: str, complaints: list[str] | None = None, **options: Any) -> Iterator[Page]:
    """Open a tab with a new profile; ``options`` are options of a Playwright context.

    ``complaints`` collects failed scripts, violations of the policy, and requests to other hosts.

    Raises:
        AssertionError: at the end, when there are complaints.

    """
    complaints = [] if complaints is None else complaints
    context = browser.new_context(base_url=address, **{"timezone_id": "America/New_York", **options})
    context.set_default_timeout(PATIENCE_S * 1_000)
    context.add_init_script(REPORT_VIOLATIONS)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    # The browser also writes to the console for every status from 400 and for a network that is off.
    context.on(
        "console", lambda said: complaints.append(said.text) if not said.text.startswith("Failed to load") else None
    )

    def check(request: Request) -> None:
        if not request.url.startswith((f"{address}/", "blob:")):
            complaints.append(f"a request to {request.url}")

    context.on("request", check)
    page = context.new_page()
    yield page
    context.close()
    assert complaints == []


def visit(page: Page, fragment: str = "", key: str | None = ADMIN_KEY) -> Page:
    """Open the page at a fragment and enter a key, unless it is None."""
    page.goto(f"/{fragment}")
    if key is not None:
        enter(page, key)
    return page


Open = Callable[..., Page]


@pytest.fixture(scope="module", name="browser")
def browser_of_the_module() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", name="service")
def service_of_the_module(spending: "Tables", reader_url: str) -> Iterator[Gunicorn]:
    """The service on the tables that ``spending`` of the module fills, at NOW."""
    spending.fix_now(NOW)
    with Gunicorn(reader_url) as gunicorn:
        yield gunicorn
    spending.empty()


@pytest.fixture(scope="module", name="tab")
def tab_of_the_module(browser: Browser, service: Gunicorn) -> Iterator[tuple[Page, list[str]]]:
    """One tab for all tests, and what it complains of: a new profile takes longer than most tests."""
    complaints: list[str] = []
    with watched_page(browser, f"http://127.0.0.1:{service.port}", complaints, has_touch=True) as page:
        page.context.on(
            "request", lambda request: complaints.extend(key for key in (ADMIN_KEY, USER_KEY) if key in request.url)
        )
        yield page, complaints


@pytest.fixture(name="opened")
def opened_in_the_tab(tab: tuple[Page, list[str]], spending: "Tables") -> Iterator[Open]:
    """Open the page in the tab at NOW, and clean up after the test: its later events are ``later-...``."""
    page, complaints = tab
    page.clock.set_fixed_time(NOW)
    yield partial(visit, page)
    for other in page.context.pages[1:]:
        other.close()
    page.unroute_all(behavior="ignoreErrors")
    page.evaluate("sessionStorage.clear(); localStorage.clear()")
    page.goto("about:blank")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.emulate_media(forced_colors="none")
    spending.fix_now(NOW)
    spending.execute("DELETE FROM public.usage_events WHERE id LIKE 'later-%'")
    found = complaints.copy()
    complaints.clear()
    assert found == []


def enter(page: Page, key: str) -> None:
    page.get_by_label("API key of an administrator").fill(key)
    page.get_by_role("button", name="Show top spenders").click()


def cells(rows: Locator) -> list[list[str]]:
    """Return the text of every cell, row by row, with runs of white space as one space."""
    texts: list[list[str]] = rows.evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return [[" ".join(text.split()) for text in row] for row in texts]


def hold(page: Page, pattern: str) -> list[Route]:
    """Hold the requests that match a pattern, and return them as they arrive."""
    held: list[Route] = []
    page.route(pattern, lambda route: held.append(route))
    return held


def release(page: Page, held: list[Route]) -> None:
    """Let requests go on, and wait until the page has their answers."""
    for route in held:
        route.continue_()
        # None if the page has given the request up
        if response := route.request.response():
            response.finished()
    page.evaluate("() => new Promise((done) => setTimeout(done))")
