"""`make adapt`: the SQL files for a database whose column of credits has the other name."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from conftest import ORGANIZATION, READER_PASSWORD, SQL, create_database
from live import ROOT
from service.queries import load_queries
from tools.demo.postgres import PostgresServer

EXAMPLES = (Path(__file__).parent / "data" / "examples.sql").read_text()
ARGUMENTS = {
    "organization_id": ORGANIZATION,
    "account_id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
    "account_ids": "{3c90c3cc-0d44-4b50-8888-8dd25736052a}",
    "since": "-infinity",
    "until": "infinity",
    "previous_since": "-infinity",
    "previous_until": "infinity",
    "by": "model",
    "search": "nova",
    "last_day": "2026-11-19",
    "limit": 10,
    "offset": 0,
    "spend_source": "sums",
}


def adapt(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "adapt", f"CREDITS_COLUMN={name}"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def results(server: PostgresServer, name: str, sql: Path, examples: str) -> dict[str, Any]:
    """Return what the scripts for the DBA print, and what the queries return to the service's role.

    The results of a script and two queries contain the time or object ids and are left out.
    """
    create_database(server, name, sql)
    try:
        server.psql("-c", examples, "-c", "INSERT INTO clock.fixed VALUES ('2026-11-19')", database=name)
        scripts = ("indexes", "sums", "reader_role", "sums_refresh", "sums_check", "reconcile")
        found: dict[str, Any] = {
            script: server.psql("--tuples-only", "-f", sql / "dba" / f"{script}.sql", database=name)
            for script in scripts
        }
        reader = server.url(name, user="credits_reader", password=READER_PASSWORD)
        with closing(psycopg2.connect(reader)) as connection, connection.cursor() as cursor:
            for source in ("events", "sums"):
                queries = load_queries(source, sql / "queries")
                for query in [queries[name] for name in queries if name not in ("caller", "fingerprint", "replayed")]:
                    cursor.execute(
                        query.text, {parameter: str(ARGUMENTS.get(parameter, "")) for parameter in query.parameters}
                    )
                    found[f"{source} {query.name}"] = cursor.fetchall()
        del found["sums_refresh"]
        return found
    finally:
        server.psql("-c", f"DROP DATABASE {name} WITH (FORCE)")


def test_adapted_files_give_the_same_results_and_can_be_adapted_back(server: PostgresServer, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("sql", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shipped = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert adapt(tmp_path, "credits_deducted").returncode == 0
    changed = {path.name for path, text in shipped.items() if path.read_text() != text}
    assert changed >= {"01_tables.sql", "credits_rollup.sql", "reader_role.sql", "indexes.sql", "demo.py"}

    found = results(server, "adapted", tmp_path / "sql", EXAMPLES.replace("credits_deducted_cents", "credits_deducted"))
    expected = results(server, "shipped", SQL, EXAMPLES)
    assert found == expected
    assert all(found[name] for name in ("indexes", "reconcile", "sums credits_rollup", "events credits_events"))

    assert adapt(tmp_path, "credits_deducted_cents").returncode == 0
    assert {path: path.read_text() for path in shipped} == shipped


@pytest.mark.parametrize("name", ["", "credits_deducted; DROP TABLE"])
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = adapt(tmp_path, name)
    assert done.returncode == 2
    assert "CREDITS_COLUMN must be credits_deducted or credits_deducted_cents" in done.stderr
