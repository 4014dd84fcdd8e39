"""The environment: what is missing or malformed stops the start, in one line that names it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from live import ROOT, Gunicorn
from service.config import ConfigurationError, Settings, misspelt

REQUIRED = {"DATABASE_URL": "postgresql://reader:hunter2@db.example/credits", "API_KEY_SECRET": "s3cret"}


def test_every_setting_is_read_and_an_empty_one_is_unset() -> None:
    given = {"PORT": "9000", "HOST": "", "ADMIN_ORGANIZATION_ID": "3C90C3CC-0D44-4B50-8888-8DD25736052A"}
    assert Settings.from_environment(REQUIRED | given) == Settings(
        database_url=REQUIRED["DATABASE_URL"],
        api_key_secret=REQUIRED["API_KEY_SECRET"],
        port=9000,
        admin_organization_id="3c90c3cc-0d44-4b50-8888-8dd25736052a",
    )


NO_URI = (
    "DATABASE_URL must be a libpq URI, postgresql://user@host/database, in which @, #, / and % of a password are "
    "written %40, %23, %2F and %25"
)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("DATABASE_URL", "", "DATABASE_URL is required"),
        ("API_KEY_SECRET", "", "API_KEY_SECRET is required"),
        pytest.param("DATABASE_URL", "host=db dbname=x password=hunter2", NO_URI, id="another text that libpq knows"),
        pytest.param("DATABASE_URL", "postgresql://u:hunter2@h/d?no_such=1", NO_URI, id="unknown option"),
        pytest.param("DATABASE_URL", "postgresql://u:hun@ter2@h/d", NO_URI, id="@ in the password"),
        pytest.param("DATABASE_URL", "postgresql://u:hun/ter2@h/d", NO_URI, id="slash in the password"),
        ("HOST", "127.0.0", "HOST must be an IPv4 or IPv6 address"),
        ("PORT", "65536", "PORT must be an integer from 1 to 65535"),
        ("POOL_SIZE", "1_0", "POOL_SIZE must be an integer from 1 to 256"),
        pytest.param("QUEUE_SIZE", "501", "QUEUE_SIZE must be an integer from 0 to 500", id="health checks would wait"),
        ("ADMIN_ORGANIZATION_ID", "admins", "ADMIN_ORGANIZATION_ID must be a UUID in its hyphenated form"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Settings.from_environment({**REQUIRED, name: value})
    assert str(refusal.value) == complaint


def in_files(folder: Path, url: bytes, secrets: bytes) -> dict[str, str]:
    """Write the files of the secrets, and return the variables that name them."""
    (folder / "url").write_bytes(url)
    (folder / "secrets").write_bytes(secrets)
    return {"DATABASE_URL_FILE": str(folder / "url"), "API_KEY_SECRET_FILE": str(folder / "secrets")}


@pytest.mark.parametrize(
    ("secrets", "current", "previous"),
    [
        pytest.param(b"s3cret", "s3cret", None, id="no newline"),
        pytest.param(b" s3cret \n", " s3cret ", None, id="spaces belong to it"),
        pytest.param(b"new\r\nold\r\n", "new", "old", id="two lines"),
        pytest.param(b"\xff\xc2\x85x\n", os.fsdecode(b"\xff\xc2\x85x"), None, id="no UTF-8"),
    ],
)
def test_secrets_may_be_in_files(tmp_path: Path, secrets: bytes, current: str, previous: str | None) -> None:
    settings = Settings.from_environment(in_files(tmp_path, REQUIRED["DATABASE_URL"].encode() + b"\n", secrets))
    assert settings.database_url == REQUIRED["DATABASE_URL"]
    assert (settings.api_key_secret, settings.api_key_secret_previous) == (current, previous)


@pytest.mark.parametrize(
    ("secrets", "also", "complaint"),
    [
        pytest.param(b"\n", {}, "API_KEY_SECRET_FILE names a file that must have the lines", id="empty line"),
        pytest.param(b"", {}, "API_KEY_SECRET_FILE names a file that must have the lines", id="empty file"),
        pytest.param(b"a\nb\nc", {}, "API_KEY_SECRET_FILE names a file that must have the lines", id="three lines"),
        pytest.param(
            b"a",
            {"API_KEY_SECRET": "b"},
            "API_KEY_SECRET is set, and also in the file of API_KEY_SECRET_FILE",
            id="twice",
        ),
        pytest.param(
            b"a", {"API_KEY_SECRET_FILE": "/nowhere"}, "API_KEY_SECRET_FILE names a file that cannot", id="absent"
        ),
        pytest.param(b"a", {"DATABASE_URL_FILE": "/"}, "DATABASE_URL_FILE names a file that cannot", id="a folder"),
    ],
)
def test_a_wrong_file_of_a_secret_is_named(
    tmp_path: Path, secrets: bytes, also: dict[str, str], complaint: str
) -> None:
    given = in_files(tmp_path, REQUIRED["DATABASE_URL"].encode(), secrets) | also
    with pytest.raises(ConfigurationError, match=f"^{complaint}"):
        Settings.from_environment(given)


def test_threads_and_the_graceful_timeout_follow_from_the_other_settings() -> None:
    settings = Settings.from_environment(
        {**REQUIRED, "POOL_SIZE": "2", "QUEUE_SIZE": "3", "REQUEST_TIMEOUT_MS": "2001"}
    )
    assert (settings.threads, settings.graceful_timeout_s) == (2 + 3 + 32 + 8, 3 + 15)


def test_no_secret_is_in_the_representation() -> None:
    settings = Settings.from_environment(REQUIRED | {"API_KEY_SECRET_PREVIOUS": "old s3cret"})
    assert not re.search("hunter2|s3cret", repr(settings))


def start(environment: dict[str, str], folder: Path = ROOT, *flags: str) -> subprocess.CompletedProcess[str]:
    """Start gunicorn as production does, in vain."""
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", *flags, "wsgi:app"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_wrong_setting_stops_gunicorn_with_one_line() -> None:
    ended = start({**REQUIRED, "POOL_SIZE": "many"})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "admin-credits: POOL_SIZE must be an integer from 1 to 256\n"


@pytest.mark.parametrize(
    ("setting", "status", "printed"),
    [
        pytest.param({}, 0, "", id="nothing"),
        pytest.param(
            {"POOL_SIZE": "0"}, 1, "admin-credits: POOL_SIZE must be an integer from 1 to 256\n", id="wrong value"
        ),
        # It may belong to another program, so it does not stop the start.
        pytest.param({"POLL_SIZE": "3"}, 0, "POLL_SIZE is not a setting: is it POOL_SIZE?\n", id="wrong name"),
    ],
)
def test_check_config_names_what_is_wrong(setting: dict[str, str], status: int, printed: str) -> None:
    ended = start({**REQUIRED, **setting}, ROOT, "--check-config")
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", printed)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LOGLEVEL", "LOG_LEVEL"),
        ("queue_size", "QUEUE_SIZE"),
        ("QUEUE_TIMEOUT", "QUEUE_TIMEOUT_MS"),
        ("API_KEY_SECRET_FILES", "API_KEY_SECRET_FILE"),
        *(
            (other, None)
            for other in ("HOSTNAME", "PGPORT", "HTTP_PORT", "SSL_CERT_FILE", "LOG_FORMAT", "REQUEST_METHOD")
        ),
    ],
)
def test_a_name_that_is_almost_a_setting_is_misspelt(name: str, meant: str | None) -> None:
    assert misspelt({name: "x", "POOL_SIZE": "3"}) == ([f"{name} is not a setting: is it {meant}?"] if meant else [])


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_host_may_be_an_ipv6_address() -> None:
    # The request that awaits the start uses IPv4, which :: includes.
    with Gunicorn(REQUIRED["DATABASE_URL"], HOST="::") as service:
        assert f"Listening at: http://[::]:{service.port} " in service.err()


def test_a_broken_query_file_stops_gunicorn_and_is_named(tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", "service", "sql", "wsgi.py", "gunicorn.conf.py", tmp_path], cwd=ROOT, check=True)
    (tmp_path / "sql" / "queries" / "credits_rollup.sql").write_text("SELECT 1;")
    ended = start({**REQUIRED, "PORT": "1"}, tmp_path)
    assert ended.returncode == 1
    pin = r"SET LOCAL search_path = pg_catalog, pg_temp\;"
    assert ended.stderr.splitlines()[-1] == f"admin-credits: credits_rollup.sql must begin with the line {pin}"
