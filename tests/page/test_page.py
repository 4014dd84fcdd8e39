"""The page in Chromium, with gunicorn and PostgreSQL behind it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, Route, expect

from browser import NOW, USER_KEY, Open, cells, enter, hold, needs_chromium, release
from conftest import ADMIN, ADMIN_KEY, NOVA, Tables
from live import Gunicorn

pytestmark = needs_chromium

BOLD = UUID("11111111-0000-4000-8000-000000000002")
NAMELESS = UUID("11111111-0000-4000-8000-000000000003")
BUSY = UUID("11111111-0000-4000-8000-000000000004")
GIANT = UUID("11111111-0000-4000-8000-000000000005")
STRANGER = UUID("11111111-0000-4000-8000-00000000000f")
SMALL = [UUID(int=n) for n in range(1, 202)]
BOLD_NAME = "<b>Bold</b> & <img src=x onerror=alert(1)>"
LONG_NAME = "Society for the Preservation of " + "Very " * 60 + "Old Music"


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables.

    At NOW the credits (and events) of each account:

    | account  | today   | 7 days  | 30 days   | all                   |
    |----------|---------|---------|-----------|-----------------------|
    | NOVA     | 600 (2) | 800 (3) | 800 (3)   | 800 (3)               |
    | BOLD     | 300 (1) | 300 (1) | 300 (1)   | 300 (1)               |
    | NAMELESS | 100 (1) | 100 (1) | 100 (1)   | 100 (1)               |
    | BUSY     |         |         | 300 (150) | 300 (150)             |
    | SMALL    |         |         | 201 of 1  | 201 of 1              |
    | GIANT    |         |         |           | 2^53 + 1 (1)          |
    | together | 1000    | 1200    | 1701      | 9,007,199,254,742,694 |
    """
    owner.empty()
    owner.seed_admin()
    for account, name, email in [
        (NOVA, "Nova Records", "ops@nova.example"),
        (BOLD, BOLD_NAME, "<i>bold</i>@bold.example"),
        (NAMELESS, None, None),
        (BUSY, "Busy Bees", "hello@bees.example"),
        (GIANT, LONG_NAME, "a" * 64 + "@" + "long." * 30 + "example"),
    ]:
        owner.account(account, name)
        if email:
            owner.insert("account_emails", "account_id, email, updated_at", [(account, email, NOW)])
    owner.insert("accounts", "id, name", [(account, f"Small {account.int}") for account in SMALL])
    owner.key(USER_KEY, NOVA)
    tokens = {"provider": "anthropic", "model_id": "sonnet", "source": "api", "agent_type": "subagent"}
    tokens |= {"input_tokens": 1200, "cached_input_tokens": 800, "output_tokens": 45, "tool_call_count": 3}
    owner.event(NOVA, 500, "2026-11-22 10:15:00.25+00", id="nova-1", **tokens)
    owner.event(NOVA, 100, "2026-11-22 03:00:00+00", id="nova-2")
    owner.event(NOVA, 200, "2026-11-19 12:00:00+00", id="nova-3")
    owner.event(BOLD, 300, "2026-11-22 11:00:00+00")
    owner.event(NAMELESS, 100, "2026-11-22 12:00:00+00")
    owner.insert(
        "usage_events",
        "account_id, credits_deducted_cents, created_at",
        [(BUSY, 2, datetime(2026, 11, 5, 12, tzinfo=UTC) + timedelta(minutes=n)) for n in range(150)]
        + [(account, 1, datetime(2026, 11, 1, 12, tzinfo=UTC)) for account in SMALL]
        + [(GIANT, 2**53 + 1, datetime(2026, 9, 1, 12, tzinfo=UTC))],
    )
    owner.insert(
        "credit_grants",
        "account_id, granted_by, reason, previous_credits, remaining_credits, created_at",
        [
            (NOVA, BOLD, "sorry for the <outage>", 1000, 2500, "2026-11-20 09:00:00+00"),
            (NOVA, ADMIN, "welcome", None, 1000, "2026-11-10 09:00:00+00"),
        ],
    )
    return owner


def rows(page: Page) -> Locator:
    return page.get_by_role("table", name="Accounts by credits spent").locator("tbody tr:not(.ghosts)")


def events(page: Page) -> Locator:
    return page.get_by_role("table", name="Events, newest first").locator("tbody tr:not(.ghosts)")


def figures(page: Page) -> list[str]:
    """Return the sums above the list that is shown, once the days are loaded."""
    expect(page.locator("section:visible .chart svg, section:visible .card.empty").first).to_be_visible()
    return [" ".join(text.split()) for text in page.locator("section:visible dl > div").all_inner_texts()]


def expect_figures(page: Page, expected: list[str]) -> None:
    """Wait for these sums above the list that is shown: the days are loaded after the list."""
    expect(page.locator("section:visible dl > div")).to_have_text(expected, use_inner_text=True)


def open_account(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_focused()


def test_a_first_visit_asks_for_the_key_and_shows_the_list(opened: Open) -> None:
    page = opened(key=None)
    expect(page.get_by_label("API key of an administrator")).to_be_focused()
    assert page.get_by_role("table").count() == 0
    enter(page, f" {ADMIN_KEY} ")
    expect(rows(page)).to_have_count(100)
    expect_figures(
        page, ["Credits 1,701 $17.01 · change: none before", "Events 356 change: none before", "Accounts 205"]
    )
    assert cells(rows(page))[:4] == [
        ["1", "Nova Records", "ops@nova.example", "800", "$8.00", "none before", "47.0%", "3"],
        # Equal totals are in order of id.
        ["2", BOLD_NAME, "<i>bold</i>@bold.example", "300", "$3.00", "none before", "17.6%", "1"],
        ["3", "Busy Bees", "hello@bees.example", "300", "$3.00", "none before", "17.6%", "150"],
        ["4", "Account 11111111", "– no address", "100", "$1.00", "none before", "5.9%", "1"],
    ]
    stored = page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie]")
    assert stored == [[ADMIN_KEY], [], ""]
    assert urlsplit(page.url)[2:] == ("/", "", "")
    assert page.title() == "Top spenders in the last 30 days"
    page.reload()
    expect(rows(page)).to_have_count(100)


def test_each_period_has_its_dates_sums_and_link(opened: Open) -> None:
    page = opened()
    most = "9,007,199,254,742,694 $90,071,992,547,426.94"
    for label, period, window, sums, count in [
        (
            "Today",
            "daily",
            "22 Nov 2026",
            ("1,000 $10.00 · change: none before", "4 change: none before", "3"),
            "3 of 3",
        ),
        (
            "7 days",
            "weekly",
            "16 – 22 Nov 2026",
            ("1,200 $12.00 · change: none before", "5 change: none before", "3"),
            "3 of 3",
        ),
        (
            "30 days",
            "monthly",
            "24 Oct – 22 Nov 2026",
            ("1,701 $17.01 · change: none before", "356 change: none before", "205"),
            "100 of 205",
        ),
        ("All", "all", "1 Sept – 22 Nov 2026", (most, "357", "206"), "100 of 206"),
    ]:
        button = page.get_by_role("button", name=label, exact=True)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".periods [aria-pressed=true]")).to_have_count(1)
        expect(page.get_by_text(f"{count} accounts")).to_have_count(2)  # below the table, and for screen readers
        terms = ("Credits", "Events", "Accounts")
        expect_figures(page, [f"{term} {sum_}" for term, sum_ in zip(terms, sums, strict=True)])
        assert (
            " ".join(page.locator(".window").inner_text().split())
            == f"{window} UTC days, as of 22 Nov, 10:00 GMT-5, just now"
        )
        assert page.locator(".window time").get_attribute("title") == "2026-11-22 15:00:00 UTC"
        assert urlsplit(page.url).fragment == f"period={period}"
    assert page.title() == "Top spenders of all time"
    # More than 2^53.
    assert cells(rows(page))[0][3:] == ["9,007,199,254,740,993", "$90,071,992,547,409.93", "100.0%", "1"]


def test_load_more_loads_every_page_as_of_one_instant(opened: Open, spending: Tables) -> None:
    page = opened(key=None)
    asked: list[dict[str, list[str]]] = []
    page.on(
        "request", lambda request: asked.append(parse_qs(urlsplit(request.url).query)) if "?" in request.url else None
    )
    enter(page, ADMIN_KEY)
    more = page.get_by_role("button", name="Load more")
    for shown in (100, 200):
        expect(page.get_by_role("status")).to_have_text(f"{shown} of 205 accounts")
        # Events after the instant of the first page are on no page.
        spending.event(SMALL[-1], 10_000, NOW, id=f"later-{shown}")
        more.press("Enter")
    expect(rows(page)).to_have_count(205)
    expect(more).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("205 of 205 accounts")
    # The button is hidden, and its focus is on the first new row.
    expect(rows(page).nth(200).get_by_role("link")).to_be_focused()
    assert [row[0] for row in cells(rows(page))] == [str(rank) for rank in range(1, 206)]
    assert len(set(rows(page).evaluate_all("rows => rows.map((row) => row.dataset.id)"))) == 205
    first, *later = asked
    assert "as_of" not in first
    # All but the sums of the previous window.
    assert {tuple(query["as_of"]) for query in later if "since" not in query} == {("2026-11-22T15:00:00.000000Z",)}
    assert [query["page"] for query in later if "page" in query] == [["2"], ["3"]]


def test_a_row_opens_its_events_grants_and_days(opened: Open) -> None:
    page = opened()
    open_account(page, "Nova Records")
    assert urlsplit(page.url).fragment == f"period=monthly&account={NOVA}"
    assert page.title() == "Nova Records · Credits"
    expect(page.locator("#identity").get_by_text("ops@nova.example")).to_be_visible()
    expect_figures(page, ["Credits 800 $8.00 · change: none before", "Events 3 change: none before"])
    expect(events(page)).to_have_count(3)
    assert cells(events(page)) == [
        # New York is five hours behind UTC.
        ["22 Nov 2026, 05:15:00", "sonnet anthropic", "api, subagent", "1,200", "800", "45", "3", "500", "$5.00"],
        ["21 Nov 2026, 22:00:00", "– no model", "web, main", "0", "0", "0", "0", "100", "$1.00"],
        ["19 Nov 2026, 07:00:00", "– no model", "web, main", "0", "0", "0", "0", "200", "$2.00"],
    ]
    assert events(page).first.locator("time").get_attribute("title") == "2026-11-22 10:15:00.250000 UTC"
    grants = page.get_by_role("table", name="Balances set by hand").locator("tbody tr")
    # The names are asked for when the grants are there.
    expect(grants.get_by_text(BOLD_NAME)).to_be_visible()
    expect(grants.get_by_text("Ada Admin")).to_be_visible()
    assert cells(grants) == [
        ["20 Nov 2026, 04:00:00", "sorry for the <outage>", BOLD_NAME, "1,000", "2,500"],
        ["10 Nov 2026, 04:00:00", "welcome", "Ada Admin", "– no balance before", "1,000"],
    ]
    open_account(page, BOLD_NAME)
    page.go_back()
    expect(page.get_by_role("heading", name="Nova Records")).to_be_focused()


def test_a_second_press_of_load_more_waits_for_the_first(opened: Open) -> None:
    page = opened(f"#period=monthly&account={BUSY}")
    expect(events(page)).to_have_count(100)
    held = hold(page, "**/events?*page=2")
    more = page.get_by_role("button", name="Load more")
    more.press("Enter")
    more.press("Enter")
    release(page, held)
    expect(events(page)).to_have_count(150)
    assert len(held) == 1
    expect(more).to_be_hidden()


def test_a_page_of_a_replaced_list_is_not_added(opened: Open) -> None:
    page = opened()
    expect(page.locator(".chart svg:visible")).to_be_visible()
    held: dict[str, Route] = {}
    page.route("**/rollup?*", lambda route: held.update({"page" if "page=2" in route.request.url else "list": route}))
    with page.expect_request("**/rollup?*limit=100"):
        page.get_by_role("button", name="Refresh").click()
    with page.expect_request("**/rollup?*page=2"):
        page.get_by_role("button", name="Load more").click()
    for name in ("list", "page"):
        with page.expect_request_finished():
            held[name].continue_()
        expect(page.get_by_role("status")).to_have_text("100 of 205 accounts")
    page.evaluate("() => new Promise((done) => setTimeout(done))")
    expect(rows(page)).to_have_count(100)


def test_a_link_opens_an_account_once_the_key_is_entered(opened: Open) -> None:
    page = opened(f"#period=weekly&account={str(NOVA).upper()}")
    expect(page.get_by_role("heading", name="Nova Records")).to_be_visible()
    expect_figures(page, ["Credits 800 $8.00 · change: none before", "Events 3 change: none before"])
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="All accounts").click()
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_role("link", name="Nova Records")).to_be_focused()
    assert urlsplit(page.url).fragment == "period=weekly"


def test_a_wrong_address_says_so(opened: Open) -> None:
    page = opened("#period=weekly&show=events")
    expect(page.get_by_role("alert")).to_contain_text(
        "This link contains something the page does not understand: show=events"
    )
    page.get_by_role("link", name="Show the last 30 days").click()
    expect(rows(page)).to_have_count(100)


def test_back_restores_rows_scroll_and_focus(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(200)
    link = rows(page).nth(150).get_by_role("link")
    link.scroll_into_view_if_needed()
    # Not where the focus alone would scroll to.
    page.evaluate("scrollBy(0, -150)")
    scrolled = page.evaluate("scrollY")
    link.click()
    expect(page.locator("#account-heading")).to_be_focused()
    assert page.evaluate("scrollY") == 0
    page.get_by_role("button", name="All accounts").click()
    expect(link).to_be_focused()
    expect(rows(page)).to_have_count(200)
    assert page.evaluate("scrollY") == scrolled
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(205)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        pytest.param("no-such-key", "This key is unknown or has expired.", id="unknown"),
        pytest.param(USER_KEY, "This key is valid, but its owner is not an administrator.", id="not an admin's"),
        pytest.param("ключ", "This is not a key.", id="not ASCII"),
    ],
)
def test_a_refused_key_is_explained_and_asked_for_again(opened: Open, key: str, words: str) -> None:
    page = opened("#period=weekly", key=key)
    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_label("API key of an administrator")).to_be_focused()
    expect(page.get_by_label("API key of an administrator")).to_have_value("")
    assert page.evaluate("sessionStorage.length") == 0
    enter(page, ADMIN_KEY)
    expect(rows(page)).to_have_count(3)


def test_a_forgotten_key_leaves_nothing_behind(opened: Open) -> None:
    page = opened()
    open_account(page, "Nova Records")
    expect(events(page)).to_have_count(3)
    page.go_back()
    page.get_by_label("Search accounts").fill("Nova")
    expect(rows(page)).to_have_count(1)
    held = hold(page, "**/rollup?*")
    with page.expect_request("**/rollup?*limit=100"):
        page.get_by_role("button", name="Refresh").click()
    with page.expect_request("**/rollup?*q=Nova*"):
        page.get_by_role("button", name="Download CSV").click()
    page.get_by_label("Search accounts").press("s")
    with page.expect_event("requestfailed", lambda request: "limit" not in request.url):
        page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("API key of an administrator")).to_be_focused()
    release(page, held)
    # A search would have begun by now.
    page.evaluate("() => new Promise((done) => setTimeout(done, 250))")
    assert page.evaluate("sessionStorage.length") == 0
    assert not re.search(r"Nova|outage", page.content() + page.url)


def test_an_error_of_the_service_is_shown_and_can_be_retried(opened: Open) -> None:
    away = "The database cannot be reached; try again shortly."
    page = opened()
    assert len(figures(page)) == 3
    page.route("**/api/**", lambda route: route.fulfill(status=503, json={"status": "error", "error": away}))
    page.get_by_role("button", name="Load more").click()
    expect(page.get_by_role("alert")).to_contain_text(away)
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("alert")).to_have_count(2)
    # The old list stays, with its instant.
    expect(rows(page)).to_have_count(100)
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:00")
    page.get_by_role("button", name="Today").click()
    expect(page.get_by_role("alert")).to_contain_text(away)
    expect(rows(page)).to_have_count(0)
    page.get_by_role("button", name="Download CSV").click()
    expect(page.get_by_role("alert").first).to_contain_text(f"The CSV file was not downloaded. {away}")
    page.get_by_role("button", name="Close").click()
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_be_focused()


NO_ANSWERS: list[tuple[Callable[[Route], None], str]] = [
    (
        lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"),
        "The service answered with an error (502). Try again shortly.",
    ),
    (
        lambda route: route.fulfill(status=200, body="<h1>Sign in</h1>"),
        "The answer cannot be read. A proxy may have sent it, or this browser is too old.",
    ),
    (lambda route: route.abort(), "The service cannot be reached. Check the connection, then try again."),
]


def test_failed_days_leave_the_list_and_can_be_retried(opened: Open) -> None:
    page = opened(key=None)
    page.route("**/days?*", lambda route: route.fulfill(status=503, json={"status": "error", "error": "Away."}))
    enter(page, ADMIN_KEY)
    alert = page.get_by_role("alert").locator("p")
    expect(alert).to_have_text("Away.")
    assert cells(rows(page))[0][6] == "– not loaded yet"
    again = page.get_by_role("button", name="Try again")
    for answer, words in NO_ANSWERS:
        page.route("**/days?*", answer)
        again.click()
        expect(alert).to_have_text(words)
        expect(again).to_be_focused()
    page.unroute("**/days?*")
    again.click()
    expect(rows(page).first).to_contain_text("47.0%")
    expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_the_answer_of_a_replaced_request_is_not_shown(opened: Open) -> None:
    page = opened("#period=daily")
    expect(rows(page)).to_have_count(3)
    held = hold(page, "**/rollup?period=all*")
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="7 days").click()
    expect(page.get_by_text("3 of 3 accounts")).to_have_count(2)
    assert held
    release(page, held)
    expect_figures(page, ["Credits 1,200 $12.00 · change: none before", "Events 5 change: none before", "Accounts 3"])
    expect(page.locator(".window")).to_contain_text("16 – 22 Nov 2026")


def test_a_list_is_asked_for_once_while_its_window_and_instant_are_shown(opened: Open) -> None:
    page = opened("#period=weekly")
    expect(page.locator(".chart svg:visible")).to_be_visible()
    page.get_by_role("link", name="By model").click()
    expect(page.get_by_text("2 of 2 models")).to_have_count(2)
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("link", name="Top spenders").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name="By model").click()
    expect(page.get_by_text("2 of 2 models").first).to_be_visible()
    expect_figures(page, ["Credits 1,200 $12.00 · change: none before", "Events 5 change: none before", "Accounts 3"])
    expect(page.get_by_role("alert")).to_have_count(0)


def test_hidden_names_are_nowhere_on_the_page(opened: Open) -> None:
    page = opened()
    expect(rows(page)).to_have_count(100)
    open_account(page, "Nova Records")
    hide = page.get_by_role("switch", name="Hide names")
    hide.click()
    expect(hide).to_be_checked()
    expect(page.get_by_role("heading", name="Account 11111111")).to_be_visible()

    def expect_no_name() -> None:
        assert not re.search(r"Nova|Bold|Busy|Small|nova\.example", page.content() + page.title())

    expect_no_name()
    page.get_by_role("button", name="All accounts").click()
    assert cells(rows(page))[0] == [
        "1",
        "Account 11111111",
        "•••••• hidden",
        "800",
        "$8.00",
        "none before",
        "47.0%",
        "3",
    ]
    expect_no_name()
    # The setting is kept for the tab.
    page.reload()
    expect(hide).to_be_checked()
    expect(rows(page)).to_have_count(100)
    expect_no_name()
    hide.click()
    expect(page.get_by_role("link", name="Nova Records")).to_be_visible()


@pytest.mark.parametrize(
    ("part", "query", "name", "shown"),
    [
        pytest.param("", "rollup?compare=previous&", "rollup", "100 of 205 accounts", id="accounts"),
        pytest.param(
            f"&account={BUSY}", f"events?account_id={BUSY}&", f"events-{BUSY}", "100 of 150 events", id="events"
        ),
        pytest.param("&q=nova", "rollup?compare=previous&q=nova&", "rollup-search", "1 of 1 account", id="search"),
    ],
)
def test_the_csv_file_has_every_row_of_the_window(
    opened: Open, service: Gunicorn, part: str, query: str, name: str, shown: str
) -> None:
    name = f"credits-{name}-monthly-2026-11-22.csv"
    page = opened(f"#period=monthly{part}")
    expect(page.get_by_role("status")).to_have_text(shown)
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download CSV").click()
    expect(page.get_by_role("status")).to_have_text(f"Downloaded {name}")
    assert downloading.value.suggested_filename == name
    whole = service.get(f"/api/admins/credits/{query}period=monthly", {"x-api-key": ADMIN_KEY, "Accept": "text/csv"})
    assert downloading.value.path().read_bytes() == whole.body


def test_refresh_loads_again_and_keeps_the_focus(opened: Open, spending: Tables) -> None:
    page = opened("#period=daily")
    expect(page.get_by_text("3 of 3 accounts")).to_have_count(2)
    open_account(page, "Nova Records")
    page.go_back()
    refresh = page.get_by_role("button", name="Refresh")
    spending.event(BUSY, 7, NOW, id="later-7")
    spending.fix_now(NOW + timedelta(minutes=30))
    page.route("**/rollup?*", lambda route: route.abort())
    refresh.click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.unroute("**/rollup?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("4 of 4 accounts")).to_have_count(2)
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:30")
    expect_figures(page, ["Credits 1,007 $10.07 · change: none before", "Events 5 change: none before", "Accounts 4"])
    # An account is as of the instant of its row.
    open_account(page, "Busy Bees")
    expect(events(page)).to_have_count(1)
    page.go_back()
    spending.fix_now(NOW + timedelta(minutes=45))
    page.route("**/days?*", lambda route: route.abort())
    refresh.press("Enter")
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:45")
    expect(refresh).to_be_focused()
    # The sums of 10:30 do not stay beside the list of 10:45.
    expect_figures(page, ["Credits –", "Events –"])
    page.unroute("**/days?*")
    page.get_by_role("link", name="By model").click()
    expect_figures(page, ["Credits 1,007 $10.07 · change: none before", "Events 5 change: none before", "Accounts 4"])
    # The number of accounts is not known as of another instant.
    spending.fix_now(NOW + timedelta(minutes=50))
    refresh.click()
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:50")
    expect_figures(page, ["Credits 1,007 $10.07 · change: none before", "Events 5 change: none before"])
    page.get_by_role("link", name="Top spenders").click()
    expect_figures(page, ["Credits 1,007 $10.07 · change: none before", "Events 5 change: none before", "Accounts 4"])


def test_a_period_without_events_is_reported(opened: Open, spending: Tables) -> None:
    spending.fix_now(NOW + timedelta(days=1))
    page = opened("#period=daily")
    expect(page.get_by_text("No account has spent credits today.")).to_be_visible()
    expect_figures(page, ["Credits 0 $0.00 · change: −100%", "Events 0 change: −100%", "Accounts 0"])
    page.goto(f"/#period=all&account={STRANGER}")
    expect(page.get_by_text("There is no account with this id.")).to_be_visible()
    expect(page.get_by_role("heading", name="No such account")).to_be_visible()


def test_a_date_that_javascript_cannot_read_is_shown_as_it_is(opened: Open, spending: Tables) -> None:
    spending.event(NAMELESS, 0, "0044-03-15 00:00:00+00 BC", id="later-in-the-table")
    page = opened(f"#period=all&account={NAMELESS}")
    expect(events(page).last).to_contain_text("0044-03-15 00:00:00+00 BC")
    expect(page.locator("section:visible .chart")).to_contain_text("0044-03-15 BC")


def test_the_chart_has_its_numbers_as_text(opened: Open) -> None:
    page = opened("#period=weekly")
    chart = page.get_by_role(
        "img", name="Credits by day, 16 – 22 Nov 2026. Most on 22 Nov 2026, so far: 1,000 credits, $10.00"
    )
    expect(chart).to_be_visible()
    assert chart.locator("rect").evaluate_all("bars => bars.map((bar) => parseFloat(bar.getAttribute('height')))") == [
        0, 0, 0, 20, 0, 0, 100,
    ]  # fmt: skip
    chart.hover(position={"x": 0.5 * chart.bounding_box()["width"], "y": 5})
    expect(page.locator(".readout")).to_have_text("19 Nov 2026: 200 credits, $2.00, 1 event")
    page.get_by_text("Numbers by day").click()
    days = page.get_by_role("table", name="Credits by day").locator("tbody tr")
    expect(days).to_have_count(7)
    assert cells(days)[:4] == [
        ["22 Nov 2026, so far", "1,000", "$10.00", "4"],
        ["21 Nov 2026", "0", "$0.00", "0"],
        ["20 Nov 2026", "0", "$0.00", "0"],
        ["19 Nov 2026", "200", "$2.00", "1"],
    ]


def test_the_page_works_with_the_keyboard_alone(opened: Open) -> None:
    page = opened(key=None)
    keys = page.keyboard
    keys.type(ADMIN_KEY)
    keys.press("Enter")
    expect(rows(page)).to_have_count(100)
    expect(page.locator(".chart svg:visible")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_focused()

    def walk(direction: str, stops: list[str]) -> None:
        for stop in stops:
            keys.press(direction)
            assert page.evaluate("document.activeElement.innerText") == stop

    walk(
        "Shift+Tab",
        ["Excel", "Download CSV", "Refresh", "Dates…", "All", "30 days", "7 days", "Today", "Forget key", "Hide names"],
    )
    walk("Tab", ["Forget key", "Today", "7 days"])
    keys.press("Space")
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_role("button", name="7 days")).to_be_focused()
    expect(page.locator(".chart svg:visible")).to_be_visible()
    walk("Tab", ["30 days", "All", "Dates…", "Refresh", "Download CSV", "Excel", "SQL", "", "Numbers by day"])
    walk("Tab", ["Top spenders", "Biggest changes", "By model", "", "SQL", "Nova Records"])
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Nova Records")).to_be_focused()
    expect(events(page)).to_have_count(3)
    walk("Shift+Tab", ["All accounts"])
    keys.press("Escape")
    expect(page.get_by_role("link", name="Nova Records")).to_be_focused()


def expect_accessible(page: Page) -> None:
    """Run axe; in dark colours only its rule about contrast, as all else is the same."""
    axe = Axe()
    page.emulate_media(reduced_motion="reduce", color_scheme="light")
    results = [axe.run(page)]
    page.emulate_media(reduced_motion="reduce", color_scheme="dark")
    results.append(axe.run(page, options={"runOnly": ["color-contrast"]}))
    page.emulate_media(reduced_motion="no-preference", color_scheme="light")
    for result in results:
        assert result.violations_count == 0, result.generate_report()


def keep_first_rows(page: Page, count: int) -> None:
    """Remove rows that are like those before them: axe takes seconds for all."""
    page.locator(f"tbody tr:nth-child(n + {count + 1})").evaluate_all("rows => rows.forEach((row) => row.remove())")


def long_list(page: Page) -> None:
    expect(page.get_by_text("100.0%")).to_be_visible()
    keep_first_rows(page, 10)


def failing(page: Page) -> None:
    page.route("**/api/**", lambda route: route.fulfill(status=503, json={"status": "error", "error": "Away."}))
    page.get_by_role("button", name="7 days").click()
    expect(page.get_by_role("alert")).to_be_visible()


def with_numbers(page: Page) -> None:
    expect(events(page)).to_have_count(3)
    page.get_by_text("Numbers by day").locator("visible=true").click()


def with_receipt(page: Page) -> None:
    expect(page.get_by_text("3 of 3 accounts").first).to_be_visible()
    page.get_by_role("button", name="SQL of the list").click()
    expect(page.get_by_role("dialog").locator("pre").first).to_be_visible()


def with_dates(page: Page) -> None:
    expect(page.get_by_text("2 of 2 models").first).to_be_visible()
    page.get_by_role("button", name="Dates…").click()


@pytest.mark.parametrize(
    ("fragment", "key", "reach"),
    [
        pytest.param("", "wrong", lambda page: expect(page.get_by_role("alert")).to_be_visible(), id="key form"),
        pytest.param("#period=all", ADMIN_KEY, long_list, id="long list"),
        pytest.param(f"#account={NOVA}", ADMIN_KEY, with_numbers, id="account"),
        pytest.param("", ADMIN_KEY, failing, id="failing"),
        pytest.param("#period=weekly&show=changes", ADMIN_KEY, with_receipt, id="changes and SQL"),
        pytest.param("#period=weekly&show=model", ADMIN_KEY, with_dates, id="by model, and dates"),
        pytest.param(f"#account={STRANGER}", ADMIN_KEY, lambda page: figures(page), id="empty"),
        pytest.param(f"#model={'long' * 100}&provider=", ADMIN_KEY, lambda page: figures(page), id="filters"),
    ],
)
def test_each_state_is_accessible_and_fits_every_width(
    opened: Open, fragment: str, key: str, reach: Callable[[Page], None]
) -> None:
    page = opened(fragment, key)
    reach(page)
    for width in (320, 375, 768, 961, 1024):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect_accessible(page)


def test_the_reference_is_accessible(opened: Open) -> None:
    page = opened("docs", None)
    expect(page.get_by_role("heading", name="API reference")).to_be_visible()
    # On a narrow screen every column is still in sight.
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.locator(".wide").evaluate_all("boxes => boxes.filter((box) => box.scrollWidth > box.clientWidth)") == []
    page.set_viewport_size({"width": 1280, "height": 720})
    keep_first_rows(page, 3)
    expect_accessible(page)


WRITTEN = {
    'dollarsAt("100")(1840n)': "$18.40",
    'dollarsAt("100")(-5n)': "−$0.05",
    # Less than a cent.
    'dollarsAt("1000000")(1n)': "< $0.01",
    'dollarsAt("1000000")(-1n)': "> −$0.01",
    'dollarsAt("1000000")(0n)': "$0.00",
    # A credit is worth more than a dollar, and a fraction of one.
    'dollarsAt("0.5")(3n)': "$6.00",
    'dollarsAt("12.5")(2n ** 60n)': "$92,233,720,368,547,758.08",
    # Half a cent is rounded up.
    'dollarsAt("200")(1n)': "$0.01",
    # At a million credits per dollar.
    "signedDollars(5n)": "< +$0.01",
    "signedDollars(1500000n)": "+$1.50",
    "signedDollars(0n)": "$0.00",
    "signedDollars(-5n)": "> −$0.01",
    # Half of 25 in any power of ten is the longest mark of a chart.
    "compact(1250n)": "1.25K",
    "compact(12500000n)": "12.5M",
    # 12.45 %: a change is rounded once, and never says more than happened.
    "change(11245n, 10000n)": "+12%",
    "change(1125n, 1000n)": "+13%",
    "change(1099n, 1000n)": "+9.9%",
    "change(10996n, 10000n)": "+10%",
    "change(1n, 2n ** 60n)": "> −100%",
    "change(5n, 1000n)": "> −100%",
    "change(10001n, 10000n)": "< +0.1%",
    "change(9999n, 10000n)": "> −0.1%",
    # There were two events before, which added up to 0.
    "change(30n, 0n, 2n)": "+30",
    "change(30n, -50n, 1n)": "+80",
}


def test_numbers_are_written_exactly(opened: Open) -> None:
    page = opened(key=None)
    page.evaluate("document.body.dataset.creditsPerUsd = '1000000'")
    names = "change, compact, dollarsAt, signedDollars"
    found = page.evaluate(f"import('/assets/format.js').then(({{ {names} }}) => [{', '.join(WRITTEN)}])")
    assert dict(zip(WRITTEN, found, strict=True)) == WRITTEN


WRONG = [
    "period=yearly",
    "period=toString",
    "account=1",
    "from=2026-02-30",
    "to=2026-02-01",
    "show=events",
    "show=constructor",
    "q=",
    "limit=1",
]


def test_an_address_has_nothing_that_the_page_does_not_understand(opened: Open) -> None:
    problems = f"({{ viewOf }}) => {WRONG}.map((part) => viewOf(part).problem)"
    assert opened(key=None).evaluate(f"import('/assets/address.js').then({problems})") == WRONG
