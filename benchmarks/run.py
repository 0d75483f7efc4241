"""Speed and memory, as ratios within one run: `make bench`, or `python benchmarks/run.py --parts transform`.

transform  v1 to v12 at 1.08 million synthetic rows, against Python functions per group and per pair (timed on
           a sample and scaled up by groups), and against reading the CSV and writing it once as Parquet
memory     peak memory of each data stage run by drg run on those rows
sources    time and peak memory of each source at 1.2 million rows: CSV, the API (a service of this process),
           a database (SQLite, or the one that DRG_LIB_BENCH_DATABASE_URL names, whose table sparcs_cost is
           replaced), single stays
repro      `dvc repro` with nothing to do, in the project as it stands (after `make run`)
runner     drg run against the bare papermill command on an empty notebook
explorer   the explorer of 231 hospitals and 300 DRGs: size, and time to the first view in Chromium
"""

import argparse
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

import explorer as explorer_page
import pandas as pd
import sqlalchemy as sa

from drg_lib.base.tables import write_parquet
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.pipeline.explore import apply_step
from drg_lib.pipeline.uses import is_used, uses
from drg_lib.sources.read import read_source
from drg_lib.versions.chain import known_versions, observed_version

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_GROUPS = 400
PAIR = ["facility_id", "apr_drg_code"]
KEYS = ["year", *PAIR]
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
EMPTY_SECTION = """# @package project_sections.empty
order: 9
title: Empty
notebook: nbs/empty.ipynb
report: empty.ipynb
parameters: {number: 2}
"""
MEASURE = """
import resource, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - begun
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, done.returncode)
sys.stderr.write(done.stderr)
"""
STAYS = {  # columns of the cost file: what the file of single stays calls them
    "Year": "Discharge Year",
    "Facility Id": "Permanent Facility Id",
    "Facility Name": "Facility Name",
    "APR DRG Code": "APR DRG Code",
    "APR Severity of Illness Code": "APR Severity of Illness Code",
    "APR DRG Description": "APR DRG Description",
    "Mean Charge": "Total Charges",
    "Mean Cost": "Total Costs",
}
Made = TypeVar("Made")


def timed(call: Callable[[], Made]) -> tuple[float, Made]:
    """Seconds that a call takes, and what it returns."""
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout holds the tables alone."""
    print(text, file=sys.stderr, flush=True)


def table(title: str, header: list[str], rows: list[list[Any]]) -> None:
    """Print a table; numbers stand right."""
    lines = [header] + [[str(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        first, *others = zip(line, widths)
        cells = [first[0].ljust(first[1]), *[text.rjust(width) for text, width in others]]
        print("  " + "  ".join(cells))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


def weighted_median(values: pd.Series, weights: pd.Series) -> float:
    """The first value at which half of the weight is reached."""
    ordered = values.sort_values()
    reached = weights.loc[ordered.index].cumsum() >= weights.sum() / 2
    return ordered[reached].iloc[0]


def aggregate(group: pd.DataFrame) -> dict[str, float]:
    """One group's row of v6, from its rows of v2."""
    weights, row = group["discharges"], {"sum_discharges": group["discharges"].sum()}
    for statistic in ("mean", "median"):
        money = {measure: group[f"{statistic}_{measure}"] for measure in ("charge", "cost")}
        money["profit"] = money["charge"] - money["cost"]
        for name, values in list(money.items()):
            money[f"total_{name}"] = values * weights
        for name, values in money.items():
            if statistic == "mean":
                row[f"w_{statistic}_{name}"] = (values * weights).sum() / weights.sum()
            else:
                row[f"w_{statistic}_{name}"] = weighted_median(values, weights)
    shares = weights.groupby(group["apr_severity_of_illness_code"]).sum() / weights.sum()
    for severity, share in shares.items():
        row[f"share_{severity}"] = share
    return row


def per_group_python(cells: pd.DataFrame) -> list[dict[str, float]]:
    """The aggregation of v3 to v6 as one Python function a group, as it would be written first."""
    return [aggregate(group) for _, group in cells.groupby(KEYS, sort=False)]


def per_pair_python(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """The lags and rolling means of v10 and v11 as one Python function a facility and DRG."""
    measures = [column for column in cells.columns if column not in KEYS]

    def history(pair: pd.DataFrame) -> pd.DataFrame:
        pair = pair.sort_values("year")
        last, near = pair[measures].shift(), (pair["year"].diff() == 1)
        two = last.rolling(2, min_periods=1).mean()
        return last.where(near).add_prefix("lag_").join(two.where(near).add_prefix("roll2_"))

    return [history(pair) for _, pair in cells.groupby(PAIR, sort=False)]


def apply_all(
    frame: pd.DataFrame, overrides: list[str]
) -> tuple[dict[str, float], dict[str, pd.DataFrame], dict[str, int]]:
    """Apply v1 to v12: seconds by step, the table v2, the observed one, and the rows of each version."""
    seconds, kept, rows = {}, {}, {}
    for version in known_versions():
        parameters = as_dict(compose([*overrides, f"data_versions={version}"]).transformation)
        before = len(frame)
        seconds[version], (frame, _, _) = timed(partial(apply_step, version, frame, parameters))
        rows[version] = len(frame)
        if version in ("v2", observed_version()):
            kept["v2" if version == "v2" else "observed"] = frame
        say(f"  {version}: {before:,} -> {len(frame):,} rows, {seconds[version]:.2f} s")
    return seconds, kept, rows


def chain(scale: float, folder: Path) -> dict[str, Any]:
    """Write the CSV, read it, and apply v1 to v12; the same by Python functions on a sample, scaled up."""
    overrides = ["data_sources=synthetic", f"data_sources.scale={scale}"]
    synthetic = as_dict(compose(overrides).data_sources)
    csv = folder / "sparcs.csv"
    if not csv.exists():
        read_source(synthetic).to_csv(csv, index=False)
    source = as_dict(compose(["data_sources=sparcs_csv", f"data_sources.path={csv}"]).data_sources)
    read, frame = timed(lambda: read_source(source))
    write, _ = timed(lambda: write_parquet(frame, folder / "once.parquet"))
    seconds, kept, rows = apply_all(frame, overrides)
    groups, pairs = kept["v2"][KEYS].drop_duplicates(), kept["observed"][PAIR].drop_duplicates()
    cells = kept["v2"].merge(groups.sample(SAMPLE_GROUPS, random_state=0), on=KEYS)
    by_group, aggregated = timed(lambda: pd.DataFrame(per_group_python(cells)))
    by_pair, histories = timed(
        lambda: per_pair_python(kept["observed"].merge(pairs.sample(SAMPLE_GROUPS, random_state=0), on=PAIR))
    )
    return dict(
        read=read,
        write=write,
        bytes=csv.stat().st_size,
        seconds=seconds,
        groups=rows["v6"],
        rows=len(kept["v2"]),
        pairs=len(pairs),
        by_group=by_group / len(aggregated) * rows["v6"],
        by_pair=by_pair / len(histories) * len(pairs),
    )


def transform(scale: float, folder: Path) -> None:
    """The steps against reading and writing once, and against Python functions per group and per pair."""
    figures = chain(scale, folder)
    once, total = figures["read"] + figures["write"], sum(figures["seconds"].values())
    by_group, by_pair = figures["by_group"], figures["by_pair"]
    per_pair = f"v10, v11 by a Python function per pair (from {SAMPLE_GROUPS} of {figures['pairs']:,})"
    compared = {
        f"read the CSV ({figures['bytes'] / 1e6:.0f} MB) and write it as Parquet": (once, ".2f"),
        f"v3 to v6 by a Python function per group (from {SAMPLE_GROUPS} groups)": (by_group, ".0f"),
        per_pair: (by_pair, ".0f"),
    }
    table(
        f"Transformations, {figures['rows']:,} rows, {figures['groups']:,} groups (synthetic data)",
        ["what", "seconds", "ratio to v1..v12"],
        [
            *[[version, f"{seconds:.2f}", ""] for version, seconds in figures["seconds"].items()],
            ["v1 to v12", f"{total:.2f}", "1"],
            *[
                [what, f"{value:{form}}", f"{value / total:{form}}"]
                for what, (value, form) in compared.items()
            ],
        ],
    )
    print(
        f"  v1..v12 take {total / once:.1f} x the read and write (at most 10), "
        f"and are {(by_group + by_pair) / total:.0f} x faster than per group (at least 300)"
    )


def peak_of(command: list[str], cwd: Path) -> tuple[float, float]:
    """Seconds and peak memory (MB) of the largest process that `command` starts."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], cwd=cwd, capture_output=True, text=True)
    seconds, megabytes, status = done.stdout.split()
    if status != "0":
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(seconds), float(megabytes)


def folders(folder: Path, data: str) -> list[str]:
    """Overrides that keep a run apart from the pipeline."""
    return [f"paths.data={folder}/{data}", f"paths.runs={folder}/runs", f"paths.results={folder}/results"]


def largest_peak(rows: list[list[str]]) -> None:
    """Print the largest of the last column."""
    print(f"  largest peak {max(float(row[-1].replace(',', '')) for row in rows):,.0f} MB (at most 2,000)")


def memory(scale: float, folder: Path) -> None:
    """Each data stage as DVC runs it: seconds and peak memory."""
    source, places = "data_sources=synthetic", folders(folder, "data")
    stages = [
        ["ingestion"],
        ["inspection"],
        *[[about["section"], f"data_versions={name}"] for name, about in known_versions().items()],
    ]
    rows = []
    for stage in stages:
        size = [f"data_sources.scale={scale}"] if is_used("data_sources.scale", uses(stage[0])) else []
        command = ["drg", "run", *stage, source, *size, *places]
        seconds, megabytes = peak_of(command, ROOT)
        rows.append([" ".join(part.split("=")[-1] for part in stage), f"{seconds:.1f}", f"{megabytes:,.0f}"])
        say(f"  {rows[-1]}")
    table(f"Data stages by drg run at scale {scale} (synthetic data)", ["stage", "seconds", "peak MB"], rows)
    largest_peak(rows)
    larger = 3 * max(scale, 1)
    command = ["drg", "run", "ingestion", source, *places, f"data_sources.scale={larger}"]
    seconds, megabytes = peak_of(command, ROOT)
    print(
        f"  ingestion streams: at scale {larger:g} it takes {seconds:.0f} s and {megabytes:,.0f} MB "
        "(at most 4,000 at any scale); later stages read the whole table"
    )


class Socrata(http.server.BaseHTTPRequestHandler):
    """A service that hands out a table as the Socrata API does: a count, and pages in a stable order."""

    def __init__(self, frame: pd.DataFrame, *arguments: Any) -> None:
        self.frame = frame
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer with the number of rows, or with one page of them."""
        query = {name: values[0] for name, values in parse_qs(self.path.partition("?")[2]).items()}
        first = int(query.get("$offset", 0))
        if query.get("$select") == "count(*)":
            body = json.dumps([{"count": str(len(self.frame))}])
        else:
            body = self.frame.iloc[first : first + int(query["$limit"])].to_json(orient="records")
        self.send_response(200)
        self.send_header("X-SODA2-Fields", json.dumps(list(self.frame)))
        self.send_header("X-SODA2-Truth-Last-Modified", "Mon, 16 Sep 2024 23:13:03 GMT")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


def serve_rows(frame: pd.DataFrame) -> str:
    """The address of a service of `frame`, which lives as long as this process."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Socrata, frame))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/rows.json"


def database_address(folder: Path) -> str:
    """The database of the benchmark: the one that the environment names, or a file."""
    return os.environ.get("DRG_LIB_BENCH_DATABASE_URL") or f"sqlite:///{folder}/rows.db"


def write_sources(scale: float, folder: Path) -> pd.DataFrame:
    """Write the same rows as a CSV file, as single stays and into a database; return them as the API does."""
    size = [f"data_sources.scale={1.11 * scale}", "data_sources.vintage=2024"]
    frame = read_source(as_dict(compose(["data_sources=synthetic", *size]).data_sources))
    frame.to_csv(folder / "rows.csv", index=False)
    frame.rename(columns=STAYS)[list(STAYS.values())].to_csv(folder / "stays.csv", index=False)
    frame.columns = [column.lower().replace(" ", "_") for column in frame]
    with sa.create_engine(database_address(folder)).begin() as connection:
        frame.to_sql("sparcs_cost", connection, index=False, if_exists="replace", chunksize=50_000)
    return frame


@contextmanager
def database_url(address: str) -> Iterator[None]:
    """The variable that names the database, set while the context lasts."""
    before, os.environ["DRG_LIB_DATABASE_URL"] = os.environ.get("DRG_LIB_DATABASE_URL"), address
    try:
        yield
    finally:
        if before is None:
            del os.environ["DRG_LIB_DATABASE_URL"]
        else:
            os.environ["DRG_LIB_DATABASE_URL"] = before


def sources(scale: float, folder: Path) -> None:
    """Ingestion of the same rows from each kind of source."""
    frame, address = write_sources(scale, folder), database_address(folder)
    asked = {
        "sparcs_csv": [f"data_sources.path={folder / 'rows.csv'}"],
        "sparcs_api": [
            f"data_sources.url={serve_rows(frame)}",
            f"data_sources.download_dir={folder}/download",
        ],
        "database": [],
        "sparcs_discharges": [f"data_sources.path={folder / 'stays.csv'}"],
    }
    rows = []
    with database_url(address):
        for source, overrides in asked.items():
            command = ["drg", "run", "ingestion", f"data_sources={source}", *overrides]
            seconds, megabytes = peak_of([*command, *folders(folder, source)], ROOT)
            label = f"{source} ({address.partition(':')[0]})" if source == "database" else source
            ingested = len(pd.read_parquet(folder / source / "v0.parquet", columns=[]))
            rows.append([label, f"{ingested:,}", f"{seconds:.1f}", f"{megabytes:,.0f}"])
    table(
        f"Ingestion of {len(frame):,} rows (synthetic data) by source",
        ["source", "rows of v0", "seconds", "peak MB"],
        rows,
    )
    largest_peak(rows)


def repro(scale: float, folder: Path) -> None:
    """`dvc repro` where nothing has changed."""
    command = partial(subprocess.run, ["dvc", "repro"], cwd=ROOT, capture_output=True, text=True)
    times = [timed(command) for _ in range(4)]
    if "up to date" not in times[-1][1].stdout:
        print("\nrepro: there is something to do; run `make run` first")
        return
    seconds = [each for each, _ in times[1:]]
    rows = [[str(number), f"{each:.2f}"] for number, each in enumerate(seconds, 1)]
    table("dvc repro with nothing to do", ["run", "seconds"], rows)
    print(f"  median {statistics.median(seconds):.2f} s (under 3)")


def with_empty_stage(project: Path) -> None:
    """A copy of the project with one more section, whose notebook does nothing."""
    for part in ("nbs", "configs", "drg_lib"):
        shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("settings.ini", "params.yaml"):
        shutil.copy(ROOT / part, project / part)
    (project / "nbs/empty.ipynb").write_text(json.dumps(EMPTY))
    (project / "configs/project_sections/empty.yaml").write_text(EMPTY_SECTION)
    config = project / "configs/config.yaml"
    last = "      - 8_deployment\n"
    config.write_text(config.read_text().replace(last, f"{last}      - empty\n"))


def runner(scale: float, folder: Path) -> None:
    """`drg run` and papermill in turn, on a copy of the project."""
    project = folder / "project"
    with_empty_stage(project)
    commands = {
        "papermill": ["papermill", "nbs/empty.ipynb", "out.ipynb", "-p", "number", "2"],
        "drg run": ["drg", "run", "empty"],
    }
    env = os.environ | {"PYTHONPATH": str(project)}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(6):
        for name, command in commands.items():
            seconds, done = timed(
                partial(subprocess.run, command, cwd=project, env=env, capture_output=True, text=True)
            )
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
            if turn:  # the first one warms the disk's cache
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: seconds / medians["papermill"] for name, seconds in medians.items()}
    rows = [[name, f"{seconds:.2f}", f"{ratios[name]:.2f}"] for name, seconds in medians.items()]
    table("An empty notebook, median of 5", ["command", "seconds", "ratio"], rows)
    print(f"  drg run takes {ratios['drg run']:.2f} x the papermill command (at most 1)")


def explorer(scale: float, folder: Path) -> None:
    """The explorer at full size."""
    rows = explorer_page.measure(folder)
    table("The explorer at full size (made-up data), medians of 5 in Chromium", ["what", "figure"], rows)


PARTS: dict[str, Callable[[float, Path], None]] = {
    "transform": transform,
    "memory": memory,
    "sources": sources,
    "repro": repro,
    "runner": runner,
    "explorer": explorer,
}


def main() -> None:
    """`python benchmarks/run.py --help`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="size of the synthetic source; 1.0 is 1.08 million rows"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which tables to make")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="drg_bench_") as folder:
        for part in arguments.parts:
            say(f"measuring {part} ...")
            PARTS[part](arguments.scale, Path(folder))


if __name__ == "__main__":
    main()
