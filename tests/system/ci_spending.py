"""The lists, prometheus-spending.yml and spending.yml in a real Prometheus, which .ci/run installs."""

import subprocess
from pathlib import Path

import pytest

from conftest import ADMIN_KEY, NOVA, ORBIT, Tables
from live import KEY, Gunicorn, eventually
from prometheus import DEPLOY, asked, needs_prometheus, prometheus

pytestmark = needs_prometheus
NAME = 'Nova "Records" \\ 🎹\nשלום'
OPEN_METRICS = KEY | {"Accept": "application/openmetrics-text"}


def test_the_rules_do_what_their_tests_say() -> None:
    for command in (
        ("promtool", "check", "config", "--syntax-only", "prometheus-spending.yml"),
        ("promtool", "check", "rules", "spending.yml"),
        ("promtool", "test", "rules", "spending_test.yml"),
    ):
        subprocess.run(command, cwd=DEPLOY, check=True)


def changes(service: Gunicorn) -> dict[str, str]:
    """Return what is tried in place of the address, the scheme and the intervals of the configuration."""
    return {
        "credits.example": f"127.0.0.1:{service.port}",
        "scheme: https": "scheme: http",
        "interval: 1m": "interval: 1s",
        "scrape_timeout: 20s": "scrape_timeout: 1s",
    }


def samples(address: str, query: str) -> dict[str, float]:
    """Return the values of an expression by the id of the account, or by the key."""
    found = (asked(address, "query", query=query) or {"result": []})["result"]
    return {
        sample["metric"].get("account_id", sample["metric"].get("key", "")): float(sample["value"][1])
        for sample in found
    }


def test_prometheus_scrapes_the_lists_with_its_own_header_and_the_rules_fire(
    reader_url: str, tables: Tables, tmp_path: Path
) -> None:
    tables.account(NOVA, NAME)
    tables.insert("account_emails", "account_id, email, updated_at", [(NOVA, "ops@nova.example", "2026-11-01")])
    tables.account(ORBIT)
    today = tables.execute("SELECT now()")[0][0]
    tables.event(NOVA, 100_001, today, source="web")
    tables.event(ORBIT, -5, today, source="api")
    credits = "admin_credits_rollup_total_credits_deducted_cents"
    (tmp_path / "admin-credits.key").write_text(f"{ADMIN_KEY}\n")
    files = (tmp_path, "prometheus-spending.yml", "spending.yml")
    with Gunicorn(reader_url) as service, prometheus(*files, changes(service)) as address:
        expected = {str(NOVA): 100_001, str(ORBIT): -5}
        eventually(lambda: samples(address, credits) == expected, "the accounts to be scraped")
        eventually(lambda: samples(address, "admin_credits_breakdown_events") == {"web": 1, "api": 1}, "the sources")
        eventually(lambda: samples(address, "admin_credits:credits") == {"": 99_996}, "a rule")
        eventually(
            lambda: (
                [alert["labels"]["alertname"] for alert in (asked(address, "alerts") or {"alerts": []})["alerts"]]
                == ["AdminCreditsAccountAboveThreshold"]
            ),
            "the alert",
        )
        (alert,) = asked(address, "alerts")["alerts"]
        assert alert["annotations"]["summary"] == f"{NAME} ({NOVA}) spent 100001 credits today."
        (series,) = asked(address, "query", query=f'{credits}{{account_id="{NOVA}"}}')["result"]
        assert series["metric"] == {
            "__name__": credits,
            "account_id": str(NOVA),
            "account_name": NAME,
            "period": "daily",
            "instance": f"127.0.0.1:{service.port}",
            "job": "admin-credits-accounts",
        }
        targets = asked(address, "targets")["activeTargets"]
        assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")] * 2
        names = asked(address, "label/__name__/values")
        assert not [name for name in asked(address, "label/account_name/values") if "@" in name]
        assert len([name for name in names if name.startswith("admin_credits_")]) == 8


@pytest.mark.parametrize("path", ["rollup?compare=previous", "changes", "breakdown?by=model&compare=previous"])
def test_promtool_accepts_the_names(reader_url: str, tables: Tables, path: str) -> None:
    tables.account(NOVA, NAME)
    tables.event(NOVA, 5, tables.execute("SELECT now()")[0][0], model_id="large-1")
    with Gunicorn(reader_url) as service:
        for accept in ("application/openmetrics-text", "text/plain;version=0.0.4"):
            answer = service.get(f"/api/admins/credits/{path}", KEY | {"Accept": accept})
            checked = subprocess.run(
                ["promtool", "check", "metrics"], input=answer.body, capture_output=True, check=False
            )
            assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
