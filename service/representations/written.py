"""The content of an answer, written by a representation."""

from dataclasses import dataclass
from typing import IO


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
