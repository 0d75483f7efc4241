"""The explorer at full size: how large, how long to build, how soon the first view stands in Chromium (`make bench`).

Made-up data of the size of the SPARCS file: 231 hospitals, 300 DRGs, 2009-2017, about 36,000 pairs a year, three targets.
"""

import functools
import http.server
import statistics
import threading
import time
from pathlib import Path

HOSPITALS, DRGS, PAIRS, YEARS = 231, 300, 45_000, list(range(2009, 2018))
BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def full_size(folder):
    """Write what the explorer reads, seeded, with about 36,000 pairs in each of nine years."""
    import numpy as np
    import pandas as pd

    from drg_lib.base.tables import write_json, write_parquet
    from drg_lib.versions.store import save_version

    rng = np.random.default_rng(1)
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
    n = len(values)
    values["sum_discharges"] = np.ceil(rng.lognormal(3, 1.4, n))
    values["w_mean_charge"] = (
        values["level"] * 1.06 ** (values["year"] - 2009) * rng.uniform(0.85, 1.15, n)
    ).round(2)
    values["w_mean_cost"] = (values["w_mean_charge"] / rng.uniform(1.8, 4, n)).round(2)
    for measure in ("charge", "cost"):
        values[f"w_median_{measure}"] = (values[f"w_mean_{measure}"] * 0.9).round(2)
    values["charge_to_cost_ratio"] = values["w_mean_charge"] / values["w_mean_cost"]
    values["w_total_median_profit"] = (values["w_median_charge"] - values["w_median_cost"]) * values[
        "sum_discharges"
    ]
    values = values.drop(columns="level")
    v0 = save_version(
        values.head(1), "v0", folder, config=dict(title="Made-up data of full size", synthetic=True, note="")
    )
    save_version(values, "v9", folder, parent=v0)
    write_parquet(
        pd.DataFrame({"facility_id": pairs["facility_id"].unique()}).assign(
            facility_name=lambda t: "Hospital of the County of " + t["facility_id"]
        ),
        folder / "v2" / "facilities.parquet",
    )
    write_parquet(
        pd.DataFrame({"apr_drg_code": pairs["apr_drg_code"].unique()}).assign(
            apr_drg_description=lambda t: "Diagnosis Related Group Number " + t["apr_drg_code"]
        ),
        folder / "v2" / "drgs.parquet",
    )
    last, parts = values[values["year"] == YEARS[-1]], []
    for target, column in (
        ("w_total_median_profit", "w_total_median_profit"),
        ("mean_cost", "w_mean_cost"),
        ("mean_charge", "w_mean_charge"),
    ):
        made = last[["facility_id", "apr_drg_code"]].assign(
            year=np.int32(2018),
            target=target,
            prediction=last[column] * 1.04,
            last_value=last[column],
            last_year=np.int32(2017),
            method="model",
            model="ridge",
        )
        for level, share in ((50, 0.06), (80, 0.13), (90, 0.2)):
            made[f"lower_{level}"], made[f"upper_{level}"] = (
                made["prediction"] * (1 - share),
                made["prediction"] * (1 + share),
            )
        parts.append(made)
        write_json(
            {
                "target": dict(
                    name=target,
                    column=column,
                    label=target.replace("_", " "),
                    unit="USD per year" if "total" in target else "USD per discharge",
                )
            },
            folder / "partitions" / f"{target}.json",
        )
    write_parquet(pd.concat(parts, ignore_index=True), folder / "forecast.parquet")
    return len(values) // len(YEARS)


def first_views(address, slower=1, turns=5):
    """Milliseconds from asking for the page to everything being shown: the first view without a cache, another DRG, the table of all pairs;
    and the processor time of the page's main thread up to the first view, which other work on the machine does not lengthen.
    """
    from playwright.sync_api import sync_playwright

    first, other, everything, busy = [], [], [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER)
        for _ in range(turns):
            context = browser.new_context(viewport=dict(width=1280, height=900))
            page = context.new_page()
            tools = context.new_cdp_session(page)
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            if slower > 1:
                tools.send("Emulation.setCPUThrottlingRate", {"rate": slower})
            shown = "performance.getEntriesByName('shown')"
            change = f"hash => new Promise(done => {{ const had = {shown}.length, begun = performance.now(); location.hash = hash; (function look() {{ {shown}.length > had ? done(performance.now() - begun) : setTimeout(look, 2); }})(); }})"
            page.goto(address)
            page.wait_for_selector("#table tbody tr")
            first.append(page.evaluate(f"{shown}[0].startTime"))
            busy.append(
                1000
                * next(
                    m["value"]
                    for m in tools.send("Performance.getMetrics")["metrics"]
                    if m["name"] == "TaskDuration"
                )
            )
            other.append(page.evaluate(change, "#hospital=1100&drg=150"))
            everything.append(page.evaluate(change, "#hospital=1100&drg=150&rows=all"))
            context.close()
        browser.close()
    return [statistics.median(times) for times in (first, other, everything, busy)]


def measure(folder):
    """Rows of the benchmark's table: what, figure."""
    from drg_lib.site.explorer import build_explorer

    pairs = full_size(folder / "data")
    begun = time.perf_counter()
    page = build_explorer(folder / "data", folder / "explorer")
    seconds = time.perf_counter() - begun
    files = [f for f in page.parent.rglob("*") if f.is_file()]
    shards = [f.stat().st_size for f in files if f.name.startswith("drg-")]
    rows = [
        ["pairs a year", f"{pairs:,}"],
        ["seconds to build", f"{seconds:.1f}"],
        ["files", f"{len(files)}"],
        ["MB in all", f"{sum(f.stat().st_size for f in files) / 1e6:.1f}"],
        ["kB of a DRG (median)", f"{statistics.median(shards) / 1e3:.0f}"],
        ["kB of the index", f"{(page.parent / 'data' / 'index.js').stat().st_size / 1e3:.0f}"],
    ]
    if not Path("/usr/bin/chromium").exists():
        return rows + [["first view", "not measured: no Chromium"]]
    handler = functools.partial(
        type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}),
        directory=str(page.parent),
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for slower in (1, 4):
            times = first_views(f"http://127.0.0.1:{server.server_port}/index.html", slower)
            rows += [
                [f"{what}, seconds{f', CPU slowed {slower} times' if slower > 1 else ''}", f"{ms / 1000:.2f}"]
                for what, ms in zip(
                    (
                        "first view (under 2)",
                        "another DRG",
                        "table of all pairs",
                        "processor time of the first view",
                    ),
                    times,
                )
            ]
        server.shutdown()
    return rows
