"""What a client may send: everything else is a 400 that says what is wrong with each parameter."""

import json

import pytest
from flask.testing import FlaskClient

from conftest import EVENTS, ROLLUP, Tables

CREDITS = "/api/admins/credits"
ACCOUNT = "3c90c3cc-0d44-4b50-8888-8dd25736052a"

LIMIT = {"limit": "must be an integer from 1 to 500"}
PAGE = {"page": "must be an integer from 1 to 18446744073709551"}
PERIOD = {"period": "must be one of all, daily, weekly, monthly"}
INSTANT = "must be an RFC 3339 date-time such as 2026-11-22T10:15:00Z, or a date, from {} to 9998"
AS_OF, SINCE = {"as_of": INSTANT.format(1970)}, {"since": INSTANT.format(1900)}
ENDS = {"since": "must be before the end of the window"}
ID = {"account_id": "must be a UUID in its hyphenated form"}
NO_KEY = {"by": "must be one of model, provider, source, agent_type"}
NO_CHANGES = {"only": "must be one of started, stopped, up, down"}
NO_ORDER = {"sort": "must be one of created_at, credits"}
COMPARE = {"compare": "must be previous, or an interval such as 2026-09-01/2026-10-01"}
OVERLAP = {"compare": "must not end after the start of the window"}
SEARCH = {"q": "must be 1 to 200 characters"}
HOURS = {"bucket": "must be day, week or month where the window is longer than 14 days"}
NUL = "must not contain NUL"
REQUIRED, TWICE, UNKNOWN = "is required", "is given more than once", "is not a parameter of this endpoint"


@pytest.mark.parametrize(
    ("request_", "problems"),
    [
        pytest.param("rollup?limit=", LIMIT, id="no digit"),
        pytest.param("rollup?limit=0", LIMIT, id="below the bounds"),
        pytest.param("rollup?limit=501", LIMIT, id="above the bounds"),
        pytest.param("rollup?limit=1.0", LIMIT, id="float"),
        pytest.param("rollup?limit=%2B5", LIMIT, id="plus sign, which Python's int() accepts"),
        pytest.param("rollup?limit=%205", LIMIT, id="space, which it accepts"),
        pytest.param("rollup?limit=5%0A", LIMIT, id="newline, which it accepts"),
        pytest.param("rollup?limit=1_0", LIMIT, id="underscore, which it accepts"),
        pytest.param("rollup?limit=٣", LIMIT, id="arabic digit, which it accepts"),
        pytest.param("rollup?limit=000000000000000000005", LIMIT, id="twenty-one digits"),
        pytest.param("rollup?page=0", PAGE, id="page below the bounds"),
        pytest.param("rollup?page=18446744073709552", PAGE, id="page above the bounds"),
        pytest.param("rollup?period=", PERIOD, id="no period"),
        pytest.param("rollup?period=yearly", PERIOD, id="no such period"),
        pytest.param("rollup?period=Daily", PERIOD, id="period in capitals"),
        pytest.param("rollup?period=daily%00", PERIOD, id="period and NUL"),
        pytest.param("rollup?period=%FF%FE", PERIOD, id="broken UTF-8"),
        pytest.param("rollup?period=custom", PERIOD, id="custom is only answered"),
        pytest.param("rollup?limit=5&limit=5", {"limit": TWICE}, id="twice, alike"),
        pytest.param("rollup?limit=x&limit=5", {"limit": TWICE}, id="twice, the first one bad"),
        pytest.param("rollup?zzz=1&zzz=2", {"zzz": TWICE}, id="unknown and twice: named once"),
        pytest.param("rollup?Limit=5", {"Limit": UNKNOWN}, id="a known name in capitals"),
        pytest.param("rollup?limit[]=5", {"limit[]": UNKNOWN}, id="a name as PHP writes lists"),
        pytest.param("rollup?=5", {"": UNKNOWN}, id="no name"),
        pytest.param("rollup?as_of=", AS_OF, id="no instant"),
        pytest.param("rollup?as_of=2026-11", AS_OF, id="a month"),
        pytest.param("rollup?as_of=2026-11-01T00:00:00", AS_OF, id="no offset"),
        pytest.param("rollup?as_of=2026-11-01%2000:00:00Z", AS_OF, id="a space for the T"),
        pytest.param("rollup?as_of=2026-W44-7T00:00:00Z", AS_OF, id="week date"),
        pytest.param("rollup?as_of=2026-11-01T00:00:00.1234567Z", AS_OF, id="seven digits of a second"),
        pytest.param("rollup?as_of=2026-11-01T00:00:00%2B24:00", AS_OF, id="offset of a day"),
        pytest.param("rollup?as_of=2026-02-30", AS_OF, id="no such day"),
        pytest.param("rollup?as_of=2016-12-31T23:59:60Z", AS_OF, id="leap second"),
        pytest.param("rollup?as_of=1969-12-31T23:59:59.999999Z", AS_OF, id="before 1970"),
        pytest.param("rollup?as_of=9999-01-01", AS_OF, id="after 9998"),
        pytest.param("rollup?as_of=0001-01-01T00:00:00%2B01:00", AS_OF, id="before the calendar"),
        pytest.param("rollup?as_of=٢٠٢٦-11-01", AS_OF, id="other digits"),
        pytest.param("rollup?as_of=2026-11-01%0A", AS_OF, id="instant and newline"),
        pytest.param(
            "rollup?as_of=2026-11-01T00:00:00+02:00",
            {"as_of": "has a space where a + is meant: write + as %2B, or the instant in UTC with Z"},
            id="a plus sign that was not escaped",
        ),
        pytest.param(
            "rollup?as_of=2026-11-22T10:15:00.000001Z", {"as_of": "must not be in the future"}, id="in the future"
        ),
        pytest.param("rollup?since=1899-12-31", SINCE, id="before 1900"),
        pytest.param("rollup?since=2026-11-22T10:15:00Z", ENDS, id="since now"),
        pytest.param("rollup?since=2026-11-01&as_of=2026-11-01", ENDS, id="since as_of"),
        pytest.param(
            "rollup?since=2026-10-01&period=monthly",
            {"period": "must not be given with since", "since": "must not be given with period"},
            id="two starts",
        ),
        pytest.param("rollup?compare=next", COMPARE, id="no window to compare with"),
        pytest.param(
            "rollup?period=all&compare=previous",
            {"compare": "cannot be used with period=all"},
            id="nothing is before all time",
        ),
        pytest.param(
            "changes?period=all&compare=2026-01-01/2026-02-01",
            {"period": "must be one of daily, weekly, monthly"},
            id="nothing is before all time, with an interval",
        ),
        pytest.param("rollup?compare=2026-09-01", COMPARE, id="one edge"),
        pytest.param("rollup?compare=2026-09-01/2026-10-01/2026-11-01", COMPARE, id="three edges"),
        pytest.param("rollup?compare=2026-09-31/2026-10-01", COMPARE, id="an edge on no day"),
        pytest.param("rollup?compare=1899-12-31/1900-01-01", COMPARE, id="an edge before 1900"),
        pytest.param(
            "rollup?compare=2026-10-01/2026-10-01", {"compare": "must start before it ends"}, id="an empty interval"
        ),
        pytest.param("rollup?since=2026-11-01&compare=2026-10-01/2026-11-02", OVERLAP, id="windows that overlap"),
        pytest.param("changes?period=weekly&compare=2026-11-15/2026-11-16T00:00:00.000001Z", OVERLAP, id="by little"),
        pytest.param("days?compare=previous", {"compare": UNKNOWN}, id="days compare nothing"),
        pytest.param(f"days?model={'e' * 501}", {"model": "must be at most 500 characters"}, id="filter too long"),
        pytest.param(f"events?account_id={ACCOUNT}&agent_type=%00", {"agent_type": NUL}, id="filter with NUL"),
        pytest.param("series?model=a&model=b", {"model": TWICE}, id="two models"),
        pytest.param("rollup?totals=1", {"totals": "must be true or false"}, id="totals that are no boolean"),
        pytest.param("days?totals=true", {"totals": UNKNOWN}, id="days have no totals"),
        pytest.param("series?bucket=year", {"bucket": "must be one of hour, day, week, month"}, id="no such bucket"),
        pytest.param("series?bucket=hour", HOURS, id="too many hours"),
        pytest.param("series?bucket=hour&period=all", HOURS, id="hours of all time"),
        pytest.param("series?bucket=hour&since=2026-11-08T10:14:59.999999Z", HOURS, id="a microsecond too long"),
        pytest.param("series?top=21", {"top": "must be an integer from 1 to 20"}, id="too many keys"),
        pytest.param("series?limit=5", {"limit": UNKNOWN}, id="the series has no pages"),
        pytest.param("rollup?q=", SEARCH, id="no text"),
        pytest.param(f"rollup?q={'e' * 201}", SEARCH, id="text too long"),
        pytest.param("rollup?q=a%00", {"q": NUL}, id="NUL, which PostgreSQL cannot store"),
        pytest.param("days?account_id={" + ACCOUNT + "}", ID, id="braces, which Python's UUID() accepts"),
        pytest.param(f"days?account_id=urn:uuid:{ACCOUNT}", ID, id="urn, which it accepts"),
        pytest.param("days?account_id=3c90c3cc0d444b5088888dd25736052a", ID, id="no hyphens, which it accepts"),
        pytest.param("days?account_id=3c90c3cc-0d44-4b50-88888-dd25736052a", ID, id="hyphens elsewhere"),
        pytest.param("days?account_id=3c90c3cc-0d44-4b50-8888-8dd25736052g", ID, id="no hexadecimal digit"),
        pytest.param(f"days?account_id={ACCOUNT}%0A", ID, id="id and newline"),
        pytest.param(f"events?account_id={ACCOUNT}&sort=", NO_ORDER, id="no order"),
        pytest.param(f"events?account_id={ACCOUNT}&sort=Credits", NO_ORDER, id="order in capitals"),
        pytest.param("rollup?sort=credits", {"sort": UNKNOWN}, id="the rollup has one order"),
        pytest.param("changes?only=", NO_CHANGES, id="only nothing"),
        pytest.param("changes?only=up,down", NO_CHANGES, id="only two"),
        pytest.param("rollup?only=up", {"only": UNKNOWN}, id="the rollup has no changes"),
        # All parameters of each endpoint, and one that it does not have.
        pytest.param(
            "rollup?zzz=1&q=&page=x&limit=0&period=never&compare=&as_of=x&since=x&account_id=x",
            {"account_id": UNKNOWN, **AS_OF, **COMPARE}
            | {**LIMIT, **PAGE, **PERIOD, **SEARCH, **SINCE, "zzz": UNKNOWN},
            id="rollup",
        ),
        pytest.param(
            "breakdown?by=model_id&page=x&limit=0&period=never&compare=&as_of=x&since=x&account_id=x&q=x",
            {**ID, **AS_OF, **NO_KEY, **COMPARE} | {**LIMIT, **PAGE, **PERIOD, "q": UNKNOWN, **SINCE},
            id="breakdown",
        ),
        pytest.param(
            "changes?page=x&limit=0&period=all&as_of=x&since=x&compare=all&only=new&q=",
            {**AS_OF, **COMPARE, **LIMIT, **NO_CHANGES, **PAGE}
            | {"period": "must be one of daily, weekly, monthly", **SEARCH, **SINCE},
            id="changes",
        ),
        pytest.param(
            "events?page=x&limit=0&period=never&as_of=x&since=x&account_id=x&compare=previous&sort=id",
            {**ID, **AS_OF, "compare": UNKNOWN, **LIMIT, **PAGE, **PERIOD, **SINCE, **NO_ORDER},
            id="events",
        ),
        pytest.param(
            "days?page=1&limit=1&period=never&as_of=x&since=x&account_id=x",
            {**ID, **AS_OF, "limit": UNKNOWN, "page": UNKNOWN, **PERIOD, **SINCE},
            id="days",
        ),
        pytest.param("breakdown", {"by": REQUIRED}, id="by is required"),
        pytest.param("events?limit=0", {"account_id": REQUIRED, **LIMIT}, id="account_id is required"),
    ],
)
def test_a_bad_request_is_a_400_that_names_each_bad_parameter_once_and_sorted(
    admin: FlaskClient, tables: Tables, request_: str, problems: dict[str, str]
) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    response = admin.get(f"{CREDITS}/{request_}")
    sentence = f"Bad parameters: {'; '.join(f'{name} {problem}' for name, problem in problems.items())}."
    body = {"status": "error", "error": sentence, "missing_fields": list(problems)}
    assert (response.status_code, response.text) == (400, json.dumps(body, separators=(",", ":")) + "\n")


@pytest.mark.parametrize(
    ("query", "page", "limit"),
    [
        pytest.param("", 1, 100, id="defaults"),
        pytest.param("limit=1", 1, 1, id="smallest limit"),
        pytest.param("limit=00000000000000000007", 1, 7, id="twenty digits"),
        pytest.param("page=18446744073709551&limit=500", 18446744073709551, 500, id="the largest offset is a bigint"),
    ],
)
@pytest.mark.parametrize(
    "path",
    ["rollup?", "rollup?q=x&", "breakdown?by=model&", "changes?", "changes?q=x&", f"events?account_id={ACCOUNT}&"],
)
def test_good_integers_are_echoed(
    admin: FlaskClient, tables: Tables, path: str, query: str, page: int, limit: int
) -> None:
    body = admin.get(f"{CREDITS}/{path}{query}").get_json()
    assert (body["status"], body["page"], body["limit"]) == ("success", page, limit)


def test_an_account_id_is_echoed_in_lower_case(admin: FlaskClient, tables: Tables) -> None:
    body = admin.get(EVENTS, query_string={"account_id": ACCOUNT.upper()}).get_json()
    assert (body["status"], body["account_id"]) == ("success", ACCOUNT)


@pytest.mark.parametrize(
    ("as_of", "header"),
    [
        pytest.param("2026-11-22T10:15:00.5Z", "2026-11-22T10:15:00.500000Z", id="now is not the future"),
        pytest.param("2026-11-22t15:45:00.000001%2B05:30", "2026-11-22T10:15:00.000001Z", id="an offset"),
        pytest.param("1970-01-01T00:00:00z", "1970-01-01T00:00:00.000000Z", id="the first"),
        pytest.param("2026-11-22", "2026-11-22T00:00:00.000000Z", id="a date is its midnight"),
    ],
)
def test_an_instant_is_answered_in_utc(admin: FlaskClient, tables: Tables, as_of: str, header: str) -> None:
    tables.fix_now("2026-11-22 10:15:00.5+00")
    assert admin.get(f"{ROLLUP}?as_of={as_of}").headers["As-Of"] == header
