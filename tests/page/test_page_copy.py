"""What a spreadsheet gets when rows of the page are copied."""

import re
from uuid import UUID
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import NOW, Open, needs_chromium
from conftest import NOVA, Tables

pytestmark = needs_chromium

FORMULA = UUID("11111111-0000-4000-8000-000000000002")
REFUNDED = UUID("11111111-0000-4000-8000-000000000003")
NAMELESS = UUID("11111111-0000-4000-8000-000000000004")
LONG_ADDRESS = "a" * 64 + "@" + "long." * 30 + "example"


@pytest.fixture(scope="module")
def spending(owner: Tables) -> Tables:
    """Fill the tables; yesterday REFUNDED got back 1,234 of the credits that the others spent today."""
    owner.empty()
    owner.seed_admin()
    for account, name in [
        (NOVA, "Nova\tRecords"),
        (FORMULA, "=1+1"),
        (REFUNDED, '"Re" & <b>Funded</b>'),
        (NAMELESS, None),
    ]:
        owner.account(account, name)
    owner.insert("account_emails", "account_id, email, updated_at", [(NOVA, LONG_ADDRESS, NOW)])
    owner.event(NOVA, 11_842, "2026-11-22 10:00:00+00", model_id="large")
    owner.event(FORMULA, 20_000, "2026-11-22 10:00:00+00")
    owner.event(REFUNDED, -1_234, "2026-11-21 12:00:00+00")
    owner.event(NAMELESS, 5, "2026-11-22 10:00:00+00")
    return owner


def select(first: Locator, last: Locator) -> None:
    """Select from the start of one element to the end of another one."""
    last.evaluate(
        "(last, first) => getSelection().setBaseAndExtent(first, 0, last, last.childNodes.length)",
        first.element_handle(),
    )


def copied(page: Page) -> tuple[str, list[list[str]]]:
    """Press Ctrl-C, and return the text and the cells of the HTML that are then on the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("Control+C")
    text, html = page.evaluate(
        """async () => {
            const [item] = await navigator.clipboard.read();
            const read = async (type) => (item.types.includes(type) ? (await item.getType(type)).text() : "");
            return [await read("text/plain"), await read("text/html")];
        }"""
    )
    table = re.search("<table.*</table>", html, re.DOTALL)
    rows = ElementTree.fromstring(table[0]).iter("tr") if table else []  # noqa: S314 - the test's own page made it
    return text, [["".join(cell.itertext()) for cell in row] for row in rows]


def test_copied_rows_are_rows_of_a_spreadsheet(opened: Open) -> None:
    page = opened("#period=weekly")
    rows = page.get_by_role("table", name="Accounts by credits spent").locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(page.get_by_text("not loaded yet")).to_have_count(0)
    select(rows.first.locator("td").first, rows.last.locator("td").last)
    text, cells = copied(page)
    expected = [
        ["1", "'=1+1", "", "20000", "$200.00"],
        ["2", "Nova Records", LONG_ADDRESS, "11842", "$118.42"],
        ["3", "Account 11111111", "", "5", "$0.05"],
        ["4", '"Re" & <b>Funded</b>', "", "-1234", "-$12.34"],
    ]
    assert [row[:5] for row in cells] == expected
    assert [row[-1] for row in cells] == ["1", "1", "1", "1"]
    lines = [line.split("\t") for line in text.split("\n")]
    assert [line[:5] for line in lines[:3]] == expected[:3]
    # A quotation mark at the start of a text would begin a quoted text.
    assert lines[3][1] == '"""Re"" & <b>Funded</b>"'


def test_the_head_and_a_single_number_are_copied_too(opened: Open) -> None:
    page = opened("#period=weekly&show=changes")
    table = page.get_by_role("table", name="Accounts by change")
    expect(table.locator("tbody tr")).to_have_count(4)
    change = table.get_by_role("cell", name="−1,234").last
    # A triple click selects up to the start of the next cell.
    change.evaluate("(cell) => getSelection().setBaseAndExtent(cell.firstChild, 0, cell.nextSibling, 0)")
    assert copied(page)[0] == "-1234"
    select(table.locator("thead th").first, table.locator("tbody tr").first.locator("td").last)
    head, first = copied(page)[1]
    assert head[:4] == ["Account", "Address", "Before", "Now"]
    assert first[:4] == ["'=1+1", "", "0", "20000"]


def test_a_part_of_a_text_is_copied_as_it_is(opened: Open) -> None:
    page = opened("#period=weekly")
    address = page.get_by_text(LONG_ADDRESS)
    expect(address).to_be_visible()
    address.evaluate("(box) => getSelection().setBaseAndExtent(box.firstChild, 0, box.firstChild, 64)")
    assert copied(page)[0] == "a" * 64
