"""ExecuTorch with its XNNPACK backend: the runtime of PyTorch models on mobile CPUs."""

import tempfile
from collections import Counter
from pathlib import Path

from autoprune.devices._base import OperatorTime
from autoprune.devices.local import LocalDevice
from autoprune.devices.runners._base import quiet
from autoprune.records import Artifact

CALLS = ("DELEGATE_CALL", "OPERATOR_CALL", "Method::execute")  # that hold what else is in the profile
NATIVE = "native_call_"


class ExecuTorchDevice(LocalDevice):
    """``options.threads`` threads, of which a process has one pool: accuracy is scored with as many.

    The clock is around ``execute`` alone; inputs are put in place before each run, because a program may use their
    memory for what it computes.
    """

    runtime = runner = format = "executorch"
    needs = "executorch"
    install = "pip install 'autoprune[mobile]'"
    imports = ("numpy", "torch", "executorch.extension.pybindings.portable_lib")

    @classmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        """XNNPACK names its operators by kind, and counts them in each part of the model: here over all parts."""
        with quiet(), tempfile.TemporaryDirectory() as folder:
            from executorch.devtools import Inspector

            path = Path(folder) / "profile.etdp"
            path.write_bytes(profile)
            blocks = Inspector(etdump_path=str(path)).event_blocks
        counted: Counter[str] = Counter()
        found = []
        for event in next(block for block in blocks if block.name == "Execute").events:
            if event.name not in CALLS and event.perf_data:
                kind = event.name.removeprefix(NATIVE).partition(" #")[0]
                counted[kind] += 1
                found.append(OperatorTime(f"{kind} {counted[kind]}", kind, max(0.0, 1e3 * float(event.perf_data.p50))))
        return found


DEVICE = ExecuTorchDevice
