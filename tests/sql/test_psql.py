"""psql and the service read the same rows from a query file; `make psql` runs one as the service would."""

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conftest import (
    ADMIN,
    ADMIN_KEY,
    CREDITS_COLUMN,
    DATABASE,
    ORGANIZATION,
    READER_PASSWORD,
    SECRET,
    SQL,
    Tables,
    answered,
    create_database,
    in_snapshot,
    key_hash,
)
from model import ONLY, PERIODS, TEXTS, contents, law
from service.config import Settings
from service.database.pool import Database
from service.database.snapshot import Snapshot
from service.errors import BadParameters
from service.periods import window_of
from service.queries import QUERY_FOLDER, QUERY_NAMES, SOURCES, load_queries
from service.schemas.requests import BREAKDOWN_KEYS, BUCKETS, EVENT_ORDERS
from tools.demo.postgres import PostgresServer
from tools.psql import NothingToRun, command_of

# No random text has this value.
NULL = "(this is null)"
ALL_ROWS = 2**63 - 1
NAME = "asked_by_psql"


@pytest.fixture(scope="module")
def summed(server: PostgresServer) -> Iterator[Tables]:
    """A database with sums."""
    create_database(server, NAME)
    server.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
    tables = Tables(server.url(NAME))
    yield tables
    tables.connection.close()
    server.psql("-c", f"DROP DATABASE {NAME} WITH (FORCE)")


def as_psql_wrote(value: object, text: str) -> object:
    """Convert psql's text to the type of a value of the service."""
    if text == NULL:
        return None
    match value:
        case bool():
            return {"t": True, "f": False}[text]
        case int():
            return int(text)
        case str() if value.endswith("+00:00"):
            return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")
    return text


def compare(
    server: PostgresServer,
    path: Path,
    parameters: Mapping[str, object],
    expected: list[dict[str, Any]],
    database: str = DATABASE,
) -> None:
    """Check that psql reads from a query file the columns and the rows that the service reads."""
    variables = [part for variable in parameters.items() for part in ("-v", "{}={}".format(*variable))]
    options = ("-v", "ON_ERROR_STOP=1", "--csv", "-P", f"null={NULL}")
    done = subprocess.run(
        [server.binaries / "psql", "-X", "-q", *options, *variables, "-f", path],
        env={
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "credits_reader",
            "PGPASSWORD": READER_PASSWORD,
            "PGDATABASE": database,
            "PGCLIENTENCODING": "UTF8",
            # not the service's UTC: a query must not depend on it
            "PGTZ": "Asia/Kathmandu",
        },
        capture_output=True,
        check=False,
    )
    assert (path.name, done.returncode, done.stderr.decode()) == (path.name, 0, "")
    columns, *rows = csv.reader(io.StringIO(done.stdout.decode(), newline=""))
    assert (tuple(columns), len(rows)) == (load_queries()[path.stem].columns, len(expected))
    assert [
        {column: as_psql_wrote(row[column], text) for column, text in zip(columns, found, strict=True)}
        for found, row in zip(rows, expected, strict=True)
    ] == expected


def records(name: str, parameters: Mapping[str, object], snapshot: Snapshot) -> list[dict[str, Any]]:
    return snapshot.records(name, **parameters)


# Shrinking would take minutes.
@hypothesis_settings(law, max_examples=8, phases=[Phase.generate])
@given(data=st.data())
@pytest.mark.parametrize("source", SOURCES)
def test_psql_and_the_service_read_the_same_rows(
    server: PostgresServer, summed: Tables, source: str, data: st.DataObject
) -> None:
    # The sums can store the sum of so large credits, of accounts that exist.
    content = data.draw(contents(2**55, orphans=False))
    content.store(summed)
    summed.key("without an account", None)
    for _ in range(2):
        summed.execute("SELECT usage_sums.refresh()")
    # accounts with events are drawn more often
    spenders = [str(event["account_id"]) for event in content.events]
    ids = st.sampled_from([*spenders, *(str(id_) for id_, _ in content.accounts), str(ADMIN)])
    now = data.draw(st.none() | st.just(content.now))
    window, compared = (
        window_of(data.draw(st.sampled_from(periods)), content.now, now)
        for periods in (list(PERIODS), [period for period, days in PERIODS.items() if days])
    )
    values = {
        "filters": data.draw(st.sampled_from(["{}", '{"source": "api"}', '{"model": "", "provider": "it\'s :x"}'])),
        "bucket": data.draw(st.sampled_from(BUCKETS)),
        "top": data.draw(st.sampled_from([1, 20])),
        "totals": data.draw(st.sampled_from(["true", "false"])),
        "search": data.draw(TEXTS | ids | ids.map(lambda id_: id_[:9].upper())),
        "by": data.draw(st.sampled_from(BREAKDOWN_KEYS)),
        "only": data.draw(st.sampled_from(list(ONLY))),
        "sort": data.draw(st.sampled_from(EVENT_ORDERS)),
        "account_ids": f"{{{','.join(data.draw(st.lists(ids)))}}}",
        "account_id": data.draw(ids),
        "limit": data.draw(st.sampled_from([1, 2, 3, 500, ALL_ROWS])),
        "offset": data.draw(st.sampled_from([0, 1, 5, ALL_ROWS])),
        "key_hash": data.draw(
            st.sampled_from([key_hash(ADMIN_KEY), key_hash("without an account"), "", "it's \\ \"a\" % :'limit'"])
        ),
        "organization_id": data.draw(st.sampled_from([str(ORGANIZATION), str(ADMIN)])),
        "spend_source": source,
        "credits_column": CREDITS_COLUMN,
    }
    of_all_accounts = data.draw(st.booleans())
    url = server.url(NAME, user="credits_reader", password=READER_PASSWORD)
    database = Database(Settings(database_url=url, api_key_secret=SECRET))
    queries = load_queries(source)
    for query in queries.values():
        asked = compared if "previous_since" in query.parameters else window
        given_ = values | asked.parameters(asked.previous)
        if of_all_accounts and query.parameters.get("account_id") == "text":
            given_["account_id"] = ""
        parameters = {parameter: given_[parameter] for parameter in query.parameters}
        rows = in_snapshot(database, partial(records, query.name, parameters), queries)
        file = query.for_filters(given_["filters"]).file
        compare(server, QUERY_FOLDER / file, parameters, rows, NAME)


@pytest.mark.parametrize(
    ("path", "name", "arguments"),
    [
        pytest.param("rollup", "credits_rollup", {}, id="defaults"),
        pytest.param("rollup", "credits_rollup", {"period": "weekly", "limit": "1", "page": "2"}, id="page"),
        pytest.param("rollup", "credits_rollup", {"as_of": "2026-11-10T00:00:00Z"}, id="as_of"),
        pytest.param("rollup", "credits_rollup", {"since": "2026-11-02", "as_of": "2026-11-04"}, id="since"),
        pytest.param("breakdown", "credits_breakdown", {"by": "source", "account_id": str(ADMIN)}, id="breakdown"),
        pytest.param(
            "breakdown",
            "credits_breakdown_compared",
            {"by": "model", "compare": "previous", "period": "weekly"},
            id="compared breakdown",
        ),
        pytest.param("rollup", "credits_rollup", {"q": "ADA"}, id="search"),
        pytest.param("rollup", "credits_rollup", {"model": "large", "source": "web"}, id="filters"),
        pytest.param("series", "credits_series", {"bucket": "week", "by": "model", "top": "1"}, id="series"),
        pytest.param("changes", "credits_changes", {"since": "2026-11-20"}, id="changes"),
        pytest.param("changes", "credits_changes", {"period": "weekly", "only": "up"}, id="changes, only some"),
        pytest.param("changes", "credits_changes", {"period": "weekly", "q": "ADA"}, id="changes, search"),
        pytest.param("changes", "credits_changes", {"compare": "2026-10-01/2026-10-03"}, id="changes, interval"),
        pytest.param("days", "credits_days", {"account_id": str(ADMIN)}, id="days of one account"),
    ],
)
def test_make_psql_prints_the_rows_of_the_request_with_these_arguments(
    admin: FlaskClient, tables: Tables, reader_url: str, path: str, name: str, arguments: dict[str, str]
) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    for day in range(1, 23):
        tables.event(ADMIN, day, f"2026-11-{day:02} 09:00:00+00", id=f"event {day}")
        tables.event(ORGANIZATION, 10, f"2026-11-{day:02} 09:00:00+00", id=f"another {day}")
    body = answered(admin, f"/api/admins/credits/{path}", **arguments)
    names = {"q": "SEARCH"}
    variables = {names.get(parameter, parameter.upper()): value for parameter, value in arguments.items()}
    command, environment = command_of({"Q": name, "DATABASE_URL": reader_url, **variables}, ["--csv"])
    assert READER_PASSWORD not in " ".join(command)
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)

    def printed(value: object) -> str:
        if isinstance(value, bool):
            return "t" if value else "f"
        return "" if value is None else re.sub(r"T(.*)\.000000\+00:00", r" \1+00", str(value))

    assert list(csv.DictReader(io.StringIO(done.stdout))) == [
        {column: printed(value) for column, value in row.items()} for row in body["days" if path == "days" else "rows"]
    ]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param({"DATABASE_URL": None}, "DATABASE_URL must be a libpq URI", id="no URI"),
        pytest.param({"DATABASE_URL": "postgres:/x:secret@"}, "DATABASE_URL must be a libpq URI", id="malformed URI"),
        pytest.param(
            {"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}, "cannot connect to the database", id="no server"
        ),
        pytest.param({"Q": None}, f"Q must name a query file: {', '.join(QUERY_NAMES)}", id="no query"),
        pytest.param({"Q": "../dba/indexes"}, "Q must name a query file", id="another file"),
        pytest.param({"SPEND_SOURCE": "monthly"}, "SPEND_SOURCE must be one of auto", id="unknown source"),
        pytest.param({"PERIOD": "yearly"}, "period must be one of", id="unknown period"),
        pytest.param({"LIMIT": "501"}, "limit must be an", id="limit too large"),
        pytest.param({"Q": "credits_events"}, "account_id is required", id="no account"),
        pytest.param(
            {"Q": "credits_events", "ACCOUNT_ID": str(ADMIN), "SORT": "id"}, "sort must be one of", id="unknown order"
        ),
        pytest.param({"Q": "credits_changes", "ONLY": "new"}, "only must be one of", id="unknown changes"),
        pytest.param({"Q": "credits_changes", "PERIOD": "all"}, "period must be one of daily", id="nothing before"),
        pytest.param({"Q": "caller"}, "caller needs KEY_HASH", id="no key hash"),
    ],
)
def test_what_cannot_be_run_is_refused_without_showing_the_password(
    reader_url: str, variables: dict[str, str | None], message: str
) -> None:
    given_ = {"Q": "credits_rollup", "DATABASE_URL": reader_url, **variables}
    with pytest.raises((NothingToRun, BadParameters), match=message) as refusal:
        command_of({name: value for name, value in given_.items() if value is not None}, [])
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("variables", "variable"),
    [
        pytest.param({"Q": "credits_changes"}, "only=", id="changes"),
        pytest.param({"Q": "credits_events"}, "sort=created_at", id="events"),
        pytest.param({"Q": "credits_events", "SORT": "credits"}, "sort=credits", id="events by credits"),
    ],
)
def test_make_psql_sets_what_is_not_given_to_its_default(
    reader_url: str, variables: dict[str, str], variable: str
) -> None:
    command, _ = command_of({"DATABASE_URL": reader_url, "ACCOUNT_ID": str(ADMIN), **variables}, [])
    assert variable in command


@pytest.mark.parametrize(
    ("query", "until", "status", "output", "errors"),
    [
        pytest.param("privileges", "", 0, "table_name,is_present,can_read,can_see_rows,wrong_types\n", "$ ", id="rows"),
        pytest.param("none", "", 1, "", "admin-credits: Q must name a query file", id="no such query"),
        pytest.param("credits_rollup", "the end", 3, "", "$ ", id="SQL error"),
    ],
)
def test_make_psql_shows_its_command_and_fails_as_psql_does(
    reader_url: str, query: str, until: str, status: int, output: str, errors: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.psql", "--csv"],
        env={**os.environ, "Q": query, "UNTIL": until, "DATABASE_URL": reader_url},
        cwd=QUERY_FOLDER.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout[: len(output) or None]) == (status, output)
    assert done.stderr.startswith(errors)


@pytest.mark.parametrize(
    ("name", "source", "file"),
    [
        ("credits_rollup", "events", "sql/queries/credits_rollup.sql"),
        ("credits_rollup", "sums", "sql/queries/sums/credits_rollup.sql"),
        ("caller", "sums", "sql/queries/caller.sql"),
        ("credits_rollup", "", "sql/queries/credits_rollup.sql"),
    ],
)
def test_spend_source_selects_the_file(reader_url: str, name: str, source: str, file: str) -> None:
    command, _ = command_of({"Q": name, "SPEND_SOURCE": source, "DATABASE_URL": reader_url, "KEY_HASH": "x"}, [])
    assert command[-1].endswith(f"/{file}")


def test_by_default_the_sums_are_read_where_the_role_can(server: PostgresServer, summed: Tables) -> None:
    url = server.url(NAME, user="credits_reader", password=READER_PASSWORD)
    command, _ = command_of({"Q": "credits_rollup", "DATABASE_URL": url}, [])
    assert command[-1].endswith("/sql/queries/sums/credits_rollup.sql")
