"""What logs leave out, and how a line is written without waiting for its reader."""

import json
import logging
import os
import socket
import stat
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from flask import g, has_request_context

from service.errors import own_frames
from service.metrics import LINES_DROPPED


class DiscreetFormatter(logging.Formatter):
    """A formatter that makes one line of JSON.

    It leaves out what gunicorn quotes of a request: headers, and with them keys, and query strings.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Replace the messages that quote a request, and return the line; in a request it has the request's id."""
        if record.name == "gunicorn.error":
            # The text of gunicorn's exceptions quotes what it has read.
            if isinstance(record.args, tuple):
                record.args = tuple(type(arg).__name__ if isinstance(arg, Exception) else arg for arg in record.args)
            if record.getMessage().startswith("Invalid request from ip="):
                reason = record.getMessage().split(": ")[1]
                record.msg, record.args = f"Refused a request: {reason}", ()
            elif record.exc_info and record.args:
                record.msg, record.args = "Error handling a request", ()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if has_request_context():
            line["request_id"] = g.get("request_id")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)

    def formatException(  # noqa: N802 - logging calls it by this name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return the class of an exception and the frames of this service; its text may quote the request."""
        return f"{type(ei[1]).__name__} in {own_frames(ei[1])}" if ei[1] else ""


class LineHandler(logging.Handler):
    """A handler that never waits for a reader: a line that cannot be written whole and at once is dropped and counted.

    It writes to the descriptor itself, because a buffer would keep half a line.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        # Python has no stream for a descriptor that was closed at the start.
        self._fd = os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()
        mode = os.fstat(self._fd).st_mode
        self._socket = socket.socket(fileno=os.dup(self._fd)) if stat.S_ISSOCK(mode) else None
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            # O_NONBLOCK belongs to the open file description, which other programs share, such as the shell. So a pipe
            # or a terminal is opened once more. That fails if it belongs to another user.
            try:
                own = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError:
                os.set_blocking(self._fd, not stat.S_ISFIFO(mode))
            else:
                os.dup2(own, self._fd)
                os.close(own)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, or count it."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            written = self._socket.send(line, socket.MSG_DONTWAIT) if self._socket else os.write(self._fd, line)
        except Exception:  # noqa: BLE001 - no line may fail a request or end the master
            LINES_DROPPED.inc()
        else:
            LINES_DROPPED.inc(written < len(line))

    def close(self) -> None:
        """Close what the handler has opened."""
        if self._socket:
            self._socket.close()
        super().close()
