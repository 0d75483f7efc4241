"""The site in a real browser: every page, its links, its search, its folds, and names that are not names."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import urllib.request
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, copy_build, copy_project, environment, run

from drg_lib.reporting.executed import find_reports
from drg_lib.reporting.style import words
from drg_lib.site.site import stage_site

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = '<img src="http://evil.example/x.png" onerror="alert(1)"><script>alert(2)</script>'
BUILD = ["drg", "docs", "--no-serve"]


def hostile_notebook():
    "An executed notebook whose every output holds a name with markup."

    def cell(**output):
        return dict(
            cell_type="code",
            source="#| eval: false\nshow()",
            metadata={},
            execution_count=1,
            outputs=[dict(**({} if output["output_type"] == "stream" else {"metadata": {}}), **output)],
        )

    row = f"<tr><td onclick='alert(3)'>{HOSTILE}</td></tr>"
    table = f"<style>x</style><table><thead><tr><th>name</th></tr></thead><tbody>{row}</tbody></table>"
    cells = [
        dict(
            cell_type="markdown", source="# Hostile names\n> A hospital may be called anything.", metadata={}
        ),
        cell(output_type="display_data", data={"text/html": table}),
        cell(output_type="display_data", data={"text/markdown": f"A name: {HOSTILE}"}),
        cell(output_type="display_data", data={"text/plain": repr({"name": HOSTILE})}),
        cell(output_type="display_data", data={"text/html": HOSTILE, "text/plain": HOSTILE}),
    ]
    cells.append(cell(output_type="stream", name="stdout", text=HOSTILE))
    about = dict(
        start_time="2026-01-02T03:04:05+00:00",
        end_time="2026-01-02T03:04:06+00:00",
        duration=1.0,
        parameters={"facility": HOSTILE},
    )
    return dict(cells=cells, metadata=dict(papermill=about), nbformat=4, nbformat_minor=4)


@pytest.fixture(scope="module")
def built(synthetic_build, tmp_path_factory):
    """The site of the synthetic build, with a hostile report among the others."""
    project = copy_build(synthetic_build, tmp_path_factory.mktemp("site") / "project")
    (project / "runs" / "other").mkdir(exist_ok=True)
    (project / "runs" / "other" / "hostile.ipynb").write_text(json.dumps(hostile_notebook()))
    before = {
        p: p.stat().st_mtime_ns
        for folder in ("runs", "results", "data", "nbs", "docs")
        for p in (project / folder).rglob("*")
        if p.is_file()
    }
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(project, *BUILD, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert not [p for p, at in before.items() if p.stat().st_mtime_ns != at], (
        "building the site changed the project"
    )
    project.joinpath("build/said").write_text(done.stdout + done.stderr)
    project.joinpath("build/cpu").write_text(
        str(after.ru_utime - spent.ru_utime + after.ru_stime - spent.ru_stime)
    )
    return project


@pytest.fixture(scope="module")
def site(built):
    return built / "build" / "site"


def pages_of(site):
    return sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html") if "_static" not in p.parts)


@cache
def page_of(site, name):
    return BeautifulSoup((site / name).read_text(encoding="utf-8"), "html.parser")


@cache
def text_of(site, name):
    return plain(page_of(site, name).find("article").get_text(" "))


def plain(text):
    return " ".join(text.split()).replace("’", "'")


# Without a browser


def test_sphinx_has_nothing_to_complain_about(built):
    said = (built / "build" / "said").read_text()
    assert "WARNING" not in said and "ERROR" not in said, said


def test_it_builds_in_two_minutes(built):
    assert (
        float((built / "build" / "cpu").read_text()) < 120
    )  # of one core; the clock depends on what else runs


def test_every_internal_link_leads_somewhere(site):
    soups = {name: page_of(site, name) for name in pages_of(site)}
    ids = {
        name: {
            tag.get("id") or tag.get("name")
            for tag in soup.find_all(True)
            if tag.get("id") or tag.get("name")
        }
        for name, soup in soups.items()
    }
    broken = []
    for name, soup in soups.items():
        if name.startswith("explorer/"):
            continue
        for tag, attribute in [("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")]:
            for found in soup.find_all(tag, **{attribute: True}):
                path, fragment = urldefrag(unquote(found[attribute].split("?")[0]))
                if path.startswith(("http:", "https:", "mailto:", "data:", "javascript:")):
                    continue
                target = Path(os.path.normpath(Path(name).parent / path)).as_posix() if path else name
                if (
                    not (site / target).is_file()
                    and not (site / target / "index.html").is_file()
                    or fragment
                    and target in ids
                    and fragment not in ids[target]
                ):
                    broken.append((name, found[attribute]))
    assert not broken


def test_each_executed_notebook_is_a_page(built, site):
    made = {
        p.relative_to(built / "runs").with_suffix("").as_posix() for p in (built / "runs").rglob("*.ipynb")
    }
    assert made and {f"reports/{name}.html" for name in made} <= set(pages_of(site))
    index = text_of(site, "reports/index.html")
    for report in find_reports(built / "runs"):
        assert plain(report.title) in index and plain(report.key_figure) in index


def test_a_report_says_what_it_is_made_of(built, site):
    soup = page_of(site, "reports/3_transformation/v10_create_lag_features.html")
    table = {
        row.th.get_text(strip=True): row.td for row in soup.find("table", class_="run-facts").find_all("tr")
    }
    revision = run(built, "git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    assert (
        "Synthetic data." in table["Data"].get_text() and table["Data version"].get_text(strip=True) == "v10"
    )
    assert "max_gap_years" in table["Parameters"].get_text() and "took" in table["Run"].get_text()
    assert revision[:12] in table["Code"].get_text()
    assert [a["href"].split("/")[-1] for a in table["Made from"].find_all("a")] == [
        "v9_charge_to_cost_ratio.html"
    ]
    assert [a["href"].split("/")[-1] for a in table["Leads to"].find_all("a")] == [
        "v11_rolling_features.html"
    ]
    config = site / "reports/3_transformation" / table["Config"].a["href"]
    assert "git_revision: " + revision in config.read_text()


def test_synthetic_data_are_called_so_on_every_report_and_on_the_first_page(site):
    said = [
        name
        for name in pages_of(site)
        if name.startswith("reports/") and name != "reports/index.html" and "/other/" not in name
    ]
    assert len(said) > 15 and not [
        name
        for name in [*said, "index.html", "lineage.html", "data_card.html", "model_card.html"]
        if "Synthetic data" not in text_of(site, name)
    ]


def test_no_marks_of_the_machinery_are_shown(site):
    for name in pages_of(site):
        if not name.startswith("reports/"):
            continue
        article = page_of(site, name).find("article").get_text()
        assert not [
            mark
            for mark in ("#|", "#papermill_description", "injected-parameters", "scrapbook", "pass\n")
            if mark in article
        ], name


def test_home_shows_the_current_run(built, site):
    text, soup = text_of(site, "index.html"), page_of(site, "index.html")
    profile = json.loads((built / "results/inspection/profile.json").read_text())
    forecast = json.loads((built / "results/deployment/summary.json").read_text())
    assert (
        f"{profile['rows']:,}" in text
        and f"{profile['facilities']:,}" in text
        and f"{forecast['rows']:,}" in text
    )
    assert len(soup.find("article").find_all("img")) >= 3 and all(
        len(img["alt"]) > 20 for img in soup.find("article").find_all("img")
    )


def test_models_are_compared_and_lineage_is_whole(built, site):
    for path in (built / "results/evaluation").glob("*/metrics.json"):
        for name in json.loads(path.read_text())["validation_loss"]:
            assert words(name, capital=True) in text_of(site, "models.html")
    stages = page_of(site, "lineage.html").find("svg", class_="pipeline").find_all(class_="stage")
    assert len(stages) == len(run(built, "dvc", "stage", "list", "--name-only").stdout.split()) and all(
        s.name == "a" for s in stages
    )
    assert "v12" in text_of(site, "lineage.html")


def test_api_has_every_public_module(site):
    modules = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in (ROOT / "drg_lib").rglob("*.py")
        if not p.name.startswith("_")
    }
    assert modules == {p.stem for p in (site / "api").glob("drg_lib*.html")}
    assert "Raises" in text_of(site, "api/drg_lib.base.tables.html")


def test_a_fresh_clone_gets_a_site_that_says_what_to_run(tmp_path):
    project = copy_project(tmp_path / "project")
    missing = stage_site(project, tmp_path / "docs")
    assert missing and "forecast" in missing[0]
    for page in ("index", "models", "lineage", "data_card", "model_card", "reports/index"):
        assert "Not there yet" in (tmp_path / "docs" / f"{page}.md").read_text(), page
    assert "`make run`" in (tmp_path / "docs" / "index.md").read_text()


def test_what_is_damaged_is_said_and_stops_nothing(built, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(built, project, symlinks=True, ignore=shutil.ignore_patterns("cache", "build"))
    (project / "runs/1_inspection.ipynb").write_text("{")
    (project / "runs/0_ingestion.yaml").unlink()
    failed = json.loads((project / "runs/5_modeling").glob("*.ipynb").__next__().read_text())
    failed["metadata"]["papermill"]["exception"] = True
    failed["cells"].append(
        dict(
            cell_type="code",
            source="",
            metadata={},
            outputs=[dict(output_type="error", ename="DataError", evalue="no rows", traceback=[])],
        )
    )
    (project / "runs/5_modeling/broken.partial.ipynb").write_text(json.dumps(failed))
    stage_site(project, tmp_path / "docs")
    assert "not whole" in (tmp_path / "docs/reports/1_inspection.ipynb").read_text()
    assert "not kept" in (tmp_path / "docs/reports/0_ingestion.ipynb").read_text()
    page = (tmp_path / "docs/reports/5_modeling/broken.partial.ipynb").read_text()
    assert "This run failed" in page and "DataError: no rows" in page


def test_the_built_site_is_served_on_this_machine_alone(built):
    server = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-c",
            f"from drg_lib.site.site import serve; serve({str(built / 'build/site')!r}, 8750)",
        ],
        cwd=built,
        env=environment(built) | {"DISPLAY": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = server.stdout.readline().split(" at ")[1].split()[0]
        assert b"drg_lib" in urllib.request.urlopen(address, timeout=20).read()
    finally:
        server.terminate()
        server.wait(20)


# In the browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium here (Debian package chromium)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def tab(browser, site):
    """A tab that notes what goes wrong: `tab.wrong` is emptied by who reads it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_address[1]}/"
    page = browser.new_context(
        base_url=home, viewport=dict(width=1280, height=900), reduced_motion="reduce"
    ).new_page()
    page.set_default_timeout(60_000)
    page.wrong = []
    page.on("console", lambda m: page.wrong.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: page.wrong.append(f"error: {e}"))
    page.on("dialog", lambda d: (page.wrong.append(f"dialog: {d.message}"), d.dismiss()))
    # a request that leaving its page broke off is no fault; a file that is not there answers with a status
    page.on(
        "requestfailed",
        lambda r: (
            page.wrong.append(f"failed: {r.url}: {r.failure}") if r.failure != "net::ERR_ABORTED" else None
        ),
    )
    page.on(
        "request",
        lambda r: (
            page.wrong.append(f"outside: {r.url}")
            if not r.url.startswith((home, "data:", "blob:", "about:"))
            else None
        ),
    )
    page.on("response", lambda r: page.wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    yield page
    server.shutdown()


def taken(tab):
    found, tab.wrong[:] = list(tab.wrong), []
    return found


def test_every_page_on_a_phone_and_on_a_desk(tab, site):
    faults = []
    for name in pages_of(site):
        if name.startswith("explorer/"):
            continue  # tests/site/slow/test_explorer.py
        tab.set_viewport_size(dict(width=390, height=844))
        tab.goto(name)
        for width in (390, 1280):
            if width == 1280:
                tab.set_viewport_size(dict(width=1280, height=900))
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wide > 0:
                faults.append(f"{name}: {wide} px too wide at {width}")
        images = tab.evaluate(
            "Promise.all([...document.images].map(async i => { i.loading = 'eager'; "
            "try { await i.decode() } catch (e) { return i.src } return i.naturalWidth ? '' : i.src }))"
        )
        faults += [f"{name}: broken picture {source}" for source in images if source]
        faults += [f"{name}: {fault}" for fault in taken(tab)]
    assert not faults


SEEN = [
    "index.html",
    "reports/index.html",
    "reports/0_ingestion.html",
    "reports/1_inspection.html",
    "reports/3_transformation/v10_create_lag_features.html",
    "reports/8_deployment.html",
    "models.html",
    "lineage.html",
    "data_card.html",
    "model_card.html",
    "guide/index.html",
    "guide/reading_the_reports.html",
    "api/index.html",
    "api/drg_lib.base.tables.html",
    "reports/other/hostile.html",
]


def test_no_serious_barrier_in_light_and_dark(tab, site):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    evaluations = [f"reports/6_evaluation/{p.name}" for p in (site / "reports/6_evaluation").glob("*.html")][
        :1
    ]
    faults = []
    for name in [*SEEN, *evaluations]:
        tab.goto(name)
        for mode in ("light", "dark"):
            tab.evaluate(
                "mode => { const page = document.documentElement.dataset; page.theme = page.mode = mode }",
                mode,
            )
            found = axe.run(tab, options=dict(resultTypes=["violations"])).response["violations"]
            faults += [
                f"{name} {mode}: {v['id']} {v['nodes'][0]['html'][:160]}"
                for v in found
                if v["impact"] in ("serious", "critical")
            ]
    taken(tab)
    assert not faults


def test_search_finds_a_report_and_a_function(tab):
    tab.set_viewport_size(dict(width=1280, height=900))
    tab.goto("index.html")
    tab.locator(".search-button-field, .search-button__button").first.click()
    tab.locator("#pst-search-dialog input[type=search]").fill("lag features")
    tab.keyboard.press("Enter")
    tab.locator("#search-results li a", has_text="v10").first.wait_for()
    tab.wait_for_load_state(
        "networkidle"
    )  # leaving earlier would end the requests by which the page fetches its excerpts
    tab.goto("search.html?q=content_hash")
    tab.locator("#search-results li a[href*='tables']").first.wait_for()
    tab.wait_for_load_state("networkidle")
    tab.locator("#search-results li a[href*='tables']").first.click()
    tab.wait_for_load_state()
    assert "tables" in tab.url
    assert not taken(tab)


def test_code_folds_and_unfolds(tab):
    tab.goto("reports/3_transformation/v10_create_lag_features.html")
    code, fold = (
        tab.get_by_text("def create_lag_features").first,
        tab.locator("article details.hide summary").last,
    )
    assert not code.is_visible()
    fold.click()
    assert code.is_visible()
    fold.focus()
    tab.keyboard.press("Enter")
    assert not code.is_visible() and not taken(tab)


def test_the_reader_chooses_light_or_dark_and_it_is_kept(tab):
    tab.goto("index.html")
    for mode in ("dark", "light"):
        tab.locator("button.theme-switch-button").first.click()
        tab.locator(
            f'[data-mode-value="{mode}"], .theme-switch-option[data-mode="{mode}"], '
            f'button:has-text("{mode.capitalize()}")'
        ).first.click()
        tab.goto("models.html")
        assert tab.evaluate("document.documentElement.dataset.theme") == mode
    assert not taken(tab)


def test_names_show_as_text(tab):
    tab.goto("reports/other/hostile.html")
    assert not taken(tab)  # no dialog, no request
    assert tab.locator("article").inner_text().count("<script>alert(2)</script>") >= 5
    assert tab.locator("article script, article img[onerror], article [onclick]").count() == 0
