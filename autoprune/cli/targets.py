"""autoprune targets: the devices that there are, one of them, a new one, whether one works."""

import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli._options import ClocksOption, ConnectOption, JsonOption

if TYPE_CHECKING:
    from autoprune.devices import Device
    from autoprune.hardware import HardwareProfile

Target = Annotated[str, typer.Argument(help="A device (see 'autoprune targets'), or a .yaml file.", metavar="TARGET")]
app = typer.Typer(help="List hardware profiles; show one, begin one, check whether one works.")
START = """\
# A hardware profile; docs/hardware-profiles.md explains every field. Where another profile says the rest, name it:
# extends: cpu
name: {name}
description: what it is, for people

# how it is reached: local, or ssh://user@host; and how Python is called there. A board that has only command lines is
# 'connection: command' with a section 'command', which docs/devices.md explains
connection: local
python: python3

# what runs models there, and how
runtime: onnxruntime
options:
  threads: 1
  batch: 1

# widths that are multiples of it pay; and the precisions that pay. 'probe' in place of either measures it
capabilities:
  channel_multiple: probe
  precisions: [fp32, int8]
"""


@app.callback(invoke_without_command=True)
def targets(context: typer.Context, *, json: JsonOption = False) -> None:
    """List hardware profiles: those that ship, and your own."""
    from autoprune.cli._output import print_rows
    from autoprune.hardware import list_profiles

    if context.invoked_subcommand:
        return
    rows = [{"target": p.name, "runtime": p.runtime, "description": p.description} for p in list_profiles()]
    print_rows(rows, json=json)


@app.command()
def show(target: Target, *, json: JsonOption = False) -> None:
    """Print a profile with everything that it leaves to others or to defaults."""
    import yaml

    from autoprune.cli._output import out, print_json
    from autoprune.hardware import load_profile

    found = load_profile(target).model_dump(mode="json", exclude_none=True)
    if json:
        print_json(found)
    else:
        out.print(yaml.safe_dump(found, sort_keys=False).rstrip(), markup=False, highlight=False)


@app.command()
def new(name: Annotated[str, typer.Argument(help="What you call your device.")]) -> None:
    """Write NAME.yaml into this folder, a profile to begin with."""
    from autoprune.cli._output import out
    from autoprune.errors import UsageError
    from autoprune.hardware import user_folder

    path = Path(f"{name}.yaml")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise UsageError(f"'{name}' cannot be the name of a profile: letters, digits, '-' and '_' can.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(START.format(name=name))
    except FileExistsError as error:
        raise UsageError(f"{path} is there already: edit it, or choose another name.") from error
    out.print(f"{path}: try it with autoprune targets check {path}; in {user_folder()} it is found as --target {name}.")


@app.command()
def check(
    target: Target,
    *,
    connect: ConnectOption = None,
    allow_clock_control: ClocksOption = False,
    probe: Annotated[bool, typer.Option("--probe", help="Time what widths, precisions and zeros save there.")] = False,
    json: JsonOption = False,
) -> None:
    """Check the profile; open the device, time a small network on it, and compare what it computes with this machine.

    Of a device that is not at hand, the profile alone is checked.
    """
    from autoprune.cli._output import print_json, print_table
    from autoprune.devices import open_device, smoke
    from autoprune.errors import StageError, TargetError
    from autoprune.hardware import GIVEN, load_profile

    profile = load_profile(target, connection=connect)
    if profile.connection == GIVEN and not profile.connections:
        absent = {"target": profile.name, "profile": "valid", "measured": False, "plan": _plan(profile)}
        if json:
            print_json(absent)
        else:
            print_table([profile.name.upper(), ""], [[key, str(value)] for key, value in absent.items()])
        return
    device = open_device(profile)
    clocks = device.steady_clocks(partial(typer.echo, err=True)) if allow_clock_control else nullcontext()
    try:
        with clocks:
            timed, off = smoke(device)
            probes = _probed(device) if probe else {}
    except StageError as error:
        raise TargetError(f"The device of target '{device.profile.name}' does not work: {error}") from error
    found: dict[str, Any] = {
        **device.facts(),
        **timed.conditions,
        "median_ms": round(timed.median_ms, 4),
        "interval_ms": [round(timed.low_ms, 4), round(timed.high_ms, 4)],
        "disturbed": timed.disturbed,
        "largest_error": float(f"{off:.1e}") if off is not None else "not checked on the device",
        **probes,
    }
    if json:
        print_json(found)
    else:
        print_table([device.profile.name.upper(), ""], [[key, str(value)] for key, value in found.items()])


def _plan(profile: "HardwareProfile") -> str:
    """What can be done while the device is not at hand."""
    from autoprune.devices import open_device
    from autoprune.errors import TargetError

    try:
        open_device(profile)
    except TargetError as error:
        return f"none. {error}"
    return "latencies are estimated until it is connected: --connect ssh://user@host"


def _probed(device: "Device") -> dict[str, Any]:
    from autoprune.devices import gains
    from autoprune.devices.staircase import staircase

    found = gains(device)
    return {
        "channel_multiple": staircase(device).multiple,
        "precisions_that_pay": " ".join(found.precisions),
        "zeros_that_pay": " ".join(found.sparsity) or "none",
        **{f"{name}_speedup": round(times, 2) for name, times in found.speedup.items()},
        **{f"{name}_speedup": f"refused: {why}" for name, why in found.refused.items()},
    }
