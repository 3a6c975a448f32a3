import importlib
import importlib.util
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from autoprune.devices import list_runtimes, open_device, registry
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.errors import TargetError, UsageError
from autoprune.hardware import HardwareProfile, list_profiles, load_profile

FAKE = EntryPoint("fake", "autoprune.testing:FakeDevice", registry.GROUP)


def _install(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: entries)


def test_shipped_runtime_opens(profile: HardwareProfile) -> None:
    assert isinstance(open_device(profile), OnnxRuntimeDevice)


def test_installed_package_adds_a_runtime(profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, FAKE)
    assert open_device(profile.model_copy(update={"runtime": "fake"})).facts() == {"cpu": "fake"}
    works = {runtime.name: runtime.works for runtime in list_runtimes()}
    assert works["fake"]
    assert works["onnxruntime"]


def test_duplicate_name_raises(profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, EntryPoint("onnxruntime", "other:Device", registry.GROUP))
    with pytest.raises(UsageError, match=r"Two runtimes are called 'onnxruntime'.*other:Device"):
        open_device(profile)


def test_unknown_runtime_names_the_known(profile: HardwareProfile) -> None:
    with pytest.raises(TargetError, match=r"'here' asks for runtime 'abacus'.*onnxruntime"):
        open_device(profile.model_copy(update={"runtime": "abacus"}))


def test_missing_package_says_how_to_get_it(profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match="pip install onnxruntime"):
        open_device(profile)
    for runtime in (one for one in list_runtimes() if one.name != "trtexec"):  # which is no package
        assert not runtime.works
        assert runtime.version == ""
        assert "pip install" in runtime.missing


@pytest.mark.parametrize("connection", ["local", "ssh://device"])
def test_runtime_without_its_converter_does_not_work(
    connection: str, profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "litert_torch" else name)
    with pytest.raises(TargetError, match=r"package 'litert_torch' is not installed.*autoprune\[mobile\]"):
        open_device(profile.model_copy(update={"runtime": "litert", "connection": connection}))


def test_added_runtime_that_does_not_import_is_a_target_error(
    profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, EntryPoint("broken", "no_such_module_anywhere:Device", registry.GROUP))
    with pytest.raises(TargetError, match=r"runtime 'broken'.*no_such_module_anywhere"):
        open_device(profile.model_copy(update={"runtime": "broken"}))


def test_listing_runtimes_imports_nothing_heavy() -> None:
    script = (
        "import sys; from autoprune.devices import list_runtimes; assert any(one.works for one in list_runtimes()); "
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [one.name for one in list_profiles()])
def test_a_shipped_profile_asks_for_what_its_runtime_has(name: str) -> None:
    shipped = load_profile(name)
    kind = importlib.import_module(f"autoprune.devices.runtimes.{shipped.runtime}").DEVICE
    assert shipped.options.given() <= kind.options
    if shipped.hardware:
        rates = [shipped.hardware.peak_gflops.get(precision) for precision in ("fp32", "fp16", "int8")]
        known = [rate for rate in rates if rate]
        assert known == sorted(known), "what is smaller is not slower"
        assert shipped.hardware.sources


def test_tensorrt_over_a_connection_needs_nothing_here(profile: HardwareProfile) -> None:
    there = profile.model_copy(update={"runtime": "tensorrt", "connection": "ssh://board"})
    assert open_device(there).format == "onnx_tensorrt"
