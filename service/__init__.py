"""The admin credits service: who spends the credits, read from PostgreSQL."""

import os

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from service.auth import AdminKeys
from service.config import Settings
from service.database.connection import find_certificates
from service.database.pool import Database
from service.database.trust import CHECKS, Trust
from service.failures import register_error_handlers
from service.hooks import register_hooks
from service.openapi import openapi_document
from service.queries import SOURCES, load_queries
from service.readiness import Readiness
from service.views import BLUEPRINTS, reference


def create_app(settings: Settings | None = None) -> Flask:
    """Create the application; ``settings`` are read from the environment unless given.

    Raises:
        ConfigurationError: when a setting is missing or malformed.
        QueryFileError: when a query file is missing or breaks a rule.
    """
    settings = settings or Settings.from_environment(os.environ)
    find_certificates()
    queries = {source: load_queries(source) for source in SOURCES}
    database, trust = Database(settings), Trust(settings, queries)
    app = Flask(__name__, static_folder=None)
    app.json = json = DefaultJSONProvider(app)
    json.sort_keys = False
    json.ensure_ascii = False
    # A path with two slashes is a 404; by default it redirects.
    app.url_map.merge_slashes = False
    app.extensions["settings"] = settings
    app.extensions["query_files"] = {query.file: query.script for files in queries.values() for query in files.values()}
    app.extensions["database"] = database
    app.extensions["admin_keys"] = AdminKeys()
    app.extensions["trust"] = trust
    app.extensions["readiness"] = Readiness(database, trust, CHECKS[settings.spend_source])
    register_error_handlers(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    register_hooks(app, settings)
    operations = [operation for blueprint in BLUEPRINTS for operation in getattr(blueprint, "operations", ())]
    reference.render(app, openapi_document(operations))
    return app
