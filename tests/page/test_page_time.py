"""How old the numbers of the page are, and whose clock it believes."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from browser import NOW, Open, needs_chromium
from conftest import NOVA, Tables

pytestmark = needs_chromium

OTHER = UUID("11111111-0000-4000-8000-000000000002")
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables: NOVA spends 1 credit on 18 November, 2 on the 19th, 4 on the 20th, and so on."""
    owner.empty()
    owner.seed_admin()
    owner.account(NOVA, "Nova Records")
    owner.account(OTHER, "Other")
    for day in range(18, 23):
        owner.event(NOVA, 2 ** (day - 18), f"2026-11-{day} 00:30:00+00")
    return owner


def set_clocks(page: Page, spending: Tables, now: datetime, off: timedelta = timedelta()) -> None:
    """Set the clocks of the database, and of the browser, which is ``off``."""
    spending.fix_now(now)
    page.clock.set_fixed_time(now + off)


def asked_of(page: Page) -> list[dict[str, list[str]]]:
    """Return the parameters of the requests for lists from now on, as they are sent."""
    asked: list[dict[str, list[str]]] = []
    page.on("request", lambda request: asked.append(parse_qs(urlsplit(request.url).query)) if "?" in request.url else 0)
    return asked


def credits(page: Page, expected: str) -> None:
    expect(page.locator("section:visible dl > div").first).to_contain_text(f"Credits{expected}$")


def test_a_press_of_the_active_period_loads_it_again(opened: Open, spending: Tables) -> None:
    page = opened("#period=daily")
    set_clocks(page, spending, MIDNIGHT - timedelta(minutes=5))
    page.get_by_role("button", name="Today").click()
    expect(page.locator(".window")).to_contain_text("22 Nov 2026 UTC days, as of 22 Nov, 18:55 GMT-5, just now")
    spending.event(OTHER, 1000, MIDNIGHT + timedelta(minutes=1), id="later-1")
    set_clocks(page, spending, MIDNIGHT + timedelta(minutes=2))
    page.get_by_role("button", name="Today").click()
    expect(page.locator(".window")).to_contain_text("23 Nov 2026 UTC days, as of 22 Nov, 19:02 GMT-5, just now")
    credits(page, "1,000")


def test_on_another_day_the_old_instant_is_not_asked_for(opened: Open, spending: Tables) -> None:
    page = opened("#period=weekly")
    credits(page, "31")
    spending.event(OTHER, 1000, MIDNIGHT + timedelta(minutes=1), id="later-1")
    set_clocks(page, spending, MIDNIGHT + timedelta(hours=20))
    page.get_by_role("link", name="By model").click()
    expect(page.locator(".window")).to_contain_text("17 – 23 Nov 2026 UTC days, as of 23 Nov, 15:00 GMT-5")
    credits(page, "1,031")
    page.get_by_role("link", name="Top spenders").click()
    expect(page.get_by_role("link", name="Other")).to_be_visible()


def test_the_age_is_said_and_a_returning_reader_is_offered_newer_numbers(opened: Open, spending: Tables) -> None:
    page = opened("#period=daily")
    window = page.locator(".window")
    expect(window).to_contain_text("as of 22 Nov, 10:00 GMT-5, just now")

    def come_back(after: timedelta) -> None:
        set_clocks(page, spending, NOW + after)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")

    come_back(timedelta(minutes=9, seconds=59))
    expect(window).to_contain_text("9 minutes ago")
    expect(page.get_by_role("button", name="Refresh")).to_be_visible()
    come_back(timedelta(minutes=10))
    expect(window).to_contain_text("10 minutes ago")
    expect(page.get_by_role("status")).to_have_text("Newer numbers can be loaded")
    page.get_by_role("button", name="Newer numbers").click()
    expect(window).to_contain_text("as of 22 Nov, 10:10 GMT-5, just now")
    expect(page.get_by_role("button", name="Refresh")).to_be_focused()
    # Another day has begun nine minutes later.
    set_clocks(page, spending, MIDNIGHT - timedelta(minutes=5))
    page.get_by_role("button", name="Refresh").click()
    expect(window).to_contain_text("18:55")
    come_back(MIDNIGHT + timedelta(minutes=4) - NOW)
    expect(page.get_by_role("button", name="Newer numbers")).to_be_visible()
    # What has ended has no newer numbers.
    page.goto("/#from=2026-11-18&to=2026-11-19")
    expect(window).to_have_text("18 – 19 Nov 2026 UTC days")
    expect(page.get_by_role("button", name="Refresh")).to_be_visible()


@pytest.mark.parametrize(
    "off",
    [
        pytest.param(timedelta(hours=-26), id="26 hours behind"),
        pytest.param(timedelta(), id="right"),
        pytest.param(timedelta(days=400), id="400 days ahead"),
    ],
)
def test_a_range_that_has_ended_is_the_same_by_any_clock(
    opened: Open, tab: tuple[Page, list[str]], spending: Tables, off: timedelta
) -> None:
    set_clocks(tab[0], spending, datetime(2026, 11, 22, 1, tzinfo=UTC), off)
    page = opened("#from=2026-11-19&to=2026-11-20")
    credits(page, "6")
    expect(page.locator(".window")).to_have_text("19 – 20 Nov 2026 UTC days")
    page.locator("#sql").click()
    expect(page.locator("dialog pre").first).to_contain_text("-v until=2026-11-21T00:00:00.000000Z")
    page.keyboard.press("Escape")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download CSV").click()
    assert f"{NOVA},Nova Records,,6,2" in downloading.value.path().read_text()
    assert downloading.value.suggested_filename == "credits-rollup-2026-11-19-2026-11-20.csv"
    # The file is of this range too when the list has not come.
    page.route("**/rollup?*limit=*", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_be_visible()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download CSV").click()
    assert f"{NOVA},Nova Records,,6,2" in downloading.value.path().read_text()


@pytest.mark.parametrize("off", [-15, 0, 15])
def test_this_month_has_no_error_at_its_end(
    opened: Open, tab: tuple[Page, list[str]], spending: Tables, off: int
) -> None:
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    set_clocks(tab[0], spending, midnight - timedelta(seconds=10), timedelta(seconds=off))
    page = opened("#from=2026-11-01&to=2026-11-30")
    window = page.locator(".window")
    expect(window).to_contain_text("1 – 30 Nov 2026 UTC days, as of 30 Nov, 18:59 GMT-5")
    credits(page, "31")
    set_clocks(page, spending, midnight + timedelta(seconds=10), timedelta(seconds=off))
    page.reload()
    expect(window).to_have_text("1 – 30 Nov 2026 UTC days")
    credits(page, "31")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_months_are_those_of_the_service(opened: Open, tab: tuple[Page, list[str]], spending: Tables) -> None:
    set_clocks(tab[0], spending, NOW, timedelta(days=-60))
    asked = asked_of(tab[0])
    page = opened("#period=weekly")
    credits(page, "31")
    page.get_by_role("button", name="Dates…").click()
    expect(page.get_by_label("From", exact=True)).to_have_attribute("max", "2026-11-22")
    page.get_by_role("button", name="November 2026").click()
    expect(page.locator(".window")).to_contain_text("1 – 22 Nov 2026 UTC days, as of 22 Nov, 10:00 GMT-5, just now")
    assert not any("2026-12" in edge for query in asked for edge in query.get("as_of", []))
