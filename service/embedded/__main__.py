"""`make run` without DATABASE_URL: a private PostgreSQL with demo data, and gunicorn in front of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

from service.config import ConfigurationError, Settings
from service.embedded.demo import ADMIN_KEY, DEMO_SECRET, load_demo
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer, end_with_parent

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"  # whatever HOST says: the demo's key is known to everybody


def main() -> None:
    """Serve until a signal comes; exit 0 then, 1 when something could not be started or ended by itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    # kill -9 of make must not leave this behind.
    end_with_parent(signal.SIGTERM, os.getppid())
    demo = {"API_KEY_SECRET": DEMO_SECRET, "HOST": HOST}
    try:
        port = Settings.from_environment({**os.environ, **demo, "DATABASE_URL": "postgresql://"}).port
        _require_free(port)
        with PostgresServer(ROOT / ".data" / str(port)) as server:
            demo["DATABASE_URL"] = load_demo(server, datetime.now(UTC))
            with _gunicorn(demo) as gunicorn:
                address = f"http://{HOST}:{port}"
                _wait_until_live(address, gunicorn)
                path = "/api/admins/credits/rollup?period=weekly&limit=3"
                print(f"Serving demo data on {address} (Ctrl-C stops it)")
                print(f"Demo key: {ADMIN_KEY}")
                print(f"Database: {demo['DATABASE_URL']}")
                print(f"Try: curl -s -H 'x-api-key: {ADMIN_KEY}' '{address}{path}'", flush=True)
                # Whichever child ends first, it is left to its owner to be reaped.
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
                ended = "gunicorn" if gunicorn.poll() is not None else "PostgreSQL"
                sys.exit(f"admin-credits: {ended} ended by itself.")
    except (ConfigurationError, EmbeddedPostgresError) as error:
        sys.exit(f"admin-credits: {error}")


def _stop(_number: int, _frame: object) -> None:
    """Leave through every `with` and `finally`, which end the children; a second signal must not cut that short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(f"PORT {port} cannot be listened on: {os.strerror(error.errno or 0)}") from None


@contextlib.contextmanager
def _gunicorn(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    parent = os.getpid()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT,
        env={**os.environ, **environment},
        # A Ctrl-C is for this process, which then stops gunicorn before PostgreSQL.
        start_new_session=True,
        preexec_fn=lambda: end_with_parent(signal.SIGTERM, parent),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_until_live(address: str, gunicorn: subprocess.Popen[bytes]) -> None:
    while gunicorn.poll() is None:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{address}/health/live", timeout=5):  # noqa: S310 - our own address
            return
        sleep(0.05)
    raise EmbeddedPostgresError("gunicorn did not start.")


main()
