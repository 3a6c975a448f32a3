"""What is read of boards: recorded trees of documented layouts stand in for them; none of them is here."""

import os
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprune.devices import _cpu
from autoprune.devices.runners.board import GPU_FIELDS, Board, told

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
    "proc/loadavg": "0.52 0.40 0.30 1/300 4242\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1510400\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1510400\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1510400\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "schedutil\n",
    "sys/class/thermal/thermal_zone0/temp": "48250\n",
    "sys/class/thermal/thermal_zone1/temp": "51000\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/class/thermal/cooling_device1/type": "thermal-cpufreq-0\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
    "sys/class/hwmon/hwmon1/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon1/oc3_event_cnt": "7\n",
}
NVPMODEL = "NV Power Mode: 15W\n0"


def asked(**answers: str) -> Callable[..., str]:
    """Stands in for commands: answers by their names."""
    return lambda *command: answers.get(command[0].replace("-", "_"), "")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Jetson's."""
    for name, content in JETSON.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_jetson_says_what_it_is(tree: Path) -> None:
    facts = Board(str(tree), ask=asked(nvpmodel=NVPMODEL)).facts()
    assert facts["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert facts["flags"] == "asimd asimddp"
    assert facts["power_mode"] == "15W"


def test_a_jetson_says_how_it_is(tree: Path) -> None:
    found = Board(str(tree), ask=asked(nvpmodel=NVPMODEL), gpu=True).conditions()
    found.pop("kernel")
    assert found == {
        "load": "0.52",
        "clock_mhz": "1510 730",
        "clock_limit_mhz": "1510 1510",
        "governor": "schedutil",
        "gpu_clock_mhz": "306",
        "gpu_clock_limit_mhz": "625",
        "temperature_c": "51",
        "power_mode": "15W",
        "throttle_events": "7",
    }


def test_cooling_that_costs_speed_is_throttling_and_a_fan_is_not(tree: Path) -> None:
    assert "throttled" not in Board(str(tree), ask=asked()).conditions()
    (tree / "sys/class/thermal/cooling_device1/cur_state").write_text("3")
    assert Board(str(tree), ask=asked()).conditions()["throttled"] == "cooled by thermal-cpufreq-0"


@pytest.mark.parametrize(
    ("word", "now", "events"),
    [
        ("throttled=0x0", None, "7"),
        ("throttled=0x50000", None, "9"),
        ("throttled=0x50005", "throttled, under-voltage", "9"),
        ("throttled=0x80008", "soft temperature limit", "8"),
        ("VCHI initialization failed", None, "7"),
    ],
)
def test_a_raspberry_pi_says_why_it_is_slow(tree: Path, word: str, now: str | None, events: str) -> None:
    found = Board(str(tree), ask=asked(vcgencmd=word)).conditions()
    assert found.get("throttled") == now
    assert found["throttle_events"] == events


def test_an_nvidia_gpu_says_why_it_is_slow(tmp_path: Path) -> None:
    line = "1410, 83, Not Active, Active, Not Active, Not Active, Active"
    assert len(line.split(",")) == len(GPU_FIELDS)
    found = Board(str(tmp_path), ask=asked(nvidia_smi=line), gpu=True).conditions()
    assert found["gpu_clock_mhz"] == "1410"
    assert found["gpu_temperature_c"] == "83"
    assert found["throttled"] == "gpu hw_thermal_slowdown, gpu sw_power_cap"


@pytest.mark.parametrize("line", ["", "No devices were found", "[N/A], [N/A], [N/A]", ",,,,,,,,,,,"])
def test_a_gpu_that_tells_nothing_is_left_out(tmp_path: Path, line: str) -> None:
    found = Board(str(tmp_path), ask=asked(nvidia_smi=line), gpu=True).conditions()
    assert set(found) == {"kernel"}


def test_this_machine_says_something_and_facts_hold() -> None:
    assert Board().facts() == Board().facts()
    assert Board().facts()["cpu"]
    assert all(isinstance(value, str) and value for value in Board(gpu=True).conditions().values())


def test_flags_that_matter_are_found(tmp_path: Path) -> None:
    text = "processor : 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f\n\nprocessor : 1\nflags : amx_tile\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert Board(str(tmp_path), ask=asked()).facts()["flags"] == "avx2 avx512f"
    assert Board(str(tmp_path), ask=asked()).facts()["cpu"] == "Some CPU"


def test_commands_that_are_absent_fail_or_hang_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.devices.runners.board.COMMAND_SECONDS", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name, line in {"good": "echo said", "bad": "echo said; exit 1", "endless": "exec sleep 100"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    assert [told(name) for name in ("good", "bad", "endless", "absent")] == ["said", "", "", ""]
    assert told(sys.executable, "-c", "print('x' * 9)") == "x" * 9


def test_foreign_time_leaves_out_idle_and_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user system idle iowait steal guest")(10.0, 4.0, 900.0, 50.0, 2.0, 3.0)
    monkeypatch.setattr(_cpu.psutil, "cpu_times", lambda: times)
    monkeypatch.setattr(_cpu.time, "process_time", lambda: 6.0)
    monkeypatch.setattr(_cpu.os, "cpu_count", lambda: 2)
    assert _cpu.foreign_seconds() == (10 + 4 + 2 - 6) / 2
