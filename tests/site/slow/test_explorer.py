"""The explorer in a real browser: search, the numbers of the data, keyboard, nothing from outside."""

import csv
import functools
import http.server
import io
import re
import threading

import numpy as np
import pandas as pd
import pytest

from drg_lib.base.names import DataError
from drg_lib.base.tables import write_json, write_parquet
from drg_lib.site.explorer import build_explorer, listed_numbers, mixed_case, rounded
from drg_lib.versions.store import save_version

YEARS = [2011, 2013, 2016, 2017, 2019]
EVIL = "<script>window.hacked = 1</script><img src=x onerror=window.hacked=2> Hospital"
FORMULA = '=HYPERLINK("http://x.invalid","Pay, now")'
NAMES = {
    "330003": "ALBANY MEMORIAL HOSPITAL",
    "330004": "Gap Hospital",
    "330005": "One Year Hospital",
    "330006": "Cold Start Hospital",
    "330007": "Old Hospital",
    "330008": EVIL,
    "330009": FORMULA,
    "330010": "Mercy Hospital",
    "330011": "Mercy Hospital",
} | {f"3301{n:02d}": f"County Hospital {n}" for n in range(30)}
DRGS = {
    "194": "Heart Failure",
    "301": "Hip Joint Replacement",
    "470": "<b>Knee</b> & Joint",
    "999": "Seldom Published",
}
BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def values_and_forecast():
    """A panel in Medicare's shape: uneven years, no discharges in 2013, and pairs of every kind."""
    rng = np.random.default_rng(5)
    every = pd.MultiIndex.from_product(
        [YEARS, NAMES, ["194", "301", "470"]], names=["year", "facility_id", "apr_drg_code"]
    ).to_frame(index=False)
    level = (
        every["facility_id"].map(dict(zip(NAMES, rng.uniform(0.6, 2.5, len(NAMES)))))
        * every["apr_drg_code"].map({"194": 2e4, "301": 5e4, "470": 6e4})
        * 1.05 ** (every["year"] - 2011)
    )
    values = every.assign(
        sum_discharges=rng.integers(11, 400, len(every)).astype("float64"),
        w_mean_charge=(level * rng.uniform(0.9, 1.1, len(every))).round(2),
    )
    values["w_mean_payment"] = (values["w_mean_charge"] * rng.uniform(0.2, 0.5, len(every))).round(2)
    values.loc[values["year"] == 2013, "sum_discharges"] = np.nan

    def of(facility):
        return values["facility_id"].eq(facility) & values["apr_drg_code"].eq("194")

    gone = (
        (of("330004") & values["year"].eq(2016))
        | (of("330005") & values["year"].ne(2019))
        | of("330006")
        | (of("330007") & values["year"].gt(2011))
    )
    gone |= (
        values["apr_drg_code"].eq("301") & values["year"].eq(2017) & (values["facility_id"] > "330105")
    )  # a year that covers few hospitals
    values = pd.concat(
        [values[~gone], values[of("330003") & values["year"].eq(2019)].assign(apr_drg_code="999")]
    )
    values = values.assign(
        charge_to_payment_ratio=values["w_mean_charge"] / values["w_mean_payment"]
    ).sort_values(["year", "facility_id", "apr_drg_code"], ignore_index=True)
    last = values[values["year"] == 2019]
    parts = []
    for target in ("mean_payment", "mean_charge"):
        own = last[last["apr_drg_code"] != "999"][["facility_id", "apr_drg_code"]].assign(
            last_value=last[f"w_{target}"], last_year=2019, method="model", model="catboost"
        )
        cold = pd.DataFrame(
            dict(
                facility_id=["330006"],
                apr_drg_code="194",
                last_value=np.nan,
                last_year=pd.NA,
                method="hierarchy",
                model="hierarchy",
            )
        )
        made = pd.concat([own.astype({"last_year": object}), cold], ignore_index=True)
        made["prediction"] = made["last_value"].fillna(31234.56) * rng.uniform(0.95, 1.2, len(made))
        for level, share in ((50, 0.05), (80, 0.12), (90, 0.2)):
            made[f"lower_{level}"], made[f"upper_{level}"] = (
                made["prediction"] * (1 - share),
                made["prediction"] * (1 + share),
            )
        parts.append(made.assign(target=target, year=np.int32(2022), data_version="v12"))
    forecast = pd.concat(parts, ignore_index=True).astype({"last_year": "Int32"})
    return values.astype({"year": "int32"}), forecast.assign(
        expected_change=forecast["prediction"] - forecast["last_value"]
    )


def write_data(folder, values, forecast, synthetic=False):
    "The files of a data folder that the explorer reads."
    source = dict(title="Made-up panel for tests", synthetic=synthetic, note="2013 has no discharges.")
    v0 = save_version(values, "v0", folder, config=source)
    facilities = pd.DataFrame(
        dict(
            facility_id=list(NAMES),
            facility_name=list(NAMES.values()),
            city=["ALBANY", *["Troy"] * (len(NAMES) - 1)],
        )
    )
    drgs = pd.DataFrame(dict(apr_drg_code=list(DRGS), apr_drg_description=list(DRGS.values())))
    write_parquet(facilities, folder / "v2" / "facilities.parquet")
    write_parquet(drgs, folder / "v2" / "drgs.parquet")
    save_version(values, "v9", folder, parent=v0)
    for target in forecast["target"].unique():
        said = dict(
            name=target,
            column=f"w_{target}",
            label=f"{target.replace('_', ' ').capitalize()} per discharge",
            unit="USD per discharge",
        )
        write_json({"target": said}, folder / "partitions" / f"{target}.json")
    write_parquet(forecast, folder / "forecast.parquet")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    values, forecast = values_and_forecast()
    return write_data(tmp_path_factory.mktemp("data"), values, forecast), values, forecast


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    return build_explorer(data[0], tmp_path_factory.mktemp("site") / "explorer").parent


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(
        type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}),
        directory=str(folder),
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from pathlib import Path

    from playwright.sync_api import sync_playwright

    if not Path("/usr/bin/chromium").exists():
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER)
        yield running
        running.close()


@pytest.fixture
def opened(browser, address):
    """A function that opens an address; no page may complain or ask for anything outside."""
    contexts, complaints = [], []

    def open_page(fragment="", width=1280, scheme="light", base=address):
        context = browser.new_context(
            viewport=dict(width=width, height=900), color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on(
            "console",
            lambda m: complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("dialog", lambda d: (complaints.append("dialog"), d.dismiss()))
        page.on(
            "requestfailed",
            lambda r: (
                complaints.append(f"failed: {r.url}: {r.failure}")
                if r.failure != "net::ERR_ABORTED"
                else None
            ),
        )  # broken off by leaving the page
        page.on(
            "request",
            lambda r: (
                complaints.append(f"outside: {r.url}")
                if not r.url.startswith((base.rsplit("/", 1)[0], "data:", "blob:"))
                else None
            ),
        )
        page.goto(base + fragment)
        page.wait_for_selector("#table tbody tr")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def whole(value):
    return f"${value:,.0f}"


def pair(facility, drg):
    return f"#hospital={facility}&drg={drg}"


def said(page, selector):
    return page.inner_text(selector).replace("\u00a0", " ")


def test_a_forecast_is_found_by_keyboard_alone(opened, data):
    page, forecast = opened(), data[2]
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "hospital":
            break
    page.keyboard.type("hospital county 7")
    assert page.get_attribute("#hospital", "aria-expanded") == "true"
    active = page.get_attribute("#hospital", "aria-activedescendant")
    assert (
        page.inner_text(f"#{active}").startswith("County Hospital 7")
        and page.get_attribute(f"#{active}", "aria-selected") == "true"
    )
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("joint")
    assert page.locator("#drg-list [role=option]").count() == 2
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    holds(page, "#pair", "Knee")
    assert page.url.endswith(pair("330107", "470")) and page.get_attribute("#drg", "aria-expanded") == "false"
    for row in forecast[
        forecast["facility_id"].eq("330107") & forecast["apr_drg_code"].eq("470")
    ].itertuples():
        block = page.locator(".expected").filter(has=page.locator(f"[data-target={row.target}]"))
        assert block.locator(".prediction").inner_text() == whole(row.prediction)
        for level in (50, 80, 90):
            assert (
                f"{level} %: {whole(getattr(row, f'lower_{level}'))}"
                f" to {whole(getattr(row, f'upper_{level}'))}" in block.inner_text()
            )
        assert (
            f"{abs(row.prediction / row.last_value - 1):.1%}".rstrip("%")[:2] in block.inner_text()
            and "CatBoost" in block.inner_text()
        )
    assert "County Hospital 7" in page.text_content("#status")  # said to a screen reader


def test_choices_may_come_faster_than_they_show(opened):
    page = opened(pair("330003", "194"))
    page.click("#drg")
    page.keyboard.type("joint")
    page.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")
    assert page.input_value("#drg") == "joint" and page.locator("#drg-list [role=option]").count() == 2
    page.keyboard.press("Escape")
    page.evaluate("""() => { for (const [id, words] of [["hospital", "county 7"], ["drg", "470"]]) {
        const box = document.getElementById(id);
        box.value = words;
        box.dispatchEvent(new Event("input"));
        box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    } }""")
    holds(page, "#pair", "County Hospital 7")
    assert page.url.endswith(pair("330107", "470"))


def test_search_by_id_city_and_code(opened):
    page = opened()
    page.fill("#hospital", "330104")
    assert page.locator("#hospital-list [role=option]").first.inner_text().startswith("County Hospital 4")
    page.fill("#hospital", "albany")
    assert page.locator("#hospital-list [role=option]").all_inner_texts() == [
        "Albany Memorial Hospital\nAlbany · id 330003"
    ]
    page.fill("#hospital", "no such place")
    assert page.inner_text("#hospital-list") == "Nothing matches"
    page.keyboard.press("Escape")
    assert page.input_value("#hospital") != "no such place" and page.is_hidden("#hospital-list")
    page.fill("#drg", "999")
    assert page.locator("#drg-list [role=option]").first.inner_text().startswith("999 Seldom Published")


def test_history_is_that_of_the_data(opened, data):
    page, values = opened(pair("330003", "194")), data[1]
    own = values[values["facility_id"].eq("330003") & values["apr_drg_code"].eq("194")]
    page.click("#numbers summary")
    header = page.locator("#years thead th").all_inner_texts()
    rows = {
        r[0]: r[1:]
        for r in [line.locator("th, td").all_inner_texts() for line in page.locator("#years tbody tr").all()]
    }
    assert [h.split("\n")[0] for h in header] == [
        "Year",
        "Mean charge",
        "Mean payment",
        "Markup (mean charge ÷ mean payment)",
        "Discharges",
    ]
    for r in own.itertuples():
        count = "–" if np.isnan(r.sum_discharges) else f"{r.sum_discharges:,.0f}"
        assert rows[str(r.year)] == [
            whole(r.w_mean_charge),
            whole(r.w_mean_payment),
            f"{r.charge_to_payment_ratio:.2f}",
            count,
        ]
    first, last = own.iloc[0]["w_mean_charge"], own.iloc[-1]["w_mean_charge"]
    assert f"rose {last / first - 1:.0%}".replace("%", " %") in said(
        page, "#amounts-title"
    ) and "expected in 2022 (80 %: $" in said(page, "#amounts-title")
    label = page.get_attribute(
        "#charts svg[role=img]", "aria-label"
    )  # the chart's text for who does not see it
    assert all(whole(v) in label for v in own["w_mean_charge"])
    with page.expect_download() as got:
        page.click("#years-download")
    saved = pd.read_csv(got.value.path(), dtype={"facility_id": str})
    assert (
        np.allclose(saved["w_mean_charge"], own["w_mean_charge"].round()) and saved["year"].tolist() == YEARS
    )


KINDS = [
    ("330004", "194", ["A break in a line", "published in 4 of 5 years"]),
    ("330005", "194", ["published in 1 of 5 years", "Charge was $"]),
    (
        "330006",
        "194",
        ["no year of its own is published", "Charge of $", "no last value", "no recent value of its own"],
    ),
    ("330007", "194", ["No forecast", "last published in 2011; the source goes to 2019"]),
    ("330004", "999", ["No stays of this DRG are published", "1 hospital has it"]),
    ("330003", "999", ["No forecast"]),
]


def test_pairs_of_every_kind(opened):
    "On a phone, one after the other; each says what it lacks, none makes the page scroll sideways."
    page = opened(width=390)
    for facility, drg, words in KINDS:
        page.goto(page.url.split("#")[0] + pair(facility, drg))
        holds(page, "#pair", f"DRG {drg}")
        for word in words:
            assert word in said(page, "#result"), (facility, drg, word)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_gap_in_the_years_is_a_gap_in_the_line(opened):
    "Solid or dashed between neighbouring published years; nothing across a year that the pair lacks."
    chart = "document.querySelectorAll('#charts .chart svg')[1]"
    lines = f"[...{chart}.querySelectorAll('line[stroke-width=\"2.5\"]')].length"
    assert (
        opened(pair("330003", "194")).evaluate(lines) == 4
        and opened(pair("330004", "194")).evaluate(lines) == 2
    )


def test_a_year_of_few_hospitals_has_no_middle_one(opened):
    points = "document.querySelector('#charts .chart svg .thin').getAttribute('points').split(' ').length"
    page = opened(pair("330003", "301"))
    assert page.evaluate(points) == len(YEARS) - 1 and "without 2017" in said(page, "#chart-note")
    page = opened(pair("330003", "194"))
    assert page.evaluate(points) == len(YEARS) and "without" not in said(page, "#chart-note")


def test_peers_are_those_of_the_data(opened, data):
    page, values = opened(pair("330003", "194") + "&by=w_mean_payment&year=2016"), data[1]
    there = (
        values[values["apr_drg_code"].eq("194") & values["year"].eq(2016)]
        .set_index("facility_id")["w_mean_payment"]
        .round()
    )
    mine, lower = there["330003"], int((there < there["330003"]).sum())
    title = said(page, "#peers-title")
    assert (
        f"{lower} of {len(there) - 1} other hospitals are lower" in title
        and f"{abs(mine / there.median() - 1) * 100:.0f} %" in title
    )
    assert (
        page.locator("#peers .dot").count() == len(there) - 1 and page.locator("#peers .ownmark").count() == 1
    )
    page.select_option("#by-year", "2022") if "2022" in page.inner_text("#by-year") else None
    holds(page, "#peers-title", "expected in 2022")


def holds(page, selector, text):
    "Wait until an element holds `text`."
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=30_000)


def table(page):
    return [row.locator("th, td").all_inner_texts() for row in page.locator("#table tbody tr").all()]


def test_table_sorts_filters_and_downloads(opened, data):
    page, (_, values, forecast) = opened(pair("330003", "194") + "&forecast=mean_charge"), data
    own = forecast[forecast["apr_drg_code"].eq("194") & forecast["target"].eq("mean_charge")].set_index(
        "facility_id"
    )
    for way, ascending in (("descending", False), ("ascending", True)):
        page.click("#table th[data-key=expected] button")
        assert page.get_attribute("#table th[data-key=expected]", "aria-sort") == way
        assert page.evaluate("document.activeElement.closest('th')?.dataset.key") == "expected"
        shown = [row[1] for row in table(page)]
        assert shown == [whole(v) for v in own["prediction"].sort_values(ascending=ascending).head(25)]
    page.fill("#filter", "county 1")
    page.fill("#least", "100")
    page.check("#only")
    last = values[values["apr_drg_code"].eq("194") & values["year"].eq(2019)].set_index("facility_id")
    names = pd.Series(NAMES)
    wanted = [
        f
        for f in own.index
        if "County" in names[f]
        and ("1" in names[f] or "1" in f)
        and f in last.index
        and last.loc[f, "sum_discharges"] >= 100
    ]
    wanted = own.loc[wanted, "prediction"].sort_values().index
    assert 3 < len(wanted) < 30 and page.inner_text("#download") == f"Download {len(wanted)} rows (CSV)"
    with page.expect_download() as got:
        page.click("#download")
    saved = pd.read_csv(got.value.path(), dtype={"facility_id": str, "apr_drg_code": str})
    assert got.value.suggested_filename == "drg-194.csv" and saved["facility_id"].tolist() == list(wanted)
    assert (
        saved["mean_charge_expected"].tolist() == own.loc[wanted, "prediction"].round().tolist()
        and saved["mean_charge_upper_80"].tolist() == own.loc[wanted, "upper_80"].round().tolist()
    )
    assert saved["w_mean_payment"].tolist() == last.loc[wanted, "w_mean_payment"].round().tolist() and set(
        saved["source"]
    ) == {"Made-up panel for tests"}
    assert np.allclose(
        saved["expected_change_share"],
        own.loc[wanted, "prediction"] / own.loc[wanted, "last_value"] - 1,
        atol=2e-4,
    )


def test_table_of_a_hospital_and_of_everything(opened, data):
    page, (_, values, forecast) = opened(pair("330003", "194")), data
    page.select_option("#target", "mean_payment")
    page.select_option("#scope", "hospital")
    holds(page, "#count", "4 of 4 rows")
    assert [row[0][:3] for row in table(page)] == ["194", "301", "470", "999"]
    page.click("text=301 Hip Joint Replacement")
    holds(page, "#pair", "DRG 301")
    page.select_option("#scope", "all")
    pairs = len(pd.concat([values, forecast])[["facility_id", "apr_drg_code"]].drop_duplicates())
    holds(page, "#count", f"{pairs} of {pairs} rows")
    first = [row[0] for row in table(page)]
    page.click("#next")
    assert (
        page.inner_text("#page") == f"Page 2 of {-(-pairs // 25)}"
        and [row[0] for row in table(page)] != first
    )
    with page.expect_download() as got:
        page.click("#download")
    saved = pd.read_csv(got.value.path(), dtype={"facility_id": str, "apr_drg_code": str}).set_index(
        ["facility_id", "apr_drg_code"]
    )
    own = (
        forecast[forecast["target"] == "mean_payment"]
        .set_index(["facility_id", "apr_drg_code"])["prediction"]
        .round()
    )
    assert (
        saved["mean_payment_expected"]
        .dropna()
        .sort_index()
        .equals(own.sort_index().rename("mean_payment_expected"))
    )


def test_address_and_back_button(opened):
    page = opened(pair("330010", "301"))
    assert "Mercy Hospital" in page.inner_text("#pair") and "id 330010" in page.inner_text("#facts")
    page.fill("#drg", "470")
    page.keyboard.press("Enter")
    holds(page, "#pair", "DRG 470")
    page.go_back()
    holds(page, "#pair", "DRG 301")
    assert page.input_value("#drg") == "301 Hip Joint Replacement"
    page.goto(page.url.split("#")[0] + pair("nobody", "301"))
    holds(page, "#status", "There is no hospital “nobody” in this data")


def test_names_are_text(opened, data):
    page = opened(pair("330008", "470"))
    assert "<script>" in page.inner_text("#pair") and "<b>Knee</b>" in page.inner_text("#pair")
    page.fill("#hospital", "script")
    assert page.locator("#hospital-list img, #hospital-list script, main img, main b").count() == 0
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    page.keyboard.press("Escape")
    page.fill("#filter", "hyperlink")
    with page.expect_download() as got:
        page.click("#download")
    row = list(csv.DictReader(io.StringIO(got.value.path().read_text())))[0]
    assert (
        row["facility_name"] == "'" + FORMULA and row["facility_id"] == "330009"
    )  # a spreadsheet shows it and does not run it


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(opened, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(pair("330003", "194"), scheme=scheme, width=1280 if scheme == "light" else 390)
    assert page.get_attribute("html", "data-theme") == scheme
    page.click("#numbers summary")
    page.click("#hospital")
    found = [
        v
        for v in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        if v["impact"] in ("serious", "critical", "moderate")
    ]
    assert not found, [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found]
    page.keyboard.press("Escape")
    page.click("#theme")
    assert (
        page.get_attribute("html", "data-theme") != scheme
        and page.evaluate("localStorage.getItem('mode')") != scheme
    )
    page.reload()
    page.wait_for_selector("#table tbody tr")
    assert page.get_attribute("html", "data-theme") != scheme  # kept, as the site keeps it


def test_opens_from_disk(opened, folder):
    page = opened(pair("330003", "470"), base=(folder / "index.html").as_uri())
    assert (
        "Albany Memorial Hospital" in page.inner_text("#pair")
        and page.locator("#charts svg[role=img]").count() == 2
    )


def test_prints_without_controls(opened):
    page = opened(pair("330003", "194"))
    page.emulate_media(media="print")
    assert page.is_hidden("#choice") and page.is_visible("#pair") and page.is_visible("#charts")


def test_synthetic_data_say_so(tmp_path, data, opened):
    made = build_explorer(
        write_data(tmp_path / "data", data[1], data[2], synthetic=True), tmp_path / "explorer"
    )
    page = opened(base=made.as_uri())
    assert page.inner_text(".synthetic").startswith("Synthetic data.") and "(synthetic data)" in page.title()
    with page.expect_download() as got:
        page.click("#download")
    assert got.value.suggested_filename.startswith("synthetic-")


def test_the_real_panel(medicare_build, tmp_path, opened):
    "What Medicare's panel lacks is not shown: no cost, no discharges in 2013. It looks three years ahead"
    made = build_explorer(medicare_build / "data", tmp_path / "explorer")
    forecast, page = pd.read_parquet(medicare_build / "data" / "forecast.parquet"), opened(base=made.as_uri())
    assert "cost" not in said(page, "#result").lower() and page.locator(".synthetic").count() == 0
    for row in forecast.groupby(["target", "method"]).sample(2, random_state=3).itertuples():
        page.goto(made.as_uri() + pair(row.facility_id, row.apr_drg_code))
        holds(page, "#facts", f"id {row.facility_id}")
        holds(page, "#pair", f"DRG {row.apr_drg_code}")
        block = page.locator(".expected").filter(has=page.locator(f"[data-target={row.target}]"))
        assert block.locator(".prediction").inner_text() == (
            whole(row.prediction) if row.prediction >= 1000 else f"${row.prediction:,.2f}"
        )
        assert (
            f"80 %: {whole(row.lower_80)} to {whole(row.upper_80)}" in block.inner_text()
            or row.lower_80 < 1000
        )
        assert ("no recent value of its own" in block.inner_text()) == (row.method == "hierarchy")
        for title in page.locator("#charts h3").all_inner_texts():
            assert "NaN" not in title and "null" not in title and "undefined" not in title


def test_same_input_same_bytes_and_no_leftovers(tmp_path, data):
    def build():
        folder = build_explorer(data[0], tmp_path / "explorer").parent
        return {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    first = build()
    (tmp_path / "explorer" / "data" / "drg-77.js").write_text("old")
    assert build() == first and [p.name for p in tmp_path.iterdir()] == ["explorer"]


def test_refusals_name_the_remedy(tmp_path, data):
    values, forecast = data[1:]
    old = write_data(tmp_path / "old", values, forecast.drop(columns=["upper_80", "method"]))
    with pytest.raises(DataError, match="lacks upper_80, method.*dvc repro deployment"):
        build_explorer(old, tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    with pytest.raises(DataError, match="not an explorer's"):
        build_explorer(data[0], tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"
    (old / "forecast.parquet").unlink()
    with pytest.raises(DataError, match="dvc repro deployment"):
        build_explorer(old, tmp_path / "b")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_rounding_never_hides_more_than_half_a_thousandth():
    values = np.random.default_rng(1).lognormal(6, 4, 5000)
    values = values[values > 10]
    assert (np.abs(rounded(values) / values - 1) <= 5.1e-4).all()
    assert listed_numbers([[1.0, np.nan], [2.5, np.inf]]) == [[1, None], [2.5, None]]
    assert (
        mixed_case("NEW YORK-PRESBYTERIAN/QUEENS") == "New York-Presbyterian/Queens"
        and re.fullmatch("[^a-z]*", "SUNY")
        and mixed_case("SUNY/DOWNSTATE") == "SUNY/Downstate"
    )
