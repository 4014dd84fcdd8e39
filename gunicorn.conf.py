"""How production runs the service: `gunicorn wsgi:app`, in this folder, needs no flag."""

import os
import sys

from service.config import ConfigurationError, Settings

try:
    _settings = Settings.from_environment(os.environ)
except ConfigurationError as error:
    sys.exit(f"admin-credits: {error}")

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
# Threads outnumber pool slots and waiting places, so that health checks and refusals never wait behind queries.
worker_class = "gthread"
threads = _settings.threads
# Longer than a request may take: on SIGTERM every request that was accepted is answered.
graceful_timeout = _settings.graceful_timeout_s
# Faults of configuration and of query files stop the start once, not every worker in turn.
preload_app = True
# Without it a socket is opened in the home folder of whoever runs this.
control_socket_disable = True
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
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
