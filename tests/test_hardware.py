"""Profiles: found, completed, refused."""

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprune.commands import filled
from autoprune.devices import open_device
from autoprune.errors import AutopruneError, DocumentError, TargetError
from autoprune.hardware import HardwareProfile, list_profiles, load_profile, user_folder


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    found = user_folder()
    found.mkdir(parents=True)
    return found


def write(path: Path, **fields: object) -> str:
    path.write_text(yaml.safe_dump({"name": path.stem, "description": "", **fields}))
    return str(path)


def test_what_a_profile_leaves_out_is_that_of_the_one_it_extends(tmp_path: Path) -> None:
    write(tmp_path / "board.yaml", extends="cpu", options={"threads": 4}, timing={"blocks": 21})
    wide = write(tmp_path / "wide.yaml", extends="board.yaml", options={"batch": 8})
    cpu, found = load_profile("cpu"), load_profile(wide)
    assert (found.name, found.runtime) == ("wide", "onnxruntime")
    assert (found.options.threads, found.options.batch) == (4, 8)
    assert found.timing == cpu.timing.model_copy(update={"blocks": 21})
    assert found.capabilities == cpu.capabilities


def test_profiles_that_extend_each_other_are_told(tmp_path: Path) -> None:
    for name, base in (("one", "two"), ("two", "three"), ("three", "one")):
        write(tmp_path / f"{name}.yaml", extends=str(tmp_path / f"{base}.yaml"))
    with pytest.raises(TargetError, match=r"extend each other: .*one.yaml extends .*two.yaml extends"):
        load_profile(str(tmp_path / "one.yaml"))


def test_a_detour_is_no_other_profile(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(TargetError, match="extend each other"):
        load_profile(write(tmp_path / "board.yaml", extends="x/../board.yaml"))


def test_a_base_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="'nothing' is not in hw_profiles"):
        load_profile(write(tmp_path / "board.yaml", extends="nothing"))


def test_an_error_names_the_line_of_the_own_file(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text("name: board\ndescription: x\nextends: cpu\noptions:\n  threads: none\n")
    with pytest.raises(DocumentError, match=r"board.yaml:5: options.threads"):
        load_profile(str(path))


def test_the_users_own_are_found_by_name(folder: Path) -> None:
    write(folder / "board.yaml", extends="cpu")
    assert load_profile("board").name == "board"
    assert {"board", "cpu"} <= {profile.name for profile in list_profiles()}
    with pytest.raises(TargetError, match="choose one of android, board, cpu"):
        load_profile("bord")


def test_two_of_one_name_are_refused(folder: Path) -> None:
    write(folder / "cpu.yaml", runtime="onnxruntime")
    with pytest.raises(TargetError, match=r"'cpu' is in .* and in .*cpu.yaml"):
        load_profile("cpu")


def test_a_connection_goes_before_the_profiles(tmp_path: Path) -> None:
    path = write(tmp_path / "board.yaml", extends="cpu", connection="ssh://a")
    assert load_profile(path).connection == "ssh://a"
    assert load_profile(path, connection="ssh://b").connection == "ssh://b"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from([*HardwareProfile.model_fields, "odd"]), JSON | st.just("cpu"), max_size=6)


ARGUMENTS = st.lists(
    st.sampled_from(
        ["tool", "{name}", "{runs}", "{", "}", "{0}", "{name.x}", "{name!r}", "{name:>9}", "{{}}", "\0", ""]
    )
    | st.text(max_size=6),
    max_size=4,
)
PATTERNS = st.sampled_from(
    [
        "(a+)+$",
        "(",
        "()()",
        "(?i)(x)",
        "(x){99999999999}",
        "((((",
        "(?P<n>x)",
        "[[:alpha:]](x)",
        "(\\d+)",
        "*",
        "(?<=(x)+)",
    ]
)
READINGS = st.fixed_dictionaries(
    {},
    optional={
        "pattern": PATTERNS | st.text(max_size=12) | JSON,
        "json_path": st.sampled_from(["a.b[0].c[*]", "a..b", "[*]", ".", "a[", "a[-1]", "a[1][2]", "[" * 99]) | JSON,
        "unit": st.sampled_from(["s", "ms", "us", "ns", "h"]) | JSON,
        "gives": st.sampled_from(["each", "mean", "median", "max"]) | JSON,
    },
)
STEPS = ("setup", "push", "predict", "remove")
COMMANDS = st.fixed_dictionaries(
    {"run": ARGUMENTS | JSON, "parse": READINGS | JSON},
    optional={
        **{step: ARGUMENTS | st.lists(ARGUMENTS, max_size=2) | JSON for step in STEPS},
        "facts": st.dictionaries(st.text(max_size=4), ARGUMENTS, max_size=2) | JSON,
        "timeout_s": st.sampled_from([0, -1, 1e308, 5]) | JSON,
        "odd": JSON,
    },
)
HOSTILE = st.fixed_dictionaries(
    {"name": st.just("x"), "description": st.just(""), "runtime": st.just("x"), "command": COMMANDS},
    optional={
        "connection": st.sampled_from(["command", "command://a", "command://-x", "adb://x;y", "command:///", "adb:"]),
        "connections": st.lists(st.sampled_from(["command://a", "adb", "command://$(x)"]), max_size=3),
    },
)
GOOD = {"run": ["true", "{runs}"], "parse": {"pattern": "(x)", "unit": "s", "gives": "mean"}}


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(HOSTILE)
def test_hostile_commands_are_a_clear_error(tmp_path_factory: pytest.TempPathFactory, document: object) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    with contextlib.suppress(AutopruneError):
        open_device(load_profile(str(path)))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"run": ["bench", "{model}", "{runs}"]}, r"run: unknown placeholder '{model}'; known are address, artifact"),
        ({"push": ["cp", "{artifact}", "{runs}"]}, "push: unknown placeholder '{runs}'"),
        ({"run": ["bench", "{runs.x}"]}, "unknown placeholder"),
        ({"run": ["bench", "{runs!r}"]}, "unknown placeholder"),
        ({"run": ["bench", "{runs:>9}"]}, "unknown placeholder"),
        ({"run": ["bench", "{runs"]}, "a brace itself is written twice"),
        ({"run": ["bench", 5]}, "valid string"),
        ({"run": []}, "at least 1 item"),
        ({"parse": {"pattern": r"(\d+) (\d+)", "unit": "s", "gives": "mean"}}, "one pair of parentheses"),
        ({"parse": {"pattern": "((x)", "unit": "s", "gives": "mean"}}, "not a regular expression"),
        ({"parse": {"pattern": "(?i)(x)", "unit": "s", "gives": "mean"}}, "no flags"),
        ({"parse": {"json_path": "a..b", "unit": "s", "gives": "mean"}}, "a path looks like"),
        ({"parse": {"unit": "s", "gives": "mean"}}, "either a pattern or a json_path"),
        ({"parse": {"pattern": "(x)", "unit": "minutes", "gives": "mean"}}, "unit"),
        ({"run": ["bench"], "parse": {"pattern": "(x)", "unit": "s", "gives": "each"}}, "needs {runs}"),
        ({"facts": {"a b": ["x"]}}, "pattern"),
    ],
)
def test_commands_are_refused_when_they_are_read(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    path = write(tmp_path / "board.yaml", runtime="x", connection="command", command={**GOOD, **changed})
    with pytest.raises(DocumentError, match=says.replace("{", r"\{").replace("}", r"\}")):
        load_profile(path)


def test_a_brace_written_twice_is_a_brace() -> None:
    assert filled(("{{{runs}}}", "a{{b"), {"runs": "3"}) == ["{3}", "a{b"]


def test_one_profile_takes_the_commands_of_another(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", runtime="x", connection="command", command=GOOD)
    own = write(tmp_path / "own.yaml", extends="base.yaml", command={"timeout_s": 5, "push": ["cp", "{artifact}", "x"]})
    found = load_profile(own).command
    assert found
    assert (found.timeout_s, found.run, found.push) == (5, (("true", "{runs}"),), (("cp", "{artifact}", "x"),))
    assert HardwareProfile.model_validate_json(load_profile(own).model_dump_json()).command == found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    FIELDS.map(json.dumps) | st.text(max_size=80) | FIELDS.map(lambda found: yaml.safe_dump(found, allow_unicode=True))
)
def test_a_hostile_profile_is_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with contextlib.suppress(AutopruneError):
        assert load_profile(str(path)).name is not None
