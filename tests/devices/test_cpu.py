from collections import namedtuple

import pytest

from autoprune.devices import _cpu


def test_facts_hold_and_conditions_are_words() -> None:
    assert _cpu.cpu_facts() == _cpu.cpu_facts()
    assert set(_cpu.cpu_facts()) == {"cpu", "flags", "cores", "os"}
    assert _cpu.cpu_facts()["cpu"]
    assert all(isinstance(value, str) and value for value in _cpu.cpu_conditions().values())


def test_flags_that_matter_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor : 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f\n\nprocessor : 1\nflags : amx_tile\n"
    monkeypatch.setattr(_cpu, "_read", lambda path: text)
    assert _cpu.cpu_facts()["flags"] == "avx2 avx512f"
    assert _cpu.cpu_facts()["cpu"] == "Some CPU"


def test_foreign_time_leaves_out_idle_and_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user system idle iowait steal guest")(10.0, 4.0, 900.0, 50.0, 2.0, 3.0)
    monkeypatch.setattr(_cpu.psutil, "cpu_times", lambda: times)
    monkeypatch.setattr(_cpu.time, "process_time", lambda: 6.0)
    monkeypatch.setattr(_cpu.os, "cpu_count", lambda: 2)
    assert _cpu.foreign_seconds() == (10 + 4 + 2 - 6) / 2


def test_temperature_is_the_hottest_and_absent_sensors_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = namedtuple("reading", "current")
    monkeypatch.setattr(_cpu.psutil, "sensors_temperatures", lambda: {"a": [reading(41.2)], "b": [reading(55.0)]})
    assert _cpu.cpu_conditions()["temperature_c"] == "55"
    monkeypatch.setattr(_cpu.psutil, "sensors_temperatures", dict)
    assert "temperature_c" not in _cpu.cpu_conditions()
