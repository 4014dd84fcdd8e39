"""sql/README.md: its examples print what it shows, and its tables list every file."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import READER_PASSWORD, SQL, create_database
from service.queries import FILES, QUERY_NAMES
from tools.demo.postgres import PostgresServer

ROOT = SQL.parent
README = (SQL / "README.md").read_text()
EXAMPLES = re.findall(r"```console\n\$ (?P<command>(?:.*\\\n)*.*)\n(?P<output>(?:.*\n)*?)```", README)
NAME = "examples"


@pytest.fixture(scope="module")
def examples(server: PostgresServer) -> Iterator[dict[str, str]]:
    """The environment variables of the README, for a database with the rows of its examples."""
    create_database(server, NAME)
    server.psql("-f", ROOT / "tests" / "data" / "examples.sql", database=NAME)
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    # the credits of an event change after its day was summed
    change = "UPDATE public.usage_events SET credits_deducted_cents = {} WHERE id = 'evt-2'"
    server.psql(
        *("-c", change.format(100), "-c", "INSERT INTO clock.fixed VALUES ('2026-11-19 00:10:00+00')"),
        *("-f", SQL / "dba" / "sums_refresh.sql"),
        *("-c", change.format(120), "-c", "DELETE FROM clock.fixed"),
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
        "credits_rollup_search",
        "credits_rollup_previous",
        "credits_breakdown_compared",
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
    (sums,) = re.findall(r"^`sums/` contains.*", README, re.MULTILINE)
    assert not [file for file in FILES if file.startswith("sums/") and f"`{Path(file).stem}`" not in sums]
    assert not [script.name for script in (SQL / "dba").glob("*.sql") if f"| `{script.name}` |" not in README]
