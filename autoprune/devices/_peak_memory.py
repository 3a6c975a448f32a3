"""Run as a file, in a process of its own: ``_peak_memory.py MODEL INPUTS.npz THREADS`` prints the peak as JSON.

The peak of the resident set while the model is loaded and run, minus the resident set just before it is loaded.
``ru_maxrss`` is not used on Linux: a new process inherits its parent's.
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil

RUNS = 3


def main(model: str, inputs: str, threads: int) -> dict[str, int]:
    with np.load(inputs, allow_pickle=False) as stored:
        feeds = [stored[name] for name in stored.files]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # importing reached a peak of its own: forget it
    before = psutil.Process().memory_info().rss
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for _ in range(RUNS):
        session.run(None, dict(zip((node.name for node in session.get_inputs()), feeds, strict=True)))
    return {"peak_memory_bytes": max(0, _peak_rss_bytes() - before)}


def _peak_rss_bytes() -> int:
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
