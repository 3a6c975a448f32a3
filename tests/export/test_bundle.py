"""Bundles: what is in them, that they run without this package, and that a changed file is named."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from autoprune.errors import RunError
from autoprune.export import export_fresh, read_manifest, write_bundle
from autoprune.graph.model import PrunableGraph
from autoprune.recipe import Keep, Recipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bundles")
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    inputs = (torch.full((1, 3, 8, 8), 0.123456),)
    graph = PrunableGraph.capture(model, inputs)
    kept = {graph.groups[0].id: [0, 2, 3, 7]}
    module = graph.cut(kept).eval()
    artifact = export_fresh(module, inputs, root / "candidate.onnx")
    recipe = Recipe(choices={graph.groups[0].id: Keep(units=4)})
    write_bundle(root / "front", recipe=recipe, module=module, artifact=artifact, example_inputs=inputs, kept=kept)
    assert sorted(path.name for path in root.iterdir()) == ["candidate.onnx", "front"]
    return root / "front"


def test_round_trip(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    names = {"model.onnx", "model.pt2", "model.safetensors", "recipe.json", "use.py"}
    assert set(manifest.files) == names == {path.name for path in bundle.iterdir()} - {"manifest.json"}
    recipe = Recipe.model_validate_json((bundle / "recipe.json").read_text())
    assert recipe.id == manifest.recipe
    assert list(manifest.kept.values()) == [(0, 2, 3, 7)]
    weights = load_file(bundle / "model.safetensors")
    assert weights["0.weight"].shape == (4, 3, 3, 3)
    assert weights["4.weight"].shape == (4, 144)
    program = torch.export.load(bundle / "model.pt2").module()
    assert program(torch.zeros(5, 3, 8, 8)).shape == (5, 4)


def test_runs_in_a_bare_process(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-W", "ignore", str(bundle / "use.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ONNX Runtime, for an input of zeros, gives shapes [(1, 4)]",
        "PyTorch, for the same, gives shapes [(1, 4)]",
    ]


def test_leaks_neither_paths_nor_inputs_nor_pickles(bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "model.pt2") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = json.loads(next(data for name, data in files.items() if name.endswith("weights_config.json")))
    assert not [name for name, entry in weights["config"].items() if entry["use_pickle"]]
    everything = b"".join(files.values()) + b"".join(path.read_bytes() for path in bundle.iterdir())
    for secret in (str(Path.cwd()), sys.prefix, '.py\\"'):
        assert secret.encode() not in everything
    assert torch.full((8,), 0.123456).numpy().tobytes() not in everything


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "model.pt2", "recipe.json", "use.py"])
def test_a_changed_file_is_named(bundle: Path, name: str) -> None:
    whole = (bundle / name).read_bytes()
    try:
        (bundle / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(RunError, match=rf"{name} is not the file"):
            read_manifest(bundle)
        (bundle / name).unlink()
        with pytest.raises(RunError, match=rf"{name} cannot be read"):
            read_manifest(bundle)
    finally:
        (bundle / name).write_bytes(whole)
    read_manifest(bundle)


@pytest.mark.parametrize("change", ['{"recipe": 1', '{"files": {"../x": {"sha256": "", "size_bytes": 0}}}'])
def test_a_broken_manifest_is_refused(bundle: Path, tmp_path: Path, change: str) -> None:
    (tmp_path / "manifest.json").write_text(change)
    with pytest.raises(RunError, match=r"manifest\.json is corrupted"):
        read_manifest(tmp_path)
    with pytest.raises(RunError, match=r"Is .* a bundle"):
        read_manifest(tmp_path / "nothing")


def test_an_existing_folder_stays(bundle: Path) -> None:
    artifact = export_fresh(nn.ReLU(), (torch.zeros(2, 3),), bundle.parent / "other.onnx")
    with pytest.raises(RunError, match="exists already"):
        write_bundle(
            bundle, recipe=Recipe(), module=nn.ReLU(), artifact=artifact, example_inputs=(torch.zeros(2, 3),), kept={}
        )
