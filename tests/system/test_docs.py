"""The documents agree with the code: settings, promises, reports, commands, packages and links."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from service.config import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/decisions.md",
        "docs/measured.md",
        "docs/operations.md",
        "docs/performance.md",
        "docs/runbook.md",
        "sql/README.md",
    )
}
OPERATIONS = DOCUMENTS["docs/operations.md"]


def cells(text: str) -> list[list[str]]:
    """Return the cells of the table rows of a text."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:2] == "| "]


def test_docs_operations_lists_every_setting_with_its_default_and_no_other() -> None:
    section = OPERATIONS.partition("## Settings")[2].partition("\n## ")[0]
    listed = {row[0]: row[1] for row in cells(section)[1:]}
    assert listed == {
        f"`{setting.name.upper()}`": {MISSING: "required", None: "none"}.get(setting.default, f"`{setting.default}`")
        for setting in fields(Settings)
    }


def test_the_runbook_says_what_to_do_on_each_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "alerts.yml").read_text())
    section = DOCUMENTS["docs/runbook.md"].partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == alerts
    links = re.findall(
        r"runbook_url: file:/opt/admin-credits/docs/runbook.md#(\w+)", (ROOT / "deploy" / "alerts.yml").read_text()
    )
    assert links == [alert.lower() for alert in alerts]


def test_every_promise_names_tests_that_exist() -> None:
    promises = OPERATIONS.partition("\n## What it promises\n")[2].partition("\n## ")[0]
    rows = [row[0] for row in cells(promises) if re.fullmatch(r"[A-Z]\d+", row[0])]
    listed = dict(re.findall(r"^\* ([A-Z]\d+) ((?:.+\n?)(?:^  .*\n?)*)", promises, re.MULTILINE))
    assert list(listed) == rows
    for promise, text in listed.items():
        files = re.findall(r"`(test_\w+\.py)`:((?:\s+`test_\w+`,?)+)", text)
        named = [(file, name) for file, names in files for name in re.findall(r"test_\w+", names)]
        assert len(named) == len(re.findall(r"`test_\w+`", text)) > 0, promise
        for file, name in named:
            (path,) = (ROOT / "tests").rglob(file)
            assert f"\ndef {name}(" in path.read_text(), f"{promise}: {file} has no {name}"


def test_docs_performance_links_to_every_report_of_the_bench() -> None:
    reports = {report.name for report in (ROOT / "docs").glob("bench-*.md")}
    assert set(re.findall(r"\((bench-.*?)\)", DOCUMENTS["docs/performance.md"])) == reports


def test_the_readme_is_short() -> None:
    assert len(DOCUMENTS["README.md"].split()) < 1_000


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_in_a_document_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`|[A-Z]=\S+ )make ([a-z]+)", DOCUMENTS[document], re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_in_a_document_leads_somewhere(document: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", DOCUMENTS[document]):
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]


def test_contributing_lists_the_debian_packages_that_ci_installs() -> None:
    listed = re.findall(r"^sudo apt-get install (.*)", DOCUMENTS["CONTRIBUTING.md"], re.MULTILINE)
    assert listed == re.findall(r"^ +(chromium .*) >/dev/null", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
