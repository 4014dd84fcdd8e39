"""The WSGI application, for gunicorn."""

import logging
import os
import sys

from service import create_app
from service.config import ConfigurationError, misspelt
from service.queries import QueryFileError

try:
    app = create_app()
except (ConfigurationError, QueryFileError) as error:
    sys.exit(f"admin-credits: {error}")
# After --check-config, where there is no log, Python prints them to standard error.
for sentence in misspelt(os.environ):
    logging.getLogger("service.config").warning("%s", sentence)
