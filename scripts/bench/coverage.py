"""How many of the zoo's networks can be cut at 50 % into a valid model, beside Torch-Pruning 1.6.1.

Each network and tool has a process of its own, one thread, 90 s of CPU time. Every group is cut to half (rounded up);
VALID means fewer parameters, outputs that are finite and of the dense shape at two batch sizes, and a training step
with finite gradients. Torch-Pruning gets MagnitudePruner at ratio 0.5 with the classifier ignored and no other hints.
BROKEN is a model that was returned and does not hold, CRASHED an error from inside the tool, REFUSED an error meant for
the user or nothing found to cut.
"""

import argparse
import contextlib
import fnmatch
import importlib
import json
import resource
import signal
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from _bench import Bench, main
from _zoo import Entry, zoo

LIMIT_S = 90
TOOLS = ("autoprune", "torch-pruning")
QUICK = (
    "cifar_resnet20 tv_resnet18 tv_mobilenet_v3_small tv_shufflenet_v2_x1_0 timm_deit_tiny_patch16_224"
    " timm_mixer_s32_224 hf_bert hf_gpt2 hf_llama lstm gru nn_transformer_encoder"
)
LEFT_OUT = {
    "torchvision detection (Faster R-CNN, RetinaNet, SSD)": "the output's length depends on the data",
    "timm hrnet_w18, senet154, nasnetalarge, pnasnet5large": "the same operators as a smaller one here, minutes of CPU",
    "mixture-of-experts language models": "routing depends on the data",
}


def run(bench: Bench, *, only: str, tools: tuple[str, ...]) -> None:
    """Every chosen network with every chosen tool, then the figures."""
    results: dict[str, dict[str, dict[str, Any]]] = {tool: {} for tool in tools}
    for name, entry in _chosen(only, quick=bench.quick).items():
        for tool in tools:
            results[tool][name] = found = _apart(name, tool)
            bench.say(f"{name} {tool} {found['result']} {found.get('kept', '')} {found.get('why', '')}")
        bench.row(model=name, family=entry.family, **_cells({tool: results[tool][name] for tool in tools}))
    for what, why in LEFT_OUT.items():
        bench.say(f"left out: {what}: {why}")
    _figures(bench, results)


def _chosen(only: str, *, quick: bool) -> dict[str, Entry]:
    entries = {name: entry for name, entry in zoo().items() if not quick or name in QUICK.split()}
    return {name: entry for name, entry in entries.items() if any(fnmatch.fnmatch(name, p) for p in only.split(","))}


def _cells(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    ours, theirs = found.get("autoprune", {}), found.get("torch-pruning", {})
    wanted = ("result", "kept", "groups", "capture_s", "cut_ms", "blocked", "why")
    cells = {name: ours.get(name, "") for name in wanted} if ours else {}
    return cells | {f"torch_pruning_{name}": theirs[name] for name in ("result", "kept", "why") if name in theirs}


def _figures(bench: Bench, results: dict[str, dict[str, dict[str, Any]]]) -> None:
    for tool, found in results.items():
        valid = sum(one["result"] == "VALID" for one in found.values())
        goal = (">= 1", "== 0") if tool == "autoprune" else (None, None)
        bench.figure(f"{tool}: share cut into a valid model", valid / max(1, len(found)), goal=goal[0])
        broken = sum(one["result"] == "BROKEN" for one in found.values())
        bench.figure(f"{tool}: invalid models returned", broken, goal=goal[1])
    ours = results.get("autoprune", {})
    if "capture_s" in ours.get("tv_resnet50", {}):
        bench.figure("ResNet-50: capture (s)", ours["tv_resnet50"]["capture_s"], goal="<= 10")
        bench.figure("ResNet-50: cut (ms)", ours["tv_resnet50"]["cut_ms"], goal="<= 100")
    theirs = {n: one["kept"] for n, one in results.get("torch-pruning", {}).items() if one["result"] == "VALID"}
    if ours and theirs:
        smaller = sum(ours[name].get("kept", 1.0) <= kept + 0.01 for name, kept in theirs.items())
        bench.figure("as small as Torch-Pruning's, where that is valid", smaller / len(theirs), goal=">= 1")


def _apart(name: str, tool: str) -> dict[str, Any]:
    """One network and one tool in a process that may hang or die."""
    command = [sys.executable, __file__, "--one", name, "--tool", tool]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"result": "TIMEOUT", "seconds": 10 * LIMIT_S}
    ended = {"seconds": round(time.monotonic() - began, 1)}
    if done.returncode == -signal.SIGXCPU:
        return {"result": "TIMEOUT"} | ended
    with contextlib.suppress(json.JSONDecodeError, IndexError):
        return json.loads(done.stdout.strip().splitlines()[-1]) | ended
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return {"result": "CRASHED", "why": f"exit status {done.returncode}: {last[0][:160]}"} | ended


def one(name: str, tool: str) -> dict[str, Any]:
    """One network and one tool, in this process."""
    import torch

    warnings.filterwarnings("ignore")
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    entry = zoo()[name]
    return _autoprune(entry) if tool == "autoprune" else _torch_pruning(entry)


def _autoprune(entry: Entry) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from autoprune.errors import AutopruneError
    from autoprune.graph.model import PrunableGraph

    model = entry.build().eval()
    began = time.perf_counter()
    try:
        graph = PrunableGraph.capture(model, entry.examples(2))
    except AutopruneError as error:
        return {"result": "REFUSED", "why": _line(error)}
    except Exception as error:
        return {"result": "CRASHED", "why": f"capture: {_line(error)}"}
    found: dict[str, Any] = {"capture_s": round(time.perf_counter() - began, 2), "groups": len(graph.groups)}
    found["blocked"] = sorted({blocked.operator for blocked in graph.blocked})
    if not graph.groups:
        return found | {"result": "REFUSED", "why": "nothing to cut"}
    keep = {group.id: range(0, group.size, 2) for group in graph.groups}
    try:
        cut_ms, cut = _timed_cuts(graph, keep)
    except Exception as error:
        return found | {"result": "CRASHED", "why": f"cut: {_line(error)}"}
    found["cut_ms"] = round(cut_ms, 1)
    batches = (2, 3) if graph.dynamic_batch else (2,)
    return found | _verdict(entry, model, cut, batches=batches, before=_parameters(graph.module()))


def _timed_cuts(graph: Any, keep: dict[str, range]) -> tuple[float, Any]:
    """Median of five cuts, in milliseconds, and the last of them."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        cut = graph.cut(keep)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), cut


def _torch_pruning(entry: Entry) -> dict[str, Any]:
    torch_pruning = importlib.import_module("torch_pruning")
    dense, model = entry.build().eval(), entry.build().eval()
    examples = entry.examples(2)
    try:
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            examples if len(examples) > 1 else examples[0],
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=[entry.head_of(model)],
        )
        pruner.step()
    except Exception as error:
        return {"result": "CRASHED", "why": _line(error)}
    return _verdict(entry, dense, model, batches=(2, 3), before=_parameters(dense))


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _verdict(entry: Entry, dense: Any, cut: Any, *, batches: tuple[int, ...], before: int) -> dict[str, Any]:
    """Whether ``cut`` is a model with fewer parameters than ``before`` that computes and trains."""
    after = _parameters(cut)
    found = {"kept": round(after / before, 3)}
    if after >= before:
        return found | {"result": "REFUSED", "why": "nothing was cut"}
    try:
        for batch in batches:
            _check_outputs(dense, cut, entry.examples(batch))
        _check_training(cut, entry.examples(2))
    except Exception as error:
        return found | {"result": "BROKEN", "why": _line(error)}
    return found | {"result": "VALID"}


def _check_outputs(dense: Any, cut: Any, inputs: tuple[Any, ...]) -> None:
    import torch

    with torch.no_grad():
        expected, found = dense.eval()(*inputs), cut.eval()(*inputs)
    if found.shape != expected.shape:
        raise ValueError(f"output of shape {tuple(found.shape)}, dense {tuple(expected.shape)}")
    if not found.isfinite().all() and expected.isfinite().all():
        raise ValueError("output is not finite")


def _check_training(cut: Any, inputs: tuple[Any, ...]) -> None:
    cut.train()(*inputs).square().mean().backward()
    gradients = [parameter.grad for parameter in cut.parameters() if parameter.grad is not None]
    if not gradients or not all(gradient.isfinite().all() for gradient in gradients):
        raise ValueError("gradients are missing or not finite")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__} {lines[0][:160]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", default="*", help="networks by name pattern, several with commas")
    parser.add_argument("--tool", choices=(*TOOLS, "both"), default="both")
    parser.add_argument("--one")
    chosen, sys.argv[1:] = parser.parse_known_args()
    if chosen.one:
        print(json.dumps(one(chosen.one, chosen.tool)))
        sys.exit()
    tools = TOOLS if chosen.tool == "both" else (chosen.tool,)
    main("Coverage", lambda bench: run(bench, only=chosen.only, tools=tools))
