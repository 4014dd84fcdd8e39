"""A real Prometheus with a configuration of deploy."""

import http.client
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from live import ROOT, ask
from tools.demo.postgres import free_port

DEPLOY = ROOT / "deploy"
needs_prometheus = pytest.mark.skipif(not shutil.which("promtool"), reason="prometheus is not installed")


@contextmanager
def prometheus(folder: Path, configuration: str, rules: str, changes: Mapping[str, str]) -> Iterator[str]:
    """Run Prometheus with files of deploy, after changes of texts of the configuration; return its address."""
    text = (DEPLOY / configuration).read_text()
    for shipped, tried in changes.items():
        assert shipped in text
        text = text.replace(shipped, tried)
    (folder / configuration).write_text(text)
    shutil.copy(DEPLOY / rules, folder)
    address = f"127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--web.listen-address={address}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--config.file={folder / configuration}",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield address
        finally:
            process.terminate()


def asked(address: str, path: str, **query: str) -> Any:
    """Return what Prometheus answers, None while it starts."""
    connection = http.client.HTTPConnection(address)
    try:
        answer = ask(connection, f"/api/v1/{path}?{urlencode(query)}", {})
    except ConnectionError:
        return None
    finally:
        connection.close()
    # It answers with a 503 while it starts.
    return answer.json()["data"] if answer.status == 200 else None
