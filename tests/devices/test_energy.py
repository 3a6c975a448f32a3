"""Energy of an inference: sensors are recorded trees of documented layouts, as no board that has them is here.

The counter of RAPL is moved by a thread, at so many watts; all else (agent, workers, sampling, sessions) is real.
"""

import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.devices import Arrays, Session, open_device
from autoprune.devices._wire import BOOT, Connection
from autoprune.devices.energy import PARTS, Meter, measure_energy
from autoprune.devices.runners.power import Sensors, Watch
from autoprune.errors import DeviceError, TargetError
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

ORIN_NANO = {
    "name": "ina3221",
    "in1_label": "VDD_IN",
    "in1_input": "5000",
    "curr1_input": "1200",
    "in2_label": "VDD_CPU_GPU_CV",
    "in2_input": "5000",
    "curr2_input": "500",
    "in3_label": "VDD_SOC",
    "in3_input": "5000",
    "curr3_input": "300",
    "in7_label": "sum of shunt voltages",
    "in7_input": "10",
}


def rails(root: Path, number: int, files: dict[str, str]) -> Path:
    """A sensor in hwmon."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content + "\n")
    return folder


def zone(root: Path, number: int, microjoules: int = 0) -> Path:
    """A processor package in RAPL."""
    folder = root / f"sys/class/powercap/intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"package-{number}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    return folder


@pytest.fixture
def connection() -> Iterator[Connection]:
    found = Connection([sys.executable, "-u", "-c", BOOT], "here")
    yield found
    found.close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("autoprune.devices.energy.ROOT", str(tmp_path))
    monkeypatch.setattr("autoprune.devices.energy.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("autoprune.devices.energy.PART_SECONDS", 0.1)
    return tmp_path


def watts(root: Path) -> float:
    found = Sensors(str(root), gpu=False).power()
    assert found is not None
    return found


def test_the_rail_that_is_all_of_a_jetson_counts_alone(root: Path) -> None:
    rails(root, 3, ORIN_NANO)
    assert watts(root) == pytest.approx(6.0)
    assert Sensors(str(root), gpu=False).source == "INA sensors: VDD_IN"


def test_else_all_rails_of_all_sensors_are_added(root: Path) -> None:
    names = {"in1_label": "VDD_GPU_SOC", "in2_label": "VDD_CPU_CV", "in3_label": "VIN_SYS_5V0"}
    rails(root, 0, {**ORIN_NANO, **names})
    rails(root, 1, {"name": "ina3221", "in2_label": "VDDQ", "in2_input": "1000", "curr2_input": "100"})
    rails(root, 2, {"name": "nct1008", "in1_input": "9999", "curr1_input": "9999"})
    assert watts(root) == pytest.approx(6.0 + 2.5 + 1.5 + 0.1)


def test_a_sensor_may_say_watts_itself(root: Path) -> None:
    rails(root, 0, {"name": "ina219", "power1_input": "4300000", "in1_input": "5000", "curr1_input": "900"})
    assert watts(root) == pytest.approx(4.3)


def test_a_sensor_that_breaks_gives_no_watts(root: Path) -> None:
    folder = rails(root, 0, ORIN_NANO)
    sensors = Sensors(str(root), gpu=False)
    (folder / "curr1_input").write_text("")
    assert sensors.power() is None


def test_counters_that_begin_again_are_understood(root: Path) -> None:
    first, other = zone(root, 0, 262_143_000_000), zone(root, 1, 5_000_000)
    sensors = Sensors(str(root), gpu=False)
    before = sensors.counted()
    (first / "energy_uj").write_text("1000000")
    (other / "energy_uj").write_text("7000000")
    assert sensors.since(before) == pytest.approx(0.328850 + 1 + 2)


def test_power_is_summed_over_time() -> None:
    before_first = time.monotonic()
    watch = Watch(lambda: 8.0)
    after_first = time.monotonic()
    watch.start()
    time.sleep(0.3)
    before_last = time.monotonic()
    joules = watch.joules()
    assert 8.0 * (before_last - after_first) - 1e-9 <= joules <= 8.0 * (time.monotonic() - before_first) + 1e-9


class Listened(Session):
    """Keeps what another session's runs took."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.runs: list[list[float]] = []

    def run(self, n: int) -> list[float]:
        self.runs.append(self._session.run(n))
        return self.runs[-1]


def test_what_a_jetson_draws_makes_the_energy_of_an_inference(
    root: Path, connection: Connection, profile: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    rails(root, 3, ORIN_NANO)
    with open_device(profile).open(artifact, inputs) as session:
        listened = Listened(session)
        found = measure_energy(listened, Meter(connection, gpu=False))
    seconds = [statistics.fmean(samples) for samples in listened.runs[-PARTS:]]
    assert found.source == "INA sensors: VDD_IN"
    assert [found.power_w, found.idle_w] == pytest.approx([6.0, 6.0], rel=0.03)
    assert found.low_mj <= found.total_mj <= found.high_mj
    assert found.total_mj == pytest.approx(6e3 * statistics.median(seconds), rel=0.03), "6 W for the median part's time"
    assert abs(found.above_idle_mj) < 0.05 * found.total_mj, "it draws the same at rest"
    assert found.n >= PARTS


class Sleeping(Session):
    """An inference takes 5 ms and no work."""

    working = False

    def run(self, n: int) -> list[float]:
        self.working = True
        time.sleep(0.005 * n)
        self.working = False
        return [0.005] * n


def test_what_is_above_idle_is_told_apart(root: Path, connection: Connection) -> None:
    """4 W at rest and 10 W at work, by a counter that is moved accordingly: 50 mJ an inference, 30 of them above."""
    counter, session, stop = zone(root, 0) / "energy_uj", Sleeping(), threading.Event()

    def move() -> None:
        joules, last = 0.0, time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            joules, last = joules + (now - last) * (10 if session.working else 4), now
            draft = counter.with_name("draft")
            draft.write_text(f"{1e6 * joules:.0f}\n")
            draft.replace(counter)
            time.sleep(0.001)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        found = measure_energy(session, Meter(connection, gpu=False))
    finally:
        stop.set()
        thread.join()
    assert found.source == "RAPL: package-0"
    assert found.idle_w == pytest.approx(4, rel=0.15)
    assert found.total_mj == pytest.approx(50, rel=0.15)
    assert found.above_idle_mj == pytest.approx(30, rel=0.25)


def test_a_board_that_says_nothing_is_told_apart_at_once(root: Path, profile: HardwareProfile) -> None:
    with pytest.raises(TargetError, match=r"Target 'here' does not say what it draws.*'energy_mj'"):
        open_device(profile).meter().__enter__()


@pytest.mark.parametrize("lie", [0.0, -1.0, math.inf, math.nan, "much", None, True])
def test_sensors_that_lie_are_the_devices_fault(
    root: Path, connection: Connection, lie: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    rails(root, 3, ORIN_NANO)
    meter = Meter(connection, gpu=False)
    monkeypatch.setattr(meter, "_ask", lambda do, **_: {"joules": lie, "seconds": 1.0})
    with pytest.raises(DeviceError, match="no power that can be"):
        measure_energy(Sleeping(), meter)


def test_a_sensor_that_dies_is_the_devices_fault(root: Path, connection: Connection) -> None:
    folder = rails(root, 3, ORIN_NANO)
    meter = Meter(connection, gpu=False)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DeviceError, match="no power that can be"):
        measure_energy(Sleeping(), meter)


@pytest.mark.skipif(not Sensors("/", gpu=False).source, reason="this machine says nothing of its power")
def test_this_machines_own_sensors(profile: HardwareProfile, artifact: Artifact, inputs: Arrays) -> None:
    device = open_device(profile)
    with device.open(artifact, inputs) as session, device.meter() as meter:
        assert measure_energy(session, meter).total_mj > 0
