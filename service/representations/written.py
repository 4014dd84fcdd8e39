"""The content of an answer, written by a representation, and what that needs beside the list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class Context:
    """What a representation needs to know beside the question and the list.

    ``credits_column`` is the column of the database whose unit a credit is; ``credits_per_usd``, a decimal number, is
    how many make a dollar. ``count`` returns how many rows the list has on all pages, None if it has no pages.
    """

    list_name: str
    caller: str
    credits_column: str
    credits_per_usd: str
    count: Callable[[], int | None]


@dataclass(frozen=True)
class Written:
    """A body, or a rewound file of it, its length in bytes, its number of rows and its Content-Type.

    The digest is of the caller, the media type and the bytes, so that no client is told that another's copy is current.
    """

    content: bytes | IO[bytes]
    length: int
    digest: str
    row_count: int
    content_type: str

    def close(self) -> None:
        """Remove the file of an answer that is not sent."""
        if not isinstance(self.content, bytes):
            self.content.close()
