"""service/queries.py converts psql parameters to psycopg2's and names the file that breaks a rule."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from psycopg2.errors import InvalidTextRepresentation

from conftest import ADMIN, CREDITS_COLUMN, SQL, Tables
from service.database.snapshot import IDENTIFIERS
from service.queries import (
    FILES,
    IDENTIFIER,
    PARAMETER,
    PIN,
    QUERY_FOLDER,
    QUERY_NAMES,
    SOURCES,
    Query,
    QueryFileError,
    load_queries,
    load_query,
)
from service.schemas.responses import (
    COMPARED,
    Account,
    BreakdownRow,
    ChangesRow,
    Day,
    Event,
    Grant,
    RollupRow,
    SeriesRow,
)

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
    path.write_text(f"{PIN}{header}{statement}", encoding="utf-8")
    return load_query(path)


def test_parameters_become_those_of_psycopg2_and_nothing_else_changes(tmp_path: Path, tables: Tables) -> None:
    loaded = query(tmp_path, "SELECT 1::bigint % 2 /* 100 % */, :'since'::timestamptz; -- end\n")
    converted = "SELECT 1::bigint %% 2 /* 100 %% */, %(since)s::timestamptz; -- end\n"
    assert loaded.text.removeprefix(HEADER) == converted
    assert (loaded.name, loaded.parameters, loaded.columns) == ("probe", {"since": "timestamptz"}, ("answer",))
    tables.execute(loaded.text, {"since": "2026-11-22"})  # it runs


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_one_statement_with_parameters_only_where_they_are_meant(file: str) -> None:
    """The loader converts them everywhere, and psql does not in comments and quoted text."""
    source = (SQL / "queries" / file).read_text().removeprefix(PIN)
    code = re.sub(r"--.*", "", source)
    for pattern in (PARAMETER, IDENTIFIER):
        assert pattern.findall(code) == pattern.findall(source), "none in a comment"
    assert code.count(':"') == len(IDENTIFIER.findall(code)), "no other identifier"
    assert len(dict(PARAMETER.findall(code))) == len(set(PARAMETER.findall(code))), "one type each"
    # Apostrophes are balanced, so every second piece is quoted text.
    bare, quoted = (IDENTIFIER.sub("\0", PARAMETER.sub("\0", code)).split("'")[start::2] for start in (0, 1))
    assert "\0" not in "".join(quoted)
    assert not re.search(r"/\*|\$|\\|(?<!:):(?!:)|\b[eE]$", "\n".join(bare), re.MULTILINE), "no other psql or quoting"
    assert "".join(bare).count(";") == 1
    assert "".join(bare).rstrip().endswith(";")


def test_the_column_of_credits_becomes_a_parameter_that_is_no_text(tmp_path: Path) -> None:
    header = HEADER.replace("-- Columns", "--   :credits_column  identifier  the column\n-- Columns")
    loaded = query(tmp_path, """SELECT :'since'::timestamptz, a.:"credits_column", '%';""", header)
    assert loaded.text.removeprefix(header) == "SELECT %(since)s::timestamptz, a.%(credits_column)s, '%%';"
    assert loaded.parameters == {"since": "timestamptz", "credits_column": "identifier"}


@pytest.mark.parametrize(
    ("line", "instead", "complaint"),
    [
        (PIN, "SET search_path = public;\n", f"must begin with the line {PIN.rstrip()}"),
        ("-- probe: ", "-- other: ", "must go on with '-- probe: ' and a summary"),
        ("-- Columns: ", "-- other: ", "has no '-- Columns: name, name' in its header"),
        ("-- Order: ", "-- other: ", "has no '-- Order:' in its header"),
        (":'since'::timestamptz", "1", "parameter since is timestamptz in the header and absent in the statement"),
        ("::timestamptz", "::date", "parameter since is timestamptz in the header and date in the statement"),
        ("SELECT", "SELECT :'a'::text,", "parameter a is absent in the header and text in the statement"),
        (
            "SELECT",
            'SELECT :"credits_column",',
            "credits_column is absent in the header and identifier in the statement",
        ),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_its_name(
    tmp_path: Path, line: str, instead: str, complaint: str
) -> None:
    path = tmp_path / "probe.sql"
    path.write_text(f"{PIN}{HEADER}SELECT :'since'::timestamptz;".replace(line, instead))
    with pytest.raises(QueryFileError, match=rf"^probe\.sql:? .*{re.escape(complaint)}$"):
        load_query(path)


@pytest.mark.parametrize(
    ("content", "error"), [(None, "FileNotFoundError"), (b"-- caller: \xff", "UnicodeDecodeError")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, error: str) -> None:
    if content:
        (tmp_path / "caller.sql").write_bytes(content)
    with pytest.raises(QueryFileError, match=rf"^caller\.sql is missing or cannot be read \({error}\)$"):
        load_queries(folder=tmp_path)


def test_the_names_in_the_service_are_those_of_the_files() -> None:
    sources = [path.read_text() for path in (SQL.parent / "service").rglob("*.py")]
    used = {name for text in sources for name in re.findall(r'"(credits_\w+?)"', text)} - {"credits_deducted"}
    assert {name for name in used if not name.startswith("credits_deducted")} | {
        "caller", "fingerprint", "privileges", "reachable", "replayed", "watermark",
    } == set(QUERY_NAMES)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("credits_account", Account().fields),
        ("credits_breakdown", [name for name in BreakdownRow().fields if name not in COMPARED]),
        ("credits_breakdown_compared", BreakdownRow().fields),
        ("credits_changes", ChangesRow().fields),
        ("credits_days", Day().fields),
        ("credits_events", Event().fields),
        ("credits_grants", Grant().fields),
        ("credits_rollup", list(RollupRow().fields)[:-2]),
        ("credits_series", SeriesRow().fields),
        ("credits_rollup_previous", ["account_id", *COMPARED]),
    ],
)
def test_a_query_has_the_columns_of_its_response_schema_in_order(name: str, columns: Iterable[str]) -> None:
    assert load_queries()[name].columns == tuple(columns)


@pytest.mark.parametrize("start", ["identity AS MATERIALIZED (", "found AS MATERIALIZED ("])
def test_queries_look_accounts_up_with_the_same_sql(start: str) -> None:
    """The comments stand in one of them."""
    texts = [re.sub("^ *--.*\n", "", (QUERY_FOLDER / file).read_text(), flags=re.MULTILINE) for file in FILES]
    found = [text.split(start)[1].partition("\n)")[0] for text in texts if start in text]
    assert len(found) >= 4
    assert len(set(found)) == 1


@pytest.mark.parametrize("source", SOURCES)
def test_changes_and_their_count_are_of_the_same_accounts(source: str) -> None:
    queries = load_queries(source)
    found = set()
    for name in ("credits_changes", "credits_changes_count"):
        text = re.sub("^ *--.*\n", "", queries[name].text, flags=re.MULTILINE)
        spend, rest = re.split(r"\n\),?\n\n(?=page AS|SELECT\n    count)", text)
        (condition,) = re.findall(r"CASE %\(only\)s.*?END", rest, re.DOTALL)
        found.add((spend, " ".join(condition.replace("WHEN 'spending' THEN event_count > 0", "").split())))
    assert len(found) == 1


def test_no_query_file_is_longer_than_120_lines() -> None:
    assert not [file for file in FILES if len((QUERY_FOLDER / file).read_text().splitlines()) > 120]


MISSPELT = [
    ("by", "modell is not model, provider, source or agent_type"),
    ("sort", "modell is not created_at or credits"),
    ("only", "modell is not started, stopped, up or down"),
    ("bucket", "modell is not hour, day, week or month"),
]


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        (name, parameter, message)
        for parameter, message in MISSPELT
        for name, query in load_queries().items()
        if parameter in query.parameters
    ],
)
def test_a_misspelt_name_of_a_case_is_an_error(tables: Tables, name: str, parameter: str, message: str) -> None:
    """Also where there is no row."""
    edges = dict.fromkeys(("since", "previous_since"), "-infinity") | dict.fromkeys(
        ("until", "previous_until"), "infinity"
    )
    choices = {"by": "model", "bucket": "day", "only": "", "filters": "{}", "totals": True, "top": 1}
    given = {**choices, **edges, "account_id": str(ADMIN), "search": "a", "credits_column": IDENTIFIERS[CREDITS_COLUMN]}
    with pytest.raises(InvalidTextRepresentation, match=message):
        tables.execute(load_queries()[name].text, {**given, "limit": 10, "offset": 0, parameter: "modell"})


@pytest.mark.parametrize("name", [name for name, query in load_queries().items() if "filters" in query.parameters])
def test_an_unknown_filter_is_an_error(tables: Tables, name: str) -> None:
    choices = {
        "by": "model",
        "bucket": "day",
        "sort": "credits",
        "only": "",
        "search": "",
        "account_ids": "{}",
        "top": 1,
    }
    edges = dict.fromkeys(("since", "until", "previous_since", "previous_until"), "2026-11-01")
    given = {**choices, **edges, "account_id": str(ADMIN), "credits_column": IDENTIFIERS[CREDITS_COLUMN], "limit": 1}
    given |= {"offset": 0, "totals": True, "last_day": "2026-11-01", "filters": '{"modell": "large"}'}
    with pytest.raises(InvalidTextRepresentation, match="modell"):
        tables.execute(load_queries()[name].text, given)


def test_the_fingerprint_covers_every_table_that_a_query_reads() -> None:
    texts = {path.stem: path.read_text() for path in (SQL / "queries").rglob("*.sql")}
    listed = re.search(r"relname IN \(([^)]+)\)", texts.pop("fingerprint"))
    assert listed
    tables = r"\b(?:FROM|JOIN) (?:public|usage_sums)\.(\w+)\b(?!\()"
    read = {table for text in texts.values() for table in re.findall(tables, text)}
    # what the functions and the view of the sums read
    assert set(re.findall(r"'(\w+)'", listed[1])) == read | {"ledger", "watermark", "windows"}
