"""Which profile was measured where: records it, and writes the README's table of targets from what was recorded.

.venv/bin/python scripts/evidence.py                      # the table alone
.venv/bin/python scripts/evidence.py cpu                  # measure on this machine, then the table
.venv/bin/python scripts/evidence.py raspberry-pi-5 --connect ssh://pi@raspberrypi.local
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from autoprune.devices import open_device, smoke
from autoprune.documents import Strict
from autoprune.hardware import LOCAL, HardwareProfile, list_profiles, load_profile

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "evidence"
BEGIN, END = "<!-- targets -->\n", "<!-- /targets -->"
TOLD = ("board", "gpu", "model", "cpu")  # the fact that says best what a device is, if it is there
Place = Literal["hardware", "host"]


class Evidence(Strict):
    """One smoke measurement: a chain of convolutions, in FP32, whose outputs, if it tells them, agreed with those here.

    Attributes:
        place: ``hardware``, the device that the profile describes; ``host``, the machine of whoever recorded it.
    """

    target: str
    place: Place
    date: str
    runtime: str
    runtime_version: str
    facts: dict[str, str]
    median_ms: PositiveFloat
    largest_error: float | None


def record(profile: HardwareProfile) -> Evidence:
    """Measure on the device now."""
    device = open_device(profile)
    timed, error = smoke(device)
    return Evidence(
        target=profile.name,
        place="host" if profile.connection == LOCAL else "hardware",
        date=datetime.now(UTC).date().isoformat(),
        runtime=timed.runtime,
        runtime_version=timed.runtime_version,
        facts=device.facts(),
        median_ms=timed.median_ms,
        largest_error=error,
    )


def table() -> str:
    """Every profile that ships, and what is known of it."""
    rows = [f"| `{one.name}` | {one.description} | {state(one.name)} |" for one in list_profiles()]
    return "\n".join(["| target | what it is | state |", "|---|---|---|", *rows]) + "\n"


def state(target: str) -> str:
    """In words."""
    path = FOLDER / f"{target}.json"
    if not path.is_file():
        return "not yet run on hardware"
    found = Evidence.model_validate_json(path.read_text(encoding="utf-8"))
    device = next((found.facts[name] for name in TOLD if name in found.facts), "")
    where = "measured on hardware" if found.place == "hardware" else "measured on this host"
    return f"{where}: {device}, {found.runtime} {found.runtime_version}, {found.date}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--connect")
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for target in given.targets:
        found = record(load_profile(target, connection=given.connect))
        (FOLDER / f"{target}.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    readme.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
