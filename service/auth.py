"""Authenticate the caller and check that it is an administrator."""

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from typing import Any

from werkzeug.datastructures import Headers

from service.errors import NotAdmin, NotAuthenticated

# More keys than any organisation has administrators; 200 kB in a worker.
MAX_ADMIN_KEYS = 1_000


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
    # not other white space: the byte 0xA0 may belong to a key
    token = token.strip(" \t")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    return token


def key_hashes(secrets: Iterable[str | None], key: str) -> list[str]:
    """Return the hashes that the database may store of a key: hex(HMAC-SHA256(secret, key)) for each secret.

    The key is a WSGI header value, whose latin-1 characters stand for the bytes that were sent (PEP 3333). A secret is
    text from the environment or a file; os.fsencode() returns the bytes that were set.
    """
    sent = key.encode("latin-1")
    return [hmac.new(os.fsencode(secret), sent, hashlib.sha256).hexdigest() for secret in secrets if secret]


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


class AdminKeys:
    """The hashes of keys that were an admin's at their last lookup, at most MAX_ADMIN_KEYS.

    They decide in which queue a request waits, and never its answer: its key is looked up in any case.
    """

    def __init__(self) -> None:
        self._hashes: set[str] = set()

    def __contains__(self, key_hash: str) -> bool:
        return key_hash in self._hashes

    def note(self, key_hash: str, is_admin: bool) -> None:
        """Keep the result of a lookup."""
        if not is_admin:
            self._hashes.discard(key_hash)
        else:
            self._hashes.add(key_hash)
            if len(self._hashes) > MAX_ADMIN_KEYS:
                self._hashes.pop()
