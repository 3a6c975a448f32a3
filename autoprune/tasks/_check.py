"""Looking a task over before hours are spent on it."""

from __future__ import annotations

import math
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import TaskError
from autoprune.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.task import Batch, Batches

Shape = tuple[int, ...]
LOSS_SAMPLES = 8
LIBRARIES = (str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))


@dataclass(frozen=True)
class TaskFacts:
    """What was seen of a task.

    Attributes:
        input_shapes: of one sample.
        output_shape: of one sample.
        validation_samples: in the whole validation split.
        metric: of the dense model on the first validation batch.
        notes: what will not work, without being wrong, in sentences.
    """

    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    validation_samples: int
    metric: float
    notes: tuple[str, ...]


def check_task(task: Task) -> TaskFacts:
    """Load the model, look at the first batch of training data and all of validation and test, and run one batch.

    Raises:
        TaskError: something does not fit; says what, where, and what to do.
    """
    from autoprune.compress.batches import as_inputs

    _name(task)
    examples = _examples(task)
    splits: dict[str, Batches] = {"train": task.train, "validation": task.validation}
    if task.test is not None:
        splits["test"] = task.test
    firsts = {name: _first(task, name, batches, examples) for name, batches in splits.items()}
    samples = {name: _count(task, name, batches, examples) for name, batches in splits.items() if name != "train"}
    model = _model(task)
    _forward(task, model, examples, "example_inputs")
    inputs, targets = firsts["validation"]
    outputs = _forward(task, model, as_inputs(inputs), "the first validation batch")
    if not len(outputs) == len(targets):
        raise _wrong(
            task, f"the model makes {len(outputs)} outputs of {len(targets)} samples; dimension 0 is the batch"
        )
    return TaskFacts(
        input_shapes=tuple(tuple(tensor.shape[1:]) for tensor in examples),
        output_shape=tuple(outputs.shape[1:]),
        validation_samples=samples["validation"],
        metric=_metric(task, outputs, targets),
        notes=_loss_notes(task, model, *firsts["train"]),
    )


def _wrong(task: Task, what: str) -> TaskError:
    return TaskError(f"Task '{task.name}': {what}.")


def _raised(error: Exception) -> str:
    """What was raised, and the last line of the user's own code on the way there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(("<", *LIBRARIES))]
    place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    first = str(error).partition("\n")[0]
    return f"{place}: {type(error).__name__}: {first}"


def _name(task: Task) -> None:
    name: Any = task.name
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise TaskError(f"A task's name is {name!r}, expected printable text: it becomes part of the run directory.")


def _examples(task: Task) -> tuple[Tensor, ...]:
    from torch import Tensor

    examples: Any = task.example_inputs
    if not isinstance(examples, tuple) or not examples or not all(isinstance(value, Tensor) for value in examples):
        raise _wrong(task, f"example_inputs is {_kind(examples)}, expected a tuple of tensors, such as (images[:1],)")
    for tensor in examples:
        _plain(task, tensor, "example_inputs")
    return task.example_inputs


def _first(task: Task, split: str, batches: Any, examples: tuple[Tensor, ...]) -> Batch:
    """The first batch of a split that can be gone over again and again."""
    if isinstance(batches, Iterator):
        raise _wrong(
            task,
            f"{split} is {_kind(batches)}, which is exhausted after one pass; "
            "give a list, a DataLoader, or an object with __iter__",
        )
    batch: Batch = _next(task, split, batches)
    _well_formed(task, f"the first {split} batch", batch, examples)
    return batch


def _next(task: Task, split: str, batches: Any) -> Any:
    try:
        return next(iter(batches))
    except StopIteration:
        raise _wrong(task, f"{split} is empty; give at least one batch (inputs, targets)") from None
    except Exception as error:
        raise _wrong(task, f"{split} cannot be read: {type(error).__name__}: {error}") from error


def _well_formed(task: Task, where: str, batch: Any, examples: tuple[Tensor, ...]) -> None:
    from torch import Tensor

    from autoprune.compress.batches import as_inputs

    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise _wrong(task, f"{where} is {_kind(batch)}, expected a pair (inputs, targets)")
    inputs, targets = batch
    tensors = as_inputs(inputs)
    for part, tensor in (*(("inputs", tensor) for tensor in tensors), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise _wrong(task, f"the {part} of {where} hold {_kind(tensor)}, expected a tensor")
        _plain(task, tensor, f"the {part} of {where}")
    if len(tensors) != len(examples):
        raise _wrong(task, f"{where} has {len(tensors)} inputs, example_inputs has {len(examples)}")
    for tensor, example in zip(tensors, examples, strict=True):
        if (tensor.dtype, tensor.shape[1:]) != (example.dtype, example.shape[1:]):
            raise _wrong(
                task,
                f"{where} has inputs {_shape(tensor)}, example_inputs has {_shape(example)}; "
                "they may differ in dimension 0 only",
            )
        if len(tensor) != len(targets):
            raise _wrong(task, f"{where} has {len(tensor)} inputs and {len(targets)} targets")


def _plain(task: Task, tensor: Tensor, where: str) -> None:
    if tensor.ndim == 0 or not len(tensor):
        raise _wrong(task, f"{where} has a tensor of shape {tuple(tensor.shape)}; dimension 0 must be the samples")
    if tensor.device.type != "cpu":
        raise _wrong(task, f"{where} is on {tensor.device}; give tensors on the CPU")
    if tensor.requires_grad:
        raise _wrong(task, f"{where} requires a gradient; detach() it")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise _wrong(task, f"{where} has NaN or infinite values")


def _count(task: Task, split: str, batches: Batches, examples: tuple[Tensor, ...]) -> int:
    """Samples of a split; every batch is looked at, and a second pass must give batches again."""
    samples = 0
    try:
        for number, batch in enumerate(batches, start=1):
            _well_formed(task, f"{split} batch {number}", batch, examples)
            samples += len(batch[1])
    except TaskError:
        raise
    except Exception as error:
        raise _wrong(task, f"{split} cannot be read to its end: {type(error).__name__}: {error}") from error
    try:
        _next(task, split, batches)
    except TaskError as error:
        raise _wrong(
            task,
            f"{split} gives no batches on a second pass; give a list, a DataLoader, or an object whose "
            "__iter__ starts anew",
        ) from error
    return samples


def _model(task: Task) -> nn.Module:
    from torch import nn

    from autoprune.tasks._fingerprint import digest_tensors

    models = []
    for _ in range(2):
        try:
            model = task.model()
        except TaskError:
            raise
        except Exception as error:
            raise _wrong(task, f"model() failed{_raised(error)}") from error
        if not isinstance(model, nn.Module):
            raise _wrong(task, f"model() returned {_kind(model)}, expected a torch.nn.Module")
        models.append(model)
    for name, tensor in models[0].state_dict().items():
        if tensor.device.type != "cpu":
            raise _wrong(task, f"the model's '{name}' is on {tensor.device}; return the model on the CPU")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise _wrong(task, f"the model's '{name}' has NaN or infinite values")
    if digest_tensors(models[0].state_dict()) != digest_tensors(models[1].state_dict()):
        raise _wrong(task, "model() gives other weights on every call; load the trained weights in it")
    return models[0].eval()


def _forward(task: Task, model: nn.Module, inputs: tuple[Tensor, ...], where: str) -> Tensor:
    import torch

    shapes = ", ".join(map(_shape, inputs))
    try:
        with torch.no_grad():
            outputs = model(*inputs)
    except Exception as error:
        raise _wrong(task, f"the model fails on {where}, {shapes}{_raised(error)}") from error
    if not isinstance(outputs, torch.Tensor):
        raise _wrong(
            task,
            f"the model returns {_kind(outputs)}, expected one tensor; wrap it in a module that returns "
            "what the metric takes",
        )
    if not outputs.ndim:
        raise _wrong(task, f"the model returns a single number for {where}, {shapes}; dimension 0 must be the samples")
    if not outputs.isfinite().all():
        raise _wrong(task, f"the model's outputs for {where} have NaN or infinite values")
    return outputs


def _metric(task: Task, outputs: Tensor, targets: Tensor) -> float:
    shapes = f"outputs {_shape(outputs)} and targets {_shape(targets)}"
    try:
        value = float(task.metric(outputs, targets))
    except Exception as error:
        raise _wrong(task, f"the metric fails on {shapes}{_raised(error)}") from error
    if not math.isfinite(value):
        raise _wrong(task, f"the metric is {value} for {shapes}; it must be a finite number")
    return value


def _loss_notes(task: Task, model: nn.Module, inputs: Any, targets: Tensor) -> tuple[str, ...]:
    """Why the loss cannot train, if it cannot; searches without training do without it."""
    import torch

    from autoprune.compress.batches import as_inputs

    try:
        with torch.enable_grad():
            outputs = model(*(tensor[:LOSS_SAMPLES] for tensor in as_inputs(inputs)))
            loss = task.loss(outputs, targets[:LOSS_SAMPLES])
        good = isinstance(loss, torch.Tensor) and loss.ndim == 0 and bool(loss.isfinite()) and loss.requires_grad
        problem = "" if good else f"it gives {_kind(loss)}, expected a finite scalar tensor with a gradient"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
    if not problem:
        return ()
    return (f"The loss cannot be used on a training batch ({problem}): finetune, distil and taylor will fail.",)


def _kind(value: object) -> str:
    from torch import Tensor

    if isinstance(value, Tensor):
        return f"a tensor {_shape(value)}"
    size = f" of {len(value)}" if isinstance(value, (tuple, list, dict)) else ""
    return f"a {type(value).__name__}{size}"


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
