"""The settings of gunicorn; `gunicorn wsgi:app` reads this file from the current folder."""

import logging
import os
import sys
from types import TracebackType
from typing import Any

from service import metrics
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


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the place where the worker will count."""
    worker.place = metrics.free_place({living.place for living in server.WORKERS.values()})


def post_fork(_server: object, worker: Any) -> None:
    """Count there."""
    metrics.count_in(worker.place)


def child_exit(_server: object, worker: Any) -> None:
    """Remove the gauges of a worker that has ended."""
    metrics.forget_gauges(worker.place)
