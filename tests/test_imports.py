"""The design's direction of imports, the search without TVM, and no module hidden by another of its name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "lut": set(),
    "supernet": {"lut"},
    "cost_models": {"lut", "supernet"},
    "deploy": {"lut", "supernet", "cost_models"},
    "compress": {"lut", "supernet"},
    "search": {"lut", "supernet", "cost_models", "deploy", "compress"},
    "scripts": {"lut", "supernet", "cost_models", "deploy", "compress", "search"},
}
FILES = [path.relative_to(ROOT) for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Full names of the modules that a source imports, wherever in it; `package` holds it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names.add(".".join([*base, *filter(None, [node.module])]))
    return names


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_run_one_way(file):
    package = file.parts[0]
    tops = {name.partition(".")[0] for name in imported((ROOT / file).read_text(), file.parts[:-1])}
    ours = tops & set(MAY_IMPORT) - {package}
    assert ours <= MAY_IMPORT[package]
    assert "tests" not in tops
    assert package != "lut" or "torch" not in tops


def test_relative_imports_are_seen():
    source = "def f():\n    from ..other import a\n    from . import b\n    import torch.nn as c\n"
    assert imported(source, ("lut", "kernels")) == {"lut.other", "lut.kernels", "torch.nn"}
    assert imported("from ...search import x", ("lut", "kernels")) == {"search"}


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        ("lut, lut.build, lut.importers, lut.profilers.host", ("tvm", "torch")),
        ("lut, supernet, cost_models, search, search.chain, search.deployment, deploy.lower, deploy.integer", ("tvm",)),
        ("scripts.run_search, scripts.import_lut", ("tvm",)),
    ],
)
def test_import_with_tvm_blocked(modules, blocked):
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import {modules}"  # None: not to be found
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_no_module_is_hidden():
    """A script is put on the path with its folder, and pytest puts tests/ there: names of packages are taken."""
    beside = [*(ROOT / "scripts").iterdir(), *(ROOT / "tests").iterdir()]
    taken = {*MAY_IMPORT, "tests", *sys.stdlib_module_names, "torch", "numpy", "tvm", "yaml"}
    assert {path.stem for path in beside if path.suffix == ".py" or path.is_dir()} & taken == set()
    assert not (ROOT / "tests" / "__init__.py").exists()
