"""The layout that docs/architecture.md describes: rooms, one direction of imports, and one place for statements."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from app.database.sessions import Reading, Transaction
from app.items.models import Item
from app.items.repository import ItemRepository
from tests.programs import ROOT

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
FIELD_TYPES = "app.http.schemas"
LONGEST_FUNCTION = 30
SQL = {
    *("select", "insert", "update", "delete", "text", "func", "bindparam", "literal", "literal_column", "column"),
    *("table", "and_", "or_", "not_", "exists", "case", "cast", "tuple_", "true", "false", "null", "union", "join"),
}
RIDDLE = re.compile(r"(What|Who|Whether|How|Where|When|Why|Whoever|Whatever)\b")
RUNS_SQL = {"execute", "scalar", "scalars", "stream", "exec_driver_sql"}


@cache
def modules() -> dict[str, ast.Module]:
    """Return the source of each module and package by its dotted name."""
    paths = sorted(APP.rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: ast.parse(path.read_text()) for name, path in zip(names, paths, strict=True)}


@cache
def imports(module: str) -> list[str]:
    """Return what a module imports, wherever in it; an empty name stands before a relative import."""
    names: list[str] = []
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names]
    return names


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


def test_a_module_imports_only_what_stands_below_it() -> None:
    """Features import `auth`, and of one another the tables only; nothing is imported by a relative name."""
    found = [(module, name) for module in modules() for name in imports(module) if name.startswith(("app.", "."))]
    assert len(found) > len(modules())
    assert [(module, name) for module, name in found if name.startswith(".") or not is_allowed(module, name)] == []


def is_schema(module: str) -> bool:
    """Return whether a module has Structs of what comes and goes as JSON."""
    return module.endswith(".schemas")


def test_schemas_import_only_schemas_of_the_application() -> None:
    """They know no service, table or controller, and share types of fields."""
    schemas = [module for module in modules() if is_schema(module)]
    found = [(module, name) for module in schemas for name in imports(module) if name.startswith("app.")]
    assert found
    assert [(module, name) for module, name in found if not is_schema(name.rpartition(".")[0])] == []


def speaks_http(module: str) -> bool:
    """Return whether a module may know the framework and the room `http`."""
    of_a_feature = floor_of(module) == FEATURES and module.rpartition(".")[2] in SPEAK_HTTP
    return of_a_feature or floor_of(module) > FEATURES or room_of(module) == "http"


def test_services_and_what_is_below_them_know_no_http() -> None:
    """Only controllers, and what stands beside them, know the framework and the room `http`."""
    others = [module for module in modules() if not speaks_http(module)]
    assert others
    used = [(module, name) for module in others for name in imports(module)]
    used = [(module, name) for module, name in used if not (is_schema(module) and name.startswith(f"{FIELD_TYPES}."))]
    assert [(module, name) for module, name in used if name.startswith(("litestar", "app.http"))] == []


def test_statements_stand_in_repositories_and_models_only() -> None:
    """Elsewhere nothing builds a statement, and nothing runs one."""
    for module, tree in modules().items():
        if room_of(module) == "database" or module.rpartition(".")[2] in {"repository", "models"}:
            continue
        built = [name for name in imports(module) if name.split(".")[0] == "sqlalchemy" and name.split(".")[-1] in SQL]
        called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        run = [node.attr for node in called if isinstance(node, ast.Attribute) and node.attr in RUNS_SQL]
        assert (module, built, run) == (module, [], [])


def test_no_function_is_long() -> None:
    functions = [
        (module, node.name, (node.end_lineno or 0) - node.lineno + 1)
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert functions
    assert [function for function in functions if function[2] > LONGEST_FUNCTION] == []


def test_no_docstring_begins_with_a_riddle() -> None:
    """A docstring says what a thing is or does; readers of the OpenAPI document see those of schemas and handlers."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = [
        (module, ast.get_docstring(node) or "")
        for module, tree in modules().items()
        if module.rpartition(".")[2] not in {"schemas", "controller"}
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]
    assert docstrings
    assert [(module, text) for module, text in docstrings if RIDDLE.match(text)] == []


def test_only_the_settings_read_the_environment() -> None:
    """Others may set a variable for the processes that they start."""
    read = [
        (module, node.attr)
        for module, tree in modules().items()
        if room_of(module) != "settings"
        for node in walk_without_stores(tree)
        if isinstance(node, ast.Attribute)
    ]
    assert read
    assert [(module, name) for module, name in read if name in {"environ", "getenv", "environb"}] == []


def walk_without_stores(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node, but not what is only assigned to."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_without_stores(child)


async def change(items: ItemRepository, transaction: Transaction, reading: Reading, item: Item) -> None:
    """Change an item as nobody can: the type checker refuses to do so on a session that only reads.

    It runs over this file as well, and fails on an exception that it doesn't need.
    """
    await items.change(transaction, item, {"title": "Umbrella"})
    await items.change(reading, item, {"title": "Umbrella"})  # type: ignore[arg-type] # this is the refusal
