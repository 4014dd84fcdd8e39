"""The admin credits service: who spends the credits, answered read-only from PostgreSQL."""

import os

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from service.config import Settings
from service.database import Database
from service.errors import register_error_handlers
from service.hooks import register_hooks
from service.queries import load_queries
from service.views import BLUEPRINTS


def create_app(settings: Settings | None = None) -> Flask:
    """Join the rooms; settings come from the environment unless they are given.

    Raises:
        ConfigurationError: when a setting is missing or malformed.
        QueryFileError: when a query file is missing or broken.
    """
    settings = settings or Settings.from_environment(os.environ)
    app = Flask(__name__, static_folder=None)
    app.json = json = DefaultJSONProvider(app)
    json.sort_keys = False
    json.ensure_ascii = False
    # An address with two slashes is another address, and a 404: no redirect.
    app.url_map.merge_slashes = False
    app.extensions["settings"] = settings
    app.extensions["database"] = Database(settings, load_queries(source=settings.spend_source))
    register_error_handlers(app)
    register_hooks(app, settings)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app
