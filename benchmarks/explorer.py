"""The explorer at full size: its bytes, the time to build it, and the time to its first view in Chromium.

`make bench` runs it. The data are made up and have the size of the SPARCS file: 231 hospitals, 300 DRGs, the
years 2009 to 2017, about 36,000 pairs a year, three targets.
"""

import functools
import http.server
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HOSPITALS, DRGS, PAIRS, YEARS = 231, 300, 45_000, list(range(2009, 2018))
PAIR = ["facility_id", "apr_drg_code"]
TARGETS = {  # name of a target: the column of v9 that it forecasts
    "w_total_median_profit": "w_total_median_profit",
    "mean_cost": "w_mean_cost",
    "mean_charge": "w_mean_charge",
}
CHROMIUM = Path("/usr/bin/chromium")
BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
VIEWS = "first view (under 2)", "another DRG", "table of all pairs", "processor time of the first view"
SHOWN = "performance.getEntriesByName('shown')"  # the page marks each view that it has drawn
CHANGE = f"""hash => new Promise(done => {{
  const had = {SHOWN}.length, begun = performance.now();
  location.hash = hash;
  (function look() {{
    {SHOWN}.length > had ? done(performance.now() - begun) : setTimeout(look, 2);
  }})();
}})"""


def yearly_values(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs of hospital and DRG, and v9 of them: four of five pairs have a row in each year."""
    cells = np.sort(rng.choice(HOSPITALS * DRGS, PAIRS, replace=False))
    pairs = pd.DataFrame(
        {
            "facility_id": (1000 + cells % HOSPITALS).astype(str),
            "apr_drg_code": pd.Series(1 + cells // HOSPITALS).astype(str).str.zfill(3),
            "level": rng.lognormal(10.3, 0.8, PAIRS),
        }
    )
    values = pd.concat(
        [pairs[rng.random(PAIRS) < 0.8].assign(year=np.int32(year)) for year in YEARS], ignore_index=True
    )
    rows = len(values)
    values["sum_discharges"] = np.ceil(rng.lognormal(3, 1.4, rows))
    growth = values["level"] * 1.06 ** (values["year"] - 2009)
    values["w_mean_charge"] = (growth * rng.uniform(0.85, 1.15, rows)).round(2)
    values["w_mean_cost"] = (values["w_mean_charge"] / rng.uniform(1.8, 4, rows)).round(2)
    for measure in ("charge", "cost"):
        values[f"w_median_{measure}"] = (values[f"w_mean_{measure}"] * 0.9).round(2)
    values["charge_to_cost_ratio"] = values["w_mean_charge"] / values["w_mean_cost"]
    profit = values["w_median_charge"] - values["w_median_cost"]
    values["w_total_median_profit"] = profit * values["sum_discharges"]
    return pairs, values.drop(columns="level")


def forecast_of(last: pd.DataFrame, target: str, column: str) -> pd.DataFrame:
    """A forecast of one target for the year after `last`, with intervals."""
    forecast = last[PAIR].assign(
        year=np.int32(2018),
        target=target,
        prediction=last[column] * 1.04,
        last_value=last[column],
        last_year=np.int32(2017),
        method="model",
        model="ridge",
    )
    for level, share in ((50, 0.06), (80, 0.13), (90, 0.2)):
        forecast[f"lower_{level}"] = forecast["prediction"] * (1 - share)
        forecast[f"upper_{level}"] = forecast["prediction"] * (1 + share)
    return forecast


def write_names(pairs: pd.DataFrame, folder: Path) -> None:
    """The lookup tables that v2 leaves: a name for each hospital and each DRG."""
    from drg_lib.base.tables import write_parquet

    for key, name, words, file in (
        ("facility_id", "facility_name", "Hospital of the County of ", "facilities"),
        ("apr_drg_code", "apr_drg_description", "Diagnosis Related Group Number ", "drgs"),
    ):
        codes = pd.DataFrame({key: pairs[key].unique()})
        write_parquet(codes.assign(**{name: words + codes[key]}), folder / "v2" / f"{file}.parquet")


def full_size(folder: Path) -> int:
    """Write what the explorer reads, seeded, and return the number of pairs a year: about 36,000."""
    from drg_lib.base.tables import write_json, write_parquet
    from drg_lib.versions.store import save_version

    pairs, values = yearly_values(np.random.default_rng(1))
    source = dict(title="Made-up data of full size", synthetic=True, note="")
    v0 = save_version(values.head(1), "v0", folder, config=source)
    save_version(values, "v9", folder, parent=v0)
    write_names(pairs, folder)
    last = values[values["year"] == YEARS[-1]]
    for target, column in TARGETS.items():
        unit = "USD per year" if "total" in target else "USD per discharge"
        about = dict(name=target, column=column, label=target.replace("_", " "), unit=unit)
        write_json({"target": about}, folder / "partitions" / f"{target}.json")
    forecasts = [forecast_of(last, target, column) for target, column in TARGETS.items()]
    write_parquet(pd.concat(forecasts, ignore_index=True), folder / "forecast.parquet")
    return len(values) // len(YEARS)


def one_visit(browser: Any, address: str, slower: int) -> list[float]:
    """Milliseconds of one visit without a cache, as `first_views` names them."""
    context = browser.new_context(viewport=dict(width=1280, height=900))
    page = context.new_page()
    tools = context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    if slower > 1:
        tools.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    page.goto(address)
    page.wait_for_selector("#table tbody tr")
    first = page.evaluate(f"{SHOWN}[0].startTime")
    metrics = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
    other = page.evaluate(CHANGE, "#hospital=1100&drg=150")
    everything = page.evaluate(CHANGE, "#hospital=1100&drg=150&rows=all")
    context.close()
    return [first, other, everything, 1000 * metrics["TaskDuration"]]


def first_views(address: str, slower: int = 1, turns: int = 5) -> list[float]:
    """Median milliseconds from asking until all is shown, for each of `VIEWS`.

    The last one is the processor time of the page's main thread up to the first view. Other work on the
    machine does not lengthen it.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=BROWSER)
        visits = [one_visit(browser, address, slower) for _ in range(turns)]
        browser.close()
    return [statistics.median(times) for times in zip(*visits)]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files, while the context lasts."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def sizes(page: Path) -> list[list[str]]:
    """Rows of the table: how many files the explorer has, and how large they are."""
    files = [file for file in page.parent.rglob("*") if file.is_file()]
    shards = [file.stat().st_size for file in files if file.name.startswith("drg-")]
    index = page.parent / "data" / "index.js"
    return [
        ["files", f"{len(files)}"],
        ["MB in all", f"{sum(file.stat().st_size for file in files) / 1e6:.1f}"],
        ["kB of a DRG (median)", f"{statistics.median(shards) / 1e3:.0f}"],
        ["kB of the index", f"{index.stat().st_size / 1e3:.0f}"],
    ]


def measure(folder: Path) -> list[list[str]]:
    """Rows of the benchmark's table: what, figure."""
    from drg_lib.site.explorer import build_explorer

    pairs = full_size(folder / "data")
    begun = time.perf_counter()
    page = build_explorer(folder / "data", folder / "explorer")
    seconds = time.perf_counter() - begun
    rows = [["pairs a year", f"{pairs:,}"], ["seconds to build", f"{seconds:.1f}"], *sizes(page)]
    if not CHROMIUM.exists():
        return [*rows, ["first view", "not measured: no Chromium"]]
    with served(page.parent) as address:
        for slower in (1, 4):
            slowed = f", CPU slowed {slower} times" if slower > 1 else ""
            times = first_views(f"{address}/index.html", slower)
            rows += [[f"{view}, seconds{slowed}", f"{ms / 1000:.2f}"] for view, ms in zip(VIEWS, times)]
    return rows
