"""The layout that docs/architecture.md describes: rooms, one direction of imports, and one place for statements."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import ROOT, run

APP = ROOT / "app"
FLOORS = [
    {"errors", "logs", "settings"},
    {"database"},
    {"security"},
    {"jobs"},
    {"http"},
    set[str](),  # Features: every other folder.
    {"pages"},
    {"operations"},
    {"main"},
    {"__main__", ""},  # "" is the package itself.
]
FEATURES = 5
BASE_FEATURE = "auth"
# The modules of a feature that speak HTTP.
SPEAK_HTTP = {"controller", "guard", "last_write", "feature", "commands"}
LONGEST_FUNCTION = 30
SQL = {
    *("select", "insert", "update", "delete", "text", "func", "bindparam", "literal", "literal_column", "column"),
    *("table", "and_", "or_", "not_", "exists", "case", "cast", "tuple_", "true", "false", "null", "union", "join"),
}
RIDDLE = re.compile(r"(What|Who|Whether|How|Where|When|Why|Whoever|Whatever)\b")
RUNS_SQL = {"execute", "scalar", "scalars", "stream", "exec_driver_sql"}


def modules() -> list[str]:
    """Return the dotted names of all modules and packages."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in APP.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def tree(module: str) -> ast.Module:
    """Return a module's source."""
    path = ROOT / module.replace(".", "/")
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def imports(module: str) -> Iterator[str]:
    """Yield what a module imports, wherever in it."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    """Return the room of a module, or of something in it: the folder, or the module where it is in none."""
    return [*name.split("."), ""][1]


def floor_of(name: str) -> int:
    """Return how high a module stands."""
    return next((floor for floor, rooms in enumerate(FLOORS) if room_of(name) in rooms), FEATURES)


def is_allowed(module: str, imported: str) -> bool:
    """Return whether the rule lets a module import something of the application."""
    own, other = room_of(module), room_of(imported)
    if own == other or imported == "app.__version__":
        return True
    if floor_of(module) == floor_of(imported) == FEATURES:
        return imported.split(".")[2] == "models" or (other == BASE_FEATURE and own != BASE_FEATURE)
    return floor_of(imported) < floor_of(module)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    """Features import `auth`, and of one another the tables only."""
    of_the_application = [name for name in imports(module) if name.startswith("app.")]
    assert [name for name in of_the_application if not is_allowed(module, name)] == []


@pytest.mark.parametrize("module", [name for name in modules() if name.endswith(".schemas")])
def test_schemas_import_nothing_of_the_application(module: str) -> None:
    assert [name for name in imports(module) if name.startswith("app.")] == []


@pytest.mark.parametrize("module", modules())
def test_services_and_what_is_below_them_know_no_http(module: str) -> None:
    """Only controllers, and what stands beside them, know the framework and the room `http`."""
    knows = floor_of(module) > FEATURES or room_of(module) == "http"
    knows |= floor_of(module) == FEATURES and module.rsplit(".", maxsplit=1)[-1] in SPEAK_HTTP
    used = [name for name in imports(module) if name.startswith(("litestar", "app.http"))]
    assert knows or used == []


@pytest.mark.parametrize("module", modules())
def test_statements_stand_in_repositories_and_models_only(module: str) -> None:
    """Elsewhere nothing builds a statement, and nothing runs one."""
    if room_of(module) == "database" or module.rsplit(".", maxsplit=1)[-1] in {"repository", "models"}:
        return
    built = [name for name in imports(module) if name.split(".")[0] == "sqlalchemy" and name.split(".")[-1] in SQL]
    called = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    run = [node.attr for node in called if isinstance(node, ast.Attribute) and node.attr in RUNS_SQL]
    assert (built, run) == ([], [])


@pytest.mark.parametrize("module", modules())
def test_no_function_is_long(module: str) -> None:
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", modules())
def test_no_docstring_begins_with_a_riddle(module: str) -> None:
    """A docstring says what a thing is or does; readers of the OpenAPI document see those of schemas and handlers."""
    if module.rpartition(".")[2] in {"schemas", "controller"}:
        return
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(tree(module)) if isinstance(node, kinds)]
    assert [text for text in docstrings if RIDDLE.match(text)] == []


@pytest.mark.parametrize("module", [name for name in modules() if room_of(name) != "settings"])
def test_only_the_settings_read_the_environment(module: str) -> None:
    """Others may set a variable for the processes that they start."""
    read = [node for node in walk_without_stores(tree(module)) if isinstance(node, ast.Attribute)]
    assert not [node for node in read if node.attr in {"environ", "getenv", "environb"}]


def walk_without_stores(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node, but not what is only assigned to."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_without_stores(child)


CHANGES = """\
from app.database.sessions import Reading, Transaction
from app.items.models import Item
from app.items.repository import ItemRepository

async def change(items: ItemRepository, transaction: Transaction, reading: Reading, item: Item) -> None:
    await items.change(transaction, item, {"title": "Umbrella"})
    await items.change(reading, item, {"title": "Umbrella"})
"""
REFUSAL = 'change.py:7: error: Argument 1 to "change" of "OwnedRepository" has incompatible type "Reading"'


def test_the_type_checker_refuses_a_change_on_a_reading_session(tmp_path: Path) -> None:
    """A transaction takes the same change."""
    source = tmp_path / "change.py"
    source.write_text(CHANGES)
    checked = run(ROOT, "mypy", str(source))
    assert REFUSAL in checked.stdout
    assert checked.stdout.count(": error:") == 1
