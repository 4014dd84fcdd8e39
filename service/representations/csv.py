"""CSV: the rows of a list, written to a temporary file while they are read.

Python's csv module writes null and the empty text alike, and takes twice as long.
"""

import hashlib
import re
from collections.abc import Callable
from typing import IO, Any

from marshmallow import fields

from service.listing import List
from service.question import Question
from service.representations.spool import spooled
from service.representations.written import Context, Written
from service.schemas.responses import Envelope

MEDIA_TYPE = "text/csv"
# All rows of the list unless a page is asked for, and nothing beside them.
ONLY_ROWS = True
# Where a spreadsheet would begin a formula: at the start or after a separator, with characters of either width. It may
# drop white space at the start. An apostrophe at these places gets another, so that removing one gives the text back.
GUARDED = re.compile(r"""(?<![^,;|"\t\r\n])(?=['=+@＝＋－＠-])|\A(?=[\t\r\n])""")  # noqa: RUF001 - full-width signs are meant
# Most texts: written as they are.
PLAIN = re.compile(r"""(?!['=+@＝＋－＠-])[^,;|"\t\r\n]+""")  # noqa: RUF001 - full-width signs are meant
# The empty text too, because null is an empty cell.
QUOTED = re.compile(r'[,"\r\n]|\A\Z')


class _Hashing:
    """A file for text that keeps the digest of what is written, after a text before it."""

    def __init__(self, file: IO[bytes], before: str) -> None:
        self._file = file
        self.digest = hashlib.sha256(before.encode())

    def write(self, text: str) -> None:
        data = text.encode()
        self.digest.update(data)
        self._file.write(data)


def write(envelope: Envelope, _question: Question, listed: List, context: Context) -> Written:
    """Write the rows of a list. In text an apostrophe is put before each formula.

    Raises:
        NoSpaceLeft: when the disk is full, or a file may not be so large.
    """
    spellings = [_spelling(envelope.row_schema.fields[name]) for name in listed.columns]
    row_count = 0
    with spooled("CSV") as file:
        hashing = _Hashing(file, f"{context.caller} {MEDIA_TYPE} ")
        hashing.write(f"{','.join(listed.columns)}\r\n")
        for row in listed.rows:
            cells = [spell(value) for spell, value in zip(spellings, row, strict=True)]
            hashing.write(f"{','.join(cells)}\r\n")
            row_count += 1
        length = file.tell()
    content_type = f"{MEDIA_TYPE}; charset=utf-8; header=present"
    return Written(file, length, hashing.digest.hexdigest(), row_count, content_type)


def _spelling(column: fields.Field[Any]) -> Callable[[Any], str]:
    """Return the function that writes a value of a column as a cell."""
    if isinstance(column, fields.Boolean):
        return lambda value: str(value).lower()
    # For marshmallow, a UUID is a String.
    return _plain if isinstance(column, fields.UUID) or not isinstance(column, fields.String) else _text


def _plain(value: Any) -> str:
    """Return a cell of a value that needs neither an apostrophe nor quotation marks."""
    return "" if value is None else str(value)


def _text(value: str | None) -> str:
    if value is None or PLAIN.fullmatch(value):
        return value or ""
    guarded = GUARDED.sub("'", value)
    if not QUOTED.search(guarded):
        return guarded
    escaped = guarded.replace('"', '""')
    return f'"{escaped}"'
