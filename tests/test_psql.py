"""A query file is a psql script first: psql and the service read the same rows from the same bytes."""

import csv
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conftest import (
    ADMIN,
    ADMIN_KEY,
    DATABASE,
    ORGANIZATION,
    READER_PASSWORD,
    Tables,
    answered,
    in_snapshot,
    key_hash,
)
from model import PERIODS, contents
from service.config import Settings
from service.database import Database
from service.embedded.postgres import PostgresServer
from service.periods import window_of
from service.psql import command_of
from service.queries import QUERY_FOLDER, QUERY_NAMES, load_queries

# What no random text is.
NULL = "(this is null)"
EVERY_ROW = 2**63 - 1


@pytest.fixture(scope="module")
def database(settings: Settings) -> Database:
    return Database(settings)


def rows_of_psql(
    server: PostgresServer, path: Path, parameters: Mapping[str, object], database: str = DATABASE
) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the rows that a DBA gets from a query file, every value as text."""
    variables = [part for variable in parameters.items() for part in ("-v", "{}={}".format(*variable))]
    done = subprocess.run(
        [
            *(server.binaries / "psql", "-X", "-v", "ON_ERROR_STOP=1", *variables),
            *("--csv", "-P", f"null={NULL}", "-f", path),
        ],
        env={
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "credits_reader",
            "PGPASSWORD": READER_PASSWORD,
            "PGDATABASE": database,
            "PGCLIENTENCODING": "UTF8",
            # no file may depend on the zone of a session, which is UTC in the service
            "PGTZ": "Asia/Kathmandu",
        },
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    reader = csv.DictReader(io.StringIO(done.stdout.decode(), newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows


def as_psql_wrote(value: object, text: str) -> object:
    """Return psql's text as a value of the same type as the service's; text that is another value stays another."""
    if text == NULL:
        return None
    match value:
        case bool():
            return {"t": True, "f": False}[text]
        case int():
            return int(text)
        case datetime():
            return datetime.fromisoformat(text)
        case date():
            return date.fromisoformat(text)
    return text


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
@pytest.mark.parametrize("name", QUERY_NAMES)
def test_psql_and_the_service_read_the_same_rows(
    server: PostgresServer, database: Database, tables: Tables, name: str, data: st.DataObject
) -> None:
    content = data.draw(contents())
    content.store(tables)
    tables.key("of nobody", None)
    # more often than not an account that has events
    spenders = [str(event["account_id"]) for event in content.events]
    ids = [*spenders, *(str(id_) for id_, _ in content.accounts), str(ADMIN)]
    query = load_queries()[name]
    for period in PERIODS if "since" in query.parameters else ["all"]:
        window = window_of(period, content.now, data.draw(st.sampled_from([None, content.now])))
        values: dict[str, st.SearchStrategy[Any]] = {
            **{edge: st.just(value) for edge, value in window.parameters().items()},
            "last_day": st.just(window.last_day),
            "account_id": st.sampled_from(["", *ids] if query.parameters.get("account_id") == "text" else ids),
            "limit": st.sampled_from([1, 2, 3, 500, EVERY_ROW]),
            "offset": st.sampled_from([0, 1, 5, EVERY_ROW]),
            "key_hash": st.sampled_from([key_hash(ADMIN_KEY), key_hash("of nobody"), "", "it's \\ \"a\" % :'limit'"]),
            "organization_id": st.sampled_from([str(ORGANIZATION), str(ADMIN)]),
            "spend_source": st.sampled_from(["events", "sums"]),
        }
        parameters = {parameter: data.draw(values[parameter]) for parameter in query.parameters}

        service_rows = in_snapshot(database, lambda snapshot, given=parameters: snapshot.rows(name, **given))

        columns, psql_rows = rows_of_psql(server, QUERY_FOLDER / f"{name}.sql", parameters)
        assert columns == list(query.columns)
        assert len(psql_rows) == len(service_rows)
        assert [
            {column: as_psql_wrote(expected[column], text) for column, text in row.items()}
            for row, expected in zip(psql_rows, service_rows, strict=True)
        ] == service_rows


def run(url: str | None, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, **({"DATABASE_URL": url} if url else {})}
    return subprocess.run(
        [sys.executable, "-m", "service.psql", *options],
        env=environment,
        cwd=QUERY_FOLDER.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def some_events(tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    for day in range(1, 23):
        tables.event(ADMIN, day, f"2026-11-{day:02} 09:00:00+00", id=f"event {day}")
        tables.event(ORGANIZATION, 10, f"2026-11-{day:02} 09:00:00+00", id=f"another {day}")


@pytest.mark.parametrize(
    ("path", "name", "arguments"),
    [
        pytest.param("rollup", "credits_rollup", {}, id="the service's defaults"),
        pytest.param("rollup", "credits_rollup", {"period": "weekly"}, id="a period"),
        pytest.param("rollup", "credits_rollup", {"period": "all", "limit": "1", "page": "2"}, id="a page"),
        pytest.param("rollup", "credits_rollup", {"as_of": "2026-11-10T00:00:00Z"}, id="an instant"),
        pytest.param("days", "credits_days", {"period": "weekly"}, id="days of all accounts"),
        pytest.param("days", "credits_days", {"account_id": str(ADMIN)}, id="days of one"),
        pytest.param("events", "credits_events", {"account_id": str(ADMIN), "limit": "3", "page": "2"}, id="events"),
    ],
)
def test_make_psql_fills_in_what_the_service_would(
    admin: FlaskClient, tables: Tables, reader_url: str, path: str, name: str, arguments: dict[str, str]
) -> None:
    some_events(tables)
    body = answered(admin, f"/api/admins/credits/{path}", **arguments)
    rows = body[{"rollup": "rows", "days": "days", "events": "events"}[path]]
    variables = {parameter.upper(): value for parameter, value in arguments.items()}
    done = run(reader_url, "--csv", Q=name, **variables)
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert found
    assert [
        {column: None if text == "" else as_psql_wrote(rows[0][column], text) for column, text in row.items()}
        for row in found
    ] == [
        {
            column: value if column != "created_at" else value.replace("T", " ").replace(".000000+00:00", "+00")
            for column, value in row.items()
        }
        for row in rows
    ]


@pytest.mark.parametrize(
    ("url", "variables", "sentence"),
    [
        pytest.param(None, {"Q": "credits_rollup"}, "DATABASE_URL must be a libpq URI", id="no address"),
        pytest.param("postgres:/x:secret@", {"Q": "credits_rollup"}, "DATABASE_URL must be", id="a malformed address"),
        pytest.param(
            "postgresql://me:secret@127.0.0.1:1/x", {"Q": "credits_rollup"}, "the database cannot be", id="nobody there"
        ),
        pytest.param("", {}, f"Q must name a query file: {', '.join(QUERY_NAMES)}", id="no query"),
        pytest.param("", {"Q": "../dba/indexes"}, "Q must name a query file", id="another file"),
        pytest.param(
            "",
            {"Q": "credits_rollup", "SPEND_SOURCE": "monthly"},
            "SPEND_SOURCE must be one of events, sums",
            id="source",
        ),
    ],
)
def test_what_cannot_be_run_is_one_sentence_without_the_password(
    url: str | None, variables: dict[str, str], sentence: str
) -> None:
    done = run(url, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"admin-credits: {sentence}")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        pytest.param({"Q": "credits_rollup", "PERIOD": "yearly"}, "Bad parameters: period must be one of", id="period"),
        pytest.param({"Q": "credits_rollup", "LIMIT": "501"}, "Bad parameters: limit must be an", id="limit"),
        pytest.param({"Q": "credits_events"}, "Bad parameters: account_id is required", id="account"),
        pytest.param({"Q": "caller"}, "caller needs KEY_HASH", id="key"),
    ],
)
def test_a_parameter_that_the_service_would_refuse_is_refused(
    reader_url: str, variables: dict[str, str], sentence: str
) -> None:
    done = run(reader_url, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"admin-credits: {sentence}")


def test_the_password_is_not_in_a_command_line_that_others_can_read(reader_url: str) -> None:
    command, environment = command_of({"Q": "privileges", "DATABASE_URL": reader_url}, ["--csv"])
    assert READER_PASSWORD not in " ".join(command)
    assert environment["PGPASSWORD"] == READER_PASSWORD


@pytest.mark.parametrize(
    ("name", "source", "file"),
    [
        ("credits_rollup", "events", "sql/queries/credits_rollup.sql"),
        ("credits_rollup", "sums", "sql/queries/sums/credits_rollup.sql"),
        ("credits_events", "sums", "sql/queries/credits_events.sql"),
    ],
)
def test_the_file_is_that_of_the_source(reader_url: str, name: str, source: str, file: str) -> None:
    account = {"ACCOUNT_ID": str(ADMIN)} if name == "credits_events" else {}
    command, _ = command_of({"Q": name, "SPEND_SOURCE": source, "DATABASE_URL": reader_url, **account}, [])
    assert command[-1].endswith(f"/{file}")


def test_an_sql_error_is_a_failure_of_make_psql(reader_url: str) -> None:
    done = run(reader_url, Q="credits_rollup", SINCE="the day before yesterday")
    assert done.returncode == 3
    assert "invalid input syntax for type timestamp with time zone" in done.stderr
