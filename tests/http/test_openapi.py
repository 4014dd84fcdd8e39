"""The OpenAPI document: valid, true of the live service, and a page that needs nothing but itself."""

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from conftest import ADMIN_KEY, Tables
from live import Gunicorn
from service import create_app
from service.config import Settings

DOCUMENT = json.loads(
    create_app(Settings(database_url="postgresql://x", api_key_secret="x")).extensions["reference"]["openapi"]
)
EXAMPLES = {
    path.rpartition("/")[2]: item["get"]["responses"]["200"]["content"].get("application/json", {}).get("example")
    for path, item in DOCUMENT["paths"].items()
}
(ROW,), (EVENT,), (GRANT,) = (EXAMPLES["rollup"]["rows"], EXAMPLES["events"]["events"], EXAMPLES["events"]["grants"])
OPERATIONS = [(path, item["get"]) for path, item in DOCUMENT["paths"].items()]
LISTS = [(path, operation) for path, operation in OPERATIONS if path.startswith("/api/")]


@pytest.fixture
def nova(tables: Tables) -> Tables:
    """The account, the event and the grant that the examples show."""
    account, staff = UUID(ROW["account_id"]), UUID(GRANT["granted_by"])
    tables.account(account, ROW["account_name"])
    tables.account(staff)
    tables.insert("account_emails", "account_id, email, updated_at", [(account, ROW["account_email"], "2026-01-01")])
    tables.insert("usage_events", f"account_id, {', '.join(EVENT)}", [(account, *EVENT.values())])
    tables.insert("credit_grants", ", ".join(GRANT), [tuple(GRANT.values())])
    return tables


def test_the_document_is_served_without_a_key_and_valid(client: FlaskClient) -> None:
    response = client.get("/openapi.json")
    assert (response.status_code, response.content_type, response.get_json()) == (200, "application/json", DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(DOCUMENT)


def test_every_route_of_the_api_is_documented(client: FlaskClient) -> None:
    rules = {rule.rule for rule in client.application.url_map.iter_rules()}
    pages = {"/", "/docs", "/openapi.json", "/metrics", "/assets/<path:filename>"}
    assert {re.sub("<.*>", "{name}", rule) for rule in rules - pages} == set(DOCUMENT["paths"])


@pytest.mark.parametrize(("path", "operation"), LISTS)
def test_the_example_is_the_live_services_answer(
    admin: FlaskClient, nova: Tables, path: str, operation: dict[str, Any]
) -> None:
    examples = {
        parameter["name"]: parameter["schema"]["example"]
        for parameter in operation["parameters"]
        if "example" in parameter["schema"]
    }
    if path.endswith("rollup"):
        assert set(examples) == {"period", "as_of", "compare", "q"}
    response = admin.get(path, query_string=examples)
    assert response.get_json() == operation["responses"]["200"]["content"]["application/json"]["example"]
    assert list(response.get_json()) == list(operation["responses"]["200"]["content"]["application/json"]["example"]), (
        "in this order"
    )


@pytest.mark.parametrize(("path", "operation"), LISTS)
def test_the_headers_of_an_answer_are_the_documented_ones(
    admin: FlaskClient, nova: Tables, path: str, operation: dict[str, Any]
) -> None:
    account = {"account_id": ROW["account_id"]} if path.endswith("events") else {}
    account |= {"by": "model"} if path.endswith("breakdown") else {}
    compare = {"compare": "previous"} if "compare" in str(operation["parameters"]) else {}
    headers = admin.get(path, query_string={"as_of": "2026-11-01T00:00:00Z", **account, **compare}).headers
    assert set(operation["responses"]["200"]["headers"]) <= set(headers.keys())


def test_every_status_is_documented_and_both_ways_to_send_a_key() -> None:
    for _, operation in LISTS:
        assert set(operation["responses"]) == {"200", "304", "400", "401", "403", "406", "412", "500", "503", "504"}
    assert DOCUMENT["security"] == [{"apiKey": []}, {"bearer": []}]
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"apiKey", "bearer"}


def test_the_bounds_are_the_contracts() -> None:
    (rollup,) = [operation for path, operation in OPERATIONS if path.endswith("rollup")]
    schemas = {parameter["name"]: parameter["schema"] for parameter in rollup["parameters"]}
    assert (schemas["limit"]["minimum"], schemas["limit"]["maximum"], schemas["limit"]["default"]) == (1, 500, 100)
    assert (schemas["page"]["minimum"], schemas["page"]["maximum"]) == (1, 18446744073709551)
    assert schemas["period"]["enum"] == ["all", "daily", "weekly", "monthly"]
    descriptions = {parameter["name"]: parameter.get("description") for parameter in rollup["parameters"]}
    assert "not before 1900" in descriptions["since"]
    assert "not before 1970" in descriptions["as_of"]
    changes = DOCUMENT["components"]["schemas"]["ChangesEnvelope"]["properties"]
    assert changes["period"]["enum"] == ["daily", "weekly", "monthly", "custom"]
    assert schemas["Accept"]["examples"] == list(rollup["responses"]["200"]["content"])


def schemas(part: Any) -> Iterator[dict[str, Any]]:
    """Every object below a part of the document that has a type."""
    if isinstance(part, dict):
        if "type" in part:
            yield part
        for value in part.values():
            yield from schemas(value)
    elif isinstance(part, list):
        for value in part:
            yield from schemas(value)


def test_every_integer_has_64_bits() -> None:
    """Without a format, clients in Java, Go and C# are generated with integers of 32 bits."""
    integers = [schema for schema in schemas(DOCUMENT) if "integer" in schema["type"]]
    assert len(integers) > 50
    assert {schema.get("format") for schema in integers} == {"int64"}
    assert "A sum that does not fit in 64 bits" in DOCUMENT["info"]["description"]


@pytest.mark.parametrize(
    ("schema", "key", "bounds"),
    [
        pytest.param("RollupEnvelope", "page", (1, 18446744073709551), id="a page, as in the request"),
        pytest.param("EventsEnvelope", "limit", (1, 500), id="a limit, as in the request"),
        pytest.param("DaysEnvelope", "total_count", (0, None), id="a count of rows"),
        pytest.param("ChangesRow", "previous_event_count", (0, None), id="a count of events"),
        pytest.param("RollupRow", "total_credits_deducted_cents", (None, None), id="a sum, of any size and sign"),
        pytest.param("BreakdownRow", "output_tokens", (None, None), id="a sum of tokens"),
        pytest.param("Event", "credits_deducted_cents", (None, None), id="a refund is negative"),
    ],
)
def test_an_integer_of_an_answer_has_the_bounds_that_it_keeps(
    schema: str, key: str, bounds: tuple[int | None, int | None]
) -> None:
    described = DOCUMENT["components"]["schemas"][schema]["properties"][key]
    assert (described.get("minimum"), described.get("maximum")) == bounds


def test_every_operation_has_a_summary_a_description_of_its_own_and_a_described_tag() -> None:
    texts = [operation[key] for _, operation in OPERATIONS for key in ("summary", "description")]
    assert len(set(texts)) == len(texts) == 2 * len(OPERATIONS)
    assert {text[-1] for text in texts} == {"."}
    tags = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    expected = {"api": "credits", "queries": "queries", "health": "health"}
    assert all(operation["tags"] == [expected[path.split("/")[1]]] for path, operation in OPERATIONS)
    assert set(tags) == {tag for _, operation in OPERATIONS for tag in operation["tags"]}
    assert all(tags.values())


def test_the_licence_is_the_repositorys() -> None:
    assert DOCUMENT["info"]["license"] == {"name": "MIT License", "identifier": "MIT"}
    root = Path(__file__).parents[2]
    assert (root / "LICENSE").read_text().startswith("MIT License\n")
    assert "\nlicense = MIT\n" in (root / "setup.cfg").read_text()


def test_schemathesis_finds_nothing(reader_url: str, nova: Tables, tmp_path: Path) -> None:
    """Every check but positive_data_acceptance: an as_of in the future fits its schema, and is refused."""
    # By default gunicorn itself refuses an address of more than 4,094 bytes, with a 414.
    with Gunicorn(reader_url, "--limit-request-line", "0") as service:
        ran = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/openapi.json",
                "--header", f"x-api-key: {ADMIN_KEY}", "--checks", "all",
                "--exclude-checks", "positive_data_acceptance",
                "--max-examples", "20", "--generation-database", "none", "--no-color",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert re.search(rf"Tested: {len(OPERATIONS)}\b", ran.stdout)


def test_the_page_shows_the_document_and_needs_no_other_host(client: FlaskClient) -> None:
    response = client.get("/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    shown = html.unescape(response.text)
    for path, operation in OPERATIONS:
        assert path in shown
        assert all(paragraph in shown for paragraph in operation["description"].split("\n\n"))
    assert "integer, int64, 1 to 500<" in shown
    assert "integer, int64, at least 0<" in shown
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert f'id="{name}"' in response.text
        assert all(f"<code>{key}</code>" in response.text for key in schema["properties"])
    assert response.text.index("&#34;status&#34;") < response.text.index("&#34;rows&#34;"), "in the answer's order"
    assert "<script" not in response.text
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", response.text)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
