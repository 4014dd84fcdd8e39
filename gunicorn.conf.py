"""The settings of gunicorn; `gunicorn wsgi:app` reads this file from the current folder."""

import atexit
import logging
import os
import shutil
import sys
import tempfile
from types import TracebackType
from typing import Any

# Each worker counts in files of this folder, which it maps into its memory. A full disk would end it with SIGBUS, so
# they are in /dev/shm where there is one. A reload runs this file again.
if "prometheus_client" not in sys.modules:
    _memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - mkdtemp() makes a new folder in it, for this user alone
    _folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="admin-credits-", dir=_memory)

    @atexit.register
    def _remove(master: int = os.getpid()) -> None:
        if os.getpid() == master:
            shutil.rmtree(_folder)


# prometheus_client reads the variable when it is imported.
from prometheus_client.multiprocess import mark_process_dead

from service.config import ConfigurationError, Settings
from service.errors import own_frames

try:
    _settings = Settings.from_environment(os.environ)
except ConfigurationError as error:
    sys.exit(f"admin-credits: {error}")


class DiscreetFormatter(logging.Formatter):
    """A formatter that leaves out what gunicorn quotes of a request: headers, and with them keys, and query strings."""

    def format(self, record: logging.LogRecord) -> str:
        """Replace the messages that quote a request."""
        if record.name == "gunicorn.error":
            # The text of gunicorn's exceptions quotes what it has read.
            if isinstance(record.args, tuple):
                record.args = tuple(type(arg).__name__ if isinstance(arg, Exception) else arg for arg in record.args)
            if record.getMessage().startswith("Invalid request from ip="):
                reason = record.getMessage().split(": ")[1]
                record.msg, record.args = f"Refused a request: {reason}", ()
            elif record.exc_info and record.args:
                record.msg, record.args = "Error handling a request", ()
        return super().format(record)

    def formatException(  # noqa: N802 - the name is logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return the class of an exception and the frames of this service; its text may quote the request."""
        return f"{type(ei[1]).__name__} in {own_frames(ei[1])}" if ei[1] else ""


# With brackets for an IPv6 address; gunicorn allows them around any.
bind = f"[{_settings.host.strip('[]')}]:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "gthread"
threads = _settings.threads
graceful_timeout = _settings.graceful_timeout_s
# Load the application once, before the workers: a wrong setting or query file then stops the start with one line.
preload_app = True
# By default a request from this machine may set the path with a header.
forwarder_headers = ""
# By default gunicorn opens a control socket in the home folder.
control_socket_disable = True
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": DiscreetFormatter, "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "bare": {"format": "%(message)s"},
    },
    "handlers": {
        "lines": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.StreamHandler", "formatter": "bare", "stream": "ext://sys.stdout"},
    },
    "root": {"level": _settings.log_level, "handlers": ["lines"]},
    "loggers": {
        "gunicorn.error": {"level": _settings.log_level, "handlers": ["lines"], "propagate": False},
        "service.access": {"level": "INFO", "handlers": ["access"], "propagate": False},
    },
}


def child_exit(_server: object, worker: Any) -> None:
    """Remove the gauges of a worker that has ended."""
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # the library has no type for it
