"""Secrets are changed while the service answers."""

import hashlib
import hmac
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import ADMIN, DATABASE, READER_PASSWORD, Tables
from live import KEY, SECRET, Gunicorn, eventually
from tools.demo.postgres import PostgresServer

# It has every character that a URL or a password file treats specially.
PASSWORD = r"p@ss:w/o#r%d?&=\ ü"
NEW_KEY = {"x-api-key": "a-new-key"}


@contextmanager
def asking(service: Gunicorn) -> Iterator[list[int]]:
    """Ask for the rollup all the time, one request after the other; yield their statuses."""
    statuses: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            statuses.append(service.get().status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        eventually(lambda: statuses, "the first answer")
        yield statuses
        seen = len(statuses)
        eventually(lambda: len(statuses) > seen + 1 or not thread.is_alive(), "an answer of the last workers")
        assert thread.is_alive()
    finally:
        ended.set()
        thread.join()


def reload(service: Gunicorn) -> None:
    """Send SIGHUP, and wait until only new workers are left."""
    old = {worker.pid for worker in service.workers()}
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: (new := {worker.pid for worker in service.workers()}) and not new & old, "a reload")


@pytest.fixture
def set_password(tables: Tables) -> Iterator[Callable[[str], None]]:
    """Set the password of the role; it gets its own back at the end."""
    yield lambda password: tables.execute("ALTER ROLE credits_reader PASSWORD %s", (password,)) and None
    tables.execute("ALTER ROLE credits_reader PASSWORD %s", (READER_PASSWORD,))


def test_secrets_in_files_are_rotated_without_a_failed_request(
    server: PostgresServer, tables: Tables, set_password: Callable[[str], None], tmp_path: Path
) -> None:
    url, secrets = tmp_path / "url", tmp_path / "secrets"
    stored = hmac.new(b"a new secret", NEW_KEY["x-api-key"].encode(), hashlib.sha256).hexdigest()
    tables.insert("account_api_keys", "name, account, key_hash", [("key", ADMIN, stored)])

    def url_with(password: str) -> str:
        return server.url(DATABASE, user="credits_reader", password=password)

    url.write_text(url_with(READER_PASSWORD))
    secrets.write_text(f"{SECRET}\n")
    files = {"DATABASE_URL": "", "API_KEY_SECRET": "", "DATABASE_URL_FILE": url, "API_KEY_SECRET_FILE": secrets}
    with Gunicorn("", **files) as service:

        def known() -> list[int]:
            return [service.get(headers=key).status for key in (KEY, NEW_KEY)]

        with asking(service) as statuses:
            assert known() == [200, 401]
            secrets.write_text(f"a new secret\n{SECRET}\n")
            reload(service)
            assert known() == [200, 200]
        assert set(statuses) == {200}

        # Between these two a request that needs a new connection is a 503.
        url.write_text(url_with(PASSWORD))
        set_password(PASSWORD)
        reload(service)
        assert known() == [200, 200]

        url.unlink()
        reload(service)
        assert "The secrets stay as they were: DATABASE_URL_FILE names a file that cannot be read" in service.err()
        assert known() == [200, 200]

        url.write_text(url_with(PASSWORD))
        secrets.write_text("a new secret\n")
        reload(service)
        assert known() == [401, 200]
        assert service.stop() == 0


def test_the_password_may_be_in_a_password_file(
    server: PostgresServer, tables: Tables, set_password: Callable[[str], None], tmp_path: Path
) -> None:
    """It is read for each connection."""
    passfile = tmp_path / "pass word"

    def write(password: str) -> None:
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        passfile.write_text(f"*:*:{DATABASE}:credits_reader:{escaped}\n")
        passfile.chmod(0o600)

    without = f"postgresql://credits_reader@127.0.0.1:{server.port}/{DATABASE}?passfile={quote(str(passfile))}"
    write(READER_PASSWORD)
    with Gunicorn(without) as service:
        assert service.get("/health/ready").status == 200
        write(PASSWORD)
        set_password(PASSWORD)
        assert service.get("/health/ready").status == 200
        passfile.chmod(0o640)
        assert service.get("/health/ready").status == 503
        assert "no password supplied" in service.err()
