"""autoprune doctor: what is installed, which runtimes work, what is missing and how to get it."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from autoprune.cli._options import JsonOption
from autoprune.errors import TargetError

EXTRAS = {
    "ray": ("ray", "spread trials over machines; not used by this version yet"),
    "mobile": ("executorch", "time on the mobile CPU runtimes, ExecuTorch and LiteRT"),
    "tensorrt": ("tensorrt", "time on NVIDIA GPUs"),
    "hf": ("transformers", "Hugging Face models"),
}


def doctor(*, json: JsonOption = False) -> int:
    """Say what is installed, which runtimes work, what is missing and how to get it; 2 when no runtime works."""
    from autoprune.cli._output import print_json, print_table

    found: dict[str, Any] = {
        "machine": _machine(),
        "packages": _packages(),
        "runtimes": _runtimes(),
        "extras": _extras(),
    }
    code = 0 if any(row["works"] for row in found["runtimes"]) else TargetError.exit_code
    if json:
        print_json(found)
        return code
    print_table(["MACHINE", ""], [[key, str(value)] for key, value in found["machine"].items()])
    print_table(["PACKAGE", "VERSION"], [[row["name"], row["version"]] for row in found["packages"]])
    print_table(
        ["RUNTIME", "WORKS", "VERSION", "WHAT TO DO"],
        [[row["name"], "yes" if row["works"] else "no", row["version"], row["missing"]] for row in found["runtimes"]],
    )
    print_table(
        ["EXTRA", "INSTALLED", "FOR", "HOW TO GET IT"],
        [[row["name"], row["version"] or "no", row["purpose"], row["install"]] for row in found["extras"]],
    )
    return code


def _machine() -> dict[str, Any]:
    import psutil

    frequency = psutil.cpu_freq()
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "clock_mhz": round(frequency.current) if frequency else "not readable",
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "load": " ".join(f"{load:.2f}" for load in psutil.getloadavg()),
        "temporary_folder": tempfile.gettempdir(),
    }


def _packages() -> list[dict[str, str]]:
    from autoprune.engine.prepare import PACKAGES

    return [{"name": name, "version": _version(name) or "absent"} for name in PACKAGES]


def _runtimes() -> list[dict[str, Any]]:
    from autoprune.devices import list_runtimes

    return [vars(runtime) for runtime in list_runtimes()]


def _extras() -> list[dict[str, str]]:
    return [
        {
            "name": extra,
            "version": _version(package),
            "purpose": purpose,
            "install": "" if _version(package) else f"pip install 'autoprune[{extra}]'",
        }
        for extra, (package, purpose) in EXTRAS.items()
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
