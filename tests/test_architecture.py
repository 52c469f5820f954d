"""The package's own rules: imports run one way, files stay short, none is imported in passing."""

import ast
import itertools
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "robustbench_pcl"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
LAYERS = (
    ("cli",),
    ("evidence",),
    ("pipeline", "report"),
    ("diagnosis",),
    ("paper", "evaluation", "training"),
    ("recipes",),
    ("defenses",),
    ("attacks",),
    ("certificates",),
    ("models",),
    ("losses",),
    ("data",),
    ("store",),
    (
        *("recipe", "registry", "configuration", "environment"),
        *("progress", "plugins", "lazy", "errors", "version", "interruption"),
    ),
)
"""From top to bottom; a module imports from its own layer and from those below."""
API = ("robustbench_pcl", "robustbench_pcl.__main__")
"""The package's front door, which leads to every layer; nothing behind it opens it."""
FUNCTION_IMPORTS = ("cli", "registry")
"""Where torch is imported late, so that help and completion are quick."""
MOST_LINES, MOST_MODULES = 400, 222


def rank(module: str) -> int:
    part = module.split(".")[1]
    return next(place for place, layer in enumerate(LAYERS) if part in layer)


def imports(path: Path, types: bool = True) -> Iterator[tuple[str, int]]:
    """The package's own modules that a file imports, with or without those for its types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = set() if types else {part for node in tree.body for part in for_types(node)}
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustbench_pcl"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else str(node.module)), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("robustbench_pcl"):
                    yield alias.name, node.lineno


def for_types(node: ast.stmt) -> list[ast.AST]:
    """What stands under ``if TYPE_CHECKING:``."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return [part for statement in node.body for part in ast.walk(statement)]
    return []


INSIDE = {name: path for name, path in MODULES.items() if name not in API}


def test_imports_run_from_top_to_bottom():
    upward = [
        f"{path.relative_to(PACKAGE)}:{line} imports {imported}"
        for name, path in INSIDE.items()
        for imported, line in imports(path)
        if imported in API or rank(imported) < rank(name)
    ]
    assert upward == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        name: {imported for imported, _ in imports(path, types=False)} - {name, *API}
        for name, path in INSIDE.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_import_stands_in_a_function():
    found = [
        f"{path.relative_to(PACKAGE)}:{inner.lineno}"
        for name, path in INSIDE.items()
        if name.split(".")[1] not in FUNCTION_IMPORTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert found == []


def test_files_can_be_read_in_one_go():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in MODULES.values()
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
    assert len(lengths) <= MOST_MODULES


@pytest.mark.parametrize("layer", list(itertools.chain(*LAYERS)))
def test_every_layer_is_there(layer):
    assert f"robustbench_pcl.{layer}" in MODULES
