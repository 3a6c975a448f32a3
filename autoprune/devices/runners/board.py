"""How a board is at the moment: in this process, or in a worker of the agent on another device.

What can be read differs from board to board; what is absent is left out. Layouts, as their makers document them:
Linux ``cpufreq``, ``thermal``, ``devfreq`` and ``hwmon`` below /sys, Intel's ``thermal_throttle`` counters, Jetson's
``nvpmodel -q`` and over-current counters (``oc*_event_cnt``), Raspberry Pi's ``vcgencmd get_throttled``, and
``nvidia-smi --query-gpu``.
"""

from __future__ import annotations

import glob
import os
import platform
from typing import Any, Callable

from autoprune.devices.runners._system import read, run

COMMAND_SECONDS = 5.0
FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")  # drivers in hwmon
CAPPING = ("thermal-cpufreq", "cpufreq-", "thermal-devfreq", "devfreq-", "Processor")  # cooling that costs speed
GPU_CLOCKS = ("gpu", "ga10b", "gv11b", "gp10b", "mali")  # in the names of devfreq
PI_NOW = ("under-voltage", "clock capped", "throttled", "soft temperature limit")  # bits 0 to 3; since boot: 16 to 19
GPU_REASONS = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown", "sw_power_cap")
GPU_FIELDS = ("clocks.sm", "temperature.gpu", *("clocks_throttle_reasons." + name for name in GPU_REASONS))


def told(*command: str) -> str:
    """What a command prints; empty where there is none of that name, or it fails or hangs."""
    worked, out, _ = run(*command, seconds=COMMAND_SECONDS)
    return out if worked else ""


class Board:
    """Reads below ``root``; ``ask`` gives what a command prints. With ``gpu`` the GPU counts too, the first one."""

    def __init__(self, root: str = "/", *, ask: Callable[..., str] = told, gpu: bool = False) -> None:
        self._root, self._ask, self._gpu = root, ask, gpu

    def facts(self) -> dict[str, str]:
        """What must stay the same while results are compared: processor, flags, cores, system, board, power mode."""
        pairs = (line.partition(":") for line in self._read("proc/cpuinfo").split("\n\n")[0].splitlines())
        info = {name.strip(): value.strip() for name, _, value in pairs}
        flags = (info.get("flags") or info.get("Features") or "").split()
        found = {
            "os": f"{platform.system()} {platform.machine()}",
            "cores": str(os.cpu_count()),
            "cpu": info.get("model name") or platform.processor() or platform.machine(),
            "flags": " ".join(flag for flag in FLAGS if flag in flags),
            "board": self._read("proc/device-tree/model").strip("\0"),
            "power_mode": self._power_mode(),
        }
        return {name: value for name, value in found.items() if value}

    def conditions(self) -> dict[str, str]:
        """What drifts: clocks and their limits in MHz, governor, load, temperatures in degrees Celsius, throttling."""
        found = {"kernel": platform.release(), "load": self._read("proc/loadavg").partition(" ")[0]}
        found.update(self._clocks())
        degrees = [float(one) / 1000 for one in self._temperatures()]
        flags, events = self._throttled()
        if self._gpu:
            found.update(self._gpu_clocks())
            state, more = self._nvidia()
            found.update(state)
            flags += more
        found["temperature_c"] = f"{max(degrees):.0f}" if degrees else ""
        found["power_mode"] = self._power_mode()
        found["throttled"] = ", ".join(sorted(set(flags)))
        found["throttle_events"] = str(events) if events is not None else ""
        return {name: value for name, value in found.items() if value}

    def _clocks(self) -> dict[str, str]:
        policies = "sys/devices/system/cpu/cpufreq/policy*/"
        now = self._numbers(policies + "scaling_cur_freq")
        shown = [line.partition(":")[2] for line in self._read("proc/cpuinfo").splitlines() if line[:7] == "cpu MHz"]
        return {
            "clock_mhz": " ".join(f"{one / 1e3:.0f}" for one in now) or " ".join(f"{float(mhz):.0f}" for mhz in shown),
            "clock_limit_mhz": " ".join(f"{one / 1e3:.0f}" for one in self._numbers(policies + "scaling_max_freq")),
            "governor": " ".join(sorted(set(self._texts(policies + "scaling_governor")))),
        }

    def _gpu_clocks(self) -> dict[str, str]:
        """Of a GPU that the system scales by itself, as on Jetson; in MHz."""
        for folder in self._paths("sys/class/devfreq/*"):
            if any(word in os.path.basename(folder) for word in GPU_CLOCKS):
                now, limit = (self._numbers(os.path.join(folder, name)) for name in ("cur_freq", "max_freq"))
                return {
                    "gpu_clock_mhz": " ".join(f"{one / 1e6:.0f}" for one in now),
                    "gpu_clock_limit_mhz": " ".join(f"{one / 1e6:.0f}" for one in limit),
                }
        return {}

    def _nvidia(self) -> tuple[dict[str, str], list[str]]:
        """Clock and temperature of an NVIDIA GPU, and why it is slower than it could be."""
        query = "--query-gpu=" + ",".join(GPU_FIELDS)
        answer = self._ask("nvidia-smi", "--id=0", query, "--format=csv,noheader,nounits")
        fields = dict(zip(GPU_FIELDS, (one.strip() for one in answer.split(","))))
        named = {"gpu_clock_mhz": fields.get("clocks.sm", ""), "gpu_temperature_c": fields.get("temperature.gpu", "")}
        reasons = [name for name in GPU_REASONS if fields.get("clocks_throttle_reasons." + name) == "Active"]
        return {key: one for key, one in named.items() if one.isdigit()}, ["gpu " + name for name in reasons]

    def _temperatures(self) -> list[int]:
        found = self._numbers("sys/class/thermal/thermal_zone*/temp")
        for folder in self._paths("sys/class/hwmon/hwmon*"):
            if self._read(os.path.join(folder, "name")) in CPU_SENSORS:
                found += self._numbers(os.path.join(folder, "temp*_input"))
        return found

    def _throttled(self) -> tuple[list[str], int | None]:
        """What holds the board back now; and how often something has, since it was started, None where not counted."""
        flags = []
        for folder in self._paths("sys/class/thermal/cooling_device*"):
            kind = self._read(os.path.join(folder, "type"))
            if kind.startswith(CAPPING) and any(self._numbers(os.path.join(folder, "cur_state"))):
                flags.append("cooled by " + kind)
        counts = self._numbers("sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
        counts += self._numbers("sys/class/hwmon/hwmon*/oc*_event_cnt")
        word = self._ask("vcgencmd", "get_throttled").partition("=")[2]
        try:
            bits = int(word, 16)
        except ValueError:
            return flags, sum(counts) if counts else None
        flags += [name for bit, name in enumerate(PI_NOW) if bits >> bit & 1]
        return flags, sum(counts) + bin(bits >> 16).count("1")

    def _power_mode(self) -> str:
        """Of a Jetson: ``NV Power Mode: MAXN`` is the line that names it."""
        lines = [line.partition(":") for line in self._ask("nvpmodel", "-q").splitlines()]
        return next((value.strip() for name, _, value in lines if name.strip() == "NV Power Mode"), "")

    def _paths(self, pattern: str) -> list[str]:
        return sorted(glob.glob(os.path.join(self._root, pattern)))

    def _texts(self, pattern: str) -> list[str]:
        return [text for text in map(self._read, self._paths(pattern)) if text]

    def _numbers(self, pattern: str) -> list[int]:
        return [int(text) for text in self._texts(pattern) if text.lstrip("-").isdigit()]

    def _read(self, path: str) -> str:
        return read(os.path.join(self._root, path))


class Runner:
    """Answers as the runners of runtimes do, without an artifact; a request may say ``gpu``."""

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        """Nothing is opened."""

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """What the board is."""
        return {"facts": Board().facts()}, b""

    def do_conditions(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """How it is now."""
        return {"conditions": Board(gpu=bool(request.get("gpu"))).conditions()}, b""
