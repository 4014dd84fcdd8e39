"""Which module may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "config": set(),
    "periods": set(),
    "queries": set(),
    "errors": set(),
    "version": set(),
    "metrics": {"version"},
    "listing": set(),
    "logs": {"errors", "metrics"},
    "budget": {"errors"},
    "auth": {"errors"},
    "schemas": {"errors", "periods"},
    "question": {"errors", "periods", "schemas"},
    "database": {"budget", "config", "errors", "metrics", "queries"},
    "readiness": {"budget", "database", "errors"},
    "representations": {"errors", "listing", "question", "schemas"},
    "hooks": {"budget", "config", "metrics"},
    "failures": {"errors"},
    "endpoint": {"auth", "config", "database", "errors", "listing", "question", "representations", "schemas"},
    "openapi": {"endpoint", "queries", "representations", "schemas", "version"},
    "views": {
        "budget",
        "config",
        "database",
        "endpoint",
        "listing",
        "metrics",
        "queries",
        "question",
        "readiness",
        "representations",
        "schemas",
    },
    "__init__": {"auth", "config", "database", "failures", "hooks", "openapi", "queries", "readiness", "views"},
}
# These do not know the web framework.
WITHOUT_FLASK = {"config", "database", "errors", "listing", "periods", "queries", "question", "schemas"}
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
        assert room(path) not in WITHOUT_FLASK or not any(text.partition(".")[0] == "flask" for text in names)
        imported |= {parts[1] for parts in (text.split(".") for text in names) if parts[0] == "service"}
    assert imported - {room(path)} <= ALLOWED[room(path)]
