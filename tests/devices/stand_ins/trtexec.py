"""A stand-in for NVIDIA's ``trtexec``: the documented command line alone, of 10.3 or 11 by ``STAND_IN_TENSORRT``.

What it does not know it refuses as trtexec does; what it prints and writes has the documented form. Models are computed
by ONNX Runtime. Every command line goes to the file ``STAND_IN_LOG``.
"""

import json
import os
import re
import sys
import time

import numpy as np
import onnx
import onnxruntime

VERSION = os.environ.get("STAND_IN_TENSORRT", "10.3.0")
MAJOR, MINOR, PATCH = map(int, VERSION.split("."))
NAME = f"TensorRT.trtexec [TensorRT v{MAJOR * 10000 + MINOR * 100 + PATCH}]"
INT, FLOAT, FILE, SHAPES = r"\d+", r"\d+(\.\d+)?", r".+", r"('[^']+'|[^:,]+):\d+(x\d+)*(,('[^']+'|[^:,]+):\d+(x\d+)*)*"
FLAGS = {
    "--avgRuns": INT,
    "--dumpProfile": None,
    "--duration": FLOAT,
    "--exportLayerInfo": FILE,
    "--exportOutput": FILE,
    "--exportProfile": FILE,
    "--exportTimes": FILE,
    "--help": None,
    "--idleTime": FLOAT,
    "--infStreams": INT,
    "--iterations": INT,
    "--loadEngine": FILE,
    "--loadInputs": r"('[^']+'|[^:,]+):[^,]+(,('[^']+'|[^:,]+):[^,]+)*",
    "--maxShapes": SHAPES,
    "--memPoolSize": r"workspace:\d+[BKMG]?",
    "--minShapes": SHAPES,
    "--noDataTransfers": None,
    "--noTF32": None,
    "--onnx": FILE,
    "--optShapes": SHAPES,
    "--profilingVerbosity": "layer_names_only|detailed|none",
    "--saveEngine": FILE,
    "--separateProfileRun": None,
    "--shapes": SHAPES,
    "--skipInference": None,
    "--sleepTime": FLOAT,
    "--sparsity": "disable|enable|force",
    "--stronglyTyped": None,
    "--timingCacheFile": FILE,
    "--useCudaGraph": None,
    "--useSpinWait": None,
    "--verbose": None,
    "--warmUp": INT,
}
if MAJOR > 10:
    FLAGS |= {"--includeDataTransfers": None, "--noCudaGraph": None, "--noSpinWait": None}
else:
    FLAGS |= {"--fp16": None, "--int8": None}
SPARSITY = (
    [
        "(Sparsity) Layers eligible for sparse math: a, b",
        "(Sparsity) TRT inference plan picked sparse implementation for layers: b",
    ]
    if MAJOR < 11
    else [
        "(Sparsity) Found 2 layer(s) eligible to use sparse tactics",
        "(Sparsity) Chose 1 layer(s) using sparse tactics",
    ]
)


def say(level, text):
    print(f"[11/21/2026-12:00:00] [{level}] {text}", flush=True)


def parsed(arguments):
    found, wrong = {}, []
    for one in arguments:
        name, given, value = one.partition("=")
        if name not in FLAGS:
            wrong.append(f"Unknown option: {name} {value}")
        elif (FLAGS[name] is not None) != bool(given) or (given and not re.fullmatch(FLAGS[name], value)):
            wrong.append(f"Invalid value for {name}: {value}")
        elif name in found:
            wrong.append(f"{name} is given twice")
        found[name] = value
    if "--loadEngine" in found and "--saveEngine" in found:
        wrong.append("Incompatible load and save engine options selected")
    if "--loadEngine" not in found and "--onnx" not in found:
        wrong.append("Model missing or format not recognized")
    return found, wrong


def pairs(text):
    return {name.strip("'"): value for name, value in re.findall(r"('[^']+'|[^:,]+):([^,]+)", text)}


def open_dimensions(model):
    dims = {one.name: one.type.tensor_type.shape.dim for one in model.graph.input}
    return [name for name, dim in dims.items() if any(not one.HasField("dim_value") for one in dim)]


def build(options):
    try:
        model = onnx.load(options["--onnx"])
        onnx.checker.check_model(model)
    except Exception as error:
        say("E", f"[TRT] ModelImporter.cpp: failed to parse: {error!r}"[:200].replace("\n", " "))
        say("E", "Failed to parse onnx file")
        say("E", "Engine set up failed")
        return 1
    shapes = [pairs(options.get(name, "")) for name in ("--minShapes", "--optShapes", "--maxShapes")]
    assert shapes[0] == shapes[1] == shapes[2], "the stand-in is only told of one shape"
    if "--stronglyTyped" not in options and MAJOR < 11:
        say("W", "The stand-in would choose precisions by itself")
        return 1
    if options.get("--sparsity") == "enable":
        for line in SPARSITY:
            say("V", f"[TRT] {line}")
    with open(options["--saveEngine"], "wb") as file:
        file.write(json.dumps({"version": VERSION, "shapes": shapes[0]}).encode() + b"\n" + model.SerializeToString())
    with open(options["--timingCacheFile"], "wb") as file:
        file.write(b"timings")
    return 0


def infer(options):
    with open(options["--loadEngine"], "rb") as file:
        header, _, data = file.read().partition(b"\n")
    told = json.loads(header)
    if told["version"] != VERSION:
        say("E", "[TRT] IRuntime::deserializeCudaEngine: Error Code 1: Serialization (version mismatch)")
        return 1
    model = onnx.load_model_from_string(data)
    if open_dimensions(model):
        assert pairs(options["--shapes"]) == told["shapes"], "shapes of the engine's profile"
    say(
        "I",
        "[TRT] [MemUsageChange] TensorRT-managed allocation in IExecutionContext creation: "
        "CPU +0, GPU +3, now: CPU 0, GPU 5 (MiB)",
    )
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    files, feeds = pairs(options["--loadInputs"]), {}
    for one in session.get_inputs():
        sizes = told["shapes"].get(one.name) or "x".join(map(str, one.shape))
        with open(files[one.name], "rb") as file:
            feeds[one.name] = np.frombuffer(file.read(), np.float32).reshape([int(n) for n in sizes.split("x")])
    warm_up, traces, clock = float(options["--warmUp"]), [], 0.0
    for number in range(int(options["--iterations"]) + 6):  # three of them before the warm-up is over
        began = time.perf_counter()
        outputs = session.run(None, feeds)
        took = 1e3 * (time.perf_counter() - began) * (1 if number >= 3 else 1e4)  # the warm-up is slow
        clock = number * warm_up / 3 if number <= 3 else clock
        traces.append({"startComputeMs": clock, "endComputeMs": clock + took, "computeMs": took, "latencyMs": took})
        clock += took
    if "--exportTimes" in options:
        with open(options["--exportTimes"], "w") as file:
            json.dump(traces[3:] if MAJOR > 10 else traces, file)
    if "--exportOutput" in options:
        named = zip([one.name for one in session.get_outputs()], outputs, strict=True)
        told = [
            {
                "name": name,
                "dimensions": "x".join(map(str, array.shape)),
                "values": [float(f"{x:.6g}") for x in array.flat],
            }
            for name, array in named
        ]
        with open(options["--exportOutput"], "w") as file:
            file.write(json.dumps(told[::-1]).replace("NaN", "nan").replace("Infinity", "inf"))
    if "--exportProfile" in options:
        assert "--dumpProfile" in options
        layers = [
            {"name": node.name, "timeMs": 3.0, "averageMs": 0.1, "medianMs": 0.1, "percentage": 5}
            for node in model.graph.node
        ]
        with open(options["--exportProfile"], "w") as file:
            json.dump([{"count": 30}, *layers], file)
    if "--exportLayerInfo" in options:
        with open(options["--exportLayerInfo"], "w") as file:
            layers = [{"Name": node.name, "LayerType": node.op_type} for node in model.graph.node]
            json.dump({"Layers": layers, "Bindings" if MAJOR < 11 else "I/O Tensors": []}, file)
    return 0


def main():
    print(f"&&&& RUNNING {NAME} # trtexec {' '.join(sys.argv[1:])}")
    with open(os.environ["STAND_IN_LOG"], "a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    if sys.argv[1:] == ["--help"]:
        for name, value in FLAGS.items():
            print(f"  {name + ('=<value>' if value else ''):28}what it does")
        return 0
    options, wrong = parsed(sys.argv[1:])
    for line in wrong:
        say("E", line)
    status = 1 if wrong else build(options) if "--onnx" in options else infer(options)
    print(f"&&&& {'FAILED' if status else 'PASSED'} {NAME} # trtexec {' '.join(sys.argv[1:])}")
    return status


if __name__ == "__main__":
    sys.exit(main())
