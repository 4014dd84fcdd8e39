"""A database with sums, and the comparison of all lists between the two sources."""

import csv
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import psycopg2
from flask.testing import FlaskClient
from psycopg2.extras import RealDictCursor

from conftest import (
    ADMIN,
    CREDITS_COLUMN,
    NOVA,
    ORBIT,
    READER_PASSWORD,
    SECRET,
    SQL,
    Tables,
    admin_client,
    create_database,
    in_snapshot,
)
from model import MICROSECOND, ONLY, PERIODS
from service import create_app
from service.config import Settings
from service.database.snapshot import IDENTIFIERS
from service.queries import FILES, load_queries
from service.schemas.requests import BUCKETS
from tools.demo.postgres import PostgresServer

REFRESH = SQL / "dba" / "sums_refresh.sql"
CHECK = SQL / "dba" / "sums_check.sql"
SUMMED = [Path(file).stem for file in FILES if file.startswith("sums/")]
QUERIES = {source: load_queries(source) for source in ("events", "sums")}
NOW = datetime(2024, 11, 20, 10, 15, tzinfo=UTC)
NEVER = datetime(2, 1, 1, tzinfo=UTC)  # psycopg2 cannot return -infinity
MARGIN = timedelta(minutes=10)
KEYS = ("model", "provider", "source", "agent_type")
# no search; a name; and the beginning of an id
SEARCHES = ("", "nova", str(ORBIT)[:8])


class Ledger(Tables):
    """A superuser's connection to a database with sums, and a client of the service for each source."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        super().__init__(server.url(name))
        self.server, self.name = server, name

    def client(self, spend_source: str) -> FlaskClient:
        url = self.server.url(self.name, user="credits_reader", password=READER_PASSWORD)
        return admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, spend_source=spend_source)))

    @cached_property
    def events(self) -> FlaskClient:
        return self.client("events")

    @cached_property
    def sums(self) -> FlaskClient:
        return self.client("sums")

    def rewind(self) -> None:
        """Let the next refresh make all sums again, as at first."""
        self.execute(
            "UPDATE usage_sums.watermark SET instant = '-infinity', planned = '-infinity', written_by = NULL;"
            "DELETE FROM usage_sums.ledger"
        )

    def empty(self) -> None:
        super().empty()
        self.rewind()

    def script(self, path: Path, **variables: object) -> list[dict[str, str]]:
        """Run a script in psql; return its rows."""
        given = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        written = self.server.psql("--csv", *given, "-f", path, database=self.name)
        return list(csv.DictReader(io.StringIO(written)))

    def refresh(self, times: int = 2) -> None:
        """Refresh without psql, which takes longer to start; the first call plans what the second sums."""
        for _ in range(times):
            self.execute("SELECT usage_sums.refresh()")

    def watermark(self) -> datetime:
        ((instant,),) = self.execute("SELECT greatest(instant, %s) FROM usage_sums.watermark", (NEVER,))
        return instant

    def unusable(self) -> str | None:
        ((reason,),) = self.execute("SELECT usage_sums.unusable()")
        return reason

    def rows(self, source: str, name: str, parameters: dict[str, Any]) -> Any:
        """Return the rows that the service reads with a query."""
        client = {"events": self.events, "sums": self.sums}[source]
        database = client.application.extensions["database"]
        return in_snapshot(database, lambda snapshot: snapshot.records(name, **parameters), QUERIES[source])

    def compare(self, path: str, **arguments: Any) -> None:
        """Check that both sources give the same answer to a request."""
        given = {name: str(value) for name, value in arguments.items()}
        expected, found = (
            client.get(f"/api/admins/credits/{path}", query_string=given) for client in (self.events, self.sums)
        )
        assert expected.status_code == 200, expected.text
        assert (found.status_code, found.get_json()) == (200, expected.get_json())

    def compare_all(self, *periods: str) -> None:
        """Check in one snapshot that both files of each query return the same rows, by default for every period."""
        with closing(psycopg2.connect(self.server.url(self.name))) as raw:
            raw.set_session(isolation_level="REPEATABLE READ", readonly=True)
            compare_in_a_snapshot(raw, periods or tuple(PERIODS))


def compare_in_a_snapshot(raw: psycopg2.extensions.connection, periods: tuple[str, ...]) -> None:
    """Check in a REPEATABLE READ transaction that both files of each query return the same rows, and end it."""
    with raw.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL TimeZone = 'UTC'; SELECT now()")
        now = cursor.fetchone()["now"]
        for period in periods:
            for name, parameters in questions(period, now):
                found, expected = [], []
                for source, rows in (("sums", found), ("events", expected)):
                    cursor.execute(QUERIES[source][name].text, parameters)
                    rows += cursor.fetchall()
                assert found == expected, (name, parameters)
    raw.rollback()


def questions(period: str, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query that has a file for the sums, with its parameters."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = PERIODS[period]
    since = midnight - timedelta(days=days - 1) if days else "-infinity"
    span = timedelta(days=days or 400)
    given = {
        "since": since,
        "until": now,
        "previous_since": (since if days else midnight - span) - span,
        "previous_until": (now if days else midnight) - span,
        "account_ids": f"{{{NOVA},{ORBIT},{ADMIN}}}",
        "limit": 2**63 - 1,
        "offset": 0,
        "last_day": now.date(),
        "credits_column": IDENTIFIERS[CREDITS_COLUMN],
    }
    for name in SUMMED:
        parameters = QUERIES["sums"][name].parameters
        if "previous_since" in parameters and not days:
            continue
        accounts = [str(NOVA)] if parameters.get("account_id") == "uuid" else ["", str(NOVA)]
        filters = ["{}"] if QUERIES["sums"][name].filtered else ["{}", '{"model": "large", "source": "web"}']
        by = KEYS[:1] if name == "credits_series" else KEYS
        choices = {"account_id": accounts, "by": by, "search": SEARCHES, "only": ONLY, "filters": filters}
        choices |= {"bucket": BUCKETS, "totals": [True], "top": [1]}
        named = [parameter for parameter in choices if parameter in parameters]
        for chosen in product(*(choices[parameter] for parameter in named)):
            yield name, {**given, **dict(zip(named, chosen, strict=True))}


@contextmanager
def database_with_sums(server: PostgresServer, name: str, template: str | None = None) -> Iterator[Ledger]:
    """Make a database with sums, or copy one."""
    if template:
        server.psql("-c", f"CREATE DATABASE {name} TEMPLATE {template}")
    else:
        create_database(server, name)
        server.psql("-f", SQL / "dba" / "sums.sql", database=name)
    ledger = Ledger(server, name)
    yield ledger
    ledger.connection.close()
    server.psql("-c", f"DROP DATABASE {name} WITH (FORCE)")


def fill(ledger: Ledger) -> None:
    """Two accounts with events at the edges of days, and no sums."""
    ledger.empty()
    ledger.seed_admin()
    ledger.fix_now(NOW)
    ledger.account(NOVA, "Nova Records")
    ledger.account(ORBIT)
    for days_ago in (0, 1, 6, 7, 29, 30, 400):
        midnight = datetime(2024, 11, 20, tzinfo=UTC) - timedelta(days=days_ago)
        ledger.event(NOVA, 10 + days_ago, midnight, model_id="large", provider="acme", input_tokens=7)
        ledger.event(NOVA, -3, midnight + timedelta(days=1) - MICROSECOND, source="api")
        ledger.event(ORBIT, days_ago, midnight + timedelta(hours=12), model_id="small", agent_type="subagent")
