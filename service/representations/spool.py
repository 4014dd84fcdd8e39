"""A temporary file for an answer that may be long."""

import errno
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from service.errors import NoSpaceLeft

SPOOLED_IN_MEMORY = 2**20

log = logging.getLogger(__name__)


@contextmanager
def spooled(what: str) -> Iterator[IO[bytes]]:
    """Yield a file, in memory while it is short. After the block it is rewound; if the block fails, it is closed.

    Raises:
        NoSpaceLeft: naming ``what`` is written, when the disk is full or a file may not be so large.
    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED_IN_MEMORY)  # noqa: SIM115 - the response closes it
    try:
        yield spool
        spool.flush()
    except BaseException as error:
        # Closing the file writes what it still buffers.
        with suppress(OSError):
            spool.close()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            log.warning("no space left in %s", tempfile.gettempdir())
            raise NoSpaceLeft(what) from None
        raise
    spool.seek(0)
