"""Chromium, and a tab whose errors fail the test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from live import PATIENCE_S

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
    """Open a tab with a new profile; ``options`` are those of a Playwright context.

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
