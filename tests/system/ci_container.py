"""deploy/Containerfile is built and run, and deploy/kubernetes.yaml fits it. Run by .ci/run, because it needs buildah.

No registry is needed: the base is made by debootstrap, or is the folder that BASE_ROOT names.
"""

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from conftest import EVENTS, NOVA, Tables
from live import KEY, ROOT, SECRET, Gunicorn, eventually
from service.config import Settings
from service.version import VERSION

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("buildah", "debootstrap", "unshare"))),
    reason="needs root, buildah, debootstrap and unshare",
)
# What a container runtime does, so far as it matters here: a file system that can be written in a few places only.
CONTAINED = """
cd {files}
mount --bind . . && cd {files} && mount -o remount,bind,ro .
mount -t proc proc proc && mount --rbind /dev dev && mount -t tmpfs -o size=64m tmpfs dev/shm
mount -t tmpfs tmpfs tmp && mount -t tmpfs tmpfs run && mkdir run/secrets && mount --bind {secrets} run/secrets
exec chroot --userspec={user} . env --ignore-environment --chdir={folder} PORT="$PORT" {environment} {command}
"""


@dataclass
class Image:
    """The built image: its configuration, and a folder with its files."""

    config: dict[str, Any]
    files: Path


class Buildah:
    """Runs buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._options = ["buildah", "--root", folder / "store", "--runroot", folder / "run"]

    def __call__(self, *arguments: str | Path) -> str:
        done = subprocess.run([*self._options, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def build(self, folder: Path, version: str) -> None:
        self(
            *("build", "--quiet", "--isolation=chroot", "--pull-never", "--layers", "--tag=tested"),
            *("--build-arg=BASE=localhost/base", f"--build-arg=VERSION={version}"),
            *("--build-arg=PIP_FIND_LINKS=/wheels", "--build-arg=PIP_NO_INDEX=1"),
            *(f"--volume={folder / 'wheels'}:/wheels:ro", f"--file={folder / 'tree/deploy/Containerfile'}"),
            folder / "tree",
        )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with the wheels of the lock, and the files of this release."""
    with tempfile.TemporaryDirectory(prefix="admin-credits-container-", dir="/var/tmp") as name:
        folder = Path(name)
        pip = (
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        )
        subprocess.run(
            [*pip, "--requirement=requirements/runtime.lock", f"--dest={folder / 'wheels'}"], cwd=ROOT, check=True
        )
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        (folder / "tree").mkdir()
        subprocess.run(
            ["xargs", "-0", "cp", "--parents", f"--target-directory={folder / 'tree'}"],
            cwd=ROOT,
            input=listed.stdout,
            check=True,
        )
        yield folder


@pytest.fixture(scope="module")
def image(folder: Path) -> Iterator[Image]:
    base = Path(os.environ.get("BASE_ROOT", folder / "base"))
    if not base.exists():
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        packages = "--include=python3,python3-venv"
        subprocess.run(
            ["debootstrap", "--variant=minbase", packages, release, base], stdout=subprocess.DEVNULL, check=True
        )
    buildah = Buildah(folder)
    empty = buildah("from", "scratch")
    buildah("add", "--quiet", empty, base, "/")
    buildah("commit", "--quiet", "--rm", empty, "base")
    buildah.build(folder, VERSION)
    with pytest.raises(subprocess.CalledProcessError):
        buildah.build(folder, f"{VERSION}.1")
    config = json.loads(buildah("inspect", "--type=image", "tested"))["OCIv1"]["config"]
    container = buildah("from", "--pull-never", "tested")
    try:
        yield Image(config, Path(buildah("mount", container)))
    finally:
        buildah("rm", "--all")


def contained(image: Image, secrets: Path) -> tuple[str, ...]:
    """Return a launcher that runs the command of the image instead of what it launches."""
    config = image.config
    script = CONTAINED.format(
        files=shlex.quote(str(image.files)),
        secrets=shlex.quote(str(secrets)),
        user=config["User"],
        folder=config["WorkingDir"],
        environment=shlex.join(
            [*config["Env"], "DATABASE_URL_FILE=/run/secrets/url", "API_KEY_SECRET_FILE=/run/secrets/key"]
        ),
        command=shlex.join(config["Cmd"]),
    )
    return ("unshare", "--mount", "sh", "-euc", script)


def test_the_image_serves_without_root_on_a_file_system_that_cannot_be_written(
    image: Image, reader_url: str, tables: Tables, server_folder: Path
) -> None:
    assert image.config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert not (image.files / "opt/admin-credits/tests").exists()
    tables.account(NOVA)
    # A CSV of more than 1 MiB is written to a file first.
    tables.insert(
        "usage_events",
        "account_id, id, created_at",
        [(NOVA, f"{number:0200}", "2026-11-22 00:00:00+00") for number in range(6_000)],
    )
    secrets = server_folder / "secrets"
    secrets.mkdir()
    for name, text in (("url", reader_url), ("key", SECRET)):
        (secrets / name).write_text(f"{text}\n")
        (secrets / name).chmod(0o440)
        os.chown(secrets / name, 0, 10_001)
    with Gunicorn("", launcher=contained(image, secrets), WEB_CONCURRENCY=2) as service:
        assert service.get("/health/ready").status == 200
        csv = service.get(f"{EVENTS}?account_id={NOVA}&period=all", KEY | {"Accept": "text/csv"})
        assert (csv.status, csv.body.count(b"\n")) == (200, 6_001)
        assert {process.uids().effective for process in service.family()} == {10_001}
        (listening,) = (
            each for each in psutil.Process(service.process.pid).net_connections() if each.status == "LISTEN"
        )
        assert listening.laddr == ("0.0.0.0", service.port)  # noqa: S104 - what is tested
        with pytest.raises(OSError, match="Read-only file system"):
            Path(f"/proc/{service.process.pid}/root/opt/admin-credits/new").touch()
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: service.err().count("Booting worker") == 4, "new workers")
        assert service.get().status == 200
        assert service.stop() == 0


def test_the_manifest_fits_the_image_and_the_settings(image: Image) -> None:
    deployment, service, _, sums = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (script,) = sums["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
    assert {container["image"], script["image"]} == {f"registry.example/admin-credits:{VERSION}"}
    assert (image.files / "opt/admin-credits" / script["command"][1]).is_file()
    security = pod["securityContext"]
    assert image.config["User"] == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert f"{container['ports'][0]['containerPort']}/tcp" in image.config["ExposedPorts"]
    settings = Settings(database_url="postgresql://x", api_key_secret="x")
    ends_after = int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + settings.graceful_timeout_s
    assert pod["terminationGracePeriodSeconds"] >= ends_after + 5
    # One pod may end while the next one has started.
    pods = deployment["spec"]["replicas"] + deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] + 1
    connections = pods * settings.web_concurrency * (settings.pool_size + 1)
    (limit,) = re.findall(r"connection_limit=(\d+)", (ROOT / "deploy" / "kubernetes.yaml").read_text())
    assert connections < int(limit)
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
