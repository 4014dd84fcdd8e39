"""GET /metrics: what all workers together have done and are doing."""

import re
from pathlib import Path

from conftest import Tables
from live import ROOT, Asking, Gunicorn, eventually, locked

SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$", re.MULTILINE)
ALERTS = (ROOT / "deploy" / "alerts.yml").read_text()
ENDPOINT = "credits.rollup"


def scrape(service: Gunicorn) -> dict[str, float]:
    """Return the samples by name and labels, without the prefix admin_credits_."""
    answer = service.get("/metrics", headers={})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=1.0.0; charset=utf-8")
    return {f"{name}{labels}"[14:]: float(value) for name, labels, value in SAMPLE.findall(answer.body.decode())}


def requests(samples: dict[str, float], status: int, endpoint: str = ENDPOINT) -> float:
    return samples.get(f'request_seconds_count{{endpoint="{endpoint}",status="{status}"}}', 0)


def test_the_metrics_of_two_workers_are_added_up_and_survive_a_kill(
    reader_url: str, tables: Tables, owner_url: str, tmp_path: Path
) -> None:
    limits = {"POOL_SIZE": 1, "QUEUE_SIZE": 1, "QUEUE_TIMEOUT_MS": 60_000, "REQUEST_TIMEOUT_MS": 60_000}
    with Gunicorn(reader_url, WEB_CONCURRENCY=2, TMPDIR=str(tmp_path), **limits) as service:
        for _ in range(10):
            assert service.get().status == 200
        assert service.get("/nowhere").status == 404
        samples = scrape(service)
        assert (requests(samples, 200), requests(samples, 404, "none"), samples["refusals_total"]) == (10, 1, 0)
        assert samples['check{check="policies"}'] == 1
        # test_sums.py reads the metric of the sums.
        names = {name.partition("{")[0] for name in samples} | {"summed_until_seconds"}
        assert names >= set(re.findall(r"admin_credits_(\w+)", ALERTS))
        assert samples[f'request_seconds_bucket{{endpoint="{ENDPOINT}",le="+Inf",status="200"}}'] == 10
        spent = samples[f'request_seconds_sum{{endpoint="{ENDPOINT}",status="200"}}']
        assert 0 < samples[f'database_seconds_total{{endpoint="{ENDPOINT}"}}'] <= spent

        def busy() -> bool:
            samples = scrape(service)
            refused = samples["refusals_total"]
            assert requests(samples, 503) == refused
            return samples["connections_in_use"] + samples["requests_waiting"] + refused == 12

        with locked(owner_url, "account_emails") as release:
            asking = Asking(service, 12)
            eventually(busy, "every request to be refused, to wait or to have a connection")
            assert scrape(service)["connections_in_use"] > 0
            release()
            answers = [answer.status for answer in asking.all()]
        samples = scrape(service)
        assert (requests(samples, 200), requests(samples, 503)) == (10 + answers.count(200), answers.count(503))
        assert (samples["connections_in_use"], samples["requests_waiting"]) == (0, 0)

        with locked(owner_url, "account_emails"):
            asking = Asking(service)
            eventually(lambda: scrape(service)["connections_in_use"] == 1, "a connection to be used")
            old = service.workers()
            for worker in old:
                worker.kill()
            eventually(lambda: service.err().count("Booting worker") == 4, "two new workers")
            eventually(lambda: scrape(service)["connections_in_use"] == 0, "the dead workers to be forgotten")
        assert requests(scrape(service), 200) == requests(samples, 200)
        # A CSV may fill the temporary folder, and a full disk would end a worker that counts there.
        assert list(tmp_path.iterdir()) == []
        (folder,) = {Path(file.path).parent for file in service.workers()[0].open_files() if ".db" in file.path}
    assert not folder.exists()
