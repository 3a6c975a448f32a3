"""Sessions from a script, and how they are timed, for the tests of the timing loop."""

from collections.abc import Iterator

from autoprune.devices import Circumstances
from autoprune.hardware import TimingPolicy
from autoprune.testing import FakeSession

POLICY = TimingPolicy(max_seconds=5)
HERE = Circumstances(
    runtime="fake", runtime_version="1", device="d", precision="fp32", batch=1, threads=1, conditions={"load": "0.1"}
)


class Recording(FakeSession):
    """Counts runs and notes the order of blocks in a shared list."""

    def __init__(self, script: Iterator[float], name: str = "", order: list[str] | None = None) -> None:
        super().__init__(script)
        self.name, self.order, self.runs, self.renewals = name, order if order is not None else [], 0, 0

    def run(self, n: int) -> list[float]:
        self.runs += n
        return super().run(n)

    def renew(self) -> None:
        self.renewals += 1
        self.order.append(self.name)
