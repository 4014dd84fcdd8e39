"""The ways between the views of the page: back to a list, reload, a network that comes and goes."""

from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import (  # noqa: F401 - pytest finds fixtures by their names
    NOW,
    Open,
    browser_of_the_module,
    hold,
    needs_chromium,
    opened_in_the_tab,
    release,
    service_of_the_module,
    tab_of_the_module,
)
from conftest import NOVA, Tables

pytestmark = needs_chromium

SMALL = [UUID(int=n) for n in range(1, 251)]
INVISIBLE = UUID("0b9694f4-0000-4000-8000-000000000002")


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables: 250 small accounts spend 1 credit today, NOVA 10, and one with an invisible name 5."""
    owner.empty()
    owner.seed_admin()
    owner.account(NOVA, "Nova Records")
    owner.account(INVISIBLE, "\u200b\u2060\ufeff\u3164 ")
    owner.insert("accounts", "id, name", [(account, f"Small {account.int}") for account in SMALL])
    owner.event(NOVA, 10, "2026-11-22 10:00:00+00", model_id="large")
    owner.event(INVISIBLE, 5, "2026-11-22 10:00:00+00")
    owner.insert(
        "usage_events",
        "account_id, credits_deducted_cents, created_at",
        [(account, 1, "2026-11-22 11:00:00+00") for account in SMALL],
    )
    return owner


def rows(page: Page) -> Locator:
    return page.locator("section:visible [data-part=table] tbody tr:not(.ghosts)")


def test_all_accounts_is_the_list_that_one_came_from(opened: Open) -> None:
    page = opened("#period=weekly&q=nova")
    page.get_by_role("link", name="Nova Records").click()
    page.get_by_role("link", name="By model").click()
    page.get_by_role("button", name="Today").click()
    expect(page.get_by_role("heading", name="Nova Records")).to_be_visible()
    page.reload()
    expect(page.get_by_text("1 of 1 model").first).to_be_visible()
    page.get_by_role("button", name="All accounts").click()
    expect(page.get_by_label("Search accounts")).to_have_value("nova")
    expect(rows(page)).to_have_count(1)
    assert page.url.endswith("/#period=weekly&q=nova")
    page.goto("/#period=daily&show=changes")
    page.get_by_role("link", name="Nova Records").click()
    page.get_by_role("button", name="30 days").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Biggest changes")).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("link", name="Nova Records")).to_be_focused()
    assert page.url.endswith("/#period=daily&show=changes")


def test_an_account_with_an_invisible_name_is_named_by_its_id_and_found_by_that(opened: Open) -> None:
    page = opened("#period=weekly")
    link = page.get_by_role("link", name="Account 0b9694f4")
    expect(link).to_be_visible()
    page.get_by_label("Search accounts").fill("account 0b9694f4")
    expect(page.get_by_text("1 of 1 account").first).to_be_visible()
    expect(link).to_be_visible()
    link.click()
    expect(page.get_by_role("heading", name="Account 0b9694f4")).to_be_visible()
