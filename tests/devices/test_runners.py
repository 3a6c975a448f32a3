"""Runners keep to the standard library, their runtime and Python 3.8, and arrive whole where there is no autoprune."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import autoprune.devices.runners
from autoprune.devices._worker import runner_source

FOLDER = Path(autoprune.devices.runners.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")
RUNTIMES = {
    "_base": {"numpy"},
    "executorch": {"executorch", "numpy", "torch"},
    "litert": {"ai_edge_litert", "numpy"},
    "onnxruntime": {"numpy", "onnxruntime"},
    "tensorrt": {"tensorrt"},
    "torch": {"numpy", "torch"},
}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))):
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_runner_needs_nothing_else(path: Path) -> None:
    beside = {f"{autoprune.devices.runners.__name__}.{one.stem}" for one in FILES if one.stem.startswith("_")}
    rest = {name.partition(".")[0] for name in imported(path) - beside} - sys.stdlib_module_names
    assert rest <= RUNTIMES.get(path.stem, set())


@pytest.mark.parametrize("path", [path for path in FILES if not path.stem.startswith("_")], ids=lambda path: path.stem)
def test_a_runner_is_sent_whole(path: Path, tmp_path: Path) -> None:
    (tmp_path / "sent.py").write_bytes(runner_source(path.stem))
    code = "room = {}; exec(open('sent.py').read(), room); print(room['Runner'].__name__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "Runner\n", done.stderr
