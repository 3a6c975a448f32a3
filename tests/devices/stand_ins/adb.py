"""A stand-in for adb: checks its command line against the documented grammar, and keeps folders as phones.

It was written from adb's own help text and documented messages, and has never seen a phone. Below ``ADB_STAND_IN`` is a
folder for each phone: ``state``, what ``adb devices`` says of it; ``full``, where its storage is full; and the files
that it keeps under /data/local/tmp and /sys. Its shell is this machine's, with those folders in place of the phone's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

PHONES = Path(os.environ["ADB_STAND_IN"])
COMMANDS = {"devices", "get-state", "push", "shell", "help", "version"}
MOVED = ("/data/local/tmp", "/sys/")


def fail(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def state(phone: Path) -> str:
    return (phone / "state").read_text().strip()


def phones() -> dict[str, Path]:
    return {path.name: path for path in sorted(PHONES.iterdir()) if (path / "state").exists()}


def chosen(serial: str | None) -> Path:
    """The phone that a command is for, or adb's own words on why there is none."""
    known = phones()
    if serial is None and len(known) != 1:
        fail("adb: more than one device/emulator" if known else "adb: no devices/emulators found")
    phone = known.get(serial) if serial is not None else next(iter(known.values()))
    if phone is None:
        fail(f"adb: device '{serial}' not found")
    if state(phone) != "device":
        fail(f"adb: device {state(phone)}.")
    return phone


def devices(words: list[str]) -> None:
    if words not in ([], ["-l"]):
        fail("adb: usage: adb devices [-l]")
    print("* daemon not running; starting now at tcp:5037\n* daemon started successfully", file=sys.stderr)
    print("List of devices attached")
    for serial, phone in phones().items():
        more = " usb:1-4.1 product:stand model:In device:none transport_id:1" if words else ""
        print(f"{serial:<22} {state(phone)}{more}")
    print()


def push(phone: Path, words: list[str]) -> None:
    if len(words) != 2 or words[0].startswith("-"):
        fail("adb: push requires an argument")
    local, remote = words
    if not Path(local).is_file():
        fail(f"adb: error: cannot stat '{local}': No such file or directory")
    if (phone / "full").exists():
        fail(f"adb: error: failed to copy '{local}' to '{remote}': remote write failed: No space left on device")
    target = Path(str(phone) + remote)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(local, target)
    print(f"{local}: 1 file pushed, 0 skipped. 35.1 MB/s ({target.stat().st_size} bytes in 0.010s)")


def shell(phone: Path, words: list[str]) -> NoReturn:
    if not words or words[0].startswith("-"):
        fail("adb: shell of this stand-in takes a command and no option")
    line = " ".join(words)  # as adb does it: what is in the words is read by the phone's shell
    for place in MOVED:
        line = line.replace(place, f"{phone}{place}")
    path = f"{phone}/bin{os.pathsep}{os.environ['PATH']}"
    sys.exit(subprocess.run(["sh", "-c", line], env={**os.environ, "PATH": path}).returncode)


def main(words: list[str]) -> None:
    serial = None
    if words[:1] == ["-s"] and len(words) > 1:
        serial, words = words[1], words[2:]
    if not words or words[0] not in COMMANDS:
        fail(f"adb: unknown command {' '.join(words[:1])}")
    command, rest = words[0], words[1:]
    if command == "devices":
        devices(rest)
    elif command == "get-state":
        print(state(chosen(serial)))
    elif command == "push":
        push(chosen(serial), rest)
    elif command == "shell":
        shell(chosen(serial), rest)
    else:
        print("Android Debug Bridge version 1.0.41")


if __name__ == "__main__":
    main(sys.argv[1:])
