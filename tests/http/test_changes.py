"""The changes by hand: who spends more or less than in the previous window, newcomers and leavers included."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import NOVA, ORBIT, Tables, answered

CHANGES = "/api/admins/credits/changes"
LEAVER, STEADY, NEWCOMER, OLD, FREE, REFUNDED = (
    UUID(f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-00000000000{n}") for n in (3, 4, 5, 6, 7, 8)
)


@pytest.fixture
def accounts(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA, "Nova Records")
    tables.insert(
        "account_emails", "account_id, email, updated_at", [(NOVA, "ops@nova.example", "2026-11-01 00:00+00")]
    )
    for account in (ORBIT, LEAVER, STEADY, NEWCOMER, OLD):
        tables.account(account)
    for account, before, now in [
        (NOVA, 10, 40),  # 30 more
        (ORBIT, 40, 10),  # 30 less: after Nova, which has the smaller id
        (LEAVER, 100, None),
        (STEADY, 5, 5),
        (NEWCOMER, None, 7),
    ]:
        if before is not None:
            tables.event(account, before, "2026-11-21 10:14:59.999999+00")
        if now is not None:
            tables.event(account, now, "2026-11-22 00:00:00+00")
    # Yesterday, but after these hours, is in neither window.
    tables.event(NOVA, 1000, "2026-11-21 10:15:00+00")
    tables.event(OLD, 1000, "2026-11-21 12:00:00+00")
    return tables


ROWS = [
    (LEAVER, "", "", 0, 0, 100, 1, -100),
    (NOVA, "Nova Records", "ops@nova.example", 40, 1, 10, 1, 30),
    (ORBIT, "", "", 10, 1, 40, 1, -30),
    (NEWCOMER, "", "", 7, 1, 0, 0, 7),
    (STEADY, "", "", 5, 1, 5, 1, 0),
]


def test_the_whole_answer(admin: FlaskClient, accounts: Tables) -> None:
    response = admin.get(CHANGES, query_string={"period": "daily", "limit": 1, "page": 2})
    assert response.text == (
        '{"status":"success","period":"daily","page":2,"limit":1,"total_count":5,"rows":['
        '{"account_id":"11111111-0000-4000-8000-000000000001","account_name":"Nova Records",'
        '"account_email":"ops@nova.example","total_credits_deducted_cents":40,"event_count":1,'
        '"previous_credits_deducted_cents":10,"previous_event_count":1,"change_credits_deducted_cents":30}]}\n'
    )
    edges = [response.headers[name] for name in ("Previous-Start", "Previous-End", "Window-Start")]
    assert edges == [f"2026-11-{edge}.000000Z" for edge in ("21T00:00:00", "21T10:15:00", "22T00:00:00")]


def test_the_largest_change_comes_first_up_or_down(admin: FlaskClient, accounts: Tables) -> None:
    exported = admin.get(CHANGES, query_string="period=daily", headers={"Accept": "text/csv"})
    header, *rows = exported.text.splitlines()
    assert header == (
        "account_id,account_name,account_email,total_credits_deducted_cents,event_count,"
        "previous_credits_deducted_cents,previous_event_count,change_credits_deducted_cents"
    )
    assert rows == [",".join(map(str, row)) for row in ROWS]


@pytest.mark.parametrize(
    ("only", "changes"),
    [
        pytest.param("started", {NEWCOMER: 7, FREE: 0}, id="started, also without credits"),
        pytest.param("stopped", {LEAVER: -100, REFUNDED: 5}, id="stopped, also after a refund"),
        pytest.param("up", {NOVA: 30, NEWCOMER: 7, REFUNDED: 5}, id="up"),
        pytest.param("down", {LEAVER: -100, ORBIT: -30}, id="down"),
    ],
)
def test_some_changes_are_listed_and_counted(
    admin: FlaskClient, accounts: Tables, only: str, changes: dict[UUID, int]
) -> None:
    accounts.account(FREE)
    accounts.event(FREE, 0, "2026-11-22 00:00:00+00")
    accounts.account(REFUNDED)
    accounts.event(REFUNDED, -5, "2026-11-21 00:00:00+00")
    listed = []
    for page in range(1, len(changes) + 1):
        body = answered(admin, CHANGES, period="daily", only=only, limit=1, page=page)
        # It is not echoed.
        assert list(body) == ["status", "period", "page", "limit", "total_count", "rows"]
        assert body["total_count"] == len(changes)
        listed += [(row["account_id"], row["change_credits_deducted_cents"]) for row in body["rows"]]
    assert listed == [(str(account), change) for account, change in changes.items()]
    beyond = answered(admin, CHANGES, period="daily", only=only, limit=1, page=9)
    assert (beyond["total_count"], beyond["rows"]) == (len(changes), [])
    exported = admin.get(CHANGES, query_string=f"period=daily&only={only}", headers={"Accept": "text/csv"})
    assert [line.split(",")[0] for line in exported.text.splitlines()[1:]] == list(map(str, changes))


@pytest.mark.parametrize(
    ("q", "only", "rows"),
    [
        pytest.param("NOVA RE", None, [1], id="name, in either case"),
        pytest.param("ops@", None, [1], id="address"),
        pytest.param("22222222", None, [2], id="the beginning of an id"),
        pytest.param(str(LEAVER), None, [0], id="an account with events in the previous window only"),
        pytest.param(str(OLD), None, [], id="an account with events in neither"),
        pytest.param("nova", "up", [1], id="and only some"),
        pytest.param("nova", "down", [], id="and only others"),
        pytest.param("%", None, [], id="percent sign"),
    ],
)
def test_changes_are_found_as_in_the_rollup(
    admin: FlaskClient, accounts: Tables, q: str, only: str | None, rows: list[int]
) -> None:
    query = {"period": "daily", "q": q, **({"only": only} if only else {})}
    body = answered(admin, CHANGES, **query)
    # Neither is echoed.
    assert list(body) == ["status", "period", "page", "limit", "total_count", "rows"]
    assert body["total_count"] == len(rows)
    assert [tuple("" if value is None else value for value in row.values()) for row in body["rows"]] == [
        (str(ROWS[row][0]), *ROWS[row][1:]) for row in rows
    ]
    assert answered(admin, CHANGES, **query, page=2)["total_count"] == len(rows)
    exported = admin.get(CHANGES, query_string=query, headers={"Accept": "text/csv"})
    assert exported.text.splitlines()[1:] == [",".join(map(str, ROWS[row])) for row in rows]
