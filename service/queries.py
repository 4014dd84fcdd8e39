"""The query files of sql/queries, loaded and checked once at start.

Some have a namesake in sql/queries/sums, with the same columns and rows and no other parameters, which reads sums where
it can and usage_events for the rest. The header of the first is the header of both.

A file is a psql script: PIN, and one statement. Its parameters are psql's, ``:'name'::type``; this module translates
them to psycopg2's. ``:"credits_column"`` is one of CREDITS_COLUMNS, as an identifier. The rules of a file are in
sql/README.md; tests check those that are not checked here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

QUERY_FOLDER = Path(__file__).parent.parent / "sql" / "queries"
# The paths of all files below it, and the names of those in the folder itself.
FILES = tuple(sorted(str(path.relative_to(QUERY_FOLDER)) for path in QUERY_FOLDER.rglob("*.sql")))
QUERY_NAMES = tuple(file.removesuffix(".sql") for file in FILES if "/" not in file)
# The first line of every file: psql sends it in one message with the statement, the service at the beginning of each
# transaction. So the names in a statement are those of PostgreSQL and of the schemas that it writes out.
PIN = "SET LOCAL search_path = pg_catalog, pg_temp\\;\n"
# What queries read: all events, or the sums where these can be used.
SOURCES = ("events", "sums")
# The names that the column of credits has; where both exist, the first is read.
CREDITS_COLUMNS = ("credits_deducted_cents", "credits_deducted")
PARAMETER = re.compile(r":'(?P<name>[a-z_]+)'::(?P<type>[a-z]+(?:\[\])?)")
# The value of the parameter "filters" that excludes no event.
NO_FILTER = "{}"
# With this condition a file takes no other value of it: it fails.
REFUSES_FILTERS = "WHERE replace(:'filters'::jsonb::text, '{}', 'true')::boolean\n"
IDENTIFIER = re.compile(r':"(?P<name>credits_column)"')
HEADER_PARAMETER = re.compile(r"^--   :([a-z_]+) +([a-z]+(?:\[\])?)(?: |$)", re.MULTILINE)
HEADER_COLUMNS = re.compile(r"^-- Columns: ([a-z_]+(?:,\s(?:--\s+)?[a-z_]+)*)$", re.MULTILINE)


class QueryFileError(Exception):
    """A query file is missing or breaks a rule; the message names the file and the rule."""


@dataclass(frozen=True)
class Query:
    """One statement, with psycopg2's placeholders, and what the header of its file declares.

    ``parameters`` maps each name to its PostgreSQL type, or to "identifier"; ``columns`` are in the order of the select
    list. ``file`` is its path below sql/queries, ``script`` what psql runs. ``filtered`` is the namesake that takes
    filters, if this one refuses them.
    """

    name: str
    text: str
    parameters: Mapping[str, str]
    columns: tuple[str, ...]
    file: str = ""
    script: str = ""
    filtered: "Query | None" = None

    def for_filters(self, filters: object) -> "Query":
        """Return the query to run with this value of the parameter ``filters``."""
        return self.filtered if self.filtered and filters != NO_FILTER else self


def query_path(name: str, source: str, folder: Path = QUERY_FOLDER) -> Path:
    """Return the file of a query; ``source`` is one of SOURCES."""
    summed = folder / "sums" / f"{name}.sql"
    return summed if source == "sums" and summed.exists() else folder / f"{name}.sql"


def load_queries(source: str = "events", folder: Path = QUERY_FOLDER) -> dict[str, Query]:
    """Load every query of the service, keyed by name; ``source`` is one of SOURCES.

    Raises:
        QueryFileError: for the first file that cannot be read or breaks a rule.
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
    if not source.startswith(f"-- {path.stem}: "):
        raise QueryFileError(f"{path.name} must go on with '-- {path.stem}: ' and a summary")
    parameters = {**dict(PARAMETER.findall(source)), **dict.fromkeys(IDENTIFIER.findall(source), "identifier")}
    namesake = load_query(path.parent.parent / path.name) if path.parent.name == "sums" else None
    columns, promised = (namesake.columns, namesake.parameters) if namesake else _declared(path.name, source)
    for name in sorted(promised.keys() | parameters.keys()):
        if promised.get(name) != parameters.get(name):
            raise QueryFileError(
                f"{path.name}: parameter {name} is {promised.get(name, 'absent')} in the header "
                f"and {parameters.get(name, 'absent')} in the statement"
            )
    # psycopg2 finds placeholders everywhere, also in comments and quoted text.
    text = PARAMETER.sub(r"%(\g<name>)s::\g<type>", source.replace("%", "%%"))
    text = IDENTIFIER.sub(r"%(\g<name>)s", text)
    file = f"{'sums/' if namesake else ''}{path.name}"
    filtered = namesake if REFUSES_FILTERS in source else None
    return Query(path.stem, text, parameters, columns, file, script, filtered)


def _declared(file_name: str, source: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the columns and the parameters, with their types, that the header of a file declares.

    Raises:
        QueryFileError: when it does not declare columns and order.
    """
    columns = HEADER_COLUMNS.search(source)
    if columns is None:
        raise QueryFileError(f"{file_name} has no '-- Columns: name, name' in its header")
    if not re.search(r"^-- Order: +\S", source, re.MULTILINE):
        raise QueryFileError(f"{file_name} has no '-- Order:' in its header")
    return tuple(re.findall(r"[a-z_]+", columns[1])), dict(HEADER_PARAMETER.findall(source))
