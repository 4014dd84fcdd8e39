"""Judge a request: which key, whose, an admin or not."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Headers

from service.errors import NotAdmin, NotAuthenticated


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
    """Return the hash that the database stores of a key: hex(HMAC-SHA256(secret, key)).

    The key is a WSGI header value, whose latin-1 characters stand for the bytes that were sent (PEP 3333). The secret
    is from the environment; os.fsencode() returns the bytes that were set.
    """
    return hmac.new(os.fsencode(secret), key.encode("latin-1"), hashlib.sha256).hexdigest()


def require_admin(caller: Mapping[str, Any]) -> None:
    """Refuse a row of ``caller.sql`` that is not an admin's.

    Raises:
        NotAuthenticated: when the key is unknown, expired or without an account.
        NotAdmin: when the account is not an admin.
    """
    if caller["account_id"] is None:
        raise NotAuthenticated
    if not caller["is_admin"]:
        raise NotAdmin
