"""`make psql Q=credits_rollup PERIOD=weekly`: run a query file in psql with the parameters that the service uses."""

import os
import shlex
import shutil
import ssl
import sys
from collections.abc import Mapping
from datetime import datetime

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn
from psycopg2.extras import NamedTupleCursor
from werkzeug.datastructures import MultiDict

from service.config import SPEND_SOURCES, Settings
from service.database.connection import find_certificates
from service.database.trust import source_of
from service.errors import BadParameters
from service.queries import CREDITS_COLUMNS, NO_FILTER, QUERY_FOLDER, Query, load_queries
from service.question import asked
from service.schemas.requests import (
    BreakdownArguments,
    ChangesArguments,
    DaysArguments,
    EventsArguments,
    RollupArguments,
    SeriesArguments,
    WindowArguments,
)
from tools.demo.postgres import EmbeddedPostgresError, find_binaries

# The arguments of the list that a file belongs to, by a parameter that tells; the first that the file has counts.
SCHEMAS: Mapping[str, WindowArguments] = {
    "bucket": SeriesArguments(),
    "by": BreakdownArguments(),
    "only": ChangesArguments(),
    "last_day": DaysArguments(),
    "account_id": EventsArguments(),
}
SET_SEARCH_PATH = "SET LOCAL search_path = pg_catalog, pg_temp"
DEBIAN_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class NothingToRun(Exception):
    """The query cannot be run. The message says why and does not contain DATABASE_URL."""


def main() -> None:
    """Replace this process by psql; command-line arguments are passed on to it as options, such as ``--csv``."""
    try:
        command, environment = command_of(os.environ, sys.argv[1:])
    except (NothingToRun, BadParameters, EmbeddedPostgresError) as error:
        sys.exit(f"admin-credits: {error}")
    print("$", shlex.join(command), file=sys.stderr, flush=True)
    os.execvpe(command[0], command, environment)  # noqa: S606 - the command is a list, so no shell is needed


def command_of(environ: Mapping[str, str], options: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return psql's command line and its environment, which holds the password because other users cannot read it.

    Raises:
        NothingToRun: the query, the database or a parameter is missing, or the database cannot be reached.
        BadParameters: the service would refuse a parameter.
        EmbeddedPostgresError: psql was not found.
    """
    source = environ.get("SPEND_SOURCE") or Settings.spend_source
    if source not in SPEND_SOURCES:
        raise NothingToRun(f"SPEND_SOURCE must be one of {', '.join(SPEND_SOURCES)}")
    queries = load_queries()
    query = queries.get(environ.get("Q", ""))
    if query is None:
        raise NothingToRun(f"Q must name a query file: {', '.join(queries)}")
    find_certificates()
    try:
        address = parse_dsn(environ["DATABASE_URL"])
        raw = psycopg2.connect(**address)
    except (KeyError, psycopg2.ProgrammingError):
        raise NothingToRun("DATABASE_URL must be a libpq URI, postgresql://user@host/database") from None
    except psycopg2.OperationalError as error:
        raise NothingToRun(f"cannot connect to the database: {' '.join(str(error).split())}") from None
    try:
        with raw.cursor(cursor_factory=NamedTupleCursor) as cursor:
            cursor.execute("SELECT pg_catalog.now()")
            ((now,),) = cursor.fetchall()
            cursor.execute(SET_SEARCH_PATH)
            cursor.execute(queries["credits_column"].text)
            credits_column = next((name for (name,) in cursor.fetchall()), CREDITS_COLUMNS[0])
            cursor.execute(queries["privileges"].text, {"spend_source": source, "credits_column": credits_column})
            source = source_of(source, [row._asdict() for row in cursor.fetchall()])
            encrypted = raw.info.ssl_in_use
    finally:
        raw.close()
    secret = {"PGPASSWORD": address.pop("password")} if "password" in address else {}
    if address.get("sslrootcert") == "system":
        # psql 15 and older do not know this value.
        address |= {
            "sslrootcert": ssl.get_default_verify_paths().cafile or DEBIAN_CERTIFICATES,
            "sslmode": "verify-full",
        }
    installed = shutil.which("psql")
    if encrypted and installed is None:
        raise NothingToRun(
            "the connection is encrypted, but psql is not installed, and the psql of make run has no TLS"
        )
    psql = installed or str(find_binaries() / "psql")
    parameters = parameters_of(query, environ, now, credits_column)
    variables = [f"{name}={value}" for name, value in parameters.items()]
    file = load_queries(source)[query.name].for_filters(parameters.get("filters", NO_FILTER)).file
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", make_dsn(**address)]
    command += [part for variable in variables for part in ("-v", variable)]
    return (
        [*command, "-f", str(QUERY_FOLDER / file), *options],
        {**environ, **secret, "PGTZ": "UTC", "PGCLIENTENCODING": "UTF8"},
    )


def parameters_of(query: Query, environ: Mapping[str, str], now: datetime, credits_column: str) -> dict[str, str]:
    """Return a value for each parameter of a query: the environment variable of its name in capitals, or the service's.

    Those of a request have their defaults and bounds; SEARCH is q. FILTERS, a JSON object, stands for MODEL, PROVIDER,
    SOURCE and AGENT_TYPE too.
    """
    schema = next((schema for name, schema in SCHEMAS.items() if name in query.parameters), RollupArguments())
    given = {
        field.data_key or name: environ[name.upper()]
        for name, field in schema.fields.items()
        if environ.get(name.upper())
    }
    values = {
        **asked(schema, MultiDict(given), now).parameters,
        "spend_source": Settings.spend_source,
        "credits_column": credits_column,
        "organization_id": environ.get("ADMIN_ORGANIZATION_ID") or Settings.admin_organization_id,
    }
    chosen = {name: environ.get(name.upper()) or values.get(name) for name in query.parameters}
    if missing := [name.upper() for name, value in chosen.items() if value is None]:
        raise NothingToRun(f"{query.name} needs {', '.join(missing)}")
    return {name: str(value) for name, value in chosen.items()}


if __name__ == "__main__":
    main()
