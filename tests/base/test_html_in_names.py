"""HTML in a hospital's name shows as text.

In the executed reports as a browser renders them, and in every table with a style.
"""

import json
import random
import re

import pandas as pd
import pytest
from conftest import ROOT, copy_project, run

from drg_lib.base.tables import write_csv
from drg_lib.base.text import for_spreadsheets, md
from drg_lib.sources.calibration import load_calibration
from drg_lib.sources.synthetic import generate

NAMES = [
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 2">',
    "<b>St. Bold</b> & Sons",
    '"><svg onload=window.hacked=3>',
    "[Click](javascript:window.hacked=4)",
    "$\\undefined{x}$ Clinic",
    "=1+1 Hospital",
]
BROWSER = dict(
    executable_path="/usr/bin/chromium",
    args=[
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ],
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The data stages of a small file whose names are HTML."""
    project = copy_project(tmp_path_factory.mktemp("names") / "project")
    table = generate(load_calibration(), 0.003, 1, 2025)
    ids = sorted(table["Facility Id"].unique())
    table["Facility Name"] = table["Facility Id"].map(
        {name: NAMES[i % len(NAMES)] for i, name in enumerate(ids)}
    )
    table["APR DRG Description"] = [
        f"{text} <script>window.hacked = 5</script>" if i % 3 else text
        for i, text in enumerate(table["APR DRG Description"])
    ]
    table.to_csv(project / "costs.csv", index=False)
    for stage in (
        ["ingestion", "data_sources.path=costs.csv"],
        ["inspection", "data_sources.path=costs.csv"],
        ["cleaning", "data_versions=v1"],
        ["cleaning", "data_versions=v2"],
    ):
        run(project, "drg", "run", *stage, "data_sources=sparcs_csv")
    return project


def test_reports_show_the_names_and_run_nothing(reports, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from nbconvert import HTMLExporter

    exporter, pages = HTMLExporter(), {}
    for path in sorted((reports / "runs").rglob("*.ipynb")):
        pages[path.stem] = tmp_path / f"{path.stem}.html"
        pages[path.stem].write_text(exporter.from_filename(str(path))[0], encoding="utf-8")
    assert len(pages) == 4
    with sync_api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(**BROWSER)
        except sync_api.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        page = browser.new_page()
        page.route(
            "**/*",
            lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort(),
        )
        for stem, path in pages.items():
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            page.wait_for_timeout(300)
            assert page.evaluate("window.hacked") is None, stem
            assert (
                page.evaluate(
                    "[...document.querySelectorAll('a')].filter(a => a.href.startsWith('javascript')).length"
                )
                == 0
            ), stem
            assert page.evaluate("document.querySelectorAll('img[src=x], svg[onload]').length") == 0, stem
        # The names are there to be read.
        page.goto(pages["0_ingestion"].as_uri(), wait_until="domcontentloaded")
        shown = page.evaluate("document.body.innerText")
        assert any(name in shown for name in NAMES), shown[:2000]
        browser.close()


def test_styled_tables_escape():
    """pandas escapes a plain table, a styled one only where it is told to.

    Those that show no text from a file are listed.
    """
    numbers_only = {"6_evaluation.ipynb": 2, "8_deployment.ipynb": 1, "comparison.ipynb": 1}
    bare = {}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if (
                cell["cell_type"] == "code"
                and re.search(r"\.style\b(?!\.use)", source)
                and "reporting.style" not in source
                and "plt" not in source
                and 'escape="html"' not in source
                and ".style.format" in source
            ):
                bare[path.name] = bare.get(path.name, 0) + 1
    assert {name: n for name, n in bare.items() if n > numbers_only.get(name, 0)} == {}


def test_markdown_shows_text_as_it_is():
    from nbconvert.filters import markdown2html

    for name in NAMES:
        html = markdown2html(f"Largest: {md(name)}.")
        assert not re.search(r"<(script|img|b|svg|a)\b", html), html


@pytest.mark.parametrize(
    "place", ["Largest: {}.", "| a |\n|---|\n| {} |", "**{}** is largest", "{} is largest"]
)
def test_any_mix_of_signs_shows_as_it_is(place):
    from bs4 import BeautifulSoup
    from markdown_it import MarkdownIt
    from nbconvert.filters import markdown2html

    signs = [
        *"""&<>"'\\`*_{}[]()#+!|~$^:@=/ab1 """,
        "&lt;",
        "<b>",
        ":smile:",
        "\\(",
        "{doc}`x`",
        "$$",
        "**",
        "__",
    ]
    rng = random.Random(1)
    for text in (" ".join("".join(rng.choices(signs, k=6)).split()) for _ in range(60)):
        for render in (markdown2html, MarkdownIt("gfm-like", {"linkify": False}).render):
            page = BeautifulSoup(render(place.format(md(text or "x"))), "html.parser")
            expected = "a {}" if place.startswith("|") else place.replace("**", "")
            assert " ".join(page.get_text().split()) == expected.format(text or "x"), (text, render)
            assert not page.find(["a", "b", "code", "em", "img", "ul", "h1", "blockquote"]), (text, render)


def test_names_that_markdown_would_not_obey_stay_readable_in_the_file():
    for name in (
        "ST LUKE'S (N.Y.)",
        "Beacon & Sons",
        "w_mean_cost + lag_w_mean_cost",
        "MV >96 HOURS: 5 %, 10:30",
    ):
        assert md(name) == name


def test_csv_is_safe_to_open(tmp_path):
    frame = pd.DataFrame(
        {
            "facility_name": ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(1)", "\t=1", "Mount Sinai", "-"],
            "change": [-1.5, 2, 3, 4, 5, 6, 7],
            "=name": "x",
        }
    )
    write_csv(frame, tmp_path / "forecast.csv")
    back = pd.read_csv(tmp_path / "forecast.csv")
    assert back["facility_name"].tolist() == [
        "'=cmd|' /C calc'!A0",
        "+1",
        "'-1+1",
        "'@SUM(1)",
        "'\t=1",
        "Mount Sinai",
        "-",
    ]
    assert back["change"].tolist() == [-1.5, 2, 3, 4, 5, 6, 7] and back.columns.tolist() == [
        "facility_name",
        "change",
        "'=name",
    ]
    assert for_spreadsheets(frame.iloc[[5]])["facility_name"].tolist() == ["Mount Sinai"]
