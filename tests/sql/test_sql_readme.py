"""sql/README.md: its examples print what it shows, and its tables list every file."""

import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import READER_PASSWORD, SQL, create_database
from service.queries import FILES, QUERY_NAMES
from tools.demo.postgres import EmbeddedPostgresError, PostgresServer

ROOT = SQL.parent
README = (SQL / "README.md").read_text()
STATEMENTS = [textwrap.dedent(text) for text in re.findall(r"^ *```sql\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)]
EXAMPLES = re.findall(r"```console\n\$ (?P<command>(?:.*\\\n)*.*)\n(?P<output>(?:.*\n)*?)```", README)
NAME = "examples"


@pytest.fixture(scope="module")
def examples(server: PostgresServer) -> Iterator[dict[str, str]]:
    """The environment variables of the README, for a database with the rows of its examples."""
    create_database(server, NAME)
    server.psql("-f", ROOT / "tests" / "data" / "examples.sql", database=NAME)
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    server.psql(
        *("-c", "INSERT INTO clock.fixed VALUES ('2026-11-19 00:10:00+00')"),
        *("-f", SQL / "dba" / "sums_refresh.sql"),
        *("-c", "DELETE FROM clock.fixed"),
        # somebody changes a sum
        *("-c", "UPDATE usage_sums.keys SET credits_deducted_cents = 100 WHERE day = '2026-11-16'"),
        database=NAME,
    )
    path = f"{server.binaries}:{os.environ['PATH']}"
    address = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGDATABASE": NAME, "PGTZ": "UTC", "PATH": path}
    yield {**os.environ, **address, "PGUSER": "credits_reader", "PGPASSWORD": READER_PASSWORD}
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


def test_these_files_have_examples() -> None:
    commands = [shlex.split(command.replace("\\\n", "")) for command, _ in EXAMPLES]
    assert [Path(command[-1]).stem for command in commands] == [
        "credits_rollup",
        "credits_rollup",
        "credits_rollup_previous",
        "credits_breakdown_compared",
        "credits_series",
        "credits_changes",
        "credits_account",
        "credits_days",
        "credits_events",
        "credits_grants",
        "privileges",
        "credits_column",
        "reconcile",
        "sums_check",
    ]


@pytest.mark.parametrize(
    ("command", "output"), EXAMPLES, ids=[re.findall(r"\w+\.sql", text)[0] for text, _ in EXAMPLES]
)
def test_an_example_prints_what_the_readme_shows(
    server: PostgresServer, examples: dict[str, str], command: str, output: str
) -> None:
    if "/dba/" in command:
        # the service's role cannot run them
        examples = {**examples, "PGUSER": "postgres", "PGPASSWORD": server.password}
    words = shlex.split(command.replace("\\\n", ""))
    assert words[0] == "psql"
    done = subprocess.run(words, cwd=ROOT, env=examples, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # psql pads lines with blanks and prints an empty line after a table
    assert [line.rstrip() for line in done.stdout.rstrip("\n").splitlines()] == output.splitlines()


def test_every_file_is_listed() -> None:
    """A query with its contents: parameters, columns and order are in the header of the file alone."""
    for name in QUERY_NAMES:
        assert len(re.findall(rf"^\| `{name}` \| [^|]+ \|$", README, re.MULTILINE)) == 1, name
    (sums,) = re.findall(r"^`sums/` contains (.*?)\.", README, re.MULTILINE | re.DOTALL)
    assert not [file for file in FILES if file.startswith("sums/") and f"`{Path(file).stem}`" not in sums]
    assert not [script.name for script in (SQL / "dba").glob("*.sql") if f"| `{script.name}` |" not in README]


@pytest.mark.usefixtures("examples")
def test_the_triggers_are_switched_off_and_on_with_the_statements_of_the_readme(server: PostgresServer) -> None:
    off, on = [text for text in STATEMENTS if text.startswith("ALTER TABLE public.usage_events")]
    (forget,) = [text for text in STATEMENTS if text.startswith("UPDATE")]
    unusable = ("-A", "-t", "-c", "SELECT usage_sums.unusable()")
    refresh = ("-f", SQL / "dba" / "sums_refresh.sql")
    told = "a trigger is absent, or not ENABLE ALWAYS"
    assert server.psql("-c", off, *unusable, database=NAME).startswith(told)
    with pytest.raises(EmbeddedPostgresError):
        server.psql(*refresh, database=NAME)
    server.psql("-c", on, *refresh, database=NAME)
    assert server.psql(*unusable, database=NAME) == "\n"
    assert server.psql("-c", forget, *unusable, database=NAME) != "\n"
    server.psql(*refresh, database=NAME)
    assert server.psql(*unusable, database=NAME) == "\n"
