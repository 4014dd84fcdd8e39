"""The key in a browser that keeps no data of sites, and in a tab that was elsewhere when it was forgotten."""

import pytest
from playwright.sync_api import Browser, expect

from browser import NOW, Open, needs_chromium, visit, watched_page
from conftest import NOVA, Tables
from live import Gunicorn

pytestmark = needs_chromium

BLOCKED = """
for (const name of ["sessionStorage", "localStorage"]) {
  Object.defineProperty(globalThis, name, { get() { throw new DOMException("Access is denied.", "SecurityError"); } });
}
globalThis.BroadcastChannel = class { constructor() { throw new DOMException("Access is denied.", "SecurityError"); } };
"""
FULL = """
Storage.prototype.setItem = () => { throw new DOMException("The quota has been exceeded.", "QuotaExceededError"); };
"""


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    owner.empty()
    owner.seed_admin()
    owner.account(NOVA, "Nova Records")
    owner.event(NOVA, 10, "2026-11-22 10:00:00+00")
    return owner


@pytest.mark.parametrize("script", [pytest.param(BLOCKED, id="blocked"), pytest.param(FULL, id="full")])
def test_without_storage_the_page_works_until_it_is_reloaded(browser: Browser, service: Gunicorn, script: str) -> None:
    with watched_page(browser, f"http://127.0.0.1:{service.port}") as page:
        page.clock.set_fixed_time(NOW)
        page.add_init_script(script)
        visit(page)
        expect(page.get_by_role("link", name="Nova Records")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("This browser does not keep the key")
        page.get_by_role("switch", name="Hide names").click()
        page.get_by_role("link", name="Account 11111111").click()
        expect(page.get_by_role("heading", name="Account 11111111")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
        page.get_by_role("button", name="Forget key").click()
        expect(page.get_by_label("API key of an administrator")).to_be_focused()


def test_a_key_that_was_forgotten_meanwhile_is_not_used_on_the_way_back(opened: Open) -> None:
    page = opened("#period=weekly")
    link = page.get_by_role("link", name="Nova Records")
    with page.context.expect_page() as opening:
        link.click(modifiers=["Control"])
    other = opening.value
    expect(other.get_by_role("heading", name="Nova Records")).to_be_visible()
    other.goto("/docs")
    page.get_by_role("button", name="Forget key").click()
    other.go_back()
    expect(other.get_by_label("API key of an administrator")).to_be_visible()
    assert "key-of-the-admin" not in other.evaluate("Object.values(sessionStorage)")
    # A new key is kept.
    page.get_by_label("API key of an administrator").fill("key-of-the-admin")
    page.keyboard.press("Enter")
    page.reload()
    expect(link).to_be_visible()
