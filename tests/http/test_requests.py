"""What a client may send, tried through both endpoints: everything else is a 400 that names it."""

import pytest
from flask.testing import FlaskClient

from conftest import EVENTS, ROLLUP, Tables

ACCOUNT = "3c90c3cc-0d44-4b50-8888-8dd25736052a"

BAD_INTEGERS = [
    pytest.param("", id="empty"),
    pytest.param("0", id="below the bounds"),
    pytest.param("1.0", id="float"),
    pytest.param("1e2", id="exponent"),
    pytest.param("+5", id="plus sign"),
    pytest.param("-1", id="minus sign"),
    pytest.param(" 5", id="space before"),
    pytest.param("5 ", id="space after"),
    pytest.param("5\n", id="newline after"),
    pytest.param("1_0", id="underscore"),
    pytest.param("٣", id="arabic digit"),
    pytest.param("５", id="fullwidth digit"),
    pytest.param("²", id="superscript"),
    pytest.param("5\0", id="NUL"),
    pytest.param("0x10", id="hexadecimal"),
    pytest.param("1" + "0" * 30, id="10^30"),
    pytest.param("0" * 20 + "5", id="twenty-one digits"),
    pytest.param("NaN", id="not a number"),
    pytest.param("1;DROP TABLE accounts", id="SQL"),
]


def refused(client: FlaskClient, path: str, query: str | dict[str, str], *names: str) -> str:
    """Assert that the answer is a 400 that names these parameters; return its sentence."""
    response = client.get(path, query_string=query)
    body = response.get_json()
    assert (response.status_code, body["status"], body["missing_fields"]) == (400, "error", list(names))
    assert list(body) == ["status", "error", "missing_fields"]
    sentence: str = body["error"]
    return sentence


@pytest.fixture(params=[ROLLUP, f"{EVENTS}?account_id={ACCOUNT}"], ids=["rollup", "events"])
def paged(request: pytest.FixtureRequest, tables: Tables) -> str:
    """Both paged endpoints, with what each requires."""
    return str(request.param)


def with_query(paged: str, query: str) -> tuple[str, str]:
    path, _, required = paged.partition("?")
    return path, "&".join(filter(None, [required, query]))


@pytest.mark.parametrize("name", ["limit", "page"])
@pytest.mark.parametrize("value", BAD_INTEGERS)
def test_an_integer_is_ascii_digits_within_bounds(admin: FlaskClient, paged: str, name: str, value: str) -> None:
    path, _, required = paged.partition("?")
    query = {name: value} | ({"account_id": ACCOUNT} if required else {})
    highest = {"limit": 500, "page": 18446744073709551}[name]
    assert refused(admin, path, query, name) == f"Bad parameters: {name} must be an integer from 1 to {highest}."


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param("limit=501", "limit", id="limit above"),
        pytest.param("page=18446744073709552", "page", id="page above"),
        pytest.param("period=", "period", id="period empty"),
        pytest.param("period=yearly", "period", id="no such period"),
        pytest.param("period=Daily", "period", id="period in capitals"),
        pytest.param("period=daily%20", "period", id="period and a space"),
        pytest.param("period=daily%00", "period", id="period and NUL"),
        pytest.param("period=%FF%FE", "period", id="broken UTF-8"),
        pytest.param("limit=5&limit=5", "limit", id="limit twice, alike"),
        pytest.param("page=1&page=2", "page", id="page twice"),
        pytest.param("period=all&period=daily", "period", id="period twice"),
        pytest.param("offset=5", "offset", id="unknown name"),
        pytest.param("Limit=5", "Limit", id="a known name in capitals"),
        pytest.param("limit[]=5", "limit[]", id="a name as PHP writes lists"),
        pytest.param("=5", "", id="no name"),
        pytest.param("since=2026-01-01&since=2026-01-01", "since", id="unknown and twice: named once"),
    ],
)
def test_a_bad_parameter_is_named(admin: FlaskClient, paged: str, query: str, name: str) -> None:
    refused(admin, *with_query(paged, query), name)


def test_every_bad_parameter_is_named_once_and_sorted(admin: FlaskClient, tables: Tables) -> None:
    sentence = refused(admin, ROLLUP, "page=x&limit=0&period=never&zzz=1&limit=9", "limit", "page", "period", "zzz")
    assert sentence == (
        "Bad parameters: limit is given more than once; page must be an integer from 1 to 18446744073709551; "
        "period must be one of all, daily, weekly, monthly; zzz is not a parameter of this endpoint."
    )


@pytest.mark.parametrize(
    ("query", "page", "limit"),
    [
        pytest.param("", 1, 100, id="defaults"),
        pytest.param("limit=1", 1, 1, id="smallest limit"),
        pytest.param("limit=500", 1, 500, id="largest limit"),
        pytest.param("page=18446744073709551&limit=500", 18446744073709551, 500, id="the largest offset is a bigint"),
        pytest.param("limit=00000000000000000007", 1, 7, id="twenty digits"),
    ],
)
def test_good_integers_are_echoed(admin: FlaskClient, paged: str, query: str, page: int, limit: int) -> None:
    path, query = with_query(paged, query)
    body = admin.get(path, query_string=query).get_json()
    assert (body["status"], body["page"], body["limit"]) == ("success", page, limit)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("{3c90c3cc-0d44-4b50-8888-8dd25736052a}", id="braces"),
        pytest.param("urn:uuid:3c90c3cc-0d44-4b50-8888-8dd25736052a", id="urn"),
        pytest.param("3c90c3cc0d444b5088888dd25736052a", id="bare digits"),
        pytest.param("3c90c3cc-0d44-4b50-8888-8dd25736052", id="a digit short"),
        pytest.param("3c90c3cc-0d44-4b50-8888-8dd25736052a0", id="a digit long"),
        pytest.param("3c90c3cc-0d44-4b50-88888-dd25736052a", id="hyphens elsewhere"),
        pytest.param(" 3c90c3cc-0d44-4b50-8888-8dd25736052a", id="space before"),
        pytest.param("3c90c3cc-0d44-4b50-8888-8dd25736052a\n", id="newline after"),
        pytest.param("3c90c3cc-0d44-4b50-8888-8dd25736052g", id="no hexadecimal digit"),
        pytest.param("٣c90c3cc-0d44-4b50-8888-8dd25736052a", id="arabic digit"),
    ],
)
def test_an_account_id_is_a_hyphenated_uuid(admin: FlaskClient, tables: Tables, value: str) -> None:
    sentence = refused(admin, EVENTS, {"account_id": value}, "account_id")
    assert sentence == "Bad parameters: account_id must be a UUID in its hyphenated form."


def test_an_account_id_is_required(admin: FlaskClient, tables: Tables) -> None:
    assert refused(admin, EVENTS, "limit=x", "account_id", "limit").startswith("Bad parameters: account_id is required")


def test_an_account_id_is_echoed_in_lower_case(admin: FlaskClient, tables: Tables) -> None:
    body = admin.get(EVENTS, query_string={"account_id": ACCOUNT.upper()}).get_json()
    assert (body["status"], body["account_id"]) == ("success", ACCOUNT)


def test_the_rollup_takes_no_account_id(admin: FlaskClient, tables: Tables) -> None:
    refused(admin, ROLLUP, {"account_id": ACCOUNT}, "account_id")
