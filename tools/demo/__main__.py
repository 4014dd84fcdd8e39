"""`make run` without DATABASE_URL: gunicorn and a private PostgreSQL with demo data.

Ctrl-C, SIGTERM and SIGHUP stop both at any moment; the exit status is then 0. When one of them cannot start or ends by
itself, the exit status is 1 and a sentence says why.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from service.config import ConfigurationError, Settings
from tools.demo.demo import ADMIN_KEY, DEMO_SECRET, ORGANIZATION, load_demo
from tools.demo.postgres import (
    STOP_SIGNALS,
    EmbeddedPostgresError,
    PostgresServer,
    end_with_parent,
    libpq_free_environment,
    signals_held,
)

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"  # not a setting, because the key of the demo is public


def main() -> None:
    """Serve the demo until a signal arrives."""
    _exit_on_signals()
    environment = {
        **libpq_free_environment(),
        "API_KEY_SECRET": DEMO_SECRET,
        "ADMIN_ORGANIZATION_ID": str(ORGANIZATION),
        "HOST": HOST,
        "DATABASE_URL": f"postgresql://{HOST}",  # replaced when the database is loaded
        # Its flags could run gunicorn as a daemon.
        "GUNICORN_CMD_ARGS": "",
    }
    # psycopg2 reads the environment of this process.
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    try:
        settings = Settings.from_environment(environment)
        with _listen(settings.port) as listener:
            _serve(environment, settings, listener)
    except (ConfigurationError, EmbeddedPostgresError) as error:
        sys.exit(f"admin-credits: {error}")


def _serve(environment: dict[str, str], settings: Settings, listener: socket.socket) -> None:
    server = PostgresServer(ROOT / ".data" / str(settings.port))
    gunicorn: subprocess.Popen[bytes] | None = None
    parent = os.getpid()
    try:
        server.start()
        environment["DATABASE_URL"] = load_demo(server, datetime.now(UTC))
        # Requests that arrive before gunicorn has started wait in the backlog of the socket.
        address = f"http://{HOST}:{settings.port}"
        print(f"Serving demo data on {address} (Ctrl-C stops it)")
        print(f"Demo key: {ADMIN_KEY}")
        print(f"Database: {environment['DATABASE_URL']}")
        path = "/api/admins/credits/rollup?period=weekly&limit=3"
        print(f"Try: curl -s -H 'x-api-key: {ADMIN_KEY}' '{address}{path}'", flush=True)
        with signals_held():
            gunicorn = subprocess.Popen(  # noqa: S603 - gunicorn, no shell
                [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "wsgi:app"],
                cwd=ROOT,
                env=environment,
                pass_fds=[listener.fileno()],
                # Ctrl-C signals this process alone, which stops gunicorn before PostgreSQL.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM, parent),
            )
        listener.close()
        _wait_for_an_end(server, gunicorn)
    finally:
        if gunicorn:
            _stop_group(gunicorn, settings.graceful_timeout_s + 5)
        server.stop()


def _stop_group(leader: subprocess.Popen[bytes], patience_s: float) -> None:
    """Stop gunicorn and its workers; kill them when accepted requests are not answered within ``patience_s``."""
    deadline = time.monotonic() + patience_s
    # Signal the whole group, and repeatedly: a worker that gunicorn is forking can miss the signal.
    while leader.poll() is None and time.monotonic() < deadline:
        os.killpg(leader.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            leader.wait(2)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def _exit_on_signals() -> None:
    def leave(*_: object) -> None:
        # A second signal must not interrupt the `finally` blocks.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in STOP_SIGNALS:
        # nohup ignores SIGHUP.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)
    # Stop when make is killed.
    end_with_parent(signal.SIGTERM, os.getppid())


def _listen(port: int) -> socket.socket:
    """Listen on the port before anything slow starts; gunicorn inherits the socket."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(f"PORT {port}: {reason}; try PORT={port % 65_535 + 1} make run") from None


def _wait_for_an_end(server: PostgresServer, gunicorn: subprocess.Popen[bytes]) -> None:
    """Return when a stop signal arrives; the signals stay blocked afterwards.

    Raises:
        EmbeddedPostgresError: when PostgreSQL or gunicorn ends by itself.
    """
    awaited = {*STOP_SIGNALS, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    while server.process and server.process.poll() is None and gunicorn.poll() is None:
        if signal.sigwait(awaited) != signal.SIGCHLD:
            return
    ended = "PostgreSQL" if gunicorn.poll() is None else "gunicorn"
    raise EmbeddedPostgresError(f"{ended} ended by itself.")


if __name__ == "__main__":
    main()
