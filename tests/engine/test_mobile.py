"""A whole search in each mobile runtime: its artifacts, its bundles, its report, and another one that goes on."""

from pathlib import Path

import pytest

import autoprune
from autoprune.engine.finalists import Finals
from autoprune.export import read_manifest
from autoprune.study import RunDirectory
from tests.engine.conftest import QUICK

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("runtime", "module", "suffix"),
    [("executorch", "executorch", ".pte"), ("litert", "litert_torch", ".tflite")],
)
def test_search_ends_with_bundles_of_its_format(
    runtime: str, module: str, suffix: str, quick: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip(module, reason=f"{runtime} is not installed")
    target = tmp_path / "mobile.yaml"
    target.write_text(QUICK.replace("onnxruntime", runtime))
    run = autoprune.search(
        task=quick["task"],
        space=quick["space"],
        target=str(target),
        strategy="random",
        trials=2,
        out=tmp_path / "run",
    )
    assert run.document["trials"]["failed"] == 0
    if runtime == "litert":  # ExecuTorch takes long to load, once for each finalist
        autoprune.resume(run.directory, trials=3)
    directory = RunDirectory.open(run.directory)
    finals = Finals.load(directory)
    for one in (finals.dense, *finals.finalists):
        bundle = directory.front / one.recipe.id
        assert one.model == f"model{suffix}"
        assert one.model in read_manifest(bundle).files
        assert one.score.latency.runtime == runtime
        assert bool(one.operators) == (runtime == "executorch")
    assert f"model{suffix}" in run.report.read_text(encoding="utf-8")
    assert not list(directory.work.glob("*.onnx"))
