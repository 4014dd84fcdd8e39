"""Which module may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "config": set(),
    "periods": set(),
    "queries": set(),
    "errors": set(),
    "metrics": set(),
    "logs": {"errors", "metrics"},
    "budget": {"errors"},
    "database": {"budget", "config", "errors", "metrics"},
    "snapshot": {"budget", "database", "errors", "queries"},
    "readiness": {"budget", "config", "database", "errors", "queries", "snapshot"},
    "auth": {"errors"},
    "hooks": {"budget", "config", "metrics"},
    "schemas": {"errors", "periods"},
    "representations": {"errors", "periods"},
    "endpoint": {
        "auth",
        "config",
        "database",
        "errors",
        "periods",
        "queries",
        "readiness",
        "representations",
        "schemas",
        "snapshot",
    },
    "openapi": {"representations", "schemas"},
    "views": {
        "budget",
        "config",
        "endpoint",
        "metrics",
        "queries",
        "readiness",
        "representations",
        "schemas",
        "snapshot",
    },
    "__init__": {"auth", "config", "database", "errors", "hooks", "openapi", "queries", "readiness", "views"},
}
MODULES = sorted((ROOT / "service").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "service").parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "service"))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_one_way(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = (
                [node.module or ""] if node.module != "service" else [f"service.{alias.name}" for alias in node.names]
            )
            assert node.level == 0, "imports are absolute"
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        assert not any(text.partition(".")[0] in ("tests", "tools") for text in names), "a wheel does not hold these"
        imported |= {parts[1] for parts in (text.split(".") for text in names) if parts[0] == "service"}
    assert imported - {room(path)} <= ALLOWED[room(path)]
