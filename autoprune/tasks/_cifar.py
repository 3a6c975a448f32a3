"""CIFAR-10 as it lies on disk: ``train.npz``, ``val.npz``, ``test.npz``, or the original Python batches."""

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from autoprune.errors import TaskError

CLASSES = 10
MAX_BATCH_BYTES = 64_000_000  # an original batch has 31 MB
Images = tuple[np.ndarray, np.ndarray]  # uint8 (N, 3, 32, 32), int64 (N,)


@dataclass(frozen=True)
class Splits:
    """The three splits; ``test`` is None where the data has none."""

    train: Images
    validation: Images
    test: Images | None


def read_cifar10(folder: Path) -> Splits:
    """The splits in ``folder``.

    The original data has no validation split: its test split is halved, class by class with a fixed seed, because
    pretrained weights have seen all of its training split.

    Raises:
        TaskError: neither layout is there, or a file is damaged or holds something else.
    """
    batches = folder / "cifar-10-batches-py" if (folder / "cifar-10-batches-py").is_dir() else folder
    if (batches / "test_batch").is_file():
        return _originals(batches)
    if (folder / "train.npz").is_file() and (folder / "val.npz").is_file():
        test = folder / "test.npz"
        return Splits(_npz(folder / "train.npz"), _npz(folder / "val.npz"), _npz(test) if test.is_file() else None)
    raise TaskError(
        f"There is no CIFAR-10 in {folder}: expected cifar-10-batches-py (data_batch_1 to 5 and test_batch), "
        "or train.npz and val.npz (and test.npz) with arrays 'images' and 'labels'."
    )


def _npz(path: Path) -> Images:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TaskError(f"{path}: cannot be read: {error}. It must hold the arrays 'images' and 'labels'.") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3):
        raise TaskError(f"{path}: 'images' is {images.dtype} {images.shape}, expected uint8 (N, 32, 32, 3).")
    return _checked(path, images.transpose(0, 3, 1, 2), labels)


def _originals(folder: Path) -> Splits:
    parts = [_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    images, labels = _batch(folder / "test_batch")
    first, second = _halves(labels)
    return Splits(train, (images[first], labels[first]), (images[second], labels[second]))


def _halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves with equally many images of every class (but for odd ones, which the second gets)."""
    random = np.random.default_rng(0)
    by_class = [random.permutation(np.flatnonzero(labels == label)) for label in range(CLASSES)]
    halves = ([part[: len(part) // 2] for part in by_class], [part[len(part) // 2 :] for part in by_class])
    return np.sort(np.concatenate(halves[0])), np.sort(np.concatenate(halves[1]))


def _batch(path: Path) -> Images:
    try:
        if path.stat().st_size > MAX_BATCH_BYTES:
            raise TaskError(f"{path}: is larger than a CIFAR-10 batch.")
        with path.open("rb") as file:
            content = _BatchReader(file).load()
        pixels, labels = content[b"data"].bytes(), np.array(content[b"labels"], dtype=np.int64)
        images = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3, 32, 32)
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}.") from error
    except TaskError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise TaskError(f"{path}: is not a batch of CIFAR-10: {error}.") from error
    return _checked(path, images, labels)


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> Images:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise TaskError(f"{path}: labels are {labels.dtype} {labels.shape} for {len(images)} images.")
    if not len(labels) or labels.min() < 0 or labels.max() >= CLASSES:
        raise TaskError(f"{path}: must hold at least one image, and labels from 0 to {CLASSES - 1}.")
    return np.ascontiguousarray(images), labels.astype(np.int64)


# The original batches are Python pickles, and unpickling runs whatever the file asks for. This reader lets a file ask
# for four names only, and gives it stand-ins of ours for them: nothing of NumPy runs on what the file says, the array
# arrives as its raw bytes, and every other name is refused before anything is called.


class _Dtype:
    """Stands for ``numpy.dtype``: keeps the code, such as ``u1``."""

    def __init__(self, code: str, *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, of no meaning for single bytes."""


class _Array:
    """Stands for ``numpy.ndarray``: keeps its state (version, shape, dtype, Fortran order, bytes)."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def bytes(self) -> bytes:
        """The content of a C-ordered uint8 array of rows of 3,072 numbers."""
        _, shape, dtype, fortran, content = self.state
        if dtype.code not in ("u1", b"u1") or fortran or shape[1:] != (3072,) or len(content) != shape[0] * 3072:
            raise ValueError("'data' is not an array of N rows of 3,072 bytes")
        return bytes(content)


def _reconstruct(*arguments: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


class _BatchReader(pickle.Unpickler):
    ALLOWED: dict[tuple[str, str], type | Callable[..., object]] = {  # noqa: RUF012 - mypy wants it on the class
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("_codecs", "encode"): _encode,
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        """Our stand-in for that name, and no other."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file needs")
        return self.ALLOWED[module, name]
