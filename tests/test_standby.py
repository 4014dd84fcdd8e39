"""The service on a standby of PostgreSQL: it only reads."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import NOVA, READER_PASSWORD, ROLLUP, SECRET, SQL, Tables, admin_client, answered, create_database
from live import eventually
from service import create_app
from service.config import Settings
from service.embedded.postgres import PostgresServer

NAME = "replicated"


@pytest.fixture(scope="module")
def servers(server_folder: Path) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary, and a standby made from a copy of its files."""
    folders = [server_folder / "primary", server_folder / "standby"]
    folders[0].mkdir(mode=0o755)
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresServer(folders[0]))
        create_database(primary, NAME)
        primary.psql("-f", SQL / "dba" / "sums.sql", database=NAME)
        primary.stop()
        shutil.copytree(*folders)
        for path in folders[0].rglob("*"):
            shutil.chown(folders[1] / path.relative_to(folders[0]), path.stat().st_uid, path.stat().st_gid)
        (cluster,) = folders[1].glob("server/*/cluster")
        (cluster / "standby.signal").touch()
        primary.start()
        connection = f"host=127.0.0.1 port={primary.port} user=postgres password={primary.password} sslmode=disable"
        standby = PostgresServer(folders[1], options={"primary_conninfo": connection})
        yield primary, stack.enter_context(standby)


@pytest.mark.parametrize("source", ["events", "sums"])
def test_a_standby_answers_what_the_primary_has_committed(
    servers: tuple[PostgresServer, PostgresServer], source: str
) -> None:
    primary, standby = servers
    owner = Tables(primary.url(NAME))
    owner.empty()
    owner.seed_admin()
    owner.account(NOVA)
    owner.event(NOVA, 7, "2024-11-20 00:00:00+00")
    owner.execute("SELECT public.usage_sums_refresh(since => '-infinity')")
    owner.event(NOVA, 5, owner.execute("SELECT pg_catalog.now()")[0][0])
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
    ((written,),) = owner.execute("SELECT pg_current_wal_lsn()")
    replica = Tables(standby.url(NAME))
    eventually(lambda: replica.execute(replayed, (written,)) == [(True,)], "the standby to replay it")

    url = standby.url(NAME, user="credits_reader", password=READER_PASSWORD)
    admin = admin_client(create_app(Settings(database_url=url, api_key_secret=SECRET, spend_source=source)))
    assert admin.get("/health/ready").status_code == 200
    (row,) = answered(admin, ROLLUP, period="all")["rows"]
    assert (row["account_id"], row["total_credits_deducted_cents"], row["event_count"]) == (str(NOVA), 12, 2)
    for tables in (owner, replica):
        tables.connection.close()
