"""GET /metrics: what all workers together have done and are doing."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from conftest import Tables
from live import ROLLUP_ALL, ROOT, Asking, Gunicorn, eventually, locked, needs_unshare
from service.metrics import PLACES, free_place
from service.version import VERSION

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
    reader_url: str, tables: Tables, owner_url: str
) -> None:
    limits = {"POOL_SIZE": 1, "QUEUE_SIZE": 1, "QUEUE_TIMEOUT_MS": 60_000, "REQUEST_TIMEOUT_MS": 60_000}
    with Gunicorn(reader_url, WEB_CONCURRENCY=2, **limits) as service:
        for _ in range(10):
            assert service.get().status == 200
        assert service.get("/nowhere").status == 404
        samples = scrape(service)
        assert (requests(samples, 200), requests(samples, 404, "none"), samples["refusals_total"]) == (10, 1, 0)
        assert samples['check{check="policies"}'] == 1
        assert samples[f'build_info{{version="{VERSION}"}}'] == 1
        assert f'"admin-credits {VERSION}"' in service.err()
        # test_sums.py reads the metrics of the sums.
        names = {name.partition("{")[0] for name in samples} | {"summed_until_seconds", "sums_usable"}
        assert names >= set(re.findall(r"admin_credits_(\w+)", ALERTS))
        assert samples[f'request_seconds_bucket{{endpoint="{ENDPOINT}",le="+Inf",status="200"}}'] == 10
        spent = samples[f'request_seconds_sum{{endpoint="{ENDPOINT}",status="200"}}']
        assert 0 < samples[f'database_seconds_total{{endpoint="{ENDPOINT}"}}'] <= spent

        def busy() -> bool:
            samples = scrape(service)
            refused = samples["refusals_total"]
            # a refusal is counted before its request
            counted = requests(samples, 503) == refused
            return counted and samples["connections_in_use"] + samples["requests_waiting"] + refused == 12

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

            def both_busy() -> bool:
                Asking(service, 2)
                return scrape(service)["connections_in_use"] == 2

            eventually(both_busy, "a connection of each worker to be used")
            for left, worker in zip((1, 0), service.workers(), strict=True):
                worker.kill()
                eventually(lambda left=left: scrape(service)["connections_in_use"] == left, "the dead to be forgotten")
        assert requests(scrape(service), 200) == requests(samples, 200)


@needs_unshare
@pytest.mark.parametrize("full_at_the_start", [True, False], ids=["at the start", "later"])
def test_a_full_or_emptied_dev_shm_ends_no_worker_and_loses_no_count(
    reader_url: str, tables: Tables, full_at_the_start: bool
) -> None:
    """In a mount namespace where /dev/shm is small, and the temporary folder too."""
    mount = 'mount -t tmpfs -o size=256k tmpfs /dev/shm && { "$0" -c 1M /dev/zero >/dev/shm/full; exec "$@"; }'
    launcher = ("unshare", "-m", "sh", "-c", mount, "head" if full_at_the_start else "true")
    with Gunicorn(reader_url, launcher=launcher, WEB_CONCURRENCY=2, TMPDIR="/dev/shm") as service:
        folder = Path(f"/proc/{service.process.pid}/root/dev/shm")
        assert service.get().status == 200
        if not full_at_the_start:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            with pytest.raises(OSError, match="No space left"):
                (folder / "full").write_bytes(bytes(1_000_000))
        old = service.workers()
        old[0].kill()
        eventually(lambda: service.err().count("Booting worker") == 3, "a new worker")
        service.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: not {worker.pid for worker in service.workers()} & {worker.pid for worker in old}, "a reload"
        )
        assert [service.get(path).status for path in (ROLLUP_ALL, "/nowhere") * 10] == [200, 404] * 10
        samples = scrape(service)
        assert (requests(samples, 200), requests(samples, 404, "none")) == (11, 10)
        assert [path.name for path in folder.iterdir()] == ["full"]
        assert service.stop() == 0


def test_each_living_worker_has_a_place_of_its_own() -> None:
    assert [free_place(taken) for taken in ((), {1, 3}, range(1, PLACES))] == [1, 2, 0]
