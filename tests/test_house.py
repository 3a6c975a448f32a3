"""The architecture: imports point one way, every module is on the map, the nouns are light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import autoprune

PACKAGE = Path(autoprune.__file__).parent
ROOMS = re.findall(r"^    (\w+)/? {2,}\S", autoprune.__doc__ or "", flags=re.M)
HEAVY = ("torch", "optuna", "ray", "onnx", "onnxruntime", "tensorrt", "sklearn", "scipy", "plotly")
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",) and path != PACKAGE / "__init__.py"
)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module == "autoprune":
                names |= {f"autoprune.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("autoprune.")}


def test_every_module_is_on_the_map() -> None:
    found = {room_of(path) for path in MODULES}
    assert found == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    above = set(ROOMS[: ROOMS.index(room) + 1])
    assert imported_rooms(path) <= above, f"{path.relative_to(PACKAGE)} imports from a room below {room}"


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "room", ["errors", "documents", "task", "hardware", "recipe", "records", "space", "solver", "pareto"]
)
def test_nouns_are_light(room: str) -> None:
    assert not loaded_after(f"import autoprune.{room}") & set(HEAVY)


@pytest.mark.parametrize("statement", ["import autoprune", "import autoprune.cli", "import autoprune.graph"])
def test_nothing_heavy_before_it_is_needed(statement: str) -> None:
    assert not loaded_after(statement) & {*HEAVY, "numpy"}


def test_the_command_line_starts_quickly() -> None:
    code = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'autoprune', '--help'],"
        "check=True, stdout=subprocess.DEVNULL); used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime)"
    )
    seconds = min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3))
    assert seconds < 0.6, "autoprune --help is meant to take at most 0.3 s of CPU; this is twice that"


def test_files_stay_short() -> None:
    long = {str(path.relative_to(PACKAGE)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long
