"""The query files of sql/queries, loaded and checked once at start.

Some have a namesake in sql/queries/sums, with the same parameters, columns and rows, which reads sums where it can and
usage_events for the rest.

A file is a psql script: PIN, and one statement. Its parameters are psql's, ``:'name'::type``; this module translates
them to psycopg2's. The rules of a file are in sql/README.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The first line of every file: psql sends it in one message with the statement, the service at the beginning of each
# transaction. So the names in a statement are those of PostgreSQL and of the schemas that it writes out.
PIN = "SET LOCAL search_path = pg_catalog, pg_temp\\;\n"
QUERY_FOLDER = Path(__file__).parent.parent / "sql" / "queries"
QUERY_NAMES = (
    "caller",
    "credits_account",
    "credits_breakdown",
    "credits_breakdown_compared",
    "credits_breakdown_count",
    "credits_changes",
    "credits_changes_count",
    "credits_days",
    "credits_events",
    "credits_events_count",
    "credits_grants",
    "credits_rollup",
    "credits_rollup_count",
    "credits_rollup_previous",
    "credits_rollup_search",
    "credits_rollup_search_count",
    "fingerprint",
    "privileges",
    "reachable",
    "replayed",
    "watermark",
)
SUMS_QUERY_NAMES = (
    "credits_days",
    "credits_events_count",
    "credits_rollup",
    "credits_rollup_count",
    "credits_rollup_previous",
)


class QueryFileError(Exception):
    """A query file is missing or breaks a rule; the message names the file and the rule."""


@dataclass(frozen=True)
class Query:
    """One statement, with psycopg2's placeholders, and what the header of its file declares.

    ``parameters`` maps each name to its PostgreSQL type; ``columns`` are in the order of the select list. ``file`` is
    its path below sql/queries, ``script`` what psql runs.
    """

    name: str
    text: str
    parameters: Mapping[str, str]
    columns: tuple[str, ...]
    file: str = ""
    script: str = ""


# The lexical elements of PostgreSQL that may contain the text of a parameter, and parameters themselves. Nested block
# comments are refused below, so that the pattern need not count depth.
ELEMENT = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<quoted> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?P<dollar> \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ )
    | (?P<parameter> :'(?P<name>[a-z_]+)'::(?P<type>[a-z]+(?:\[\])?) )
    | (?P<cast> :: )
    | (?P<word> \w+ )
    | (?P<stray> :['"\w{] | ['"\\] | /\* )
    | (?P<end> ; )
    """,
    re.VERBOSE | re.DOTALL,
)
HEADER_PARAMETER = re.compile(r"^--   :(?P<name>[a-z_]+) +(?P<type>[a-z]+(?:\[\])?)(?: |$)", re.MULTILINE)
HEADER_COLUMNS = re.compile(r"^-- Columns: (?P<columns>[a-z_]+(?:,\s(?:--\s+)?[a-z_]+)*)$", re.MULTILINE)


def query_path(name: str, source: str, folder: Path = QUERY_FOLDER) -> Path:
    """Return the file of a query; ``source`` is events or sums, as SPEND_SOURCE."""
    return folder / ("sums" if source == "sums" and name in SUMS_QUERY_NAMES else "") / f"{name}.sql"


def load_queries(folder: Path = QUERY_FOLDER, source: str = "events") -> dict[str, Query]:
    """Load every query of the service, keyed by name; ``source`` is events or sums, as SPEND_SOURCE.

    Raises:
        QueryFileError: for the first file that is missing or breaks a rule.
    """
    return {name: load_query(query_path(name, source, folder)) for name in QUERY_NAMES}


def load_query(path: Path) -> Query:
    """Load one query file.

    Raises:
        QueryFileError: when the file cannot be read, or breaks a rule of sql/README.md.
    """
    try:
        script = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryFileError(f"{path.name} is missing or cannot be read ({type(error).__name__})") from None

    source = script.removeprefix(PIN)
    if source == script:
        raise QueryFileError(f"{path.name} must begin with the line {PIN.rstrip()}")
    header = re.match(r"(?:--[^\n]*\n)*", source)[0]  # type: ignore[index]  # the pattern matches any text
    if not header.startswith(f"-- {path.stem}: "):
        raise QueryFileError(f"{path.name} must go on with '-- {path.stem}: ' and a summary")
    columns = HEADER_COLUMNS.search(header)
    if columns is None:
        raise QueryFileError(f"{path.name} has no '-- Columns: name, name' in its header")
    if not re.search(r"^-- Order: +\S", header, re.MULTILINE):
        raise QueryFileError(f"{path.name} has no '-- Order:' in its header")

    text, parameters = _convert(path.name, source)
    promised = {match["name"]: match["type"] for match in HEADER_PARAMETER.finditer(header)}
    for name in sorted(promised.keys() | parameters.keys()):
        if promised.get(name) != parameters.get(name):
            raise QueryFileError(
                f"{path.name}: parameter {name} is {promised.get(name, 'absent')} in the header "
                f"and {parameters.get(name, 'absent')} in the statement"
            )
    file = f"{'sums/' if path.parent.name == 'sums' else ''}{path.name}"
    return Query(path.stem, text, parameters, tuple(re.findall(r"[a-z_]+", columns["columns"])), file, script)


def _convert(file_name: str, source: str) -> tuple[str, dict[str, str]]:
    """Return the text of a file with psycopg2's placeholders, and the types of its parameters by name."""
    pieces: list[str] = []
    parameters: dict[str, str] = {}
    position = 0
    ended = False
    for element in ELEMENT.finditer(source):
        between, text, position = source[position : element.start()], element[0], element.end()
        if ended and (between.strip() or not element["comment"]):
            raise QueryFileError(f"{file_name} must hold one statement")
        if element["comment"] and "/*" in text[2:]:
            raise QueryFileError(f"{file_name}: block comments must not be nested")
        if element["stray"]:
            line = source.count("\n", 0, element.start()) + 2  # after PIN
            raise QueryFileError(f"{file_name}, line {line}: {text!r} is neither SQL nor a parameter :'name'::type")
        # psycopg2 also finds placeholders in comments and quoted text.
        pieces.append(between.replace("%", "%%"))
        if element["parameter"]:
            name, type_ = element["name"], element["type"]
            if parameters.setdefault(name, type_) != type_:
                raise QueryFileError(f"{file_name}: parameter {name} is cast to {parameters[name]} and to {type_}")
            pieces.append(f"%({name})s::{type_}")
        else:
            pieces.append(text.replace("%", "%%"))
        ended = ended or bool(element["end"])
    if not ended or source[position:].strip():
        raise QueryFileError(f"{file_name} must end its statement with a semicolon")
    return "".join([*pieces, source[position:]]), parameters
