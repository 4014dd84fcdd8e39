"""`q` on the rollup: accounts by name, by any address, or by id."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import ROLLUP, Tables, answered
from test_requests import refused

NAMES = ["Nova Records", "nova%", "under_score", "back\\slash", "Ångström", None, "No event"]


@pytest.fixture
def named(tables: Tables) -> Tables:
    """Accounts that each have one event, but the last; the fifth has three addresses, the sixth no name."""
    tables.fix_now("2026-11-22 10:15:00+00")
    for number, name in enumerate(NAMES):
        account = UUID(int=0xABC0 + number)
        tables.account(account, name)
        if name != "No event":
            tables.event(account, number + 1, "2026-11-22 10:00:00+00")
    for account, email, updated in [
        (0xABC4, "new@five.example", "2026-02-01"),
        (0xABC4, "OLD.nova@five.example", "2026-01-01"),
        (0xABC4, None, "2026-03-01"),
        (0xABC5, "six@six.example", "2026-01-01"),
    ]:
        tables.insert("account_emails", "account_id, email, updated_at", [(UUID(int=account), email, updated)])
    return tables


@pytest.mark.parametrize(
    ("q", "found"),
    [
        pytest.param("nova", [4, 1, 0], id="names and an address that is not the primary one, in either case"),
        pytest.param("VA R", [0], id="in the middle"),
        pytest.param("%", [1], id="percent sign"),
        pytest.param("_", [2], id="underscore"),
        pytest.param("\\", [3], id="backslash"),
        pytest.param("Ångstr", [4], id="letters beyond ASCII"),
        pytest.param("five.example", [4], id="two addresses of one account"),
        pytest.param("00000000-0000-0000-0000-00000000ABC5", [5], id="id"),
        pytest.param("00000000-0000-0000-0000-00000000abc", [], id="part of an id"),
        pytest.param("{00000000-0000-0000-0000-00000000abc5}", [], id="id in braces"),
        pytest.param("no event", [], id="an account without events"),
        pytest.param("'; DROP TABLE accounts; --", [], id="SQL"),
        pytest.param("e" * 200, [], id="longest"),
    ],
)
def test_accounts_are_found_by_name_address_or_id(admin: FlaskClient, named: Tables, q: str, found: list[int]) -> None:
    whole = {row["account_name"]: row for row in answered(admin, ROLLUP)["rows"]}
    body = answered(admin, ROLLUP, q=q)
    assert body == {
        "status": "success",
        "period": "monthly",
        "page": 1,
        "limit": 100,
        "total_count": len(found),
        "rows": [whole[NAMES[number]] for number in found],
    }


def test_a_page_counts_what_is_found(admin: FlaskClient, named: Tables) -> None:
    body = answered(admin, ROLLUP, q="nova", limit=1, page=2, compare="previous")
    assert (body["total_count"], [row["account_name"] for row in body["rows"]]) == (3, ["nova%"])
    assert body["rows"][0]["previous_event_count"] == 0
    exported = admin.get(ROLLUP, query_string="q=nova", headers={"Accept": "text/csv"})
    assert len(exported.text.splitlines()) == 4


@pytest.mark.parametrize(
    ("q", "problem"),
    [
        ("", "must be 1 to 200 characters"),
        ("e" * 201, "must be 1 to 200 characters"),
        ("a\0", "must not contain NUL"),
    ],
)
def test_a_text_that_cannot_be_searched_is_a_400(admin: FlaskClient, tables: Tables, q: str, problem: str) -> None:
    assert refused(admin, ROLLUP, {"q": q}, "q") == f"Bad parameters: q {problem}."
