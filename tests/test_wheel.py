"""The wheel holds all that an installed autoprune needs, in places where it is found."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBE = """
from pathlib import Path
import autoprune
from autoprune.documents import shipped_folder
from autoprune.hardware import load_profile
from autoprune.space import load_space
from autoprune.report.summary import SCHEMA
load_profile("cpu"), load_space("default")
assert Path(autoprune.__file__).is_relative_to(Path.cwd()), autoprune.__file__
assert shipped_folder("hw_profiles").is_relative_to(Path(autoprune.__file__).parent)
assert SCHEMA.is_file() and list(SCHEMA.parent.glob("*.j2")) and Path("autoprune/py.typed").is_file()
"""


@pytest.mark.slow
def test_an_installed_wheel_finds_its_documents(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run([*build, "--disable-pip-version-check"], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("autoprune-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", PROBE], cwd=tmp_path / "site", env=environment, check=True)
