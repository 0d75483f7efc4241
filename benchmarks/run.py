"""Speed and memory, as ratios within one run: `make bench`, or `python benchmarks/run.py --parts transform runner`.

transform  v1 to v12 at 1.08 million synthetic rows against Python functions per group and per pair (timed on a sample and
           scaled up by groups) and against reading the CSV and writing it once as Parquet
memory     peak memory of each data stage run by drg-run on those rows
sources    time and peak memory of each source at 1.2 million rows: CSV, the API (a service of this process), a database (SQLite, or the
           one that DRG_LIB_BENCH_DATABASE_URL names, whose table sparcs_cost is replaced), single stays
repro      `dvc repro` with nothing to do, in the project as it stands (after `make run`)
runner     drg-run against the bare papermill command on an empty notebook
explorer   the explorer of 231 hospitals and 300 DRGs: size, and time to the first view in Chromium
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_GROUPS = 400
EMPTY = {
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": "number: int = 1",
        }
    ],
    "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def timed(call):
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def table(title, header, rows):
    rows = [header] + [[str(v) for v in row] for row in rows]
    widths = [max(len(r[i]) for r in rows) for i in range(len(header))]
    print(f"\n{title}")
    for number, row in enumerate(rows):
        print(
            "  "
            + "  ".join(v.ljust(w) if i == 0 else v.rjust(w) for i, (v, w) in enumerate(zip(row, widths)))
        )
        if number == 0:
            print("  " + "  ".join("-" * w for w in widths))
    sys.stdout.flush()


def per_group_python(cells):
    """The aggregation of v3 to v6 as one Python function a group, as it would be written first."""

    def aggregate(group):
        weights, out = group["discharges"], {"sum_discharges": group["discharges"].sum()}
        for statistic in ("mean", "median"):
            money = {m: group[f"{statistic}_{m}"] for m in ("charge", "cost")}
            money["profit"] = money["charge"] - money["cost"]
            for name, values in list(money.items()):
                money[f"total_{name}"] = values * weights
            for name, values in money.items():
                if statistic == "mean":
                    out[f"w_{statistic}_{name}"] = (values * weights).sum() / weights.sum()
                else:
                    ordered = values.sort_values()
                    reached = weights.loc[ordered.index].cumsum() >= weights.sum() / 2
                    out[f"w_{statistic}_{name}"] = ordered[reached].iloc[0]
        for severity, share in (
            weights.groupby(group["apr_severity_of_illness_code"]).sum() / weights.sum()
        ).items():
            out[f"share_{severity}"] = share
        return out

    return [
        aggregate(group) for _, group in cells.groupby(["year", "facility_id", "apr_drg_code"], sort=False)
    ]


def per_pair_python(cells):
    """The lags and rolling means of v10 and v11 as one Python function a facility and DRG."""
    measures = [c for c in cells.columns if c not in ("year", "facility_id", "apr_drg_code")]

    def history(pair):
        pair = pair.sort_values("year")
        last, near = pair[measures].shift(), (pair["year"].diff() == 1)
        two = last.rolling(2, min_periods=1).mean()
        return last.where(near).add_prefix("lag_").join(two.where(near).add_prefix("roll2_"))

    return [history(pair) for _, pair in cells.groupby(["facility_id", "apr_drg_code"], sort=False)]


def chain(scale, folder):
    """Write the CSV, read it, and apply v1 to v12; returns seconds by step and the tables that the comparison needs."""
    import pandas as pd

    from drg_lib.base.tables import write_parquet
    from drg_lib.pipeline.config import as_dict, compose
    from drg_lib.pipeline.explore import apply_step
    from drg_lib.sources.read import read_source
    from drg_lib.versions.chain import known_versions

    overrides = ["data_sources=synthetic", f"data_sources.scale={scale}"]
    synthetic = as_dict(compose(overrides).data_sources)
    csv = folder / "sparcs.csv"
    if not csv.exists():
        read_source(synthetic).to_csv(csv, index=False)
    source = as_dict(compose(["data_sources=sparcs_csv", f"data_sources.path={csv}"]).data_sources)
    read, frame = timed(lambda: read_source(source))
    write, _ = timed(lambda: write_parquet(frame, folder / "once.parquet"))
    seconds, sample = {}, None
    for version in known_versions():
        parameters = as_dict(compose([*overrides, f"data_versions={version}"]).transformation)
        rows = len(frame)
        seconds[version], (frame, _, _) = timed(lambda: apply_step(version, frame, parameters))
        if version == "v2":
            sample = frame
        if version == "v6":
            groups = len(frame)
        if version == "v9":
            yearly = frame
        print(
            f"  {version}: {rows:,} -> {len(frame):,} rows, {seconds[version]:.2f} s",
            file=sys.stderr,
            flush=True,
        )
    keys = ["year", "facility_id", "apr_drg_code"]
    some = sample[keys].drop_duplicates().sample(SAMPLE_GROUPS, random_state=0)
    cells = sample.merge(some, on=keys)
    by_group, made = timed(lambda: pd.DataFrame(per_group_python(cells)))
    pair = ["facility_id", "apr_drg_code"]
    pairs = yearly[pair].drop_duplicates()
    by_pair, histories = timed(
        lambda: per_pair_python(yearly.merge(pairs.sample(SAMPLE_GROUPS, random_state=0), on=pair))
    )
    return dict(
        read=read,
        write=write,
        bytes=csv.stat().st_size,
        seconds=seconds,
        groups=groups,
        rows=len(sample),
        pairs=len(pairs),
        by_group=by_group / len(made) * groups,
        by_pair=by_pair / len(histories) * len(pairs),
    )


def transform(scale, folder):
    figures = chain(scale, folder)
    once, total = figures["read"] + figures["write"], sum(figures["seconds"].values())
    table(
        f"Transformations, {figures['rows']:,} rows, {figures['groups']:,} groups (synthetic data)",
        ["what", "seconds", "ratio to v1..v12"],
        [
            *[[f"{version}", f"{seconds:.2f}", ""] for version, seconds in figures["seconds"].items()],
            ["v1 to v12", f"{total:.2f}", "1"],
            [
                f"read the CSV ({figures['bytes'] / 1e6:.0f} MB) and write it as Parquet",
                f"{once:.2f}",
                f"{once / total:.2f}",
            ],
            [
                f"v3 to v6 by a Python function per group (from {SAMPLE_GROUPS} groups)",
                f"{figures['by_group']:.0f}",
                f"{figures['by_group'] / total:.0f}",
            ],
            [
                f"v10, v11 by a Python function per pair (from {SAMPLE_GROUPS} of {figures['pairs']:,})",
                f"{figures['by_pair']:.0f}",
                f"{figures['by_pair'] / total:.0f}",
            ],
        ],
    )
    slow = figures["by_group"] + figures["by_pair"]
    print(
        f"  v1..v12 take {total / once:.1f} x the read and write (at most 10), and are {slow / total:.0f} x faster than per group (at least 300)"
    )


def peak_of(command, cwd):
    """Seconds and peak memory (MB) of the largest process that `command` starts."""
    code = (
        "import resource, subprocess, sys, time; t = time.perf_counter(); r = subprocess.run(sys.argv[1:], capture_output=True, text=True); "
        "print(time.perf_counter() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, r.returncode); sys.stderr.write(r.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=cwd, capture_output=True, text=True)
    seconds, megabytes, status = done.stdout.split()
    if status != "0":
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(seconds), float(megabytes)


def memory(scale, folder):
    from drg_lib.versions.chain import known_versions

    rows, common = (
        [],
        [
            "data_sources=synthetic",
            f"data_sources.scale={scale}",
            f"paths.data={folder}/data",
            f"paths.runs={folder}/runs",
            f"paths.results={folder}/results",
        ],
    )
    stages = [
        ["stage=ingestion"],
        ["stage=inspection"],
        *[[f"stage={e['section']}", f"data_versions={v}"] for v, e in known_versions().items()],
    ]
    for stage in stages:
        seconds, megabytes = peak_of(["drg-run", *stage, *common], ROOT)
        rows.append([" ".join(s.split("=")[1] for s in stage), f"{seconds:.1f}", f"{megabytes:,.0f}"])
        print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    table(f"Data stages by drg-run at scale {scale} (synthetic data)", ["stage", "seconds", "peak MB"], rows)
    print(f"  largest peak {max(float(r[2].replace(',', '')) for r in rows):,.0f} MB (at most 2,000)")
    larger = 3 * max(scale, 1)
    seconds, megabytes = peak_of(
        [
            "drg-run",
            "stage=ingestion",
            *[c for c in common if not c.startswith("data_sources.scale")],
            f"data_sources.scale={larger}",
        ],
        ROOT,
    )
    print(
        f"  ingestion streams: at scale {larger:g} it takes {seconds:.0f} s and {megabytes:,.0f} MB (at most 4,000 at any scale); later stages read the whole table"
    )


def serve_rows(frame):
    """The address of a service that hands out `frame` as the Socrata API does: a count, and pages in a stable order."""
    import http.server
    import threading
    from urllib.parse import parse_qs

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            query = {name: values[0] for name, values in parse_qs(self.path.partition("?")[2]).items()}
            first = int(query.get("$offset", 0))
            body = (
                json.dumps([{"count": str(len(frame))}])
                if query.get("$select") == "count(*)"
                else frame.iloc[first : first + int(query["$limit"])].to_json(orient="records")
            )
            self.send_response(200)
            for name, value in {
                "X-SODA2-Fields": json.dumps(list(frame)),
                "X-SODA2-Truth-Last-Modified": "Mon, 16 Sep 2024 23:13:03 GMT",
                "Content-Length": len(body.encode()),
            }.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/rows.json"


def sources(scale, folder):
    import pandas as pd
    import sqlalchemy as sa

    from drg_lib.pipeline.config import as_dict, compose
    from drg_lib.sources.read import read_source

    frame = read_source(
        as_dict(
            compose(
                ["data_sources=synthetic", f"data_sources.scale={1.11 * scale}", "data_sources.vintage=2024"]
            ).data_sources
        )
    )
    csv, stays = folder / "rows.csv", folder / "stays.csv"
    frame.to_csv(csv, index=False)
    frame.rename(
        columns={
            "Year": "Discharge Year",
            "Facility Id": "Permanent Facility Id",
            "Mean Charge": "Total Charges",
            "Mean Cost": "Total Costs",
        }
    )[
        [
            "Discharge Year",
            "Permanent Facility Id",
            "Facility Name",
            "APR DRG Code",
            "APR Severity of Illness Code",
            "APR DRG Description",
            "Total Charges",
            "Total Costs",
        ]
    ].to_csv(stays, index=False)
    frame.columns = [c.lower().replace(" ", "_") for c in frame]
    url = os.environ.get("DRG_LIB_BENCH_DATABASE_URL") or f"sqlite:///{folder}/rows.db"
    with sa.create_engine(url).begin() as connection:
        frame.to_sql("sparcs_cost", connection, index=False, if_exists="replace", chunksize=50_000)
    kept, os.environ["DRG_LIB_DATABASE_URL"] = os.environ.get("DRG_LIB_DATABASE_URL"), url
    asked = {
        "sparcs_csv": [f"data_sources.path={csv}"],
        "sparcs_api": [
            f"data_sources.url={serve_rows(frame)}",
            f"data_sources.download_dir={folder}/download",
        ],
        "database": [],
        "sparcs_discharges": [f"data_sources.path={stays}"],
    }
    rows = []
    for source, overrides in asked.items():
        seconds, megabytes = peak_of(
            [
                "drg-run",
                "stage=ingestion",
                f"data_sources={source}",
                *overrides,
                f"paths.data={folder}/{source}",
                f"paths.runs={folder}/runs",
                f"paths.results={folder}/results",
            ],
            ROOT,
        )
        rows.append(
            [
                f"{source} ({url.partition(':')[0]})" if source == "database" else source,
                f"{pd.read_parquet(folder / source / 'v0.parquet', columns=[]).shape[0]:,}",
                f"{seconds:.1f}",
                f"{megabytes:,.0f}",
            ]
        )
    if kept is None:
        del os.environ["DRG_LIB_DATABASE_URL"]
    else:
        os.environ["DRG_LIB_DATABASE_URL"] = kept
    table(
        f"Ingestion of {len(frame):,} rows (synthetic data) by source",
        ["source", "rows of v0", "seconds", "peak MB"],
        rows,
    )
    print(f"  largest peak {max(float(r[3].replace(',', '')) for r in rows):,.0f} MB (at most 2,000)")


def repro(scale, folder):
    times = [
        timed(lambda: subprocess.run(["dvc", "repro"], cwd=ROOT, capture_output=True, text=True))
        for _ in range(4)
    ]
    if "up to date" not in times[-1][1].stdout:
        return print("\nrepro: there is something to do; run `make run` first")
    table(
        "dvc repro with nothing to do",
        ["run", "seconds"],
        [[i + 1, f"{seconds:.2f}"] for i, (seconds, _) in enumerate(times[1:])],
    )
    print(f"  median {statistics.median(t for t, _ in times[1:]):.2f} s (under 3)")


def runner(scale, folder):
    """Both commands in turn, on a copy of the project with one more section."""
    project = folder / "project"
    for part in ("nbs", "configs", "drg_lib"):
        shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("settings.ini", "params.yaml"):
        shutil.copy(ROOT / part, project / part)
    (project / "nbs/empty.ipynb").write_text(json.dumps(EMPTY))
    (project / "configs/project_sections/empty.yaml").write_text(
        "# @package project_sections.empty\norder: 9\ntitle: Empty\nnotebook: nbs/empty.ipynb\nreport: empty.ipynb\nparameters: {number: 2}\n"
    )
    config = project / "configs/config.yaml"
    config.write_text(
        config.read_text().replace("      - 8_deployment\n", "      - 8_deployment\n      - empty\n")
    )
    commands = {
        "papermill": ["papermill", "nbs/empty.ipynb", "out.ipynb", "-p", "number", "2"],
        "drg-run": ["drg-run", "stage=empty"],
    }
    env = os.environ | {"PYTHONPATH": str(project)}
    times = {name: [] for name in commands}
    for turn in range(6):
        for name, command in commands.items():
            seconds, done = timed(
                lambda: subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
            )
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
            if turn:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table(
        "An empty notebook, median of 5",
        ["command", "seconds", "ratio"],
        [[n, f"{s:.2f}", f"{s / medians['papermill']:.2f}"] for n, s in medians.items()],
    )
    print(
        f"  drg-run takes {medians['drg-run'] / medians['papermill']:.2f} x the papermill command (at most 1)"
    )


def explorer(scale, folder):
    from explorer import measure

    table(
        "The explorer at full size (made-up data), medians of 5 in Chromium",
        ["what", "figure"],
        measure(folder),
    )


def main():
    parts = dict(
        transform=transform, memory=memory, sources=sources, repro=repro, runner=runner, explorer=explorer
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="size of the synthetic source; 1.0 is 1.08 million rows"
    )
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="which tables to make")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="drg_bench_") as folder:
        for part in arguments.parts:
            print(f"measuring {part} ...", file=sys.stderr, flush=True)
            parts[part](arguments.scale, Path(folder))


if __name__ == "__main__":
    main()
