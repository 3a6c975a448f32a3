"""A target that is timed quickly, and one finished run that several tests read."""

from pathlib import Path

import pytest

QUICK = """\
name: quick
description: this machine, timed in a hurry
runtime: onnxruntime
timing: {warmup_ms: 2, blocks: 6, block_ms: 2, settle_percent: 500, max_seconds: 30}
capabilities: {channel_multiple: 8, precisions: [fp32, int8]}
"""
SPACE = """\
name: quick
description: seconds in all
keep: {min: 0.25, levels: 4}
criterion: [l2]
recover: [{methods: [lstsq, bn]}, {methods: [distil], epochs: 0.5}]
"""
SMALL = Path(__file__).with_name("small.py")


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of a search that takes seconds."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "quick.yaml").write_text(QUICK)
    (folder / "space.yaml").write_text(SPACE)
    return {"task": str(SMALL), "target": str(folder / "quick.yaml"), "space": str(folder / "space.yaml")}
