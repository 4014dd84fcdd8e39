"""The WSGI application, for gunicorn."""

import sys

from service import create_app
from service.config import ConfigurationError
from service.queries import QueryFileError

try:
    app = create_app()
except (ConfigurationError, QueryFileError) as error:
    sys.exit(f"admin-credits: {error}")
