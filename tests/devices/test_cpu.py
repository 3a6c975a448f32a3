import time

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


def test_own_work_is_not_foreign() -> None:
    before, began = _cpu.foreign_seconds(), time.process_time()
    while time.process_time() - began < 0.3:
        pass
    own = time.process_time() - began
    elsewhere = time.monotonic()
    assert _cpu.foreign_seconds() - before < 0.3 * (time.monotonic() - elsewhere + 20)
    assert own >= 0.3
