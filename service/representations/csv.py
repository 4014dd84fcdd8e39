"""CSV: the rows of a list, written to a temporary file while they are read."""

import csv
import errno
import hashlib
import logging
import re
import tempfile
from contextlib import suppress
from typing import IO

from marshmallow import fields

from service.errors import NoSpaceLeft
from service.listing import List
from service.question import Question
from service.representations.written import Written
from service.schemas.responses import Envelope

MEDIA_TYPE = "text/csv"
# All rows of the list unless a page is asked for, and nothing beside them.
ONLY_ROWS = True
# Where a spreadsheet would begin a formula: at the start or after a separator, with characters of either width. It may
# drop white space at the start.
FORMULA = re.compile(r'(?<![^,;|"\t\r\n])(?=[=+@＝＋－＠-])|\A(?=[\t\r\n])')  # noqa: RUF001 - full-width signs are meant
SPOOLED_IN_MEMORY = 2**20

log = logging.getLogger(__name__)


class _Hashing:
    """A file for text that keeps the digest of what is written, after a text before it."""

    def __init__(self, file: IO[bytes], before: str) -> None:
        self._file = file
        self.digest = hashlib.sha256(before.encode())

    def write(self, text: str) -> None:
        data = text.encode()
        self.digest.update(data)
        self._file.write(data)


def write(envelope: Envelope, _question: Question, listed: List, caller: str) -> Written:
    """Write the rows of a list; ``caller`` is part of the digest. In text an apostrophe is put before each formula.

    Raises:
        NoSpaceLeft: when the disk is full, or a file may not be so large.
    """
    schema = envelope.row_schema.fields
    are_text = [isinstance(schema[name], fields.String) for name in listed.columns]
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED_IN_MEMORY)  # noqa: SIM115 - the response closes it
    hashing = _Hashing(spool, f"{caller} {MEDIA_TYPE} ")
    writer = csv.writer(hashing)
    row_count = 0
    try:
        writer.writerow(listed.columns)
        for row in listed.rows:
            writer.writerow(
                FORMULA.sub("'", cell) if is_text and cell else cell
                for is_text, cell in zip(are_text, row, strict=True)
            )
            row_count += 1
        spool.flush()
    except BaseException as error:
        # Closing the file writes what it still buffers.
        with suppress(OSError):
            spool.close()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            log.warning("no space left in %s", tempfile.gettempdir())
            raise NoSpaceLeft from None
        raise
    length = spool.tell()
    spool.seek(0)
    content_type = f"{MEDIA_TYPE}; charset=utf-8; header=present"
    return Written(spool, length, hashing.digest.hexdigest(), row_count, content_type)
