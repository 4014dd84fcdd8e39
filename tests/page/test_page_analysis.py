"""What the page makes of the numbers: partial days, refunds, changes, receipts."""

import csv
import io
import os
import subprocess
from datetime import timedelta
from functools import partial
from urllib.parse import quote
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from browser import NOW, Open, cells, hold, needs_chromium, release, watched_page
from conftest import CREDITS_COLUMN, NOVA, Tables
from live import ROOT, Gunicorn
from service.queries import CREDITS_COLUMNS
from tools.demo.postgres import find_binaries

pytestmark = needs_chromium

LEFT = UUID("11111111-0000-4000-8000-000000000002")
REFUNDED = UUID("11111111-0000-4000-8000-000000000003")
LONG_ADDRESS = "a" * 64 + "@" + "b" * 120 + ".example"
HOSTILE = "<b>\"'&=\\ü"


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables.

    The credits of each account, days counted back from today:

    | account  | today   | 1 day ago | 7 days ago | 8 days ago |
    |----------|---------|-----------|------------|------------|
    | NOVA     | 300, 1  | 200       | 400        | 100        |
    | LEFT     |         |           |            | 50         |
    | REFUNDED |         | -400      |            |            |

    And an event of NOVA on 1 October, with an empty model, that cost nothing.
    """
    owner.empty()
    owner.seed_admin()
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
    owner.event(NOVA, 0, "2026-10-01 12:00:00+00", model_id="")
    return owner


def listed(page: Page, table: str) -> list[list[str]]:
    """Return the cells of a table, once its shares are there."""
    rows = page.get_by_role("table", name=table).locator("tbody tr:not(.ghosts)")
    expect(rows.first).to_be_visible()
    expect(rows.get_by_text("not loaded yet")).to_have_count(0)
    return cells(rows)


def test_only_the_first_module_reads_the_document_when_it_is_imported(browser: Browser, service: Gunicorn) -> None:
    """A worker has no document."""
    names = sorted(path.name for path in (ROOT / "service" / "static").glob("*.js"))
    with watched_page(browser, f"http://127.0.0.1:{service.port}", bypass_csp=True) as page:
        page.goto("/")
        failures = page.evaluate(
            """async (names) => {
                const failures = await Promise.all(names.map((name) => new Promise((done) => {
                    const address = JSON.stringify(`${location.origin}/assets/${name}`);
                    const code = `import(${address}).then(() => postMessage(false), () => postMessage(true))`;
                    const script = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
                    const worker = new Worker(script, { type: "module" });
                    worker.onmessage = ({ data }) => done(data);
                    worker.onerror = () => done(true);
                })));
                return names.filter((_, index) => failures[index]);
            }""",
            names,
        )
    assert failures == ["page.js"]


def test_a_touched_bar_says_its_numbers_and_the_last_is_partial(opened: Open) -> None:
    # 326 days, of which the first four are left over.
    page = opened("#from=2026-01-01")
    chart = page.get_by_role("img", name="Credits by 7 days")
    expect(chart.locator("rect.partial")).to_have_count(1)
    box = chart.bounding_box()
    assert box
    chart.tap(position={"x": box["width"] - 5, "y": 5})
    expect(page.locator(".readout")).to_have_text("16 – 22 Nov 2026, so far: 101 credits, $1.01, 4 events")


def test_on_a_narrow_screen_numbers_have_units_and_a_long_address_wraps(opened: Open) -> None:
    page = opened("#period=monthly")
    page.set_viewport_size({"width": 390, "height": 800})
    accounts = "Accounts by credits spent"
    # The sum is 651: the largest is more, so that no share says anything.
    assert [row[6:] for row in listed(page, accounts)] == [
        ["– no share, because of refunds", "5 events"],
        ["– no share, because of refunds", "1 event"],
        ["– no share, because of refunds", "1 event"],
    ]
    page.get_by_role("link", name="Nova Records").click()
    expect(page.locator("#identity").get_by_text(LONG_ADDRESS)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_csv_file_has_no_hidden_names(opened: Open) -> None:
    page = opened("#period=all")
    page.get_by_role("switch", name="Hide names").click()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download CSV").click()
    assert downloading.value.path().read_text().splitlines() == [
        "account_id,account_name,account_email,total_credits_deducted_cents,event_count",
        f"{NOVA},,,1001,6",
        f"{LEFT},,,50,1",
        f"{REFUNDED},,,-400,1",
    ]


def test_a_row_opens_in_another_tab_that_has_the_key(opened: Open) -> None:
    page = opened("#period=weekly")
    page.get_by_role("switch", name="Hide names").click()
    # A tab that was not opened from this one gets no key, neither after a plain click nor when it is lent.
    page.get_by_role("link", name="Top spenders").click()
    stranger = page.context.new_page()
    stranger.goto("/")
    expect(stranger.get_by_label("API key of an administrator")).to_be_focused()
    with page.context.expect_page() as opening:
        page.locator(".rollup a").first.click(modifiers=["Control"])
    other = opening.value
    expect(other.get_by_role("heading", name="Account 11111111")).to_be_visible()
    assert other.url.endswith(f"/#period=weekly&account={NOVA}")
    assert stranger.evaluate("sessionStorage.length") == 0
    # The reference does not replace the page, to which the browser would return with the key.
    with page.context.expect_page():
        other.get_by_role("link", name="API reference").click()
    # One press forgets it everywhere.
    page.get_by_role("button", name="Forget key").click()
    expect(other.get_by_label("API key of an administrator")).to_be_visible()
    assert other.evaluate("sessionStorage.getItem('credits-api-key')") is None


def test_totals_and_rows_say_how_they_changed(opened: Open, spending: Tables) -> None:
    page = opened("#period=weekly")
    # Seven days before: 9 to 15 November, until 15:00.
    expect(page.locator("#accounts .note")).to_have_text("Compared with 9 – 15 Nov 2026, until 15:00 UTC")
    expect(page.locator("#accounts dl > div").first).to_have_text("Credits101$1.01 · change: −82%")
    assert listed(page, "Accounts by credits spent") == [
        # 501 of 101 together would be 496 %.
        ["1", "Nova Records", LONG_ADDRESS, "501", "$5.01", "+0.2%", "– no share, because of refunds", "3"],
        # There were no credits before, and less than none now.
        ["2", "Refunded", "– no address", "−400", "−$4.00", "−400", "– no share, because of refunds", "1"],
    ]
    bars = page.locator(".rollup .bar span")
    assert bars.evaluate_all("bars => bars.map((bar) => bar.style.width)") == ["100%", "0%"]
    page.get_by_role("link", name="Biggest changes").click()
    assert [[row[0], *row[2:]] for row in listed(page, "Accounts by change")] == [
        ["Refunded", "0", "−400", "−400", "−$4.00", "– no percentage"],
        ['Left, "Ltd" of L', "50", "0", "−50", "−$0.50", "−100%"],
        ["Nova Records", "500", "501", "+1", "+$0.01", "+0.2%"],
    ]
    page.get_by_role("button", name="All", exact=True).click()
    nothing = page.get_by_text("“All” has no earlier period to compare with.")
    expect(nothing).to_be_visible()
    expect(page.get_by_role("button", name="Download CSV")).to_be_hidden()
    page.get_by_role("link", name="Top spenders").click()
    expect(page.locator("#accounts .figures")).to_contain_text("Accounts")
    spending.fix_now(NOW + timedelta(minutes=30))
    page.get_by_role("link", name="Biggest changes").click()
    expect(nothing).to_be_visible()
    expect(page.locator("#accounts .figures")).to_contain_text("Accounts")
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:00")
    # A Refresh there is one of the other lists too.
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:30")
    page.get_by_role("link", name="Top spenders").click()
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".window")).to_contain_text("as of 22 Nov, 10:30")


def test_what_credits_were_spent_on_is_shown_for_all_and_for_one_account(opened: Open) -> None:
    page = opened("#period=weekly")
    page.get_by_role("link", name="By model").click()
    expect(page.get_by_text("3 of 3 models")).to_have_count(2)
    # The refund has no model, as one event of Nova Records.
    assert [row[:5] for row in listed(page, "Credits by model")] == [
        ["large", "300", "$3.00", "−25%", "– no share, because of refunds"],
        ["small", "200", "$2.00", "none before", "– no share, because of refunds"],
        ["no model", "−399", "−$3.99", "−549", "– no share, because of refunds"],
    ]
    page.goto(f"/#period=weekly&account={NOVA}&show=model")
    expect(page.get_by_role("heading", name="Nova Records")).to_be_visible()
    assert [row[:6] for row in listed(page, "Credits by model")] == [
        ["large", "300", "$3.00", "−25%", "59.9%", "1"],
        ["small", "200", "$2.00", "none before", "39.9%", "1"],
        ["no model", "1", "$0.01", "−99%", "0.2%", "1"],
    ]
    page.get_by_role("link", name="Agent").click()
    assert [row[:4] for row in listed(page, "Credits by agent type")] == [["main", "501", "$5.01", "+0.2%"]]
    expect(page.get_by_role("link", name="By agent type")).to_have_attribute("aria-current", "page")
    page.goto("/#from=2026-10-01&to=2026-10-01&show=model")
    expect(page.get_by_text("1 of 1 model")).to_have_count(2)
    assert [row[:5] for row in listed(page, "Credits by model")] == [
        ["(empty)", "0", "$0.00", "same", "– no share, as the sum is 0"],
    ]


def test_a_search_finds_accounts_and_can_be_linked(opened: Open) -> None:
    page = opened("#period=monthly")
    table = "Accounts by credits spent"
    assert len(listed(page, table)) == 3
    # A single letter is no shortcut.
    page.keyboard.press("/")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.get_by_label("Search accounts").click()
    page.keyboard.type("OF L")
    expect(page.get_by_text("1 of 1 account")).to_have_count(2)
    assert listed(page, table)[0][:2] == ['Left, "Ltd" of L', "– no address"]
    assert page.url.endswith("/#period=monthly&q=OF+L")
    page.reload()
    expect(page.get_by_label("Search accounts")).to_have_value("OF L")
    page.get_by_label("Search accounts").fill("nobody")
    expect(page.get_by_text("No account that spent credits in the last 30 days has “nobody”")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("3 of 3 accounts")).to_have_count(2)
    expect(page.get_by_label("Search accounts")).to_be_focused()
    expect(page.get_by_label("Search accounts")).to_have_value("")


def choose_month(page: Page, month: str) -> None:
    page.get_by_role("button", name="Dates…").click()
    page.get_by_role("button", name=month).click()


def choose(page: Page, **days: str) -> None:
    page.get_by_role("button", name="Dates…").click()
    for label, day in days.items():
        page.get_by_label(label, exact=True).fill(day)
    page.get_by_role("button", name="Show", exact=True).click()


def test_a_range_of_days_is_chosen_and_linked(opened: Open) -> None:
    page = opened()
    choose(page, From="2026-11-14", To="2026-11-15")
    expect(page.locator(".window")).to_have_text("14 – 15 Nov 2026 UTC days")
    expect(page.locator("#accounts dl > div").first).to_have_text("Credits550$5.50 · change: none before")
    assert page.url.endswith("/#from=2026-11-14&to=2026-11-15")
    assert page.title() == "Top spenders on 14 – 15 Nov 2026"
    choose_month(page, "November 2026")
    # The month has not ended.
    expect(page.locator(".window")).to_contain_text("1 – 22 Nov 2026 UTC days, as of 22 Nov, 10:00")
    assert page.url.endswith("/#from=2026-11-01&to=2026-11-30")
    choose_month(page, "October 2026")
    # The month is what the fields then hold.
    choose(page, To="2026-10-05")
    expect(page.locator(".window")).to_contain_text("1 – 5 Oct 2026")


def test_a_range_whose_last_day_ends_is_loaded_again(opened: Open, spending: Tables) -> None:
    page = opened("#from=2026-11-22&to=2026-11-22")
    credits = page.locator("#accounts dl > div").first
    expect(credits).to_contain_text("301")
    # The next day, with an event that is not loaded yet.
    spending.event(LEFT, 5, NOW + timedelta(hours=1), id="later-5")
    spending.fix_now(NOW + timedelta(hours=10))
    page.clock.set_fixed_time(NOW + timedelta(hours=10))
    page.get_by_role("switch", name="Hide names").click()
    expect(page.locator(".window")).to_have_text("22 Nov 2026 UTC days, as of 22 Nov, 10:00 GMT-5, 10 hours ago")
    page.get_by_role("link", name="By model").click()
    expect(page.locator(".window")).to_have_text("22 Nov 2026 UTC days")
    expect(credits).to_contain_text("306")
    page.get_by_role("link", name="Top spenders").click()
    expect(page.get_by_text("2 of 2 accounts").first).to_be_visible()


def test_a_range_neither_begins_in_the_future_nor_ends_before_it_begins(opened: Open) -> None:
    page = opened("#from=2026-11-10")
    expect(page.locator(".window")).to_contain_text("10 – 22 Nov 2026")
    choose(page, To="2026-11-09")
    expect(page.locator("#range input:invalid")).to_have_id("to")
    page.keyboard.press("Escape")
    choose(page, From="2026-11-23", To="")
    expect(page.locator("#range input:invalid")).to_have_id("from")


def test_the_dates_fit_a_small_window(opened: Open) -> None:
    page = opened()
    expect(page.locator("#accounts .note")).to_be_visible()
    page.emulate_media(forced_colors="active")
    for width, height in [(320, 256), (640, 360), (641, 641), (1280, 800)]:
        page.set_viewport_size({"width": width, "height": height})
        page.get_by_role("button", name="Dates…").click()
        box = page.get_by_role("dialog", name="Dates").bounding_box()
        assert box
        assert box["x"] >= 0 <= box["y"]
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
        page.keyboard.press("Escape")
    choose_month(page, "October 2026")
    page.get_by_role("button", name="Dates…").click()
    months = page.locator("#months button")
    borders = months.evaluate_all("months => months.map((month) => getComputedStyle(month).borderColor)")
    assert borders.count(borders[1]) == 1


def test_a_range_may_begin_long_ago(opened: Open, spending: Tables) -> None:
    spending.fix_now(NOW.replace(microsecond=123456))
    page = opened("#from=1990-01-01")
    expect(page.locator("#accounts .note")).to_have_text("Compared with 9 Feb 1953 – 31 Dec 1989, from 08:59 UTC")
    expect(page.locator("#accounts dl > div").first).to_have_text("Credits651$6.51 · change: none before")
    page.goto("/#from=1969-12-31")
    expect(page.locator("#accounts dl > div").first).to_have_text("Credits651$6.51")
    expect(page.get_by_role("img", name="Credits by 28 days")).to_be_visible()


def test_a_receipt_that_was_closed_early_is_not_in_the_next_one(opened: Open) -> None:
    page = opened("#period=weekly&q=Nova")
    expect(page.locator("#accounts .note")).to_be_visible()
    held = hold(page, "**/queries/credits_rollup*")
    page.locator("#sql").click()
    expect(page.get_by_role("heading", name="SQL: Accounts")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#accounts .chart .sql").click()
    commands = page.get_by_label("Command")
    expect(commands).to_have_count(2)
    release(page, held)
    expect(commands).to_have_count(2)
    page.keyboard.press("Escape")
    # The same button can be pressed again.
    page.unroute("**/queries/credits_rollup*")
    page.locator("#sql").click()
    expect(commands.first).to_contain_text("-v search=Nova")
    # The reader is told to copy where the browser refuses to.
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Press Ctrl-C")).to_be_visible()


def test_a_receipt_names_the_column_that_is_read_now_though_its_file_has_not_changed(
    opened: Open, spending: Tables
) -> None:
    page = opened("#period=weekly&q=Nova")
    commands = page.get_by_label("Command")
    try:
        for column in CREDITS_COLUMNS:
            spending.rename_credits(column)
            page.locator("#sql").click()
            expect(commands.first).to_contain_text(f"-v credits_column={column} ")
            page.keyboard.press("Escape")
    finally:
        spending.rename_credits(CREDITS_COLUMN)


def test_a_receipt_pasted_into_psql_gives_the_numbers_on_the_screen(
    opened: Open, spending: Tables, service: Gunicorn, reader_url: str
) -> None:
    page = opened("#period=weekly&q=Nova")
    expect(page.locator("#accounts .note")).to_be_visible()

    path = f"{find_binaries()}:{os.environ['PATH']}"
    options = f"--csv -d '{reader_url}'"

    def pasted(button: Locator) -> list[list[list[str]]]:
        button.click()
        return printed()

    def printed() -> list[list[list[str]]]:
        """Return what each command in the dialog prints, as the cells of its rows."""
        commands = page.locator("dialog pre")
        expect(commands.first).to_be_visible()
        texts = [text.replace("\n", f" {options}\n") for text in commands.all_inner_texts()]
        page.get_by_role("button", name="Close").click()
        shell = partial(subprocess.run, ["sh"], cwd=ROOT, env={"PATH": path}, stdout=subprocess.PIPE, check=True)
        outputs = [shell(input=f"{text} {options}", text=True).stdout for text in texts]
        return [list(csv.reader(io.StringIO(text)))[1:] for text in outputs]

    lists = page.locator("#sql")
    found, before = pasted(lists)
    assert [row[1] for row in found] == ["Nova Records"]
    assert (found[0][3:], before[0][1:]) == (["501", "3"], ["500", "2"])
    days, days_before = pasted(page.locator("#accounts .chart .sql"))
    assert (sum(int(row[1]) for row in days), sum(int(row[1]) for row in days_before)) == (101, 550)
    page.get_by_role("link", name="Biggest changes").click()
    (changes,) = pasted(lists)
    assert [row[-1] for row in changes] == ["-400", "-50", "1"]
    page.goto(f"/#period=weekly&account={NOVA}&show=model")
    expect(page.get_by_role("table", name="Credits by model")).to_be_visible()
    (models,) = pasted(lists)
    assert [row[:2] for row in models] == [["large", "300"], ["small", "200"], ["", "1"]]
    page.goto(f"/#period=weekly&account={NOVA}")
    expect(page.get_by_role("table", name="Events")).to_be_visible()
    events = pasted(lists)[0]
    assert [row[-1] for row in events] == ["1", "300", "200"]
    page.goto("/#period=weekly&q=O'Neil")
    expect(page.get_by_text("No account")).to_be_visible()
    assert pasted(lists)[0] == []
    spending.event(NOVA, 7, "2026-11-22 13:00:00+00", id="later-7", model_id=HOSTILE, provider="")
    page.goto(f"/#period=weekly&model={quote(HOSTILE)}&provider=")
    expect(page.locator("#accounts .note")).to_be_visible()
    assert [row[3] for row in listed(page, "Accounts by credits spent")] == ["7"]
    (found, before), (days, _) = pasted(lists), pasted(page.locator("#accounts .chart .sql"))
    assert (found[0][3:], before) == (["7", "1"], [])
    assert [row[1] for row in days if row[1] != "0"] == ["7"]
    # A list of more ids than an argument can hold.
    page.evaluate(
        """async (account_ids) => {
            const { showReceipt } = await import("/assets/receipts.js");
            const until = "2026-11-21T00:00:00Z";
            const edges = { until, previous_since: "2026-11-01", previous_until: "2026-11-21" };
            const values = { ...edges, filters: "{}", account_ids };
            await showReceipt("A long list", [{ source: "/queries/credits_rollup_previous.sql", values }]);
        }""",
        [*(str(UUID(int=n)) for n in range(7_000)), str(NOVA)],
    )
    (rows,) = printed()
    assert [row for row in rows if row[0] != "account_id"] == [[str(NOVA), "500", "2"]]
