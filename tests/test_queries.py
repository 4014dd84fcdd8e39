"""The loader: psql's parameters become psycopg2's, and a broken file is refused by name."""

from pathlib import Path

import psycopg2
import pytest
from marshmallow import Schema

from conftest import SQL, Tables
from service.queries import QUERY_NAMES, SUMS_QUERY_NAMES, Query, QueryFileError, load_queries, load_query
from service.schemas.responses import Day, Event, Grant, RollupRow

HEADER = """\
-- probe: what the test asks.
--
-- Parameters
--   :since  timestamptz  start
-- Columns: answer
-- Order:   one row
"""


def query(folder: Path, statement: str, header: str = HEADER) -> Query:
    path = folder / "probe.sql"
    path.write_text(header + statement, encoding="utf-8")
    return load_query(path)


def body(loaded: Query) -> str:
    return loaded.text.removeprefix(HEADER)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        pytest.param("SELECT :'since'::timestamptz;", "SELECT %(since)s::timestamptz;", id="a parameter"),
        pytest.param(
            "SELECT 1 % 2, :'since'::timestamptz;", "SELECT 1 %% 2, %(since)s::timestamptz;", id="% as an operator"
        ),
        pytest.param(
            "SELECT '%s :''since''' , :'since'::timestamptz;",
            "SELECT '%%s :''since''' , %(since)s::timestamptz;",
            id="quoted text",
        ),
        pytest.param(
            "SELECT :'since'::timestamptz AS \":'since'::text\";",
            "SELECT %(since)s::timestamptz AS \":'since'::text\";",
            id="quoted name",
        ),
        pytest.param(
            "SELECT :'since'::timestamptz -- not :'this'::text, 100 %\n;",
            "SELECT %(since)s::timestamptz -- not :'this'::text, 100 %%\n;",
            id="line comment, with an apostrophe's partner",
        ),
        pytest.param(
            "SELECT /* don't :'this'::text; */ :'since'::timestamptz;",
            "SELECT /* don't :'this'::text; */ %(since)s::timestamptz;",
            id="block comment",
        ),
        pytest.param(
            "SELECT $tag$ ' :'this'::text ; $tag$, :'since'::timestamptz;",
            "SELECT $tag$ ' :'this'::text ; $tag$, %(since)s::timestamptz;",
            id="dollar quoting",
        ),
        pytest.param(
            "SELECT E'\\' :''this''', :'since'::timestamptz;",
            "SELECT E'\\' :''this''', %(since)s::timestamptz;",
            id="escape string",
        ),
        pytest.param(
            "SELECT 1::bigint, :'since'::timestamptz;", "SELECT 1::bigint, %(since)s::timestamptz;", id="a cast"
        ),
        pytest.param(
            "SELECT :'since'::timestamptz; -- end\n", "SELECT %(since)s::timestamptz; -- end\n", id="comment at the end"
        ),
    ],
)
def test_only_parameters_are_replaced(tmp_path: Path, tables: Tables, statement: str, text: str) -> None:
    loaded = query(tmp_path, statement)
    assert body(loaded) == text
    assert (loaded.name, loaded.parameters, loaded.columns) == ("probe", {"since": "timestamptz"}, ("answer",))
    tables.execute(loaded.text, {"since": "2026-11-22"})  # PostgreSQL and psycopg2 accept it


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        pytest.param("SELECT :since;", "line 7: ':s'", id="raw parameter: injectable"),
        pytest.param('SELECT :"since";', "line 7: ':\"'", id="name parameter: injectable"),
        pytest.param("SELECT :'since';", 'line 7: ":\'"', id="no type"),
        pytest.param("\\set since 2026-11-22\nSELECT 1;", "line 7: '\\\\'", id="psql command"),
        pytest.param("SELECT 'open, :'since'::timestamptz;", "neither SQL", id="open quote"),
        pytest.param("SELECT /* open :'since'::timestamptz;", "'/*'", id="open comment"),
        pytest.param("SELECT /* a /* b */ */ :'since'::timestamptz;", "block comments must not be nested", id="nested"),
        pytest.param("SELECT :'since'::timestamptz", "must end its statement with a semicolon", id="no semicolon"),
        pytest.param("SELECT :'since'::timestamptz; SELECT 2;", "must hold one statement", id="two statements"),
        pytest.param("SELECT :'since'::timestamptz;;", "must hold one statement", id="an empty statement"),
        pytest.param("SELECT :'since'::timestamptz; +", "semicolon", id="a rest"),
        pytest.param(
            "SELECT 1;", "parameter since is timestamptz in the header and absent in the statement", id="unused"
        ),
        pytest.param(
            "SELECT :'since'::timestamptz, :'until'::timestamptz;",
            "parameter until is absent in the header and timestamptz in the statement",
            id="undeclared",
        ),
        pytest.param(
            "SELECT :'since'::date;",
            "parameter since is timestamptz in the header and date in the statement",
            id="another type",
        ),
        pytest.param(
            "SELECT :'since'::date, :'since'::text;", "parameter since is cast to date and to text", id="two types"
        ),
    ],
)
def test_a_broken_statement_is_refused(tmp_path: Path, statement: str, complaint: str) -> None:
    with pytest.raises(QueryFileError) as refusal:
        query(tmp_path, statement)
    assert "probe.sql" in str(refusal.value)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param("-- probe: ", "must begin with '-- probe: '", id="another stem"),
        pytest.param("-- Columns: ", "has no '-- Columns: name, name'", id="no columns"),
        pytest.param("-- Order: ", "has no '-- Order:'", id="no order"),
    ],
)
def test_a_broken_header_is_refused(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(QueryFileError, match=complaint):
        query(tmp_path, "SELECT :'since'::timestamptz;", HEADER.replace(line, "-- other: "))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QueryFileError, match=r"^caller\.sql is missing or cannot be read \(FileNotFoundError\)$"):
        load_queries(tmp_path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "caller.sql").write_bytes(b"-- caller: \xff")
    with pytest.raises(QueryFileError, match=r"^caller\.sql is missing or cannot be read \(UnicodeDecodeError\)$"):
        load_queries(tmp_path)


def test_every_file_of_the_folder_is_loaded() -> None:
    assert sorted(path.stem for path in (SQL / "queries").glob("*.sql")) == sorted(QUERY_NAMES)
    assert sorted(path.stem for path in (SQL / "queries" / "sums").glob("*.sql")) == sorted(SUMS_QUERY_NAMES)


@pytest.mark.parametrize(
    ("name", "schema"),
    [("credits_rollup", RollupRow), ("credits_events", Event), ("credits_grants", Grant), ("credits_days", Day)],
)
def test_the_columns_are_those_of_the_answers_rows_in_their_order(name: str, schema: type[Schema]) -> None:
    assert load_queries()[name].columns == tuple(schema().fields)


@pytest.mark.parametrize("loaded", load_queries().values(), ids=lambda loaded: loaded.name)
def test_the_headers_columns_are_the_statements(loaded: Query, reader_url: str, tables: Tables) -> None:
    samples = {
        "timestamptz": "2026-11-22",
        "bigint": 1,
        "uuid": "04e3aba9-c130-4fb8-8b92-34e95d43e66b",
        "text": "",
        "date": "2026-11-22",
    }
    parameters = {name: samples[type_] for name, type_ in loaded.parameters.items()}
    connection = psycopg2.connect(reader_url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(loaded.text, parameters)
            assert cursor.description is not None
            assert tuple(column.name for column in cursor.description) == loaded.columns
    finally:
        connection.close()
