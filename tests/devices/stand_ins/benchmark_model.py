"""A stand-in for LiteRT's benchmark_model: checks its flags against those of its source, prints what that prints.

It runs no model: the latency that it sleeps for, and tells, follows the size of the file. The real tool warns of
unknown flags and goes on; this one ends, so that a test sees them.
"""

import random
import sys
import time
from pathlib import Path

FLAGS: dict[str, type] = {
    "graph": str,
    "num_runs": int,
    "min_secs": float,
    "max_secs": float,
    "run_delay": float,
    "num_threads": int,
    "warmup_runs": int,
    "warmup_min_secs": float,
    "report_peak_memory_footprint": bool,
    "use_xnnpack": bool,
    "enable_op_profiling": bool,
}
SECONDS_PER_BYTE = 1e-7


def flags(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or name not in FLAGS:
            sys.exit(f"ERROR: Unconsumed cmdline flags: {word}")
        if FLAGS[name] is bool and value not in ("true", "false"):
            sys.exit(f"ERROR: {name} is no bool: {value}")
        elif FLAGS[name] in (int, float):
            FLAGS[name](value)
        found[name] = value
    return found


def stat(times: list[float]) -> str:
    mean = sum(times) / len(times)
    return f"count={len(times)} first={times[0]:.0f} curr={times[-1]:.0f} min={min(times):.0f} avg={mean:g} std=3"


def main() -> None:
    given = flags(sys.argv[1:])
    graph = Path(given.get("graph", ""))
    print("INFO: STARTING!", file=sys.stderr)
    print(f"INFO: Graph: [{graph}]", file=sys.stderr)
    if not graph.is_file():
        sys.exit(f"ERROR: Could not open '{graph}'.\nERROR: Failed to load model\nERROR: Benchmarking failed.")
    if graph.read_bytes() == b"no model":
        sys.exit("ERROR: The model is not a valid Flatbuffer buffer\nERROR: Benchmarking failed.")
    seconds = SECONDS_PER_BYTE * graph.stat().st_size
    times = [1e6 * seconds * random.uniform(1, 1.05) for _ in range(int(given.get("num_runs", 50)))]
    time.sleep(sum(times) / 1e6)
    for run in ([times[0]], times):
        print("INFO: Running benchmark for at least 1 iterations and at least 0 seconds", file=sys.stderr)
        print(f"INFO: {stat(run)}\n", file=sys.stderr)
    told = f"Init: 456, First inference: {times[0]:.0f}, Warmup (avg): {times[0]:g}"
    print(f"INFO: Inference timings in us: {told}, Inference (avg): {sum(times) / len(times):g}", file=sys.stderr)
    print("INFO: Memory footprint delta from the start of the tool (MB): init=1.75 overall=1.75", file=sys.stderr)


if __name__ == "__main__":
    main()
