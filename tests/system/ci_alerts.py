"""deploy/prometheus.yml and alerts.yml in a real Prometheus. Run by .ci/run, because it needs the Debian package."""

import http.client
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import Tables
from live import ROOT, Gunicorn, ask, eventually
from tools.demo.postgres import free_port

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="prometheus is not installed")
CONFIGURATION = (ROOT / "deploy" / "prometheus.yml").read_text()


def test_the_rules_do_what_their_tests_say() -> None:
    for command in (
        ("promtool", "check", "config", "prometheus.yml"),
        ("promtool", "test", "rules", "alerts_test.yml"),
    ):
        subprocess.run(command, cwd=ROOT / "deploy", check=True)


@contextmanager
def prometheus(folder: Path, service: Gunicorn) -> Iterator[str]:
    """Run Prometheus with the configuration of deploy, but for the port and the intervals; return its address."""
    configuration = CONFIGURATION.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}").replace(" 10s", " 1s")
    (folder / "prometheus.yml").write_text(configuration)
    (folder / "alerts.yml").write_bytes((ROOT / "deploy" / "alerts.yml").read_bytes())
    address = f"127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--web.listen-address={address}", f"--config.file={folder / 'prometheus.yml'}"),
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield address
        finally:
            process.terminate()


def alerts(address: str) -> dict[str, str]:
    """Return the summaries of the alerts that are pending or firing, by name."""
    connection = http.client.HTTPConnection(address)
    try:
        answer = ask(connection, "/api/v1/alerts", {})
    except ConnectionError:
        return {}
    finally:
        connection.close()
    # It answers with a 503 while it starts.
    found = answer.json()["data"]["alerts"] if answer.status == 200 else []
    return {alert["labels"]["alertname"]: alert["annotations"]["summary"] for alert in found}


def test_a_revoked_column_a_failing_list_and_a_dead_service_are_noticed(
    reader_url: str, tables: Tables, tmp_path: Path
) -> None:
    with Gunicorn(reader_url) as service, prometheus(tmp_path, service) as address:
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
