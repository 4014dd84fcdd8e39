"""`make run` without DATABASE_URL: a private PostgreSQL with demo data, and gunicorn before it.

Ctrl-C, SIGTERM and SIGHUP, at any moment, stop both and exit with 0. It exits with 1, and a sentence that says why,
when something cannot be started or ends by itself.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from service.config import ConfigurationError, Settings
from service.embedded.demo import ADMIN_KEY, DEMO_SECRET, ORGANIZATION, load_demo
from service.embedded.postgres import (
    STOP_SIGNALS,
    EmbeddedPostgresError,
    PostgresServer,
    end_with_parent,
    libpq_free_environment,
    signals_held,
)

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"  # whatever the environment says: everybody knows the demo's key


def main() -> None:
    """Serve the demo until a signal comes."""
    _exit_on_signals()
    environment = {
        **libpq_free_environment(),
        "API_KEY_SECRET": DEMO_SECRET,
        "ADMIN_ORGANIZATION_ID": str(ORGANIZATION),
        "HOST": HOST,
        "DATABASE_URL": f"postgresql://{HOST}",  # until there is one
        # It could, say, have gunicorn leave for the background.
        "GUNICORN_CMD_ARGS": "",
    }
    # psycopg2 reads this process's own.
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
        with signals_held():
            gunicorn = subprocess.Popen(  # noqa: S603 - our own program, no shell
                [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "wsgi:app"],
                cwd=ROOT,
                env=environment,
                pass_fds=[listener.fileno()],
                # A Ctrl-C is for this process: gunicorn ends before PostgreSQL does.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM, parent),
            )
        listener.close()
        _wait_until_live(settings.port, gunicorn)
        address = f"http://{HOST}:{settings.port}"
        print(f"Serving demo data on {address} (Ctrl-C stops it)")
        print(f"Demo key: {ADMIN_KEY}")
        print(f"Database: {environment['DATABASE_URL']}")
        path = "/api/admins/credits/rollup?period=weekly&limit=3"
        print(f"Try: curl -s -H 'x-api-key: {ADMIN_KEY}' '{address}{path}'", flush=True)
        _wait_for_an_end(server, gunicorn)
    finally:
        if gunicorn:
            _stop_group(gunicorn, settings.graceful_timeout_s + 5)
        server.stop()


def _stop_group(leader: subprocess.Popen[bytes], patience_s: float) -> None:
    """Stop gunicorn and its workers; requests that were accepted are answered, as far as patience lasts."""
    deadline = time.monotonic() + patience_s
    # To all, and again: a worker that is only just being forked loses the signal that gunicorn passes on.
    while leader.poll() is None and time.monotonic() < deadline:
        os.killpg(leader.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            leader.wait(2)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def _exit_on_signals() -> None:
    def leave(*_: object) -> None:
        # Through every `finally`, which a second signal must not cut short.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in STOP_SIGNALS:
        # nohup has SIGHUP ignored, and is to be obeyed.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)
    # make may be killed.
    end_with_parent(signal.SIGTERM, os.getppid())


def _listen(port: int) -> socket.socket:
    """Take the port before anything slow is started, and for good: gunicorn inherits the socket."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(f"PORT {port} cannot be listened on, {reason}: name another one") from None


def _wait_until_live(port: int, gunicorn: subprocess.Popen[bytes]) -> None:
    connection = HTTPConnection(HOST, port)
    try:
        connection.request("GET", "/health/live")
        # The answer comes when gunicorn is up: until then the connection waits in the socket's queue.
        while not select.select([connection.sock], [], [], 0.1)[0] and gunicorn.poll() is None:
            pass
        if gunicorn.poll() is None and connection.getresponse().status == 200:
            return
    except (OSError, HTTPException):
        pass
    finally:
        connection.close()
    raise EmbeddedPostgresError("gunicorn did not start; it says why above.")


def _wait_for_an_end(server: PostgresServer, gunicorn: subprocess.Popen[bytes]) -> None:
    """Return when a signal asks for the end; nothing interrupts what comes after.

    Raises:
        EmbeddedPostgresError: when one of the two has ended by itself.
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
