"""Arrays as files, for programs that compute elsewhere: ``0.npy`` and ``0.bin``, ``1.npy`` and ``1.bin`` and so on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoprune.devices._base import Arrays
from autoprune.records import Artifact

RAW = np.dtype("<f4")


def write_inputs(folder: Path, inputs: Arrays) -> None:
    """Every array twice: as NumPy's ``.npy``, and in ``.bin`` its bytes alone, in C order, little-endian."""
    folder.mkdir(parents=True)
    for number, array in enumerate(inputs):
        np.save(folder / f"{number}.npy", array, allow_pickle=False)
        (folder / f"{number}.bin").write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())


def read_outputs(folder: Path, artifact: Artifact, *, batch: int) -> list[np.ndarray]:
    """Those that a program wrote: ``.npy``, or ``.bin`` of float32 in the shapes that the ONNX graph says.

    Raises:
        OSError, ValueError: there are none, or they are not what they should be.
    """
    written = {path.name for path in folder.iterdir()}
    if "0.npy" in written:
        paths = [folder / f"{number}.npy" for number in range(len(written)) if f"{number}.npy" in written]
        return [np.array(np.load(path, mmap_mode="r", allow_pickle=False)) for path in paths]
    if "0.bin" not in written:
        raise ValueError("there is neither 0.npy nor 0.bin in {outputs}")
    shapes = _shapes(artifact, batch)
    return [np.fromfile(folder / f"{number}.bin", RAW).reshape(shape) for number, shape in enumerate(shapes)]


def _shapes(artifact: Artifact, batch: int) -> list[tuple[int, ...]]:
    """Of the outputs; every dimension that is not fixed is the batch. Raises ValueError for what is not ONNX."""
    if artifact.path.suffix != ".onnx":
        raise ValueError("the outputs of a model that is not ONNX have to be written as .npy")
    import onnx

    outputs = onnx.load_model(artifact.path, load_external_data=False).graph.output
    return [tuple(dim.dim_value or batch for dim in one.type.tensor_type.shape.dim) for one in outputs]
