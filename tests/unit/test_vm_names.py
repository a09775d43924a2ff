"""tests/vm, which runs rarely, uses and patches only names that the product still has in that place."""

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
VM = sorted((ROOT / "tests" / "vm").glob("*.py"))
PRODUCT = [
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")]
    if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", "tools", "build")
]


def imported(tree: ast.AST, package: str = "") -> list[tuple[str, str, str]]:
    """Return (absolute module, name, local name) of every `from module import name` of the product."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module.partition(".")[0] == "interlock":
                found += [(module, alias.name, alias.asname or alias.name) for alias in node.names]
    return found


def taken(module: str, name: str) -> object:
    """Return what `from module import name` gives. Raises ImportError if there is no such name."""
    holder = import_module(module)
    return getattr(holder, name) if hasattr(holder, name) else import_module(f"{module}.{name}")


@pytest.fixture(scope="module")
def importers() -> dict[tuple[str, str], list[str]]:
    """Return, for each (module, name) of the product, the files of the product that import that name by value."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in PRODUCT:
        package = ".".join(("interlock", *path.parts[:-1]))
        for module, name, _ in imported(ast.parse((ROOT / path).read_text()), package):
            found.setdefault((module, name), []).append(str(path))
    return found


def mistakes(source: str, importers: dict[tuple[str, str], list[str]]) -> list[str]:
    """Return the wrong uses of the product's names in the test `source`, with their lines."""
    tree, found, modules = ast.parse(source), [], {}
    for module, name, own in imported(tree):
        try:
            thing = taken(module, name)
        except ImportError:
            found.append(f"{module} has no {name}")
        else:
            modules |= {own: thing} if isinstance(thing, ModuleType) else {}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=own), attr=name) if own in modules:
                importing = []
            case ast.Call(
                func=ast.Attribute(attr="setattr"), args=[ast.Name(id=own), ast.Constant(value=str(name)), _]
            ):
                importing = importers.get((modules[own].__name__, name), []) if own in modules else []
            case _:
                continue
        if own in modules and not hasattr(modules[own], name):
            found.append(f"line {node.lineno}: {own} has no {name}")
        found += [f"line {node.lineno}: {path} imports {name}; patch it there, not in {own}" for path in importing]
    return found


@pytest.mark.parametrize("path", VM, ids=lambda path: path.name)
def test_vm_tests_name_what_exists_and_patch_where_it_is_used(path, importers):
    """A name that moved, or that must be patched in another module, is noticed without running a guest."""
    assert mistakes(path.read_text(), importers) == []


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("monkeypatch.setattr(command, 'build', None)", "drivers/qemu/boot.py imports build; patch it there"),
        ("patch.setattr(command, 'biuld', None)", "command has no biuld"),
        ("command.biuld()", "command has no biuld"),
        ("from interlock.drivers.qemu import comand", "interlock.drivers.qemu has no comand"),
    ],
)
def test_vm_names_that_are_wrong_are_noticed(use, expected, importers):
    """One case is a patch that once had no effect, because boot.py imports `build` by name."""
    (mistake,) = mistakes(f"from interlock.drivers.qemu import command\n{use}\n", importers)
    assert expected in mistake
