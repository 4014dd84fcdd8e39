"""Which module may import which."""

import ast
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
# The modules and packages that each may import, beside itself; one that is not listed here, none.
ALLOWED = {
    "metrics": "version",
    "logs": "errors metrics",
    "budget": "errors",
    "auth": "errors",
    "schemas": "errors periods",
    "question": "errors periods queries schemas",
    "database": "budget config errors metrics queries",
    "readiness": "budget database errors",
    "representations": "errors listing question schemas",
    "hooks": "budget config metrics",
    "failures": "errors",
    "endpoint": "auth config database errors listing question representations schemas",
    "check": "budget config database errors queries readiness",
    "openapi": "endpoint queries representations schemas version",
    "views": (
        "budget config database endpoint errors listing metrics queries question readiness representations schemas"
    ),
    "__init__": "auth config database failures hooks openapi queries readiness views",
}
WITHOUT_FLASK = {"config", "database", "errors", "listing", "periods", "queries", "question", "schemas"}


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports; a relative import begins with a dot."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(SERVICE.rglob("*.py")), ids=lambda path: str(path.relative_to(SERVICE)))
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(SERVICE).parts[0].removesuffix(".py")
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"", "tests", "tools"}, "imports are absolute, and a wheel holds neither tests nor tools"
    assert room not in WITHOUT_FLASK or "flask" not in tops
    allowed = {room, *ALLOWED.get(room, "").split()}
    assert {name.split(".")[1] for name in imports(path) if name.startswith("service.")} <= allowed
