"""Who may ask: the contract's table, case by case."""

import hashlib
import hmac
import os
from dataclasses import replace
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from conftest import ADMIN, ADMIN_KEY, ORGANIZATION, ROLLUP, Tables, key_hash
from service import create_app
from service.auth import MAX_ADMIN_KEYS, AdminKeys
from service.config import Settings

MEMBER_OF_ANOTHER = UUID("bbbbbbbb-0000-4000-8000-000000000002")
OTHER_ORGANIZATION = UUID("cccccccc-0000-4000-8000-000000000003")
UNAUTHENTICATED = {
    "status": "error",
    "error": "A valid API key is required, in x-api-key or as Authorization: Bearer, not in both.",
}
FORBIDDEN = {"status": "error", "error": "This API key does not belong to an administrator."}


@pytest.fixture(autouse=True)
def keys(tables: Tables) -> Tables:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(MEMBER_OF_ANOTHER)
    tables.account(OTHER_ORGANIZATION)
    tables.member(MEMBER_OF_ANOTHER, OTHER_ORGANIZATION)
    tables.key("key-of-the-organisation", ORGANIZATION)
    tables.key("key-of-no-admin", MEMBER_OF_ANOTHER)
    tables.key("key-without-account", None)
    tables.key("key-expired-long-ago", ADMIN, "2020-01-01 00:00:00+00")
    tables.key("key-expiring-now", ADMIN, "2026-11-22 10:15:00+00")
    tables.key("key-expiring-next", ADMIN, "2026-11-22 10:15:00.000001+00")
    tables.key("clé-ünïcode", ADMIN)
    # Several rows with one hash: any that qualifies counts.
    tables.key("key-renewed", ADMIN, "2020-01-01 00:00:00+00")
    tables.key("key-renewed", ADMIN)
    tables.key("key-shared", MEMBER_OF_ANOTHER)
    tables.key("key-shared", ADMIN)
    return tables


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def api_key(key: str) -> dict[str, str]:
    return {"x-api-key": key}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(api_key(ADMIN_KEY), id="x-api-key"),
        pytest.param(bearer(ADMIN_KEY), id="bearer"),
        pytest.param({"Authorization": f"bEaReR {ADMIN_KEY}"}, id="scheme in any case"),
        pytest.param(api_key(ADMIN_KEY) | {"Authorization": ""}, id="an empty header is an absent one"),
        pytest.param(bearer(ADMIN_KEY) | {"x-api-key": ""}, id="and so is the other"),
        pytest.param(api_key("key-of-the-organisation"), id="the organisation's own account"),
        pytest.param(api_key("key-expiring-next"), id="expires a microsecond from now"),
        pytest.param(api_key("key-renewed"), id="one row expired, one not"),
        pytest.param(api_key("key-shared"), id="one owner an admin, one not"),
        pytest.param(api_key("clé-ünïcode".encode().decode("latin-1")), id="the bytes of a UTF-8 key"),
    ],
)
def test_an_admin_may_ask(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get(ROLLUP, headers=headers).get_json()["status"] == "success"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="neither header"),
        pytest.param(api_key(""), id="empty x-api-key"),
        pytest.param(api_key(ADMIN_KEY) | bearer(ADMIN_KEY), id="both headers"),
        pytest.param({"Authorization": ADMIN_KEY}, id="no scheme"),
        pytest.param({"Authorization": "Bearer"}, id="no token"),
        pytest.param({"Authorization": "Bearer "}, id="empty token"),
        pytest.param({"Authorization": f"Basic {ADMIN_KEY}"}, id="another scheme"),
        pytest.param({"Authorization": f"Bearer{ADMIN_KEY}"}, id="no space"),
        pytest.param(api_key("no-such-key"), id="unknown"),
        pytest.param(api_key(key_hash(ADMIN_KEY)), id="the hash is not the key"),
        pytest.param(api_key(ADMIN_KEY.upper()), id="another case"),
        pytest.param(api_key("key-expired-long-ago"), id="expired"),
        pytest.param(api_key("key-expiring-now"), id="expires now"),
        pytest.param(api_key("key-without-account"), id="without an account"),
    ],
)
def test_no_valid_key_is_a_401_that_always_looks_the_same(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.get(ROLLUP, headers=headers)
    reference = client.get(ROLLUP)
    assert (response.status_code, response.get_json()) == (401, UNAUTHENTICATED)
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="admin credits"'
    assert list(response.headers.keys()) == list(reference.headers.keys())


def test_a_known_key_of_no_admin_is_a_403(client: FlaskClient) -> None:
    response = client.get(ROLLUP, headers=api_key("key-of-no-admin"))
    assert (response.status_code, response.get_json()) == (403, FORBIDDEN)


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        pytest.param({}, 401, UNAUTHENTICATED, id="no key"),
        pytest.param(api_key("no-such-key"), 401, UNAUTHENTICATED, id="unknown key"),
        pytest.param(api_key("key-of-no-admin"), 403, FORBIDDEN, id="no admin"),
    ],
)
def test_nothing_is_learnt_about_parameters_without_an_admins_key(
    client: FlaskClient, headers: dict[str, str], status: int, body: dict[str, str]
) -> None:
    response = client.get(ROLLUP, query_string="period=never&limit=0&limit=1&unknown=1", headers=headers)
    assert (response.status_code, response.get_json()) == (status, body)


def test_a_removed_member_is_out_at_once(admin: FlaskClient, keys: Tables) -> None:
    assert admin.get(ROLLUP).status_code == 200
    keys.execute("DELETE FROM public.account_organization_ids WHERE account_id = %s", (ADMIN,))
    assert admin.get(ROLLUP).status_code == 403


def test_a_removed_key_is_out_at_once(admin: FlaskClient, keys: Tables) -> None:
    assert admin.get(ROLLUP).status_code == 200
    keys.execute("DELETE FROM public.account_api_keys WHERE key_hash = %s", (key_hash(ADMIN_KEY),))
    assert admin.get(ROLLUP).status_code == 401
    assert key_hash(ADMIN_KEY) not in admin.application.extensions["admin_keys"]


@pytest.mark.parametrize("key", ["no-such-key", "key-of-no-admin", "key-expired-long-ago"])
def test_only_keys_of_admins_are_remembered(client: FlaskClient, key: str) -> None:
    remembered = client.application.extensions["admin_keys"]
    for sent in (key, ADMIN_KEY):
        client.get(ROLLUP, headers=api_key(sent))
    assert (key_hash(key) in remembered, key_hash(ADMIN_KEY) in remembered) == (False, True)


def test_a_worker_remembers_a_limited_number_of_keys() -> None:
    keys = AdminKeys()
    for number in range(2 * MAX_ADMIN_KEYS):
        keys.note(str(number), is_admin=True)
    assert sum(str(number) in keys for number in range(2 * MAX_ADMIN_KEYS)) == MAX_ADMIN_KEYS


def test_the_secret_is_the_bytes_of_the_environment(settings: Settings, keys: Tables) -> None:
    secret = b"no UTF-8: \xff"
    stored = hmac.new(secret, b"a key", hashlib.sha256).hexdigest()
    keys.insert("account_api_keys", "name, account, key_hash", [("key", ADMIN, stored)])
    client = create_app(replace(settings, api_key_secret=os.fsdecode(secret))).test_client()
    assert client.get(ROLLUP, headers=api_key("a key")).status_code == 200


def test_while_the_secret_is_rotated_a_key_of_either_is_known(settings: Settings, keys: Tables) -> None:
    stored = hmac.new(b"new", b"a new key", hashlib.sha256).hexdigest()
    keys.insert("account_api_keys", "name, account, key_hash", [("key", ADMIN, stored)])

    def statuses(**secrets: str) -> list[int]:
        client = create_app(replace(settings, **secrets)).test_client()
        sent = ("a new key", ADMIN_KEY, "key-of-no-admin", "key-expired-long-ago", "no-such-key")
        return [client.get(ROLLUP, headers=api_key(key)).status_code for key in sent]

    assert statuses() == [401, 200, 403, 401, 401]
    rotated = {"api_key_secret": "new", "api_key_secret_previous": settings.api_key_secret}
    assert statuses(**rotated) == [200, 200, 403, 401, 401]
    assert statuses(api_key_secret="new") == [200, 401, 401, 401, 401]
