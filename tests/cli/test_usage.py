"""Exit code 2: what the user asked for does not exist or does not fit; said before anything heavy is loaded."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Command

GOOD = "name: x\ndescription: y\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--trials 0", "Invalid value for '--trials'.*greater than or equal to 1"),
        ("--seed -1", "Invalid value for '--seed'"),
        ("--target abacus", "Unknown target: 'abacus'.*choose one of .*cpu.*path of a .yaml file"),
        ("--space abacus", "'abacus' is not in search_spaces: choose one of default.*path of a .yaml file"),
        ("--strategy magic", "Unknown strategy 'magic': known are guided, halp, netadapt, nsga2"),
        ("--objectives accuracy,speed", "Unknown objective 'speed': choose two or three of accuracy, latency_ms"),
        ("--objectives accuracy", "needs two or three different objectives, not accuracy"),
        ("--max-accuracy-drop 5", "Goal max_accuracy_drop cannot be 5.0.*units of the metric: 0.01 is one point"),
        ("--max-accuracy-drop nan", "Goal max_accuracy_drop cannot be nan"),
        ("--max-latency-ms 0", "Goal max_latency_ms cannot be 0.0: .*greater than 0"),
        ("--max-latency-ms fast", "Invalid value for '--max-latency-ms'"),
        ("--min-speedup -1", "Goal min_speedup cannot be -1.0: .*greater than 0"),
        ("--option data", "Option 'data' is not KEY=VALUE"),
        ("-o data=1 -o data=2", "Option 'data' is given twice"),
        ("--no-such-option", "No such option: --no-such-option"),
    ],
)
def test_a_value_that_does_not_fit(command: Command, arguments: str, message: str) -> None:
    done = command("search", "--task", "digits", *arguments.split())
    assert done.code == 2
    assert len(done.err.splitlines()) == 1, done.err
    assert_said(done.said, message)
    assert not done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--task", "digit"], "Unknown task 'digit': choose one of cifar10, digits.*FILE.py"),
        (["search", "--task", "digits", "-o", "data=x"], "no option 'data'. Its options: none"),
        (["search", "--task", "digits", "-o", f"data={'x' * 5000}"], "no option 'data'"),
        (["search"], "Missing option '--task'"),
        (["magic"], "No such command 'magic'"),
    ],
)
def test_a_name_that_does_not_exist(command: Command, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert_said(done.said, message)


@pytest.mark.parametrize("option", ["--space", "--target"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: x\nname: y\n", ":2: .*repeated key 'name'"),
        (b"a: &a [1]\nb: *a\n", ":2: .*aliases are not allowed"),
        (b"a: [1\nb: 2\n", ":2: not valid YAML"),
        (b"? [a]\n: b\n", ":1: .*a key must be a plain word"),
        (b"!!python/object/apply:os.system ['touch /tmp/hacked']\n", ":1: not valid YAML.*python/object"),
        (b"name: x\ndescription: !!timestamp soon\n", ":2: .*'soon' is not a timestamp"),
        (b"name: x\ndescription: !!bool maybe\n", ":2: .*'maybe' is not a bool"),
        (b"name: x\ndescription: !!int ''\n", ":2: .*'' is not a int"),
        (b"[" * 5000, "not valid YAML: maximum recursion depth"),
        (b"name: \xff\xfe", "cannot be read: 'utf-8' codec"),
        (b"name: a\x00b", "not valid YAML: unacceptable character"),
        (b"- 1\n- 2\n", ":1: document: "),
        (b"", ":1: name: Field required"),
        (b"name: x\ndescription: y\nmagic: 1\n", ":3: magic: there is no such field"),
        (b"name: x\ndescription: [y]\n", ":2: description: Input should be a valid string"),
        (b"#" * 1_000_001, "has 1000001 bytes, more than"),
    ],
    ids=range(16),
)
def test_a_broken_document_is_named_with_line_and_field(
    command: Command, tmp_path: Path, option: str, content: bytes, message: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    done = command("search", "--task", "digits", option, path)
    assert done.code == 2
    assert_said(done.err, f"broken.yaml{'' if message.startswith(':') else '.*'}{message}")
    assert not done.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{GOOD}criterion: [magic]\n", r"Space '.*own\.yaml': Unknown criterion 'magic': known are l1, l2"),
        (f"{GOOD}keep:\n  min: 2\n", r"own\.yaml:4: keep\.min: .*less than or equal to 1"),
        (f"{GOOD}keep: {{min: .nan}}\n", r"own\.yaml:3: keep\.min"),
        (f"{GOOD}recover: [{{methods: [bn], epochs: 1}}]\n", r"own\.yaml:3: recover\.0: .*epochs are of use with"),
        (f"{GOOD}criterion: []\n", r"own\.yaml:3: criterion: .*lists no choice"),
        (f"{GOOD}precision: [fp32, fp32]\n", r"own\.yaml:3: precision: .*lists the same choice twice"),
    ],
)
def test_a_space_that_cannot_be(command: Command, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content)
    done = command("search", "--task", "digits", "--space", path)
    assert done.code == 2
    assert_said(done.said, message)


def test_missing_documents_are_named(command: Command, tmp_path: Path) -> None:
    for option, path in (("--space", tmp_path / "a.yaml"), ("--target", tmp_path), ("--space", "x" * 5000 + ".yaml")):
        done = command("search", "--task", "digits", option, path)
        assert done.code == 2
        assert len(done.err.splitlines()) == 1


def test_a_space_that_fits_no_group(command: Command, quick: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"{GOOD}exclude: [head*]\n")
    done = command("search", "--task", quick["task"], "--target", quick["target"], "--space", path)
    assert done.code == 2
    assert_said(done.said, r"exclude 'head\*' matches none of the model's groups")


def test_a_target_whose_runtime_is_unknown(command: Command, quick: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"{GOOD}runtime: abacus\n")
    done = command("search", "--task", quick["task"], "--target", path)
    assert done.code == 2
    assert_said(done.said, "asks for runtime 'abacus', which is not known here: choose one of .*onnxruntime")


def assert_said(text: str, message: str) -> None:
    assert re.search(message, text), text
