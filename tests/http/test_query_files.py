"""The query files that an answer names in `Link`, and that the service shows."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from conftest import DAYS, EVENTS, NOVA, ROLLUP, SQL, Tables

FILES = [str(path.relative_to(SQL / "queries")) for path in sorted((SQL / "queries").rglob("*.sql"))]


def described_by(client: FlaskClient, path: str, accept: str = "application/json") -> list[str]:
    response = client.get(path, headers={"Accept": accept})
    assert response.status_code == 200
    targets = [link.split("; ") for link in response.headers["Link"].split(", ")]
    return [target.strip("<>").removeprefix("/queries/") for target, relation in targets if "describedby" in relation]


@pytest.mark.parametrize("file", FILES)
def test_a_query_file_is_served_as_it_is(admin: FlaskClient, tables: Tables, file: str) -> None:
    response = admin.get(f"/queries/{file}")
    assert (response.status_code, response.content_type) == (200, "text/plain; charset=utf-8")
    assert response.data == (SQL / "queries" / file).read_bytes()
    current = admin.get(f"/queries/{file}", headers={"If-None-Match": response.headers["ETag"]})
    assert (current.status_code, current.data) == (304, b"")


@pytest.mark.parametrize("path", ["/queries/nothing.sql", "/queries/sums/caller.sql", "/queries/../dba/sums.sql"])
def test_another_file_is_a_404_without_a_key_too(client: FlaskClient, path: str) -> None:
    assert [client.get(path).status_code, client.post(path).status_code] == [404, 404]


def test_a_query_file_needs_the_key_of_an_admin(client: FlaskClient, tables: Tables) -> None:
    tables.account(NOVA)
    tables.key("nova", NOVA)
    statuses = [client.get("/queries/caller.sql", headers=key).status_code for key in ({}, {"x-api-key": "nova"})]
    assert [*statuses, client.post("/queries/caller.sql").status_code] == [401, 403, 405]


@pytest.mark.parametrize(
    ("path", "accept", "files"),
    [
        pytest.param(f"{ROLLUP}?page=2", "*/*", ["credits_rollup", "credits_rollup_count"], id="rollup"),
        pytest.param(f"{ROLLUP}?period=all", "*/*", ["credits_rollup"], id="not counted, because the page shows it"),
        pytest.param(ROLLUP, "*/*", ["credits_rollup"], id="nothing to count"),
        pytest.param(f"{ROLLUP}?page=1", "text/csv", ["credits_rollup", "credits_rollup_count"], id="a page as CSV"),
        pytest.param(
            f"{ROLLUP}?since=2020-01-01&compare=previous&limit=1",
            "*/*",
            ["credits_rollup", "credits_rollup_count", "credits_rollup_previous"],
            id="compared",
        ),
        pytest.param(f"{ROLLUP}?limit=1&totals=true", "*/*", ["credits_rollup", "credits_changes_count"], id="totals"),
        pytest.param(
            f"{EVENTS}?account_id={NOVA}&page=2",
            "*/*",
            ["credits_events", "credits_events_count", "credits_grants", "credits_account"],
            id="events",
        ),
        pytest.param(f"{EVENTS}?account_id={NOVA}", "text/csv", ["credits_events"], id="events as CSV"),
        pytest.param(
            "/api/admins/credits/breakdown?by=model&compare=previous&page=2",
            "*/*",
            ["credits_breakdown_compared", "credits_breakdown_count"],
            id="compared breakdown",
        ),
        pytest.param(
            "/api/admins/credits/changes?page=2", "*/*", ["credits_changes", "credits_changes_count"], id="changes"
        ),
        pytest.param(DAYS, "*/*", ["credits_days"], id="days"),
        pytest.param("/api/admins/credits/series", "*/*", ["credits_series"], id="series"),
    ],
)
def test_an_answer_names_the_files_that_it_came_from(
    admin: FlaskClient, tables: Tables, path: str, accept: str, files: list[str]
) -> None:
    tables.account(NOVA)
    tables.event(NOVA, 1, "2020-01-01 00:00:00+00")
    assert described_by(admin, path, accept) == [f"{file}.sql" for file in files]
    assert set(files) <= {Path(file).stem for file in FILES}
