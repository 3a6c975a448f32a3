"""A cache knows when the code that filled it has changed."""

import shutil
from pathlib import Path

import pytest

from autoprune.damage.measure import ROOMS as DAMAGE
from autoprune.files import PACKAGE, code_digest
from autoprune.latency.store import ROOMS as LATENCY


@pytest.mark.parametrize("room", sorted({*LATENCY, *DAMAGE}))
def test_the_digest_is_of_all_code_of_its_rooms_and_of_no_other(tmp_path: Path, room: str) -> None:
    package = shutil.copytree(PACKAGE, tmp_path / "autoprune", ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(room, package=package) == code_digest(room)
    others = code_digest("cli", package=package)
    with sorted((package / room).rglob("*.py"))[-1].open("a") as changed:
        changed.write("# changed")
    assert code_digest(room, package=package) != code_digest(room)
    assert code_digest("cli", package=package) == others
