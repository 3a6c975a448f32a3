"""What lives as long as a run does is not searched for garbage again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def spared() -> Iterator[None]:
    """The garbage collector passes over what exists already.

    Cutting and exporting make so many objects that it goes through all of torch, onnx and the captured model again and
    again, for 0.4 s each time: a fourth of the seconds of an export of ResNet-56. To be entered once the first model is
    exported, as what exporting loads is half of it. Where the caller has frozen objects, nothing is done, as they could
    not be told apart when it ends.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
