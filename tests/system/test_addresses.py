"""A database with several addresses, the first of which drops packets."""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import DATABASE, READER_PASSWORD, Tables
from live import Cable, Gunicorn
from tools.demo.postgres import PostgresServer


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))), reason="needs root, ip and unshare"
)
@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param("two.example:{port}", id="name with two addresses"),
        pytest.param("{far}:{port},127.0.0.1:{port}", id="list"),
    ],
)
def test_the_next_address_of_a_name_or_a_list_is_tried_when_one_drops_packets(
    server: PostgresServer, tables: Tables, tmp_path: Path, hosts: str
) -> None:
    """In a mount namespace of its own, where /etc/hosts has the name and /etc/gai.conf the order of its addresses."""
    with Cable() as cable:
        (tmp_path / "hosts").write_text(f"127.0.0.1 two.example\n{cable.far} two.example\n")
        (tmp_path / "gai.conf").write_text(f"precedence ::ffff:{cable.far}/128 100\n")
        bind = 'for name in hosts gai.conf; do mount --bind "$0/$name" "$(realpath /etc/$name)"; done && exec "$@"'
        launcher = ("unshare", "-m", "sh", "-c", bind, tmp_path)
        hosts = hosts.format(far=cable.far, port=server.port)
        url = f"postgresql://credits_reader:{quote(READER_PASSWORD)}@{hosts}/{DATABASE}"
        with cable.swallowing(), Gunicorn(url, launcher=launcher, CONNECT_TIMEOUT_S=2) as service:
            assert service.get().status == 200
            (line,) = [line for line in service.access_lines() if line["route"].endswith("/rollup")]
            assert line["total_ms"] > 1_500
