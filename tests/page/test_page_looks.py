"""How the page looks: shares and bars, forced colours, print, and what has no room."""

import re
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import NOW, Open, needs_chromium
from conftest import NOVA, Tables

pytestmark = needs_chromium

GROWN = UUID("11111111-0000-4000-8000-000000000002")
REFUNDED = UUID("11111111-0000-4000-8000-000000000003")
LONG_ADDRESS = "a" * 64 + "@" + "long." * 30 + "example"
SMALL = [UUID(int=n) for n in range(1, 121)]


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables.

    | account  | today | yesterday | 7 days ago |
    |----------|-------|-----------|------------|
    | NOVA     | 5,000 |           | 2,600      |
    | GROWN    | 630   |           | 10         |
    | REFUNDED |       | -600      |            |
    | SMALL    |       | 120 of 1  |            |
    """
    owner.empty()
    owner.seed_admin()
    for account, name in [(NOVA, "Nova Records"), (GROWN, "Grown"), (REFUNDED, "Refunded")]:
        owner.account(account, name)
    owner.insert("accounts", "id, name", [(account, f"Small {account.int}") for account in SMALL])
    owner.insert("account_emails", "account_id, email, updated_at", [(NOVA, LONG_ADDRESS, NOW)])
    owner.event(NOVA, 5_000, "2026-11-22 10:00:00+00", model_id="charge-v1-" + "0123456789abcdef" * 4)
    owner.event(GROWN, 630, "2026-11-22 10:00:00+00")
    owner.event(NOVA, 2_600, "2026-11-15 10:00:00+00")
    owner.event(GROWN, 10, "2026-11-15 10:00:00+00")
    owner.event(REFUNDED, -600, "2026-11-21 10:00:00+00")
    owner.insert(
        "usage_events",
        "account_id, credits_deducted_cents, created_at",
        [(account, 1, "2026-11-21 11:00:00+00") for account in SMALL],
    )
    return owner


def rows(page: Page) -> Locator:
    loaded = page.locator("section:visible [data-part=table] tbody tr:not(.ghosts)")
    expect(loaded.first).to_be_visible()
    expect(loaded.get_by_text("not loaded yet")).to_have_count(0)
    return loaded


def test_shares_never_add_up_to_more_than_the_whole(opened: Open) -> None:
    page = opened("#period=daily")
    assert rows(page).locator(".share").all_inner_texts() == ["88.8%", "11.2%"]
    # The refund is on the second page; the first has 5,728 of 5,150 already.
    page.get_by_role("button", name="7 days").click()
    expect(page.get_by_text("100 of 123 accounts").first).to_be_visible()
    assert set(rows(page).locator(".share").all_inner_texts()) == {"–\nno share, because of refunds"}


def test_shares_vanish_when_a_later_page_shows_a_refund(opened: Open, spending: Tables) -> None:
    spending.event(REFUNDED, -10, "2026-11-22 11:00:00+00", id="later-refund")
    spending.insert(
        "usage_events",
        "id, account_id, credits_deducted_cents, created_at",
        [(f"later-{account}", account, 1, "2026-11-22 11:00:00+00") for account in SMALL],
    )
    page = opened("#period=daily")
    expect(rows(page).first).to_contain_text("87.1%")
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(123)
    expect(rows(page).first).to_contain_text("no share, because of refunds")


def test_a_bar_is_in_the_column_whose_numbers_it_shows(opened: Open) -> None:
    page = opened("#period=daily&show=changes")
    page.get_by_role("button", name="7 days").click()
    table = page.get_by_role("table", name="Accounts by change")
    expect(table.get_by_text("+6,200%")).to_be_visible()
    heads = table.locator("thead th").all_inner_texts()
    bars = rows(page).locator("td:has(.bar)")
    found = bars.evaluate_all(
        """(cells) => cells.map((cell) => {
            return [cell.cellIndex, cell.innerText, cell.querySelector(".bar span").style.width];
        })"""
    )
    assert [heads[index] for index, *_ in found[:3]] == ["Change"] * 3
    assert [row[1:] for row in found[:3]] == [["+2,400", "100%"], ["+620", "25.83%"], ["−600", "25%"]]


def test_an_account_that_is_searched_for_has_its_share_and_no_bar(opened: Open) -> None:
    page = opened("#period=daily&q=grown")
    assert rows(page).locator(".share").all_inner_texts() == ["11.2%"]
    expect(page.locator(".rollup .bar")).to_have_count(0)
    page.goto("/#period=weekly&q=refunded")
    assert rows(page).locator(".share").all_inner_texts() == ["–\nno share, because of refunds"]


def test_every_bar_has_all_of_its_edges(opened: Open) -> None:
    """At one device pixel per CSS pixel every bar is as high as the others, and has no paler line."""
    page = opened("#period=weekly")
    expect(page.locator("#accounts")).not_to_have_attribute("aria-busy", "true")
    rows(page).locator(".bar > *").evaluate_all("bars => bars.forEach((bar) => { bar.style.width = '100%'; })")
    lines = []
    for index in range(6):
        bar = rows(page).locator(".bar").nth(index)
        bar.evaluate("(bar) => bar.scrollIntoView({ block: 'center' })")
        box = bar.bounding_box()
        assert box
        clip = {"x": int(box["x"]) + 4, "y": int(box["y"]) - 4, "width": 1, "height": 16}
        picture = page.screenshot(clip=clip)  # type: ignore[arg-type]  # a FloatRect
        lines.append(
            page.evaluate(
                """async (bytes) => {
                    const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: "image/png" }));
                    const context = new OffscreenCanvas(1, 16).getContext("2d");
                    context.drawImage(picture, 0, 0);
                    const { data } = context.getImageData(0, 0, 1, 16);
                    const ground = data.slice(0, 3).join();
                    const colours = Array.from({ length: 16 }, (_, line) => data.slice(4 * line, 4 * line + 3).join());
                    return colours.filter((colour) => colour !== ground);
                }""",
                list(picture),
            )
        )
    assert {len(set(colours)) for colours in lines} == {1}
    assert {len(colours) for colours in lines} == {8}


def test_in_forced_colours_the_current_tab_can_be_told_and_the_buttons_are_apart(opened: Open) -> None:
    page = opened("#period=daily&show=model")
    page.emulate_media(forced_colors="active")
    rows(page)
    for links in (page.locator("#tabs a:visible"), page.locator("#by a"), page.locator("[data-period]")):
        for colour in ("backgroundColor", "color"):
            found = links.evaluate_all(f"links => links.map((link) => getComputedStyle(link).{colour})")
            assert sorted(found.count(one) for one in set(found)) == [1, len(found) - 1]
    boxes = [
        page.get_by_role(role, name=name).bounding_box()
        for role, name in [("switch", "Hide names"), ("button", "Forget key")]
    ]  # type: ignore[arg-type]  # roles
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]  # type: ignore[index]  # both are there


CONTRAST = """(bar) => {
    const light = (colour) => {
        const [red, green, blue] = colour.match(/[\\d.]+/g).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const { stroke, opacity } = getComputedStyle(bar);
    const ground = getComputedStyle(bar.closest(".summary")).backgroundColor;
    const [dark, bright] = [light(stroke), light(ground)].sort((one, other) => one - other);
    return opacity === "1" ? (bright + 0.05) / (dark + 0.05) : 0;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bar_of_today_has_contrast(opened: Open, scheme: str) -> None:
    page = opened("#period=weekly")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a Literal
    assert page.locator(".plot rect.partial").evaluate(CONTRAST) >= 3
    page.emulate_media(color_scheme="light")


def test_the_keys_go_from_bar_to_bar(opened: Open) -> None:
    page = opened("#period=weekly")
    slider = page.get_by_role("slider", name="Credits by day")
    slider.focus()
    readout = page.locator("#accounts .readout")
    expect(readout).to_have_text("22 Nov 2026, so far: 5,630 credits, $56.30, 2 events")
    page.keyboard.press("ArrowLeft")
    expect(readout).to_have_text("21 Nov 2026: −480 credits, −$4.80, 121 events")
    expect(slider).to_have_attribute("aria-valuetext", "21 Nov 2026: −480 credits, −$4.80, 121 events")
    page.keyboard.press("Home")
    expect(page.locator(".plot rect.pointed")).to_have_count(1)
    expect(readout).to_have_text("16 Nov 2026: 0 credits, $0.00, 0 events")
    page.keyboard.press("Tab")
    expect(readout).to_have_text("Most on 22 Nov 2026, so far: 5,630 credits, $56.30")


def test_each_view_has_its_own_heading(opened: Open) -> None:
    page = opened("#period=daily", key=None)
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Who spends credits?")
    page.get_by_label("API key of an administrator").fill("key-of-the-admin")
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Top spenders today")
    page.get_by_role("link", name="Biggest changes").click()
    expect(heading).to_have_text("Biggest changes today")
    page.get_by_role("link", name="By model").click()
    expect(heading).to_have_text("Credits by model today")
    page.goto(f"/#period=daily&account={NOVA}")
    expect(heading).to_have_text("Nova Records")
    expect(page.locator("section:visible dl > div").first).to_contain_text("change: none before")


def test_on_paper_there_is_a_table_with_its_window_above(opened: Open) -> None:
    page = opened("#period=weekly")
    rows(page)
    # About the width of A4
    page.set_viewport_size({"width": 680, "height": 1000})
    page.emulate_media(media="print")
    assert page.locator(".rollup").evaluate("table => getComputedStyle(table).display") == "table"
    expect(page.get_by_role("heading", name="Top spenders in the last 7 days")).to_be_visible()
    expect(page.locator(".window")).to_contain_text("16 – 22 Nov 2026")
    # On paper the numbers grow older than it says.
    expect(page.get_by_text("just now")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("columnheader", name="Credits")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    sheets = re.findall(rb"/Type ?/Page\b(?!s)", page.pdf(format="A4"))
    page.emulate_media(media="screen")
    assert 0 < len(sheets) <= 4


def test_nothing_stands_out_of_its_cell(opened: Open) -> None:
    page = opened("#period=weekly&show=changes")
    for fragment in ("&show=changes", "", "&show=model"):
        page.goto(f"/#period=weekly{fragment}")
        rows(page)
        for width in (1280, 1024, 768, 390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            outside = page.locator("section:visible tbody td").evaluate_all(
                """(cells) => cells.filter((cell) => {
                    const [box, ...parts] = [cell, ...cell.querySelectorAll("span:not(.unseen)")]
                        .map((part) => part.getBoundingClientRect())
                        .filter(({ width }) => width);
                    return parts.some(({ left, right }) => left < box.left - 0.5 || right > box.right + 0.5);
                }).map((cell) => cell.innerText)"""
            )
            assert outside == []


def test_long_texts_are_clipped_and_whole_in_a_title(opened: Open) -> None:
    page = opened("#period=daily")
    first = rows(page).first
    address = first.get_by_title(LONG_ADDRESS)
    assert address.evaluate("(box) => box.scrollWidth > box.clientWidth && box.clientHeight < 30")
    page.get_by_role("link", name="By model").click()
    model = rows(page).first.get_by_title("charge-v1-")
    expect(model).to_be_visible()
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert model.bounding_box()["height"] < 50  # type: ignore[index]  # it is visible


def test_cards_begin_where_the_table_has_no_room(opened: Open) -> None:
    page = opened("#period=weekly")
    rows(page)
    for width, display in [(701, "table"), (700, "block")]:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.locator(".rollup").evaluate("table => getComputedStyle(table).display") == display
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_range_in_the_future_has_not_begun(opened: Open) -> None:
    page = opened("#from=2026-12-24&to=2026-12-26")
    expect(page.get_by_text("This range has not begun yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("button", name="Today").click()
    rows(page)


def test_a_receipt_of_many_accounts_can_be_closed_without_scrolling(opened: Open) -> None:
    page = opened("#period=weekly")
    rows(page)
    page.locator("#sql").click()
    expect(page.get_by_label("Command")).to_have_count(3)
    close = page.get_by_role("button", name="Close")
    expect(close).to_be_in_viewport(ratio=1)
    page.set_viewport_size({"width": 320, "height": 480})
    expect(close).to_be_in_viewport(ratio=1)
