"""How production runs the service: `gunicorn wsgi:app`, in this folder, needs no flag."""

import logging
import os
import sys
from types import TracebackType

from service.config import ConfigurationError, Settings
from service.errors import own_frames

try:
    _settings = Settings.from_environment(os.environ)
except ConfigurationError as error:
    sys.exit(f"admin-credits: {error}")


class DiscreetFormatter(logging.Formatter):
    """Write what happened, not what to: gunicorn quotes headers, and with them keys, and query strings."""

    def format(self, record: logging.LogRecord) -> str:
        """Cut a complaint about a request, or the address of one that failed, before what it quotes."""
        if record.name == "gunicorn.error":
            if record.getMessage().startswith("Invalid request from ip="):
                reason = record.getMessage().split(": ")[1]
                record.msg, record.args = f"Refused a request: {reason}", ()
            elif record.exc_info and record.args:
                record.msg, record.args = "Error handling a request", ()
        return super().format(record)

    def formatException(  # noqa: N802 - the name of logging's own
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Name the class of an exception and the frames of ours: its text may quote anything."""
        return f"{type(ei[1]).__name__} in {own_frames(ei[1])}" if ei[1] else ""


bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "gthread"
threads = _settings.threads
graceful_timeout = _settings.graceful_timeout_s
# Faults of configuration and of query files stop the start once, not every worker in turn.
preload_app = True
# A client behind a proxy on this machine could else choose the path by a header, or provoke a 500 with it.
forwarder_headers = ""
# Without it a socket is opened in the home folder of whoever runs this.
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
