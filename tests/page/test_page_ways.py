"""The ways between the views of the page: back to a list, reload, a network that comes and goes."""

from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import Open, enter, hold, needs_chromium, release
from conftest import ADMIN_KEY, NOVA, Tables
from live import eventually

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


def test_a_failed_switch_keeps_what_is_loaded_and_is_tried_again_with_the_network(opened: Open) -> None:
    page = opened("#period=weekly")
    expect(rows(page)).to_have_count(100)
    expect(page.locator("#accounts .chart svg")).to_be_visible()
    page.context.set_offline(True)
    page.get_by_role("button", name="Today").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The service cannot be reached.")
    page.get_by_role("button", name="7 days").click()
    expect(rows(page)).to_have_count(100)
    expect(page.locator("#accounts .chart svg")).to_be_visible()
    expect(alert).to_contain_text("The service cannot be reached.")
    page.context.set_offline(False)
    expect(alert).to_have_count(0)
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    page.context.set_offline(True)
    page.get_by_role("button", name="Load more").click()
    expect(alert).to_be_visible()
    page.context.set_offline(False)
    expect(rows(page)).to_have_count(200)


def test_refresh_keeps_the_pages_and_the_open_numbers(opened: Open) -> None:
    page = opened("#period=weekly")
    page.get_by_text("Numbers by day").click()
    numbers = page.get_by_role("table", name="Credits by day")
    expect(numbers).to_be_visible()
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(200)
    with page.expect_response("**/rollup?*limit=200*"):
        page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    expect(rows(page)).to_have_count(200)
    expect(numbers).to_be_visible()
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(252)
    assert len(set(rows(page).evaluate_all("rows => rows.map((row) => row.dataset.id)"))) == 252


def test_more_pages_than_the_api_has_in_one_are_loaded_again(opened: Open) -> None:
    page = opened("#period=weekly")
    expect(rows(page)).to_have_count(100)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/rollup?" in request.url else None)
    # The page writes its own number there until all is loaded.
    expect(page.locator("#accounts .chart svg")).to_be_visible()
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    page.evaluate("history.replaceState({ pages: 6 }, '')")
    page.reload()
    expect(page.get_by_text("252 of 252 accounts").first).to_be_visible()
    assert ["limit=500" in address for address in asked] == [True]


def test_a_reload_keeps_the_pages_and_the_place(opened: Open) -> None:
    page = opened("#period=weekly")
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(200)
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    rows(page).nth(150).scroll_into_view_if_needed()
    eventually(lambda: page.evaluate("history.state.scrolled === Math.round(scrollY) && scrollY > 0"), "the place")
    place = page.evaluate("scrollY")
    page.reload()
    expect(rows(page)).to_have_count(200)
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    assert page.evaluate("scrollY") == pytest.approx(place, abs=1)


@pytest.mark.parametrize("width", [1280, 900, 390])
def test_the_list_stays_where_it_is_while_the_days_are_loaded(opened: Open, width: int) -> None:
    page = opened("#period=weekly", key=None)
    page.set_viewport_size({"width": width, "height": 800})
    held = hold(page, "**/days?*")
    enter(page, ADMIN_KEY)
    expect(rows(page)).to_have_count(100)
    place = rows(page).first.bounding_box()
    release(page, held)
    expect(page.locator("#accounts .chart svg")).to_be_visible()
    assert rows(page).first.bounding_box() == place
