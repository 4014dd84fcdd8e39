"""The documents say what the code does: every setting and every query file has its line."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from service.config import Settings
from service.queries import QUERY_NAMES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_stands_in_the_readme_with_its_default(setting: object) -> None:
    name, default = setting.name.upper(), setting.default  # type: ignore[attr-defined]
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{name}` |")]
    shown = "required" if not isinstance(default, int | str) else f"`{default}`"
    assert row.split("|")[2].strip() == shown


@pytest.mark.parametrize("name", QUERY_NAMES)
def test_every_query_stands_in_the_readme_of_the_sql(name: str) -> None:
    assert f"| `{name}` |" in (ROOT / "sql" / "README.md").read_text()


def test_the_readme_quotes_what_the_bench_wrote() -> None:
    written = "".join(report.read_text() for report in (ROOT / "docs").glob("bench-*.md"))
    section = README.partition("## How it grows")[2].partition("\n## ")[0]
    quoted = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(quoted) > 10
    for line in quoted:
        assert f"{line}\n" in written


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|bin )make ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= targets
