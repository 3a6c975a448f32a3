"""The README's table of targets is what was recorded, no more."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "scripts" / "evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evidence", module)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_table_is_what_was_recorded(evidence: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert evidence.BEGIN + evidence.table() + evidence.END in text, "run scripts/evidence.py"


def test_what_was_not_recorded_was_not_run(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evidence.state("cpu").startswith("measured on this host: ")
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    assert evidence.state("cpu") == "not yet run on hardware"
