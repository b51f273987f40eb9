"""Imports point one way: main -> controllers -> services -> models -> db, and items -> auth -> users."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"
FEATURES = ["users", "auth", "items"]
# What stands above the features: it puts them together, or calls them as a controller does.
ABOVE = {"app.main", "app.__main__", "app.cli"}
LAYERS = {"schemas": 0, "models": 1, "controller": 3}
SERVICE = 2
# Where types of HTTP may appear.
HTTP = {"cli", "conditional", "controller", "docs", "edge", "errors", "guard", "health", "idempotency"} | {
    "limits", "main", "marks", "metrics", "openapi", "paging", "replicas", "requests", "tracing",
}  # fmt: skip


def modules() -> list[str]:
    """The dotted names of all modules but the packages themselves."""
    paths = (path.relative_to(APP.parent).with_suffix("") for path in APP.rglob("*.py"))
    return sorted(".".join(path.parts) for path in paths if path.name != "__init__")


def tree(module: str) -> ast.Module:
    """A module's source."""
    return ast.parse((APP.parent / module.replace(".", "/")).with_suffix(".py").read_text())


def imports(module: str) -> Iterator[str]:
    """What a module imports, wherever in it."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def feature_of(name: str) -> str | None:
    """The feature that a module, or something in it, belongs to."""
    parts = name.split(".")
    return parts[1] if parts[0] == "app" and len(parts) > 1 and parts[1] in FEATURES else None


def layer_of(name: str) -> int:
    """How high a module of a feature stands in it."""
    return LAYERS.get(name.split(".")[2], SERVICE)


def is_allowed(module: str, imported: str) -> bool:
    """Whether the rule lets a module import something of a feature."""
    own, other = feature_of(module), feature_of(imported)
    if module in ABOVE or other is None:
        return True
    if own is None:
        return False
    if imported.startswith("app.auth.guard.") and layer_of(module) == LAYERS["controller"]:
        return True
    return FEATURES.index(other) <= FEATURES.index(own) and layer_of(imported) <= layer_of(module)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    """A flat module imports no feature, a service no controller, users nothing of auth but its guard's types."""
    assert [name for name in imports(module) if not is_allowed(module, name)] == []


@pytest.mark.parametrize("module", [name for name in modules() if name.endswith(".schemas")])
def test_schemas_import_nothing_of_the_application(module: str) -> None:
    """They are what is on the wire, and nothing else."""
    assert [name for name in imports(module) if name.startswith("app.")] == []


@pytest.mark.parametrize("module", modules())
def test_http_stays_in_its_places(module: str) -> None:
    """Services and models know nothing of it."""
    used = [name for name in imports(module) if name.split(".")[0] in {"litestar", "httpx", "starlette"}]
    assert not used or module.rsplit(".", maxsplit=1)[-1] in HTTP


def test_passwords_and_tokens_know_neither_http_nor_the_database() -> None:
    """Security is pure."""
    assert not {name.split(".")[0] for name in imports("app.security")} & {"app", "litestar", "sqlalchemy"}


@pytest.mark.parametrize("module", [name for name in modules() if name != "app.settings"])
def test_only_the_settings_read_the_environment(module: str) -> None:
    """Others may set a variable for the processes that they start."""
    read = [node for node in walk_without_stores(tree(module)) if isinstance(node, ast.Attribute)]
    assert not [node for node in read if node.attr in {"environ", "getenv", "environb"}]


def walk_without_stores(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, but not what is only assigned to."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_without_stores(child)
