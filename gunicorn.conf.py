"""The settings of gunicorn; `gunicorn wsgi:app` reads this file from the current folder."""

import os
import sys
from typing import Any

from service import metrics
from service.config import ConfigurationError, Settings
from service.logs import DiscreetFormatter, LineHandler
from service.version import VERSION

if "wsgi" in sys.modules:
    # gunicorn reads this file again on SIGHUP; on_reload() reads the secrets.
    _settings: Settings = sys.modules["wsgi"].app.extensions["settings"]
else:
    try:
        _settings = Settings.from_environment(os.environ)
    except ConfigurationError as error:
        sys.exit(f"admin-credits: {error}")

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
        "line": {"()": DiscreetFormatter},
        "bare": {"format": "%(message)s"},
    },
    "handlers": {
        "lines": {"()": LineHandler, "formatter": "line", "stream": "ext://sys.stderr"},
        "access": {"()": LineHandler, "formatter": "bare", "stream": "ext://sys.stdout"},
    },
    "root": {"level": _settings.log_level, "handlers": ["lines"]},
    "loggers": {
        "gunicorn.error": {"level": _settings.log_level, "handlers": ["lines"], "propagate": False},
        "service.access": {"level": "INFO", "handlers": ["access"], "propagate": False},
    },
}


def on_starting(server: Any) -> None:
    """Log the version."""
    server.log.info("admin-credits %s", VERSION)


def on_reload(server: Any) -> None:
    """Read the secrets again, before the new workers start. If that fails, they start with the old ones."""
    try:
        _settings.read_secrets_again(os.environ)
    except ConfigurationError as error:
        # As text: of an exception, the formatter writes the type alone.
        server.log.error("The secrets stay as they were: %s", str(error))  # noqa: TRY400 - log.exception() adds a traceback, and an operator's mistake is no fault of the code


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the place where the worker will count."""
    worker.place = metrics.free_place({living.place for living in server.WORKERS.values()})


def post_fork(_server: object, worker: Any) -> None:
    """Count there."""
    metrics.count_in(worker.place)


def child_exit(_server: object, worker: Any) -> None:
    """Remove the gauges of a worker that has ended."""
    metrics.forget_gauges(worker.place)
