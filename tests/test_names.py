"""One name, one thing: names of classes and types, of limits, and of array types in the whole program."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import blemish

ROOT = Path(blemish.__file__).parent
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}
TYPE_NAME = re.compile(r"_?[A-Z]+[a-z]\w*")
OTHER_LIMITS = re.compile(r"_?(LEAST|MOST|LARGEST|SMALLEST|FEWEST)(_|$)")


def assigned_names(statement):
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def defined_types(tree):
    """Names of all classes, nested ones too, and of the types and type aliases that a module assigns."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            yield from (name for name in assigned_names(statement) if TYPE_NAME.fullmatch(name))


def test_no_type_name_stands_for_two_things():
    homes = defaultdict(list)
    for path, tree in TREES.items():
        for name in defined_types(tree):
            homes[name].append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_two_classes_of_one_name_would_be_found():
    tree = ast.parse("class Seen: pass\nSeen2 = dict[str, int]\ndef f():\n    class Seen: pass\n")
    assert sorted(defined_types(tree)) == ["Seen", "Seen", "Seen2"]


@pytest.mark.parametrize("path", TREES)
def test_limits_are_called_min_and_max(path):
    names = [
        name
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for name in assigned_names(node)
    ]
    assert [name for name in names if OTHER_LIMITS.match(name)] == []


@pytest.mark.parametrize("path", [path for path in TREES if path != "arrays.py"])
def test_array_types_have_one_home(path):
    aliases = [
        ast.unparse(statement)
        for statement in TREES[path].body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.value).startswith(("NDArray[", "np.ndarray["))
    ]
    assert aliases == []
