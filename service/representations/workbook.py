"""A workbook for people: a sheet with the rows of a list, and one that says what was asked.

XlsxWriter writes each row to a temporary file when the next one begins, so that one row is in memory.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from typing import IO, Any

from marshmallow import fields
from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.worksheet import Worksheet

from service.errors import TooManyRows
from service.listing import List
from service.question import Question
from service.representations.spool import spooled
from service.representations.written import Context, Written
from service.schemas.requests import BREAKDOWN_KEYS
from service.schemas.responses import Envelope, Timestamp

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# All rows of the list unless a page is asked for; the second sheet needs nothing from the database.
ONLY_ROWS = True
# A sheet has 2^20 rows, of which the head is one.
MAX_ROWS = 2**20 - 1
# A list with this many rows is counted before more of it is written. Most are shorter, and counting is a query.
COUNTED_AFTER = 50_000
# Spreadsheets compute with 15 digits.
FIRST_INEXACT = 10**15
# Day 0 of a spreadsheet. Before 1 March 1900 Excel and LibreOffice number the days differently.
EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
FIRST_DAY = datetime(1900, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# A cell holds 32,767 UTF-16 units, of which a character takes at most two.
LONGEST_RICH = 16_383
CREDITS = "credits_deducted_cents"
FORMATS: dict[str, dict[str, Any]] = {
    "text": {"num_format": "@"},
    # For an integer of more digits than a number has.
    "digits": {"num_format": "@", "align": "right"},
    "integer": {"num_format": "#,##0"},
    "dollars": {"num_format": "#,##0.00"},
    "day": {"num_format": "yyyy-mm-dd", "align": "left"},
    "instant": {"num_format": "yyyy-mm-dd hh:mm:ss.000", "align": "left"},
    "head": {"num_format": "@", "bold": True, "bottom": 1},
    "label": {"num_format": "@", "bold": True, "text_wrap": True, "valign": "top"},
    "paragraph": {"num_format": "@", "text_wrap": True, "valign": "top"},
}
# Widths of columns in characters, by the kind of their cells.
WIDTHS = {"text": 36, "integer": 16, "dollars": 20, "day": 12, "instant": 24, "flag": 8}
# How the second sheet names arguments.
LABELS = {"search": "q", **{name: f"only {name}" for name in BREAKDOWN_KEYS}}
# The arguments that it shows in another way.
ELSEWHERE = {"period", "since", "as_of", "compare", "page", "limit", "with_totals"}
CHANGES_STILL = """\
A window that has passed can still change: events can be added late, changed or deleted, and the events of a deleted \
account are deleted with it. This workbook is as of the instant above."""
UNIT = """\
A credit is one unit of usage_events.{column}. Credits are exact; those of more than 15 digits are text, because a \
spreadsheet would round them. Dollars are credits divided by the credits in a dollar. Times and days are UTC."""
CUT = "Texts that were cut, because a cell holds 32,767 characters; CSV has all of them"

Put = Callable[[int, int, Any], None]


def write(envelope: Envelope, question: Question, listed: List, context: Context) -> Written:
    """Write the rows of a list, and beside each column of credits one of dollars.

    Raises:
        TooManyRows: as soon as it is known that a sheet does not hold the list.
        NoSpaceLeft: when the disk is full, or a file may not be so large.
    """
    with spooled("workbook") as file:
        with _workbook(file, question.window.until) as book:
            # First of all sheets, and so the one that is shown.
            rows = _Sheet(book, context.list_name, context.credits_per_usd)
            about = _Sheet(book, "About", context.credits_per_usd, align="left")
            totals = _write_rows(rows, envelope, listed, context)
            _write_about(about, question, context, rows, totals)
        digest = hashlib.sha256(f"{context.caller} {MEDIA_TYPE} ".encode())
        length = file.tell()
        file.seek(0)
        while block := file.read(2**16):
            digest.update(block)
    return Written(file, length, digest.hexdigest(), rows.row_count, MEDIA_TYPE)


@contextmanager
def _workbook(file: IO[bytes], created: datetime) -> Iterator[Workbook]:
    """Yield a workbook that is written to a file after the block, and remove the temporary files."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-") as folder:
        options = {"constant_memory": True, "tmpdir": folder, "use_zip64": True}
        book = Workbook(file, options)
        # Otherwise the time of writing, which would make two equal workbooks differ.
        book.set_properties({"created": created.replace(tzinfo=None)})
        try:
            yield book
            book.close()
        except FileCreateError as error:
            # FileCreateError hides the OSError, whose number tells whether the disk is full.
            raise error.args[0] from None
        finally:
            for sheet in book.worksheets():
                # After a failure its file is still open. Closing it writes what it buffers.
                with suppress(OSError):
                    sheet._opt_close()


class _Sheet:
    """A worksheet, with methods that write a cell of each kind; None leaves the cell empty.

    ``row_count`` is the number of rows below the head, ``cut_count`` the number of texts that were cut to fit a cell.
    """

    def __init__(self, book: Workbook, name: str, credits_per_usd: str, **shared_format: str) -> None:
        self.sheet: Worksheet = book.add_worksheet(name)
        self.formats = {kind: book.add_format({**options, **shared_format}) for kind, options in FORMATS.items()}
        # On paper, all columns are on one page.
        self.sheet.set_landscape()
        self.sheet.fit_to_pages(1, 0)
        # Otherwise each id of digits alone is marked as a number that is stored as text.
        self.sheet.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})
        self.row_count = 0
        self.cut_count = 0
        rate = Fraction(credits_per_usd)
        self._numerator, self._denominator = rate.denominator, rate.numerator

    def text(self, row: int, column: int, value: str | None, kind: str = "text") -> None:
        if value is None:
            return
        format_ = self.formats[kind]
        if value.startswith("<r>") and value.endswith("</r>"):
            # write_string() would take it for the XML of a text in several formats, and not escape it.
            self.sheet.write_rich_string(row, column, value[:1], format_, value[1:LONGEST_RICH], format_)
            self.cut_count += len(value) > LONGEST_RICH
        else:
            # It cuts a text that does not fit.
            self.cut_count += self.sheet.write_string(row, column, value, format_) != 0

    def paragraph(self, row: int, column: int, value: str) -> None:
        self.text(row, column, value, "paragraph")
        # For four lines, in points.
        self.sheet.set_row(row, 60)

    def integer(self, row: int, column: int, value: int | None) -> None:
        if value is not None and abs(value) < FIRST_INEXACT:
            self.sheet.write_number(row, column, value, self.formats["integer"])
        elif value is not None:
            self.text(row, column, str(value), "digits")

    def dollars(self, row: int, column: int, value: int | None) -> None:
        """Write an amount of credits in dollars."""
        if value is not None:
            usd = value * self._numerator / self._denominator
            self.sheet.write_number(row, column, usd, self.formats["dollars"])

    def day(self, row: int, column: int, value: str | None) -> None:
        self._date(row, column, value, "day")

    def instant(self, row: int, column: int, value: str | None) -> None:
        self._date(row, column, value, "instant")

    def flag(self, row: int, column: int, value: bool | None) -> None:
        if value is not None:
            self.sheet.write_boolean(row, column, value)

    def _date(self, row: int, column: int, value: str | None, kind: str) -> None:
        """Write a date as a number of days, or as text where spreadsheets have none for it."""
        if value is None:
            return
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.text(row, column, value)
            return
        if instant.tzinfo is None:
            instant = datetime.combine(instant, time(), UTC)
        if instant < FIRST_DAY:
            self.text(row, column, value)
        else:
            self.sheet.write_number(row, column, (instant - EPOCH) / DAY, self.formats[kind])


def _columns(envelope: Envelope, names: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Yield the name and the kind of each column of the sheet, and the place of its value in a row."""
    for place, name in enumerate(names):
        kind = _kind(envelope.row_schema.fields[name])
        yield name, kind, place
        if name.endswith(CREDITS):
            yield dollars_of(name), "dollars", place


def dollars_of(column: str) -> str:
    """Return the name of the column of dollars beside one of credits."""
    return f"{column.removesuffix(CREDITS)}usd"


def _kind(column: fields.Field[Any]) -> str:
    kinds = {fields.Integer: "integer", fields.Boolean: "flag", fields.Date: "day", Timestamp: "instant"}
    return next((kind for type_, kind in kinds.items() if isinstance(column, type_)), "text")


def _write_rows(sheet: _Sheet, envelope: Envelope, listed: List, context: Context) -> dict[str, int]:
    """Write the rows and their head; return what each column of integers adds up to."""
    columns = list(_columns(envelope, listed.columns))
    puts: list[tuple[Put, int]] = [(getattr(sheet, kind), place) for _, kind, place in columns]
    added = [place for _, kind, place in columns if kind == "integer"]
    sums = dict.fromkeys(added, 0)
    for column, (name, kind, _) in enumerate(columns):
        sheet.text(0, column, name, "head")
        # With room for the button of the filter.
        sheet.sheet.set_column(column, column, max(WIDTHS[kind], len(name) + 4))
    for number, row in enumerate(listed.rows, 1):
        is_counted = number == COUNTED_AFTER and listed.total_count is None
        if number > MAX_ROWS or (is_counted and (context.count() or 0) > MAX_ROWS):
            raise TooManyRows(MAX_ROWS)
        for column, (put, place) in enumerate(puts):
            put(number, column, row[place])
        for place in added:
            sums[place] += row[place] or 0
        sheet.row_count = number
    sheet.sheet.repeat_rows(0)
    sheet.sheet.freeze_panes(1, 0)
    sheet.sheet.autofilter(0, 0, sheet.row_count, len(columns) - 1)
    return {listed.columns[place]: total for place, total in sums.items()}


def _write_about(sheet: _Sheet, question: Question, context: Context, rows: _Sheet, totals: dict[str, int]) -> None:
    """Write what was asked, what the columns add up to, and what to know of the numbers."""
    arguments, window = question.arguments, question.window
    lines: list[tuple[str, Put, Any]] = [("list", sheet.text, context.list_name)]
    if question.is_paged:
        lines += [(name, sheet.integer, arguments[name]) for name in ("page", "limit")]
    lines += [
        ("rows", sheet.integer, rows.row_count),
        ("period", sheet.text, arguments["period"]),
        ("window start, inclusive", *_edge(sheet, window.since)),
        ("window end, exclusive: the instant of this workbook", *_edge(sheet, window.until)),
    ]
    if question.previous:
        start, end = question.previous
        lines += [("compared with, start", *_edge(sheet, start)), ("compared with, end", *_edge(sheet, end))]
    for name, value in arguments.items():
        if name not in ELSEWHERE:
            lines.append((LABELS.get(name, name), sheet.text, str(value) or "(none)"))
    lines.append(("credits in a dollar", sheet.text, context.credits_per_usd))
    for name, total in totals.items():
        lines.append((f"sum of {name}", sheet.integer, total))
        if name.endswith(CREDITS):
            lines.append((f"sum of {dollars_of(name)}", sheet.dollars, total))
    if rows.cut_count:
        lines.append((CUT, sheet.integer, rows.cut_count))
    notes = (CHANGES_STILL, UNIT.format(column=context.credits_column))
    lines += [(name, sheet.paragraph, note) for name, note in zip(("changes", "unit"), notes, strict=True)]
    for row, (name, put, value) in enumerate(lines):
        sheet.text(row, 0, name, "label")
        put(row, 1, value)
    sheet.sheet.set_column(0, 0, 48)
    sheet.sheet.set_column(1, 1, 80)


def _edge(sheet: _Sheet, instant: datetime | None) -> tuple[Put, str]:
    return (sheet.instant, instant.astimezone(UTC).isoformat()) if instant else (sheet.text, "the first event")
