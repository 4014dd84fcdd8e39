"""The workbook: typed cells, and a second sheet that says what was asked."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from conftest import DAYS, EVENTS, NOVA, ORBIT, ROLLUP, Tables, admin_client
from live import KEY, Gunicorn
from model import law
from service import create_app
from service.config import Settings
from service.representations import workbook
from spreadsheet import Cell, Spreadsheet

WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ACCEPT = {"Accept": WORKBOOK}
CHANGES = "/api/admins/credits/changes"
BREAKDOWN = "/api/admins/credits/breakdown"
# Any text that PostgreSQL stores, often with characters that have a meaning in XML.
STORED = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("<r>/&;_x0041\t\r\n \ufffe\x07")
)


def read(response: TestResponse) -> Spreadsheet:
    assert (response.status_code, response.content_type) == (200, WORKBOOK), response.text
    assert response.content_length == len(response.data)
    return Spreadsheet(response.data)


def asked(client: FlaskClient, path: str, **query: str) -> Spreadsheet:
    return read(client.get(path, query_string=query, headers=ACCEPT))


def date_of(cell: Cell) -> datetime:
    """The instant that a spreadsheet shows for a number of days; it shows milliseconds."""
    return datetime(1899, 12, 30, tzinfo=UTC) + timedelta(milliseconds=round(float(cell.content) * 86_400_000))


@pytest.fixture
def two(tables: Tables) -> Tables:
    """One account with an address, one without a name; a total of 16 digits."""
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.set_credits_type("bigint")
    tables.account(NOVA, "0012345")
    tables.insert("account_emails", "account_id, email, updated_at", [(NOVA, "ops@nova.example", "2026-11-01")])
    tables.event(NOVA, 1840, "2026-11-22 10:00:00.123456+00", id="1E5", model_id="=1+1", provider="")
    tables.event(NOVA, -5000, "2026-11-20 10:00:00+00", id="0042")
    tables.account(ORBIT)
    tables.event(ORBIT, 1_234_567_890_123_456, "2026-11-22 10:00:00+00")
    yield tables
    tables.empty()
    tables.set_credits_type("integer")


def test_the_whole_sheet_of_rows(admin: FlaskClient, two: Tables) -> None:
    found = asked(admin, ROLLUP)
    assert found.names == ["rollup", "About"]
    text, digits, integer, dollars = (
        lambda content, type_=type_, shown_as=shown_as: Cell(type_, content, shown_as)
        for type_, shown_as in (("inlineStr", "@"), ("inlineStr", "@"), ("n", "#,##0"), ("n", "#,##0.00"))
    )
    columns = [
        "account_id",
        "account_name",
        "account_email",
        "total_credits_deducted_cents",
        "total_usd",
        "event_count",
    ]
    assert found.sheets["rollup"] == [
        dict(zip("ABCDEF", map(text, columns), strict=True)),
        # No cells where there is neither a name nor an address.
        {"A": text(str(ORBIT)), "D": digits("1234567890123456"), "E": dollars("12345678901234.56"), "F": integer("1")},
        {
            "A": text(str(NOVA)),
            "B": text("0012345"),
            "C": text("ops@nova.example"),
            "D": integer("-3160"),
            "E": dollars("-31.6"),
            "F": integer("2"),
        },
    ]


def test_the_head_is_frozen_and_has_filters(admin: FlaskClient, two: Tables) -> None:
    sheet = asked(admin, ROLLUP).xml["rollup"]
    tags = {element.tag.partition("}")[2]: element.attrib for element in sheet.iter()}
    assert tags["pane"] == {"ySplit": "1", "topLeftCell": "A2", "activePane": "bottomLeft", "state": "frozen"}
    assert tags["autoFilter"] == {"ref": "A1:F3"}
    assert tags["ignoredError"]["numberStoredAsText"] == "1"


def test_the_second_sheet_says_what_was_asked(admin: FlaskClient, two: Tables) -> None:
    query = {"period": "weekly", "q": "0012", "compare": "previous", "limit": "10"}
    found = asked(admin, ROLLUP, **query)
    about = found.about()
    changes, unit = about.pop("changes"), about.pop("unit")
    dates = {row["A"].content: date_of(row["B"]) for row in found.sheets["About"] if row["B"].shown_as[:4] == "yyyy"}
    assert dates == {
        "window start, inclusive": datetime(2026, 11, 16, tzinfo=UTC),
        "window end, exclusive: the instant of this workbook": datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        "compared with, start": datetime(2026, 11, 9, tzinfo=UTC),
        "compared with, end": datetime(2026, 11, 15, 10, 15, tzinfo=UTC),
    }
    assert [(name, value) for name, value in about.items() if name not in dates] == [
        ("list", "rollup"),
        ("page", "1"),
        ("limit", "10"),
        ("rows", "1"),
        ("period", "weekly"),
        ("q", "0012"),
        ("credits in a dollar", "100"),
        ("sum of total_credits_deducted_cents", "-3160"),
        ("sum of total_usd", "-31.6"),
        ("sum of event_count", "2"),
        ("sum of previous_credits_deducted_cents", "0"),
        ("sum of previous_usd", "0"),
        ("sum of previous_event_count", "0"),
    ]
    assert "can still change" in changes
    assert "events of a deleted account are deleted" in changes
    assert "usage_events.credits_deducted_cents" in unit


def test_a_window_without_a_start_begins_with_the_first_event(admin: FlaskClient, two: Tables) -> None:
    about = asked(admin, BREAKDOWN, period="all", by="provider", account_id=str(NOVA), totals="false").about()
    assert "with_totals" not in about
    assert about["window start, inclusive"] == "the first event"
    assert (about["by"], about["account_id"]) == ("provider", str(NOVA))


def test_texts_are_text_whatever_they_look_like_and_instants_are_dates(admin: FlaskClient, two: Tables) -> None:
    found = asked(admin, EVENTS, account_id=str(NOVA))
    head, event, other = found.sheets["events"]
    columns = {cell.content: column for column, cell in head.items()}
    assert (event[columns["id"]], other[columns["id"]]) == (
        Cell("inlineStr", "1E5", "@"),
        Cell("inlineStr", "0042", "@"),
    )
    assert event[columns["model_id"]] == Cell("inlineStr", "=1+1", "@")
    assert event[columns["provider"]] == Cell("inlineStr", "", "@"), "an empty text"
    assert columns["provider"] not in other, "null"
    assert event[columns["usd"]].content == "18.4"
    created = event[columns["created_at"]]
    assert (created.type, created.shown_as) == ("n", "yyyy-mm-dd hh:mm:ss.000")
    assert date_of(created) == datetime(2026, 11, 22, 10, 0, 0, 123_000, UTC)


@pytest.mark.parametrize(
    ("created_at", "content"),
    [
        pytest.param("1900-03-01 00:00:00+00", "61", id="the first day that all spreadsheets number alike"),
        pytest.param("1900-02-28 00:00:00+00", "1900-02-28T00:00:00.000000+00:00", id="the day before"),
        pytest.param("0044-03-15 10:00:00+00 BC", "0044-03-15 10:00:00+00 BC", id="as PostgreSQL prints it"),
    ],
)
def test_a_date_that_a_spreadsheet_lacks_is_text(
    admin: FlaskClient, tables: Tables, created_at: str, content: str
) -> None:
    tables.account(NOVA)
    tables.event(NOVA, 1, created_at)
    assert asked(admin, EVENTS, account_id=str(NOVA), period="all").sheets["events"][1]["B"].content == content


def test_days_are_dates(admin: FlaskClient, two: Tables) -> None:
    head, *days = asked(admin, DAYS, period="weekly").sheets["days"]
    assert [cell.content for cell in head.values()] == [
        "day",
        "total_credits_deducted_cents",
        "total_usd",
        "event_count",
    ]
    assert {day["A"].shown_as for day in days} == {"yyyy-mm-dd"}
    assert [date_of(day["A"]).date().isoformat() for day in days] == [f"2026-11-{day}" for day in range(16, 23)]


@law
@given(names=st.lists(st.none() | STORED, min_size=1, max_size=8))
@example(
    names=[None, "", "=1+1", "0012345", "<r>", "<r><t>x</t></r>", "<r></r>", "_x0041_", " a ", "a\r\nb", "שלום 🎹"]
)
def test_every_text_and_null_come_back(admin: FlaskClient, tables: Tables, names: list[str | None]) -> None:
    tables.empty()
    tables.seed_admin()
    tables.insert("accounts", "id, name", [(UUID(int=number), name) for number, name in enumerate(names)])
    for number in range(len(names)):
        tables.event(UUID(int=number), 1, "2026-11-22 10:00:00+00")
    assert [row[1] for row in asked(admin, ROLLUP, period="all").rows()[1:]] == names


def test_a_text_that_a_cell_does_not_hold_is_cut_and_counted(admin: FlaskClient, two: Tables) -> None:
    two.execute("UPDATE public.accounts SET name = repeat('x', 32768) WHERE id = %s", (NOVA,))
    two.execute("UPDATE public.accounts SET name = '<r>' || repeat('x', 32768) || '</r>' WHERE id = %s", (ORBIT,))
    found = asked(admin, ROLLUP)
    assert [len(row[1] or "") for row in found.rows()[1:]] == [16_383, 32_767]
    assert found.about()[workbook.CUT] == "2"


@pytest.mark.parametrize(
    ("credits_per_usd", "column", "dollars"),
    [
        pytest.param(None, "credits_deducted_cents", "-31.6", id="cents"),
        pytest.param(None, "credits_deducted", "-0.00316", id="millionths of a dollar"),
        pytest.param("0.5", "credits_deducted", "-6320", id="as it is set"),
    ],
)
def test_dollars_are_at_the_rate_of_the_page(
    settings: Settings, two: Tables, credits_per_usd: str | None, column: str, dollars: str
) -> None:
    rate = {"credits_per_usd": credits_per_usd} if credits_per_usd else {}
    app = create_app(Settings(database_url=settings.database_url, api_key_secret=settings.api_key_secret, **rate))
    two.rename_credits(column)
    try:
        found = asked(admin_client(app), ROLLUP)
    finally:
        two.rename_credits("credits_deducted_cents")
    assert found.rows()[2][4] == dollars
    assert f"usage_events.{column}." in found.about()["unit"]


def test_without_limit_and_page_a_workbook_has_every_row(admin: FlaskClient, tables: Tables) -> None:
    tables.account(NOVA)
    tables.execute(
        "INSERT INTO public.usage_events (account_id, created_at, credits_deducted_cents) "
        "SELECT %s, timestamptz '2026-11-22 00:00:00+00' + n * interval '1 ms', n FROM generate_series(1, 1200) AS n",
        (NOVA,),
    )
    query = {"account_id": str(NOVA), "period": "all"}
    found = asked(admin, EVENTS, **query)
    assert len(found.rows()) == 1201
    assert found.about()["sum of credits_deducted_cents"] == str(1200 * 1201 // 2)
    assert len(asked(admin, EVENTS, **query, page="2").rows()) == 101


@pytest.mark.parametrize("counted_after", [2, 100], ids=["counted", "written so far"])
def test_a_list_that_a_sheet_does_not_hold_is_a_400_that_names_csv(
    admin: FlaskClient, two: Tables, monkeypatch: pytest.MonkeyPatch, counted_after: int
) -> None:
    monkeypatch.setattr(workbook, "MAX_ROWS", 2)
    monkeypatch.setattr(workbook, "COUNTED_AFTER", counted_after)
    assert len(asked(admin, ROLLUP).rows()) == 3
    two.account(UUID(int=7))
    two.event(UUID(int=7), 1, "2026-11-22 10:00:00+00")
    response = admin.get(ROLLUP, headers=ACCEPT)
    assert (response.status_code, response.get_json()) == (
        400,
        {
            "status": "error",
            "error": "The list has more than the 2 rows that a workbook holds; ask for text/csv.",
            "missing_fields": [],
        },
    )
    assert len(asked(admin, ROLLUP, limit="2").rows()) == 3
    assert len(asked(admin, CHANGES, limit="2").rows()) == 3


def test_equal_workbooks_of_one_instant_are_equal_bytes(admin: FlaskClient, two: Tables) -> None:
    two.fix_now(None)
    query = {"as_of": "2026-11-22T10:15:00Z"}
    first = admin.get(ROLLUP, query_string=query, headers=ACCEPT)
    again = admin.get(ROLLUP, query_string=query, headers=ACCEPT | {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_workbook_that_fills_the_disk_is_a_503_and_leaves_nothing(
    reader_url: str, two: Tables, tmp_path: Path
) -> None:
    """No file may be longer than 64 KiB."""
    two.execute(
        "INSERT INTO public.usage_events (account_id, created_at) "
        "SELECT %s, timestamptz '2026-11-01 00:00:00+00' + n * interval '1 ms' FROM generate_series(1, 2000) AS n",
        (NOVA,),
    )
    path = f"{EVENTS}?account_id={NOVA}&period=all"
    launcher = ("bash", "-c", 'ulimit -f 64; exec "$0" "$@"')
    with Gunicorn(reader_url, launcher=launcher, TMPDIR=str(tmp_path)) as service:
        answer = service.get(path, KEY | ACCEPT)
        assert service.get(f"{path}&limit=5", KEY | ACCEPT).status == 200
        assert f"no space left in {tmp_path}" in service.err()
    assert (answer.status, answer.json()) == (
        503,
        {"status": "error", "error": "The server has no space left for this workbook; ask for fewer rows."},
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("admin-credits-")]
