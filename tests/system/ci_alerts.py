"""deploy/prometheus.yml and alerts.yml in a real Prometheus. Run by .ci/run, because it needs the Debian package."""

import subprocess
from pathlib import Path

from conftest import Tables
from live import Gunicorn, eventually
from prometheus import DEPLOY, asked, needs_prometheus, prometheus

pytestmark = needs_prometheus


def test_the_rules_do_what_their_tests_say() -> None:
    for command in (
        ("promtool", "check", "config", "prometheus.yml"),
        ("promtool", "test", "rules", "alerts_test.yml"),
    ):
        subprocess.run(command, cwd=DEPLOY, check=True)


def changes(service: Gunicorn) -> dict[str, str]:
    """Return what is tried in place of the port and the intervals of the configuration."""
    return {"127.0.0.1:8000": f"127.0.0.1:{service.port}", " 10s": " 1s"}


def alerts(address: str) -> dict[str, str]:
    """Return the summaries of the alerts that are pending or firing, by name."""
    found = (asked(address, "alerts") or {"alerts": []})["alerts"]
    return {alert["labels"]["alertname"]: alert["annotations"]["summary"] for alert in found}


def test_a_revoked_column_a_failing_list_and_a_dead_service_are_noticed(
    reader_url: str, tables: Tables, tmp_path: Path
) -> None:
    files = (tmp_path, "prometheus.yml", "alerts.yml")
    with Gunicorn(reader_url) as service, prometheus(*files, changes(service)) as address:
        assert service.get().status == 200
        tables.execute("REVOKE SELECT (name) ON public.accounts FROM credits_reader")
        try:
            name = f"127.0.0.1:{service.port}"
            unready = f"The admin credits service on {name} cannot read its database. Failed checks: privileges."
            eventually(lambda: alerts(address).get("AdminCreditsNotReady") == unready, "the revoked column")

            def is_noticed() -> bool:
                assert service.get().status == 503
                return "AdminCreditsErrors" in alerts(address)

            eventually(is_noticed, "the 503s")
        finally:
            tables.execute("GRANT SELECT (name) ON public.accounts TO credits_reader")
        eventually(lambda: "AdminCreditsNotReady" not in alerts(address), "the granted column")
        service.stop()
        eventually(lambda: "AdminCreditsDown" in alerts(address), "the dead service")
