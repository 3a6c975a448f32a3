"""YAML documents: strict, safe, and errors that name file, line and field."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.documents import find_document, parse_yaml, read_yaml, shipped_folder
from autoprune.errors import DocumentError, UsageError
from autoprune.hardware import HardwareProfile, list_profiles, load_profile
from autoprune.space import SearchSpace, list_spaces, load_space

GOOD = "name: mine\ndescription: my board\nruntime: onnxruntime\n"


def refused(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        parse_yaml(text, HardwareProfile, origin="board.yaml")
    return str(caught.value)


def test_a_wrong_value_is_named_with_file_line_and_field() -> None:
    said = refused(GOOD + "options:\n  batch: 1\n  threads: -2\n")
    assert said.startswith("board.yaml:6: options.threads: ")


def test_an_unknown_field_is_refused_where_it_stands() -> None:
    assert refused(GOOD + "colour: red\n").startswith("board.yaml:4: colour: ")


def test_a_missing_field_is_named() -> None:
    assert "runtime: Field required" in refused("name: mine\ndescription: x\n")


def test_malformed_yaml_is_named_with_its_line() -> None:
    assert refused(GOOD + "options: [1,\n").startswith("board.yaml:5: not valid YAML")


@pytest.mark.parametrize(
    "hostile",
    [
        "!!python/object/apply:os.system [echo]",
        "name: &a [x]\nother: *a\n",
        "name: a\nname: b\n",
        "- " * 5000,
        "? {a: b}\n: c\n",
        "name: " + "[" * 2000,
        "\x00",
        "? [1, 2]\n: c\n",
    ],
)
def test_hostile_yaml_is_refused(hostile: str) -> None:
    assert refused(hostile)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DocumentError):
        parse_yaml(text, SearchSpace, origin="space.yaml")


def test_a_huge_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text("#" * 2_000_000)
    with pytest.raises(DocumentError, match="bytes, more than"):
        read_yaml(path, HardwareProfile)


def test_a_missing_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        load_profile(str(tmp_path / "none.yaml"))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match="default"):
        find_document("nonsense", "search_spaces")


def test_every_shipped_document_is_valid_and_named_after_its_file() -> None:
    assert [profile.name for profile in list_profiles()] == sorted(
        p.stem for p in shipped_folder("hw_profiles").glob("*")
    )
    assert [space.name for space in list_spaces()] == sorted(p.stem for p in shipped_folder("search_spaces").glob("*"))


def test_the_users_own_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text(GOOD)
    assert load_profile(str(path)).name == "mine"
    assert load_space("default").name == "default"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose entry points add profiles and spaces."""
    home = tmp_path / "site"
    (home / "boards").mkdir(parents=True)
    (home / "boards" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    info = home / "boards-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boards\nVersion: 1.0\n")
    groups = "[autoprune.hw_profiles]\nboards = boards\n[autoprune.search_spaces]\nboards = no_boards\n"
    (info / "entry_points.txt").write_text(groups)
    (home / "boards" / "hexagon.yaml").write_text(GOOD.replace("mine", "hexagon"))
    monkeypatch.syspath_prepend(str(home))
    return home / "boards"


def test_an_installed_package_adds_profiles(package: Path) -> None:
    assert load_profile("hexagon").name == "hexagon"
    assert "hexagon" in {profile.name for profile in list_profiles()}


def test_a_package_may_not_take_a_name_that_is_taken(package: Path) -> None:
    (package / "cpu.yaml").write_text(GOOD)
    with pytest.raises(UsageError, match=r"'cpu' is in .*hw_profiles.* and in .*boards"):
        load_profile("cpu")


def test_a_package_without_what_it_names_is_told(package: Path) -> None:
    with pytest.raises(UsageError, match=r"'boards' of autoprune.search_spaces names 'no_boards', .*not installed"):
        list_spaces()


def test_a_misspelt_field_or_name_is_met_with_the_nearest() -> None:
    said = refused(GOOD + "capabilites: {}\n")
    assert said == "board.yaml:4: capabilites: there is no such field, did you mean 'capabilities'."
    with pytest.raises(UsageError, match="'cpuu' is not in hw_profiles, did you mean 'cpu': choose one of"):
        load_profile("cpuu")


def test_mistakes_are_told_from_the_top() -> None:
    said = refused("name: 1\nmagic: 2\ndescription: 3\nruntime: x\n")
    assert [line.split(":")[1] for line in said.splitlines()] == ["1", "2", "3"]
