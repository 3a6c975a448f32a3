"""A model as a folder that stands on its own: ONNX, weights, ``.pt2``, recipe, hashes, and how to use it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, ValidationError

from autoprune.documents import Strict
from autoprune.errors import RunError
from autoprune.export.formats import format_of
from autoprune.export.formats.pt2 import Pt2Format, save_program
from autoprune.hardware import Precision
from autoprune.recipe import Recipe
from autoprune.records import Artifact

if TYPE_CHECKING:
    from torch import Tensor, nn

MANIFEST = "manifest.json"
PACKAGES = ("autoprune", "torch", "onnx", "onnxscript", "safetensors")

USE = '''\
"""Run the model in {runtime} ({model}, {precision}) and in PyTorch (model.pt2, {program})."""

from pathlib import Path

import numpy as np
import torch
{imports}

folder = Path(__file__).parent
inputs = [{inputs}]  # dimension 0 is the batch

{use}
print("{runtime}, for an input of zeros, gives shapes", [output.shape for output in outputs])

model = torch.export.load(folder / "model.pt2").module()  # can run code that was put into it: load your own files only
outputs = model(*map(torch.from_numpy, inputs))
outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
print("PyTorch, for the same, gives shapes", [tuple(output.shape) for output in outputs])
'''


class FileEntry(Strict):
    """One file of a bundle."""

    sha256: str
    size_bytes: NonNegativeInt


class Manifest(Strict):
    """``manifest.json``: what the folder holds.

    Attributes:
        recipe: id of the recipe.
        precision: of the artifact, ``model`` with the suffix of its format; the weights and ``model.pt2`` are FP32.
        files: name -> hash and size of every file but the manifest.
        kept: group id -> indices of the units that stayed, so that the cut can be made again from the dense model.
        versions: of what wrote the bundle.
    """

    format: Literal[1] = 1
    recipe: str
    precision: Precision
    files: dict[Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")], FileEntry]
    kept: dict[str, tuple[NonNegativeInt, ...]]
    versions: dict[str, str]


def write_bundle(
    folder: Path,
    *,
    recipe: Recipe,
    module: nn.Module,
    artifact: Artifact,
    example_inputs: tuple[Tensor, ...],
    kept: Mapping[str, Sequence[int]],
) -> Manifest:
    """Write the new folder ``folder``; it appears whole or not at all.

    It holds the artifact (``model.onnx``, or with another suffix), ``model.safetensors`` (the weights under the user's
    names), ``model.pt2`` (loads without the user's class; the artifact itself, if that is one), ``recipe.json``,
    ``manifest.json`` and ``use.py``. Neither the example inputs nor any path of this machine is stored.

    A ``.pt2`` of torch 2.13 holds the graph as JSON and the tensors as raw bytes, and these hold no pickle. Its
    format allows pickles though, and ``torch.export.load`` unpickles what a foreign file says is one: treat a ``.pt2``
    like a program, and load only those that you made or whose hash you know.

    Args:
        module: the smaller model in evaluation mode, FP32.
        example_inputs: shapes and types are used; dimension 0 is the batch, that of the artifact where it is fixed.
        kept: group id -> units kept.

    Raises:
        RunError: ``folder`` exists or cannot be written.
        StageError: kind ``export``: ``torch.export`` refuses the module.
    """
    if folder.exists():
        raise RunError(f"{folder} exists already: bundles are written to new folders only.")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        shutil.copyfile(artifact.path, draft / f"model{artifact.path.suffix}")
        _save_weights(module, draft / "model.safetensors")
        if artifact.path.suffix != Pt2Format.suffix:
            save_program(module, example_inputs, draft / "model.pt2")
        (draft / "recipe.json").write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (draft / "use.py").write_text(_usage(artifact, example_inputs), encoding="utf-8")
        manifest = Manifest(
            recipe=recipe.id,
            precision=artifact.precision,
            files={path.name: _describe(path) for path in sorted(draft.iterdir())},
            kept={group: tuple(units) for group, units in kept.items()},
            versions=_versions(),
        )
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _sync(draft)
        draft.rename(folder)
    except OSError as error:
        raise RunError(f"The bundle {folder} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, after every file was checked against its hash.

    Raises:
        RunError: a file is missing, was changed, or the manifest is not one; names the file.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error}. Is {folder} a bundle?") from error
    except ValidationError as error:
        raise RunError(f"{path} is corrupted: {error.errors()[0]['msg']}.") from error
    for name, expected in manifest.files.items():
        try:
            found = _describe(folder / name)
        except OSError as error:
            raise RunError(f"{folder / name} cannot be read: {error}.") from error
        if found != expected:
            raise RunError(f"{folder / name} is not the file that was written: its SHA-256 or size differs.")
    return manifest


def _save_weights(module: nn.Module, path: Path) -> None:
    from safetensors.torch import save_model

    save_model(module, str(path))


def _usage(artifact: Artifact, example_inputs: tuple[Tensor, ...]) -> str:
    form, model = format_of(artifact.path), f"model{artifact.path.suffix}"
    arrays = (f"np.zeros({tuple(value.shape)}, np.{value.numpy(force=True).dtype})" for value in example_inputs)
    return USE.format(
        precision=artifact.precision,
        program=artifact.precision if form is Pt2Format else "fp32",
        runtime=form.runtime,
        model=model,
        imports=form.imports,
        use=form.use.format(model=f'folder / "{model}"'),
        inputs=", ".join(arrays),
    )


def _describe(path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, size_bytes=path.stat().st_size)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
