"""Who is asking, and may they."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from functools import wraps

from flask import current_app, g, request
from werkzeug.datastructures import Headers

from service.config import Settings
from service.database import Database, Result, Snapshot
from service.errors import NotAdmin, NotAuthenticated


def admin_only(view: Callable[[Snapshot, datetime], Result]) -> Callable[[], Result]:
    """Call a view with the snapshot in which its caller was found to be an admin, and with the instant of that.

    The instant is PostgreSQL's; ``g.caller`` is the account that asks, for the access log. A view may be run twice:
    see Database.read.
    """

    @wraps(view)
    def authorized() -> Result:
        settings: Settings = current_app.extensions["settings"]
        database: Database = current_app.extensions["database"]
        digest = key_hash(settings.api_key_secret, key_of(request.headers))

        def work(snapshot: Snapshot) -> Result:
            (key,) = snapshot.rows("caller", key_hash=digest, organization_id=settings.admin_organization_id)
            g.caller = key["account_id"]
            # Unknown, expired and ownerless keys took the same path to here, and nobody can tell which it was.
            if key["account_id"] is None:
                raise NotAuthenticated
            if not key["is_admin"]:
                raise NotAdmin
            return view(snapshot, key["now"])

        return database.read(work, g.budget)

    return authorized


def key_of(headers: Headers) -> str:
    """Return the API key of a request, without asking the database.

    Raises:
        NotAuthenticated: when neither header has a key, both have, or Authorization is not ``Bearer <key>``.
    """
    api_key = headers.get("x-api-key", "")
    authorization = headers.get("Authorization", "")
    if bool(api_key) == bool(authorization):
        raise NotAuthenticated
    if api_key:
        return api_key
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated
    return token.strip()


def key_hash(secret: str, key: str) -> str:
    """Return what the database knows a key by: hex(HMAC-SHA256(secret, key)).

    The key is a WSGI header value, whose latin-1 characters stand for the bytes that were sent (PEP 3333).
    """
    return hmac.new(secret.encode(), key.encode("latin-1"), hashlib.sha256).hexdigest()
