"""Torch-Pruning as a contender: its choice of channels, then the recovery, export and timing that all contenders get.

It cuts the first convolution of every block of a CIFAR ResNet. Its cut of the stream is left out, because it is invalid
beside a shortcut that pads with zeros. Channels are rounded to the device's channel multiple. Every ratio is reached in
one step and in five (``STEPS``): in one, it rounds a layer that should keep less than a multiple down to nothing, and
then leaves it whole; in five, it overshoots small ratios.
"""

import copy
import importlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.compress import Saliencies
from autoprune.compress.batches import as_inputs, seeded, take
from autoprune.engine.prepare import Prepared
from autoprune.evaluate import Evaluator
from autoprune.recipe import DENSE, Keep, Recipe

STEPS = (1, 5)
FINEST = 6  # halvings of the ladder of ratios: 63 rungs
GRADIENT_SAMPLES = {"taylor": 1024, "hessian": 256}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "magnitude-l1": ("MagnitudeImportance", {"p": 1}),
    "magnitude-l2": ("MagnitudeImportance", {"p": 2}),
    "bn-scale": ("BNScaleImportance", {}),
    "lamp": ("LAMPImportance", {}),
    "fpgm": ("FPGMImportance", {}),
    "taylor": ("TaylorImportance", {}),
    "hessian": ("HessianImportance", {}),
    "random": ("RandomImportance", {}),
}


class Chosen(Saliencies):
    """Saliencies in whose stead another tool has chosen: 1 for the units that it keeps, 0 for the others."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared.graph, prepared.task)
        self.kept: dict[str, dict[str, Sequence[int]]] = {}

    def of(self, name: str, *, seed: int = 0) -> dict[str, Tensor]:
        """By the choice of that name."""
        if name not in self.kept:
            return super().of(name, seed=seed)
        found = {group.id: torch.zeros(group.size) for group in self.graph.groups}
        for group, units in self.kept[name].items():
            found[group][list(units)] = 1.0
        return found


class TorchPruning:
    """One importance, with the same ratio for every layer or ranked over all layers (``globally``)."""

    def __init__(self, prepared: Prepared, importance: str, *, globally: bool, seed: int) -> None:
        self.prepared, self.importance, self.globally, self.seed = prepared, importance, globally, seed
        self.library = importlib.import_module("torch_pruning")
        self.dense = prepared.task.model()
        self.groups = {m.parameter: g.id for g in prepared.graph.groups for m in g.members if m.dim == 0}
        self._gradients()

    def run(self, evaluator: Evaluator) -> None:
        """Evaluate the ladder, from coarse to fine, in each precision and with each recovery of the space."""
        chosen = Chosen(self.prepared)
        evaluator.saliencies = chosen
        for precision in self.prepared.space.precisions:
            evaluator.evaluate(Recipe.model_validate({**DENSE.model_dump(), "precision": precision}))
        for ratio, steps in itertools.product(ladder(), STEPS):
            kept = self.kept(ratio, steps)
            if not kept or kept in chosen.kept.values():
                continue
            name = f"torch-pruning {ratio:g} in {steps}"
            chosen.kept[name] = kept
            for recipe in self._recipes(name, kept):
                evaluator.evaluate(recipe)

    def _recipes(self, name: str, kept: dict[str, Sequence[int]]) -> Iterator[Recipe]:
        space = self.prepared.space
        for precision in space.precisions:
            for how in space.space.recover:
                yield Recipe(
                    choices={group: Keep(units=len(units)) for group, units in kept.items()},
                    criterion=name,
                    precision=precision,
                    recover=how.methods,
                    seed=self.seed,
                )

    def kept(self, ratio: float, steps: int) -> dict[str, Sequence[int]]:
        """Group id -> units that stay after Torch-Pruning's cut, of the groups that it cuts.

        Raises:
            ValueError: the cut model does not compute what the same cut by autoprune does.
        """
        model = self._copy()
        names = {module: name for name, module in model.named_modules()}
        alive = {name: list(range(module.out_channels)) for module, name in names.items() if inner(name)}
        whole = {name: len(units) for name, units in alive.items()}
        with seeded(self.seed):
            pruner = self._pruner(model, ratio, steps)
            for _ in range(steps):
                for group in pruner.step(interactive=True):
                    gone = set(group[0].idxs)
                    name = names[group[0].dep.target.module]
                    alive[name] = [unit for place, unit in enumerate(alive[name]) if place not in gone]
                    group.prune()
        kept = {self.groups[f"{name}.weight"]: units for name, units in alive.items() if len(units) < whole[name]}
        self._check(model, kept)
        return kept

    def _pruner(self, model: nn.Module, ratio: float, steps: int) -> Any:
        kind, options = CLASSES[self.importance]
        importance = getattr(self.library.importance, kind)(**options)
        if self.importance == "hessian":
            importance.accumulate_grad(model)
        layers = [(name, m) for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        return self.library.pruner.BasePruner(
            model,
            self.prepared.task.example_inputs,
            importance=importance,
            global_pruning=self.globally,
            pruning_ratio=ratio,
            iterative_steps=steps,
            round_to=self.prepared.space.channel_multiple,
            ignored_layers=[layer for name, layer in layers if not inner(name)],
        )

    def _check(self, model: nn.Module, kept: dict[str, Sequence[int]]) -> None:
        inputs = self.prepared.task.example_inputs
        with torch.no_grad():
            theirs, ours = model.eval()(*inputs), self.prepared.graph.cut(kept).eval()(*inputs)
        if not torch.allclose(theirs, ours, atol=1e-3, rtol=1e-3):
            raise ValueError(f"Torch-Pruning's model is off by {float((theirs - ours).abs().max()):.3g}.")

    def _copy(self) -> nn.Module:
        """With the gradients, which a copy by Python leaves behind."""
        model = copy.deepcopy(self.dense)
        for parameter, dense in zip(model.parameters(), self.dense.parameters(), strict=True):
            parameter.grad = None if dense.grad is None else dense.grad.clone()
        return model

    def _gradients(self) -> None:
        """What the importance wants: gradients of the loss, or for the Hessian's diagonal their root mean square.

        Version 1.6.1 forgets all but the last sample where it is told of several, so it is told of one.
        """
        if self.importance not in GRADIENT_SAMPLES:
            return
        task, samples = self.prepared.task, GRADIENT_SAMPLES[self.importance]
        with seeded(self.seed):
            batches = take(task, samples, batch=1 if self.importance == "hessian" else 128)
        sums = [torch.zeros_like(parameter) for parameter in self.dense.parameters()]
        power = 2 if self.importance == "hessian" else 1
        for inputs, targets in batches:
            self.dense.zero_grad()
            task.loss(self.dense(*as_inputs(inputs)), targets).backward()
            for total, parameter in zip(sums, self.dense.parameters(), strict=True):
                total += (parameter.grad / len(batches)) if power == 1 else parameter.grad.square() / len(batches)
        for total, parameter in zip(sums, self.dense.parameters(), strict=True):
            parameter.grad = total if power == 1 else total.sqrt()


def inner(name: str) -> bool:
    """Whether a module is the first convolution of a block."""
    return name.endswith(".conv1")


def ladder() -> list[float]:
    """Ratios of channels to prune, coarse to fine: 1/2, 1/4, 3/4, 1/8, ..."""
    rungs = [n / 2**FINEST for n in range(1, 2**FINEST)]
    return sorted(rungs, key=lambda ratio: (-math.gcd(round(ratio * 2**FINEST), 2**FINEST), ratio))
