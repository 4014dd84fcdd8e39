"""What the page makes of the numbers: partial days, refunds, changes, receipts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from browser import chromium, needs_chromium, watched_page
from conftest import ADMIN_KEY, NOVA, Tables
from live import Gunicorn

pytestmark = needs_chromium

NOW = datetime(2026, 11, 22, 15, tzinfo=UTC)
LEFT = UUID("11111111-0000-4000-8000-000000000002")
REFUNDED = UUID("11111111-0000-4000-8000-000000000003")
LONG_ADDRESS = "a" * 64 + "@" + "b" * 120 + ".example"


@pytest.fixture(scope="module")
def service(owner: Tables, reader_url: str) -> Iterator[Gunicorn]:
    """Fill the tables, and set the clock to 22 November 2026, 15:00 UTC.

    The credits of each account, days counted back from today:

    | account  | today   | 1 day ago | 7 days ago | 8 days ago |
    |----------|---------|-----------|------------|------------|
    | NOVA     | 300, 1  | 200       | 400        | 100        |
    | LEFT     |         |           |            | 50         |
    | REFUNDED |         | -400      |            |            |
    """
    owner.empty()
    owner.seed_admin()
    owner.fix_now(NOW)
    for account, name in [(NOVA, "Nova Records"), (LEFT, 'Left, "Ltd"\nof L'), (REFUNDED, "Refunded")]:
        owner.account(account, name)
    owner.insert("account_emails", "account_id, email, updated_at", [(NOVA, LONG_ADDRESS, NOW)])
    owner.event(NOVA, 300, "2026-11-22 10:00:00+00", model_id="large", provider="acme")
    owner.event(NOVA, 1, "2026-11-22 12:00:00+00")
    owner.event(NOVA, 200, "2026-11-21 12:00:00+00", model_id="small", provider="acme")
    owner.event(NOVA, 400, "2026-11-15 14:00:00+00", model_id="large", provider="acme")
    owner.event(NOVA, 100, "2026-11-14 12:00:00+00")
    owner.event(LEFT, 50, "2026-11-14 12:00:00+00")
    owner.event(REFUNDED, -400, "2026-11-21 12:00:00+00")
    with Gunicorn(reader_url) as gunicorn:
        yield gunicorn
    owner.empty()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, service: Gunicorn) -> Iterator[Page]:
    with watched_page(browser, f"http://127.0.0.1:{service.port}", has_touch=True) as page:
        yield page


def enter(page: Page, fragment: str = "") -> None:
    page.goto(f"/{fragment}")
    page.get_by_label("API key of an administrator").fill(ADMIN_KEY)
    page.get_by_role("button", name="Show top spenders").click()


def cells(page: Page, table: str) -> list[list[str]]:
    rows = page.get_by_role("table", name=table).locator("tbody tr:not(.ghosts)")
    expect(rows.first).to_be_visible()
    texts: list[list[str]] = rows.evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return [[" ".join(text.split()) for text in row] for row in texts]


def test_a_touched_bar_says_its_numbers_and_today_is_partial(page: Page) -> None:
    enter(page, "#period=weekly")
    chart = page.get_by_role("img", name="Credits by day")
    expect(chart.locator("rect.partial")).to_have_count(1)
    box = chart.bounding_box()
    assert box
    page.touchscreen.tap(box["x"] + box["width"] - 5, box["y"] + 5)
    expect(page.locator(".readout")).to_have_text("22 Nov 2026, so far: 301 credits, $3.01, 2 events")


def test_refunds_give_no_share_of_more_than_all(page: Page) -> None:
    enter(page, "#period=weekly")
    accounts = "Accounts by credits spent"
    expect(page.locator(".rollup td.share .bar").first).to_be_attached()
    # 501 of 101 together would be 496 %.
    assert [(row[1], row[3], row[5]) for row in cells(page, accounts)] == [
        ("Nova Records", "501", "– no share, because of refunds"),
        ("Refunded", "−400", "– no share, because of refunds"),
    ]
    bars = page.locator(".rollup td.share rect")
    assert bars.evaluate_all("bars => bars.map((bar) => bar.getAttribute('width'))") == ["100.00%", "0.00%"]


def test_on_a_narrow_screen_numbers_have_units_and_a_long_address_wraps(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    enter(page, "#period=monthly")
    accounts = "Accounts by credits spent"
    assert [row[6] for row in cells(page, accounts)] == ["5 events", "1 event", "1 event"]
    page.get_by_role("link", name="Nova Records").click()
    expect(page.locator("#identity").get_by_text(LONG_ADDRESS)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_csv_file_has_no_hidden_names(page: Page) -> None:
    enter(page, "#period=all")
    page.get_by_role("switch", name="Hide names").click()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download CSV").click()
    assert downloading.value.path().read_text().splitlines() == [
        "account_id,account_name,account_email,total_credits_deducted_cents,event_count",
        f"{NOVA},,,1001,5",
        f"{LEFT},,,50,1",
        f"{REFUNDED},,,-400,1",
    ]


def test_a_row_opens_in_another_tab_that_has_the_key(page: Page) -> None:
    enter(page, "#period=weekly")
    page.get_by_role("switch", name="Hide names").click()
    with page.context.expect_page() as opening:
        page.locator(".rollup a").first.click(modifiers=["Control"])
    other = opening.value
    expect(other.get_by_role("heading", name="Account 11111111")).to_be_visible()
    assert other.url.endswith(f"/#period=weekly&account={NOVA}")
    # Nothing but the press lends the key.
    page.evaluate("performance.now = () => 1e9")
    stranger = page.context.new_page()
    stranger.goto("/")
    expect(stranger.get_by_label("API key of an administrator")).to_be_focused()
    # One press forgets it everywhere.
    page.get_by_role("button", name="Forget key").click()
    expect(other.get_by_label("API key of an administrator")).to_be_visible()
    assert other.evaluate("sessionStorage.getItem('credits-api-key')") is None
