"""A workbook in LibreOffice, which .ci/run installs, in two locales."""

import csv
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import DAYS, EVENTS, ROLLUP, Tables
from live import PATIENCE_S

pytestmark = pytest.mark.skipif(not shutil.which("soffice"), reason="libreoffice-calc is not installed")
WORKBOOK = {"Accept": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
PROFILE = """\
<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry"><item oor:path="/org.openoffice.Setup/L10N">
<prop oor:name="ooSetupSystemLocale" oor:op="fuse"><value>{locale}</value></prop></item></oor:items>
"""
# Commas, double quotes, UTF-8, cells as they are shown, and a file for each sheet.
TO_CSV = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,true,false,false,-1"
NAMES = [
    "0012345",
    "1E5",
    "=1+1",
    "שלום, עולם",
    "🎹 Nova",
    "2026-11-22",
    "1,5",
    "TRUE",
    "'x",
    " a\nb ",
    "<r>x</r>",
    None,
]
TOTALS = [
    123_456_789_012_345_678,
    999_999_999_999_999,
    1_234_567_890_123,
    1840,
    100,
    5,
    1,
    0,
    -1,
    -5,
    -3_160,
    -1_234_567,
]


@pytest.fixture
def accounts(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.set_credits_type("bigint")
    for number, (name, total) in enumerate(zip(NAMES, TOTALS, strict=True)):
        tables.account(UUID(int=number), name)
        tables.event(UUID(int=number), total, "2026-11-22 09:30:00.25+00", id=f"{number:04}E5")
    yield tables
    tables.empty()
    tables.set_credits_type("integer")


def shown(body: bytes, locale: str, folder: Path) -> dict[str, list[list[str]]]:
    """Return the rows of each sheet as LibreOffice shows them in a locale."""
    (folder / "profile" / "user").mkdir(parents=True)
    (folder / "profile" / "user" / "registrymodifications.xcu").write_text(PROFILE.format(locale=locale))
    (folder / "list.xlsx").write_bytes(body)
    subprocess.run(
        [
            *("soffice", "--headless", "--norestore", f"-env:UserInstallation={(folder / 'profile').as_uri()}"),
            *("--convert-to", TO_CSV, "--outdir", folder, folder / "list.xlsx"),
        ],
        check=True,
        timeout=PATIENCE_S * 5,
    )
    found = {}
    for path in folder.glob("list-*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            found[path.stem.removeprefix("list-")] = list(csv.reader(file))
    return found


@pytest.mark.parametrize(
    ("locale", "translated"),
    [
        pytest.param("en-US", str.maketrans({}), id="en-US"),
        pytest.param("de-DE", str.maketrans(",.", ".,"), id="de-DE"),
    ],
)
def test_texts_numbers_and_dates_survive(
    admin: FlaskClient, accounts: Tables, tmp_path: Path, locale: str, translated: dict[int, str]
) -> None:
    rollup = admin.get(f"{ROLLUP}?period=daily", headers=WORKBOOK)
    sheets = shown(rollup.data, locale, tmp_path / "rollup")
    head, *rows = sheets["rollup"]
    columns = list(zip(*rows, strict=True))
    by_name = dict(zip(head, columns, strict=True))
    assert by_name["account_id"] == tuple(str(UUID(int=number)) for number in range(len(NAMES)))
    assert by_name["account_name"] == tuple(name or "" for name in NAMES)
    assert by_name["total_credits_deducted_cents"] == (
        "123456789012345678",
        *(f"{total:,}".translate(translated) for total in TOTALS[1:]),
    )
    # The first two have more digits than LibreOffice shows.
    assert by_name["total_usd"][2:] == tuple(f"{total / 100:,.2f}".translate(translated) for total in TOTALS[2:])
    about = dict(row for row in sheets["About"] if len(row) == 2)
    assert about["window start, inclusive"] == "2026-11-22 00:00:00.000".replace(".", chr(translated.get(46, 46)))
    assert about["sum of event_count"] == str(len(NAMES))
    assert about["sum of total_credits_deducted_cents"] == str(sum(TOTALS))

    events = admin.get(f"{EVENTS}?account_id={UUID(int=5)}&period=daily", headers=WORKBOOK)
    head, event = shown(events.data, locale, tmp_path / "events")["events"]
    by_name = dict(zip(head, event, strict=True))
    assert by_name["id"] == "0005E5"
    assert by_name["created_at"] == "2026-11-22 09:30:00.250".replace(".", chr(translated.get(46, 46)))

    days = admin.get(f"{DAYS}?period=daily", headers=WORKBOOK)
    _, day = shown(days.data, locale, tmp_path / "days")["days"]
    assert day == ["2026-11-22", str(sum(TOTALS)), day[2], str(len(NAMES))]
