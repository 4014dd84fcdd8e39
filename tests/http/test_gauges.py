"""The metrics of a list, which Prometheus scrapes."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as metrics_text

from conftest import NOVA, ORBIT, ROLLUP, Tables

CHANGES = "/api/admins/credits/changes"
BREAKDOWN = "/api/admins/credits/breakdown"
OPEN_METRICS = {"Accept": "application/openmetrics-text"}
METRICS_TEXT = {"Accept": "text/plain;version=0.0.4"}
LISTS = [
    pytest.param(f"{ROLLUP}?period=daily&compare=previous", id="rollup"),
    pytest.param(f"{CHANGES}?period=weekly&only=up", id="changes"),
    pytest.param(f"{BREAKDOWN}?by=provider&compare=previous", id="breakdown"),
]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def two(tables: Tables) -> Tables:
    """Two accounts, one with an address and a name that needs escapes, one without a name."""
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.account(NOVA, 'Nova "Records"\n\\')
    tables.insert("account_emails", "account_id, email, updated_at", [(NOVA, "ops@nova.example", "2026-11-01")])
    tables.event(NOVA, 1840, "2026-11-22 10:00:00+00", provider="acme", input_tokens=7)
    tables.event(NOVA, 100, "2026-11-22 10:00:00+00", provider="")
    tables.account(ORBIT)
    tables.event(ORBIT, -5, "2026-11-22 10:00:00+00")
    return tables


def scraped(client: FlaskClient, path: str, headers: dict[str, str] = OPEN_METRICS, **query: str) -> Samples:
    """Return the samples by name and labels; a parser of prometheus-client reads them."""
    response = client.get(path, query_string=query or None, headers=headers)
    assert response.status_code == 200, response.text
    parse = open_metrics if headers == OPEN_METRICS else metrics_text
    families = list(parse(response.text))
    assert {family.type for family in families} == {"gauge"}
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, tuple(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "no two samples have the same labels"
    return found


def test_a_rollup_is_a_gauge_for_each_column_of_numbers(admin: FlaskClient, two: Tables) -> None:
    nova = (("account_id", str(NOVA)), ("account_name", 'Nova "Records"\n\\'), ("period", "daily"))
    orbit = (("account_id", str(ORBIT)), ("account_name", ""), ("period", "daily"))
    assert scraped(admin, f"{ROLLUP}?period=daily") == {
        ("admin_credits_rollup_total_credits_deducted_cents", nova): 1940,
        ("admin_credits_rollup_total_credits_deducted_cents", orbit): -5,
        ("admin_credits_rollup_events", nova): 2,
        ("admin_credits_rollup_events", orbit): 1,
    }


def test_the_whole_text_in_both_formats(admin: FlaskClient, two: Tables) -> None:
    path = f"{CHANGES}?period=daily&limit=1"
    labels = f'account_id="{NOVA}",account_name="Nova \\"Records\\"\\n\\\\",period="daily"'
    lines = [
        line
        for column, name, number in [
            ("total_credits_deducted_cents", "total_credits_deducted_cents", 1940),
            ("event_count", "events", 2),
            ("previous_credits_deducted_cents", "previous_credits_deducted_cents", 0),
            ("previous_event_count", "previous_events", 0),
            ("change_credits_deducted_cents", "change_credits_deducted_cents", 1940),
        ]
        for line in (
            f"# HELP admin_credits_changes_{name} The column {column} of the list changes.",
            f"# TYPE admin_credits_changes_{name} gauge",
            f"admin_credits_changes_{name}{{{labels}}} {number}.0",
        )
    ]
    assert admin.get(path, headers=OPEN_METRICS).text.splitlines() == [*lines, "# EOF"]
    assert admin.get(path, headers=METRICS_TEXT).text.splitlines() == lines


@pytest.mark.parametrize("path", LISTS)
def test_no_address_appears_and_both_formats_say_the_same(admin: FlaskClient, two: Tables, path: str) -> None:
    samples = scraped(admin, path)
    assert samples
    assert samples == scraped(admin, path, METRICS_TEXT)
    for headers in (OPEN_METRICS, METRICS_TEXT):
        assert "@" not in admin.get(path, headers=headers).text


def test_a_search_is_no_label_because_it_may_be_an_address(admin: FlaskClient, two: Tables) -> None:
    response = admin.get(ROLLUP, query_string={"q": "ops@nova.example"}, headers=OPEN_METRICS)
    assert str(NOVA) in response.text
    assert "@" not in response.text


def test_null_and_the_empty_text_are_one_key_because_prometheus_cannot_tell_them_apart(
    admin: FlaskClient, two: Tables
) -> None:
    samples = scraped(admin, BREAKDOWN, by="provider", period="daily")
    rest = (("by", "provider"), ("period", "daily"))
    credits = {
        labels: value
        for (name, labels), value in samples.items()
        if name == "admin_credits_breakdown_total_credits_deducted_cents"
    }
    assert {tuple(sorted(labels)): value for labels, value in credits.items()} == {
        (rest[0], ("key", "acme"), rest[1]): 1840,
        (rest[0], ("key", ""), rest[1]): 95,
    }
    assert {name for name, _ in samples} == {
        f"admin_credits_breakdown_{name}"
        for name in (
            "total_credits_deducted_cents",
            "events",
            "input_tokens",
            "cached_input_tokens",
            "output_tokens",
            "tool_calls",
        )
    }


def test_what_restricts_a_list_is_a_label(admin: FlaskClient, two: Tables) -> None:
    (labels,) = {labels for _, labels in scraped(admin, BREAKDOWN, by="provider", account_id=str(ORBIT))}
    assert dict(labels) == {"key": "", "period": "monthly", "by": "provider", "account_id": str(ORBIT)}
    (labels,) = {labels for _, labels in scraped(admin, f"{CHANGES}?only=down&since=2026-11-22")}
    assert dict(labels) == {"account_id": str(ORBIT), "account_name": "", "period": "custom", "only": "down"}


@pytest.mark.parametrize(
    ("total", "value"),
    [
        pytest.param(2**53, 2**53, id="exact"),
        pytest.param(2**53 + 1, 2**53, id="rounded"),
        pytest.param(-(2**63), -(2**63), id="the smallest bigint"),
    ],
)
def test_values_are_exact_up_to_2_to_the_power_of_53(admin: FlaskClient, two: Tables, total: int, value: int) -> None:
    two.set_credits_type("bigint")
    try:
        two.execute("UPDATE public.usage_events SET credits_deducted_cents = %s WHERE account_id = %s", (total, ORBIT))
        samples = scraped(admin, ROLLUP)
    finally:
        two.empty()
        two.set_credits_type("integer")
    (number,) = [
        number for (name, labels), number in samples.items() if "total" in name and ("account_id", str(ORBIT)) in labels
    ]
    assert number == value


def test_metrics_are_one_page_as_json_is(admin: FlaskClient, tables: Tables) -> None:
    tables.fix_now("2026-11-22 10:15:00+00")
    tables.insert("accounts", "id", [(UUID(int=number),) for number in range(101)])
    tables.insert("usage_events", "account_id, created_at", [(UUID(int=number), "2026-11-22") for number in range(101)])
    assert len(scraped(admin, ROLLUP)) == 2 * 100
    assert len(scraped(admin, f"{ROLLUP}?page=2")) == 2
    assert len(scraped(admin, f"{ROLLUP}?limit=7")) == 2 * 7


def test_a_list_without_rows_has_no_samples(admin: FlaskClient, tables: Tables) -> None:
    response = admin.get(ROLLUP, headers=OPEN_METRICS)
    assert response.status_code == 200
    assert [line for line in response.text.splitlines() if not line.startswith("# ")] == []
    assert response.text.endswith("\n# EOF\n")
