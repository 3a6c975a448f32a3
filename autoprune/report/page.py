"""Pages that load nothing: style, plots and the library that draws them are inside one HTML file."""

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from autoprune.report import words


def render_page(template: str, plots: Mapping[str, Any], **content: Any) -> str:
    """The whole file, about 2 MB: nearly all of it is plotly.js, compressed. ``plots`` by the id of their place."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("autoprune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        words=words, plots=plots, plots_json=_embedded(plots), plotly=_plotly(), **content
    )


def _embedded(plots: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(plots, allow_nan=False).replace("<", "\\u003c")


@cache
def _plotly() -> str:
    """plotly.js as the Python package carries it, gzip and Base64: a third of its size."""
    from importlib.util import find_spec

    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return base64.b64encode(gzip.compress(source.read_bytes(), 9, mtime=0)).decode()
