"""Candidates are exported in the variant of the format that suits the device, not this machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from autoprune.engine import Silent, configure
from autoprune.engine.prepare import prepare
from autoprune.evaluate import Evaluator
from autoprune.recipe import Recipe
from autoprune.testing import FakeDevice


class Cpu(FakeDevice):
    flags = ""

    def facts(self) -> dict[str, str]:
        return {"os": "Linux x86_64", "flags": self.flags}


@pytest.mark.parametrize(("flags", "largest"), [("avx2", 64), ("avx2 avx512_vnni", 127)])
def test_int8_weights_have_as_many_bits_as_the_device_sums(
    quick: dict[str, str], tmp_path: Path, flags: str, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cpu, "flags", flags)
    prepared = prepare(configure(**quick), Silent())
    device = Cpu(prepared.config.profile)
    evaluator = Evaluator(prepared.task, prepared.graph, device, work=tmp_path / "work")
    module, recipe = prepared.task.model().eval(), Recipe(precision="int8")
    for fresh in (False, True):
        artifact = evaluator.export(module, recipe, tmp_path / f"{fresh}.onnx", fresh=fresh)
        arrays = map(onnx.numpy_helper.to_array, onnx.load(artifact.path).graph.initializer)
        assert max(int(np.abs(one.astype(int)).max()) for one in arrays if one.dtype == np.int8) == largest
        assert evaluator.parity(artifact, module) < 1
