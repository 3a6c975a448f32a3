"""YAML documents, read safely and checked strictly; and the folders of documents that ship with the package."""

import difflib
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from autoprune.errors import DocumentError, UsageError

MAX_BYTES = 1_000_000


class Strict(BaseModel):
    """A frozen value whose fields are exactly those declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Strict)
Complete = Callable[[dict[str, Any]], dict[str, Any]]


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses aliases (they expand exponentially) and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=self._mark())
        return super().compose_node(parent, index)

    def _mark(self) -> Any:
        return self.peek_event().start_mark  # type: ignore[no-untyped-call]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError) as error:  # for a "!!timestamp x" and the like
            problem = f"{getattr(node, 'value', '')!r} is not a {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"repeated key {key.value!r}", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path, schema: type[S], *, complete: Complete = dict) -> S:
    """Read ``path`` into ``schema``; ``complete`` makes the whole mapping of the one that the document holds.

    Raises:
        DocumentError: the file is missing, too large, not YAML, or breaks the schema; names file, line and field.
    """
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path}: cannot be read: {error}") from error
    if size > MAX_BYTES:
        raise DocumentError(f"{path}: has {size} bytes, more than the {MAX_BYTES} that a document may have.")
    return parse_yaml(text, schema, origin=str(path), complete=complete)


def parse_yaml(text: str, schema: type[S], *, origin: str, complete: Complete = dict) -> S:
    """Parse ``text`` into ``schema``; ``origin`` names it in errors. Raises DocumentError like `read_yaml`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise DocumentError(f"{origin}{line}: not valid YAML: {problem}.") from error
    try:
        return schema.model_validate(complete(data) if isinstance(data, dict) else data)
    except ValidationError as error:
        raise DocumentError(_explain(error, schema, node, origin)) from error


def _explain(error: ValidationError, schema: type[Strict], node: yaml.Node | None, origin: str) -> str:
    lines: list[tuple[int, str]] = []
    for issue in error.errors():
        field = ".".join(str(part) for part in issue["loc"]) or "document"
        what = issue["msg"].removeprefix("Value error, ")
        if issue["type"] == "extra_forbidden":
            what = f"there is no such field{meant(str(issue['loc'][-1]), _fields(schema))}"
        lines.append((_line(node, issue["loc"]), f"{field}: {what}."))
    return "\n".join(f"{origin}:{line}: {what}" for line, what in sorted(lines))


def _fields(schema: type[Strict]) -> set[str]:
    """Names of all fields, of those below too."""
    found = schema.model_json_schema()
    return {name for one in (found, *found.get("$defs", {}).values()) for name in one.get("properties", {})}


def meant(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'NAME'`` where a known one is near; else nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f", did you mean '{near[0]}'" if near else ""


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The 1-based line of the deepest node that exists on the way to ``location``."""
    line = node.start_mark.line if node else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == str(part)]
            if not match:
                break
            line, node = match[0][0].start_mark.line, match[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def shipped_folder(folder: str) -> Path:
    """The folder ``folder`` of shipped documents: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def known_documents(folder: str, *, own: Path | None = None) -> dict[str, Path]:
    """Those that ship in ``folder``, those of installed packages, and the user's in ``own``, by name.

    A package adds the documents beside its module that an entry point of ``autoprune.<folder>`` names.

    Raises:
        UsageError: two have one name, or a package does not have what its entry point names.
    """
    known: dict[str, Path] = {}
    places = [shipped_folder(folder), *_added(folder), *([own] if own else [])]
    for path in (path for place in places for path in sorted(place.glob("*.yaml"))):
        if path.stem in known:
            raise UsageError(f"'{path.stem}' is in {known[path.stem]} and in {path}: rename one of them.")
        known[path.stem] = path
    return known


def _added(folder: str) -> list[Path]:
    """The folders that installed packages add."""
    found = []
    for entry in entry_points(group=f"autoprune.{folder}"):
        try:
            spec = find_spec(entry.module)
        except ImportError:
            spec = None
        if spec is None or spec.origin is None:
            raise UsageError(f"'{entry.name}' of autoprune.{folder} names '{entry.value}', which is not installed.")
        found.append(Path(spec.origin).parent)
    return found


def find_document(name: str, folder: str, *, own: Path | None = None) -> Path:
    """The path of a known document by name, or of any by path (what ends in .yaml or .yml).

    Raises:
        UsageError: no such document; the message lists those that are known. Or as `known_documents`.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = known_documents(folder, own=own)
    if name not in known:
        raise UsageError(
            f"'{name}' is not in {folder}{meant(name, known)}: choose one of {', '.join(sorted(known))}, "
            "or give the path of a .yaml file."
        )
    return known[name]
