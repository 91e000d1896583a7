"""The names of `from blemish import ...`: documented, typed, and loaded without torch until they are used."""

import ast
import inspect
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import blemish
from blemish.methods.catalogue import METHODS

NAMES = (
    "read_dataset", "train", "resume", "compare", "advise", "evaluate", "pod", "enroll", "list_methods", "Inspector",
    "Inspection", "Region", "Measurements", "Reason", "Decision", "Verdict", "Dataset", "Sample", "Box", "BlemishError",
)  # fmt: skip


def test_exactly_these_names_are_public():
    assert sorted(blemish.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(blemish))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = blemish.trian


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_of_its_own_and_its_name(name):
    thing = getattr(blemish, name)
    assert thing.__name__ == name
    assert len(thing.__doc__.strip()) > 20
    assert not thing.__doc__.startswith(f"{name}(")  # what dataclass writes where there is no docstring


@pytest.mark.parametrize("name", NAMES)
def test_type_checkers_find_a_name_where_it_is_loaded_from(name):
    tree = ast.parse(Path(blemish.__file__).read_text("utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    homes = {alias.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert homes[name] == inspect.getmodule(getattr(blemish, name)).__name__


@pytest.mark.parametrize("name", [name for name in NAMES if name[0].islower()])
def test_public_functions_are_annotated(name):
    signature = inspect.signature(getattr(blemish, name))
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_the_package_is_marked_as_typed():
    assert files("blemish").joinpath("py.typed").is_file()


def test_list_methods_gives_the_catalogue():
    rows = blemish.list_methods()
    assert [row.name for row in rows] == list(METHODS)
    assert all(row.requires and row.answers and row.paper for row in rows)


def test_names_of_the_edge_runtime_are_free_of_torch():
    names = [name for name in NAMES if name not in ("train", "resume", "compare", "advise", "list_methods")]
    code = f"from blemish import {', '.join(names)}\nimport sys\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
