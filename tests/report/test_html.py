"""The HTML report: one file that loads nothing, trusts nothing, and draws every plot in a browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autoprune.pareto import Goals, objectives
from autoprune.recipe import DENSE
from autoprune.report import Finalist, RunReport, render_html
from autoprune.report.figures import figures
from tests.factories import GROUPS, WIDTHS, run_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'@ink"


def hostile_report() -> RunReport:
    return run_report(
        task=HOSTILE,
        target=HOSTILE,
        directory=HOSTILE,
        groups={**dict(zip(GROUPS, WIDTHS, strict=True)), HOSTILE: 8},
        warnings=(HOSTILE,),
        circumstances={HOSTILE: HOSTILE},
    )


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_file_loads_nothing() -> None:
    text = render_html(run_report())
    assert not re.search(r"https?:|//cdn|url\(|@import", text)
    for tag, attributes in Tags(text).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "href"} & set(attributes)
    assert "default-src 'none'" in text


def test_the_file_is_about_two_megabytes() -> None:
    assert len(render_html(run_report())) < 2_500_000


def test_hostile_names_stay_text() -> None:
    plain, hostile = Tags(render_html(run_report())).tags, Tags(render_html(hostile_report())).tags
    assert [tag for tag, _ in hostile if tag in ("script", "img")] == [tag for tag, _ in plain if tag == "script"]
    assert not any(name.startswith("on") for _, attributes in hostile for name in attributes)


def test_every_plot_has_a_place() -> None:
    for report in (run_report(), run_report(objectives=objectives(("accuracy", "latency_ms", "size_bytes")))):
        text = render_html(report)
        places = re.findall(r'class="plot" id="([\w-]+)"', text)
        assert sorted(places) == sorted(figures(report))


def test_plots_without_data_are_left_out() -> None:
    report = run_report(finished=False)
    assert "operators" not in figures(report)
    assert 'id="operators"' not in render_html(report)
    alone = run_report(finalists=(), trials=1, goals=Goals())
    assert "kept" not in figures(alone)
    assert "Where the cut fell" not in render_html(alone)


def test_every_scored_trial_is_plotted_and_every_failed_one_listed() -> None:
    report = run_report()
    marks = [trace for trace in figures(report)["trials"]["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == sum(record.score is not None for record in report.records)
    assert {"dense fp32", "dense int8"} <= {trace["name"] for trace in marks}
    failed = [n for n, record in enumerate(report.records, 1) if record.score is None]
    assert re.findall(r"trial (\d+)<br>", render_html(report)) == [str(n) for n in failed]


def test_a_disturbed_measurement_is_marked() -> None:
    dense = run_report().dense
    latency = dense.score.latency.model_copy(update={"disturbed": True})
    disturbed = replace(dense, score=dense.score.model_copy(update={"latency": latency}))
    footnote = "Something disturbed the device"
    assert footnote in render_html(run_report(dense=disturbed))
    assert footnote not in render_html(run_report())


def test_hovering_names_the_recipe() -> None:
    report = run_report()
    about = " ".join(text for trace in figures(report)["front-latency_ms"]["data"] for text in trace.get("text", []))
    assert all(member.recipe.id in about for member in report.front)


def test_a_group_that_a_provisional_model_does_not_mention_is_kept_whole() -> None:
    report = run_report(finished=False)
    heat = figures(report)["kept"]["data"][0]
    assert len(heat["x"]) == len(GROUPS)
    assert max(max(row) for row in heat["z"]) == 1.0
    assert Finalist.provisional(report.records[0]).recipe == DENSE


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs Chromium to open the report")
    return found


OFFLINE = ("--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking")
QUIET = ("--no-first-run", "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-gpu")


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [False, True])
def test_a_browser_without_a_network_draws_every_plot(tmp_path: Path, hostile: bool) -> None:
    report = hostile_report() if hostile else run_report()
    page = tmp_path / "report.html"
    page.write_text(render_html(report))
    options = ("--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000")
    logging = ("--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri())
    done = subprocess.run(
        [chromium(), *options, *OFFLINE, *QUIET, *logging], capture_output=True, text=True, timeout=90, check=True
    )
    assert 'data-plots="drawn"' in done.stdout
    assert ":CONSOLE" not in done.stderr, "the page complained on the console"
    for plot in figures(report):
        assert re.search(
            rf'id="{plot}"[^>]*class="[^"]*js-plotly-plot|class="[^"]*js-plotly-plot[^"]*" id="{plot}"', done.stdout
        )
    embedded = re.search(r'id="figures">(.*?)</script>', done.stdout, re.S)
    assert embedded is not None
    assert set(json.loads(embedded[1])) == set(figures(report))
