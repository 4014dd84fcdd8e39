"""The filters of the page: which links set them, what obeys them, and how they are removed."""

from urllib.parse import parse_qs, quote_plus, urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import Open, cells, hold, needs_chromium, release
from conftest import NOVA, Tables
from spreadsheet import Spreadsheet

pytestmark = needs_chromium

OTHER = UUID("11111111-0000-4000-8000-000000000002")
HOSTILE = "<b>\"'&= +%\\"
ADDRESS = f"/#period=weekly&model={quote_plus(HOSTILE)}"


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables: the credits of this week by model, and of the week before.

    | account | HOSTILE, acme | HOSTILE | small | empty | null | before: HOSTILE | null |
    |---------|---------------|---------|-------|-------|------|-----------------|------|
    | NOVA    | 300           | 40      | 2,000 |       | 1    | 20              |      |
    | OTHER   | 50            |         |       | 4     |      |                 | 9    |
    """
    owner.empty()
    owner.seed_admin()
    owner.account(NOVA, "Nova Records")
    owner.account(OTHER, "Other")
    owner.event(NOVA, 300, "2026-11-22 10:00:00+00", model_id=HOSTILE, provider="acme")
    owner.event(NOVA, 40, "2026-11-21 10:00:00+00", model_id=HOSTILE)
    owner.event(NOVA, 2_000, "2026-11-21 10:00:00+00", model_id="small", provider="acme")
    owner.event(NOVA, 1, "2026-11-21 10:00:00+00")
    owner.event(OTHER, 50, "2026-11-20 10:00:00+00", model_id=HOSTILE, provider="acme")
    owner.event(OTHER, 4, "2026-11-20 10:00:00+00", model_id="")
    owner.event(NOVA, 20, "2026-11-14 10:00:00+00", model_id=HOSTILE)
    owner.event(OTHER, 9, "2026-11-14 10:00:00+00")
    return owner


def listed(page: Page, name: str) -> list[list[str]]:
    """Return the cells of a table, once all is loaded."""
    rows = page.get_by_role("table", name=name).locator("tbody tr:not(.ghosts)")
    expect(rows.first).to_be_visible()
    expect(page.locator("section:visible")).not_to_have_attribute("aria-busy", "true")
    return cells(rows)


def chips(page: Page) -> Locator:
    return page.get_by_role("group", name="Filters").get_by_role("button")


def credits(page: Page) -> Locator:
    return page.locator("section:visible dl > div").first


def test_a_key_leads_to_who_uses_it_and_all_lists_obey(opened: Open) -> None:
    page = opened("#period=weekly&show=model")
    listed(page, "Credits by model")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)
    page.get_by_role("link", name=HOSTILE).click()
    heading = f"Top spenders in the last 7 days, model {HOSTILE}"
    expect(page.get_by_role("heading", name=heading)).to_be_focused()
    assert page.url.endswith(ADDRESS)
    expect(chips(page)).to_have_accessible_name(f"Model: {HOSTILE}, remove filter")
    rows = [row[1:2] + row[3:] for row in listed(page, "Accounts by credits spent")]
    assert rows == [
        ["Nova Records", "340", "$3.40", "+1,600%", "87.2%", "2"],
        ["Other", "50", "$0.50", "none before", "12.8%", "1"],
    ]
    expect(credits(page)).to_have_text("Credits390$3.90 · change: +1,850%")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download CSV").click()
    assert downloading.value.suggested_filename == "credits-rollup-filtered-weekly-2026-11-22.csv"
    lines = downloading.value.path().read_text().splitlines()
    assert [line.split(",")[3] for line in lines[1:]] == ["340", "50"]
    page.get_by_role("link", name="Biggest changes").click()
    assert [row[2:5] for row in listed(page, "Accounts by change")] == [["20", "340", "+320"], ["0", "50", "+50"]]
    page.get_by_role("link", name="By model").click()
    assert [row[:2] for row in listed(page, "Credits by model")] == [[HOSTILE, "390"]]
    page.get_by_role("link", name="Provider").click()
    assert [row[:2] for row in listed(page, "Credits by provider")] == [["acme", "350"], ["no provider", "40"]]
    page.get_by_role("link", name="Top spenders").click()
    page.get_by_role("link", name="Nova Records").click()
    assert [row[7] for row in listed(page, "Events")] == ["300", "40"]
    expect(credits(page)).to_contain_text("340")
    page.get_by_role("link", name="By model").click()
    assert [row[:2] for row in listed(page, "Credits by model")] == [[HOSTILE, "340"]]
    questions = [urlsplit(address) for address in asked]
    lists = {question.path.rpartition("/")[2] for question in questions}
    assert lists == {"rollup", "changes", "breakdown", "events", "days"}
    assert {tuple(parse_qs(question.query)["model"]) for question in questions} == {(HOSTILE,)}


def test_filters_are_combined_restored_and_removed_one_by_one(opened: Open) -> None:
    page = opened(ADDRESS[1:] + "&show=provider")
    page.get_by_role("link", name="acme").click()
    both = f"/#period=weekly&model={quote_plus(HOSTILE)}&provider=acme"
    assert page.url.endswith(both)
    names = [f"Model: {HOSTILE} ×", "Provider: acme ×"]
    expect(chips(page)).to_have_text(names)
    expect(credits(page)).to_contain_text("350")
    page.reload()
    expect(chips(page)).to_have_text(names)
    expect(credits(page)).to_contain_text("350")
    page.go_back()
    expect(chips(page)).to_have_text(names[:1])
    expect(credits(page)).to_contain_text("390")
    page.go_forward()
    expect(credits(page)).to_contain_text("350")
    chips(page).first.focus()
    page.keyboard.press("Enter")
    expect(chips(page)).to_have_text(names[1:])
    expect(chips(page)).to_be_focused()
    expect(credits(page)).to_contain_text("2,350")
    assert page.url.endswith("/#period=weekly&provider=acme")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Filters")).to_be_hidden()
    expect(page.get_by_role("link", name="Top spenders")).to_be_focused()
    expect(credits(page)).to_contain_text("2,395")
    assert page.url.endswith("/#period=weekly")
    # A link has them in any order.
    page.goto(f"/#provider=acme&model={quote_plus(HOSTILE)}&period=weekly")
    expect(chips(page)).to_have_text(names)


@pytest.mark.parametrize("key", ["no model", "(empty)"])
def test_events_without_a_model_are_one_filter(opened: Open, key: str) -> None:
    page = opened("#period=weekly&show=model")
    page.get_by_role("link", name=key).click()
    expect(chips(page)).to_have_text("Model: none ×")
    assert page.url.endswith("/#period=weekly&model=")
    assert [row[1:4:2] for row in listed(page, "Accounts by credits spent")] == [["Other", "4"], ["Nova Records", "1"]]
    page.goto("/#period=daily&model=")
    expect(page.get_by_text("No account has spent credits today with these filters.")).to_be_visible()


def test_a_key_of_an_account_leads_to_its_events(opened: Open) -> None:
    page = opened(f"#period=weekly&account={NOVA}&show=model")
    page.get_by_role("row", name="no model").locator(".number").first.click()
    assert [row[7] for row in listed(page, "Events")] == ["1"]
    expect(page.get_by_role("heading", name="Nova Records")).to_be_focused()
    assert page.url.endswith(f"/#period=weekly&account={NOVA}&model=")
    page.get_by_role("button", name="Model: none").click()
    expect(page.get_by_text("4 of 4 events").first).to_be_visible()
    expect(page.get_by_role("link", name="Events")).to_be_focused()


def test_a_filter_is_as_of_the_instant_of_the_list_that_it_comes_from(opened: Open, spending: Tables) -> None:
    page = opened("#period=weekly&show=model")
    expect(credits(page)).to_contain_text("2,395")
    listed(page, "Credits by model")
    spending.event(NOVA, 5, "2026-11-22 15:00:00+00", id="later-5", model_id="small")
    spending.fix_now("2026-11-22 15:05:00+00")
    page.get_by_role("link", name="small").click()
    expect(credits(page)).to_contain_text("2,000")
    page.get_by_role("button", name="Refresh").click()
    expect(credits(page)).to_contain_text("2,005")
    page.get_by_role("button", name="Model: small").click()
    expect(credits(page)).to_contain_text("2,400")


def test_the_workbook_has_what_is_shown(opened: Open) -> None:
    page = opened(ADDRESS[1:])
    listed(page, "Accounts by credits spent")
    workbook = page.get_by_role("button", name="Download Excel")
    with page.expect_download() as downloading:
        workbook.click()
    assert downloading.value.suggested_filename == "credits-rollup-filtered-weekly-2026-11-22.xlsx"
    head, *rows = Spreadsheet(downloading.value.path().read_bytes()).rows()
    column = head.index("total_credits_deducted_cents")
    assert [row[column] for row in rows] == ["340", "50"]
    page.route("**/rollup?*", lambda route: route.fulfill(status=503, json={"status": "error", "error": "Away."}))
    workbook.click()
    expect(page.get_by_role("alert")).to_contain_text("The workbook was not downloaded. Away.")
    page.get_by_role("button", name="Close").click()
    expect(workbook).to_be_focused()
    # It has names, also one that is on its way when they are hidden.
    page.unroute("**/rollup?*")
    held = hold(page, "**/rollup?*")
    files: list[str] = []
    page.on("download", lambda download: files.append(download.suggested_filename))
    with page.expect_request("**/rollup?*"):
        workbook.click()
    page.get_by_role("switch", name="Hide names").click()
    expect(workbook).to_be_hidden()
    release(page, held)
    with page.expect_download():
        page.unroute("**/rollup?*")
        page.get_by_role("button", name="Download CSV").click()
    assert files == ["credits-rollup-filtered-weekly-2026-11-22.csv"]
