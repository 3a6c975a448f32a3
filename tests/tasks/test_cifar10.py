"""CIFAR-10: both layouts on disk, hostile files, weights, and the real thing."""

import copyreg
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from autoprune.errors import TaskError, UsageError
from autoprune.task import accuracy
from autoprune.tasks import check_task, load_task
from autoprune.tasks._cifar import read_cifar10
from autoprune.tasks.nets.resnet_cifar import cifar_resnet
from tests.models import shared_file

RANDOM = np.random.default_rng(0)


def images(count: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 10).astype(np.uint8)


def write_npz(path: Path, pixels: np.ndarray, classes: np.ndarray) -> None:
    np.savez(path, images=pixels.transpose(0, 2, 3, 1), labels=classes)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    for name, count in (("train", 30), ("val", 20), ("test", 10)):
        write_npz(tmp_path / f"{name}.npz", images(count), labels(count))
    return tmp_path


def write_batch(path: Path, pixels: np.ndarray, protocol: int = 2) -> None:
    content = {
        b"batch_label": b"x",
        b"labels": labels(len(pixels)).tolist(),
        b"data": pixels.reshape(len(pixels), 3072),
    }
    path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        write_batch(folder / f"data_batch_{number}", images(20), protocol=number % 3 + 2)
    write_batch(folder / "test_batch", images(60))
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(cifar_resnet(20).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_npz_splits_as_they_are(npz: Path) -> None:
    splits = read_cifar10(npz)
    with np.load(npz / "val.npz") as arrays:
        assert np.array_equal(splits.validation[0].transpose(0, 2, 3, 1), arrays["images"])
        assert np.array_equal(splits.validation[1], arrays["labels"])
    assert splits.test is not None
    assert [len(part[1]) for part in (splits.train, splits.validation, splits.test)] == [30, 20, 10]
    (npz / "test.npz").unlink()
    assert read_cifar10(npz).test is None


def test_the_original_batches(originals: Path) -> None:
    splits = read_cifar10(originals)
    pixels = [pickle.loads((originals / f"data_batch_{n}").read_bytes())[b"data"] for n in range(1, 6)]
    assert np.array_equal(splits.train[0].reshape(-1, 3072), np.concatenate(pixels))
    assert splits.train[1].tolist() == labels(20).tolist() * 5
    assert read_cifar10(originals.parent).train[0].shape == (100, 3, 32, 32)


def test_the_original_test_split_is_halved_by_class(originals: Path) -> None:
    splits = read_cifar10(originals)
    assert splits.test is not None
    for _, classes in (splits.validation, splits.test):
        assert np.bincount(classes).tolist() == [3] * 10
    halves = np.concatenate([splits.validation[0], splits.test[0]]).reshape(60, -1)
    whole = pickle.loads((originals / "test_batch").read_bytes())[b"data"]
    assert sorted(map(bytes, halves)) == sorted(map(bytes, whole))
    assert np.array_equal(read_cifar10(originals).validation[0], splits.validation[0])


def test_a_batch_as_python_2_wrote_it(originals: Path) -> None:
    """Byte strings as STRING opcodes, and the array's content among them: what the real files hold."""
    pixels = images(10).reshape(10, 3072)
    out = io.BytesIO()

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    out.write(b"\x80\x02}(" + text(b"data") + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85")
    out.write(text(b"b") + b"tR(K\x01K\x0aM\x00\x0c\x86cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03")
    out.write(text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(pixels.tobytes()) + b"tb")
    out.write(text(b"labels") + b"](" + b"".join(b"K" + bytes([i]) for i in range(10)) + b"eu.")
    assert np.array_equal(pickle.loads(out.getvalue(), encoding="bytes")[b"data"], pixels)
    for number in range(1, 6):
        (originals / f"data_batch_{number}").write_bytes(out.getvalue())
    assert np.array_equal(read_cifar10(originals).train[0][:10].reshape(10, 3072), pixels)


class Hostile:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((eval, "open('owned', 'w')"), "eval"),
        ((subprocess.check_call, ["touch", "owned"]), "check_call"),
        ((getattr, "x", "upper"), "getattr"),
        ((np.load, "owned"), "load"),
        ((copyreg._reconstructor, object, object, None), "_reconstructor"),  # type: ignore[attr-defined]
    ],
)
def test_a_hostile_batch_runs_nothing(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[Any, ...], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (originals / "data_batch_3").write_bytes(pickle.dumps({b"data": Hostile(*call), b"labels": [1]}, protocol=2))
    with pytest.raises(TaskError, match=rf"data_batch_3: is not a batch of CIFAR-10: it asks for .*{name}, which no"):
        read_cifar10(originals)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        pickle.dumps([1]),
        pickle.dumps({b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.array([object]), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, protocol=2),
    ],
)
def test_a_damaged_batch_is_named(originals: Path, content: bytes) -> None:
    (originals / "data_batch_2").write_bytes(content)
    with pytest.raises(TaskError, match="data_batch_2"):
        read_cifar10(originals)


def test_a_missing_batch_is_named(originals: Path) -> None:
    (originals / "data_batch_4").unlink()
    with pytest.raises(TaskError, match="data_batch_4: cannot be read: No such file"):
        read_cifar10(originals)


def test_damaged_npz_files(npz: Path) -> None:
    write_npz(npz / "val.npz", images(5), labels(4))
    with pytest.raises(TaskError, match=r"val\.npz: labels are uint8 \(4,\) for 5 images"):
        read_cifar10(npz)
    write_npz(npz / "val.npz", images(5), labels(5) + 9)
    with pytest.raises(TaskError, match="labels from 0 to 9"):
        read_cifar10(npz)
    np.savez(npz / "val.npz", images=images(5), labels=labels(5))
    with pytest.raises(TaskError, match=r"'images' is uint8 \(5, 3, 32, 32\), expected uint8 \(N, 32, 32, 3\)"):
        read_cifar10(npz)
    np.savez(npz / "val.npz", pixels=images(5))
    with pytest.raises(TaskError, match=r"val\.npz: cannot be read.*'images' and 'labels'"):
        read_cifar10(npz)
    np.savez(npz / "val.npz", images=np.array([object()]), labels=labels(1))
    with pytest.raises(TaskError, match=r"val\.npz: cannot be read.*allow_pickle"):
        read_cifar10(npz)
    (npz / "val.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(TaskError, match=r"val\.npz: cannot be read"):
        read_cifar10(npz)


def test_no_data_says_where_to_get_it(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(TaskError, match=r"cs\.toronto\.edu/~kriz.*-o data=cifar-10-batches-py"):
        load_task("cifar10")
    with pytest.raises(TaskError, match=r"There is no CIFAR-10 in .*cifar-10-batches-py.*train\.npz and val\.npz"):
        load_task("cifar10", {"data": str(tmp_path), "weights": str(weights)})


def test_no_weights_says_where_to_get_them(npz: Path, weights: Path) -> None:
    options = {"data": str(npz), "model": "resnet56"}
    with pytest.raises(TaskError, match=r"state dict of resnet56.*akamaster/pytorch_resnet_cifar10.*-o weights=FILE"):
        load_task("cifar10", options)
    with pytest.raises(TaskError, match=r"w\.safetensors: does not fit resnet56: Missing key.*layer1\.3"):
        load_task("cifar10", {**options, "weights": str(weights)})
    with pytest.raises(TaskError, match=r"nowhere\.safetensors: weights cannot be read"):
        load_task("cifar10", {**options, "weights": "nowhere.safetensors"})
    with pytest.raises(UsageError, match=r"option 'model' is resnet20\|resnet56, and 'vgg' is not"):
        load_task("cifar10", {"model": "vgg"})


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "best_prec1": 91.7}])
def test_weights_of_data_parallel_checkpoints(npz: Path, weights: Path, wrap: Any) -> None:
    reference = load_task("cifar10", {"data": str(npz), "weights": str(weights)}).model().state_dict()
    torch.save(wrap({f"module.{name}": tensor for name, tensor in reference.items()}), npz / "w.th")
    loaded = load_task("cifar10", {"data": str(npz), "weights": str(npz / "w.th")}).model().state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in reference.items())


def test_a_hostile_checkpoint_runs_nothing(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(npz)
    torch.save({"state_dict": Hostile(eval, "open('owned', 'w')")}, npz / "w.pt")
    for content in ((npz / "w.pt").read_bytes(), b"junk", b""):
        (npz / "w.pt").write_bytes(content)
        with pytest.raises(TaskError, match=r"w\.pt: weights cannot be read"):
            load_task("cifar10", {"data": str(npz), "weights": "w.pt"})
    assert not (npz / "owned").exists()


def test_the_task_is_complete(npz: Path, weights: Path) -> None:
    for count, name in ((300, "train"), (520, "val")):
        write_npz(npz / f"{name}.npz", images(count), labels(count))
    task = load_task("cifar10", {"data": str(npz), "weights": str(weights)})
    facts = check_task(task)
    assert (task.name, facts.input_shapes, facts.output_shape) == ("cifar10-resnet20", ((3, 32, 32),), (10,))
    assert facts.notes == ()
    assert [len(targets) for _, targets in task.validation] == [500, 20]
    assert [len(targets) for _, targets in task.train] == [128, 128]
    pixels = read_cifar10(npz).validation[0][:500] / 255
    expected = (pixels - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
    first, _ = next(iter(task.validation))
    assert np.abs(first.numpy() - expected).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("model", "floor"), [("resnet20", 0.905), ("resnet56", 0.92)])
def test_the_real_networks_on_real_images(tmp_path: Path, model: str, floor: float) -> None:
    with np.load(shared_file("data/cifar10/val.npz")) as arrays:
        some = {name: arrays[name][:1000] for name in ("images", "labels")}
    for name in ("train", "val"):
        np.savez(tmp_path / f"{name}.npz", **some)
    weights = str(shared_file(f"data/models/cifar10_{model}.safetensors"))
    task = load_task("cifar10", {"data": str(tmp_path), "model": model, "weights": weights})
    network = task.model()
    with torch.no_grad():
        outputs = torch.cat([network(pixels) for pixels, _ in task.validation])
    assert accuracy(outputs, torch.cat([classes for _, classes in task.validation])) > floor


def test_reading_data_does_without_torch() -> None:
    code = "import autoprune.tasks._cifar, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
