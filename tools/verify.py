"""Build the project in clean clones and compare what they make: data versions, metrics and forecasts.

`make verify` builds the last commit twice, in two folders of different names, and says what differs.
`make verify AGAINST=<commit>` builds the last commit and another one. `SOURCE=... DATA=...` chooses a data
source; without them the embedded synthetic source is built. The exit status is 0 when nothing differs.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from drg_lib.base.tables import content_hash

ROOT = Path(__file__).resolve().parents[1]
SAME_ENVIRONMENT = ("requirements.lock", "settings.ini", "setup.py", "Makefile")
LEFT_OUT = ("PYTHONPATH", "DRG_LIB_ROOT", "MAKEFLAGS", "MAKELEVEL")
FORECAST_KEYS = ["facility_id", "apr_drg_code", "target", "year"]
SHOWN = 40  # lines of differences


def git(*arguments: str, folder: Path = ROOT) -> str:
    """What a git command prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"verify: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def clone(commit: str, folder: Path) -> Path:
    """A clean clone of this project at a commit, with the files beside the project that its data may name."""
    git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    git("checkout", "--quiet", "--detach", commit, folder=folder)
    return folder


def environment(project: Path) -> dict[str, str]:
    """The environment of a clone's build: this project's packages where the clone needs the same ones."""
    variables = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    variables["DVC_NO_ANALYTICS"] = "1"
    same = all((project / name).read_bytes() == (ROOT / name).read_bytes() for name in SAME_ENVIRONMENT)
    if same and (ROOT / ".venv/.ready").is_file():
        (project / ".venv").symlink_to(ROOT / ".venv")
        variables["PYTHONPATH"] = str(project)
    return variables


def build(project: Path, source: str | None, data: str | None) -> subprocess.Popen:
    """Start `make run` in a clone; what it says goes to `build.log` beside the clone."""
    choices = [f"SOURCE={source}"] if source else []
    choices += [f"DATA={Path(data).resolve()}"] if data else []
    log = project.with_suffix(".log").open("w", encoding="utf-8")
    command = ["make", "--old-file=.venv/.ready", "run", *choices]
    return subprocess.Popen(
        command,
        cwd=project,
        env=environment(project),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that `stop` ends what it started as well
    )


def leaves(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The single values of nested JSON, under dotted names."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from leaves(value, f"{above}.{name}" if above else str(name))
    else:
        yield above, content


def version_facts(project: Path) -> Iterator[tuple[str, Any]]:
    """Rows and content hash of every data version and of the tables beside it."""
    for path in sorted(project.glob("data/v*.json")):
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        name = f"data/{path.stem}"
        yield f"{name}: rows", sidecar["rows"]
        yield f"{name}: content", sidecar["sha256"]
        yield f"{name}: content of the file", content_hash(pd.read_parquet(path.with_suffix(".parquet")))
        for table, beside in (sidecar.get("beside") or {}).items():
            if table != "findings":  # sentences for people; how many there are is compared
                yield f"{name}/{table}: content", beside["sha256"]
        yield f"{name}: findings", sidecar.get("findings")


def result_facts(project: Path) -> Iterator[tuple[str, Any]]:
    """Every partition, tuned model, metric and table of results."""
    for path in sorted(project.glob("data/partitions/*.parquet")):
        yield f"{path.relative_to(project)}: content", content_hash(pd.read_parquet(path))
    for path in sorted(project.glob("results/models/*/*/model.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        folder = path.parent.relative_to(project)
        for key in ("validation_loss", "best_params", "n_trials"):
            yield f"{folder}: {key}", record.get(key)
        yield f"{folder}: predictions", content_hash(pd.read_parquet(path.with_name("predictions.parquet")))
    for path in sorted(project.glob("results/evaluation/*/*.json")):
        for name, value in leaves(json.loads(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(project)}: {name}", value
    for path in sorted(
        [*project.glob("results/evaluation/*/*.csv"), *project.glob("results/deployment/*.csv")]
    ):
        yield f"{path.relative_to(project)}: bytes", hashlib.sha256(path.read_bytes()).hexdigest()


def compare_facts(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """One line for each fact that one side lacks or that differs."""
    lines = []
    for name in dict.fromkeys([*left, *right]):
        if name not in left or name not in right:
            lines.append(f"{name}: only in {'the first' if name in left else 'the second'}")
        elif left[name] != right[name]:
            lines.append(f"{name}: {short(left[name])} | {short(right[name])}")
    return lines


def short(value: Any) -> str:
    """A value in at most 60 characters."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def compare_forecasts(left: Path, right: Path) -> list[str]:
    """One line for each column of the two forecasts that differs, with the first row where it does."""
    files = [project / "data/forecast.parquet" for project in (left, right)]
    tables = [pd.read_parquet(file).set_index(FORECAST_KEYS) for file in files]
    alone = tables[0].index.symmetric_difference(tables[1].index)
    lines = [f"data/forecast.parquet: {len(alone):,} rows are in one of the two only"] if len(alone) else []
    both = tables[0].index.intersection(tables[1].index)
    one, other = (table.loc[both] for table in tables)
    for column in dict.fromkeys([*one, *other]):
        if column not in one or column not in other:
            lines.append(f"data/forecast.parquet: column {column} is in one of the two only")
        elif not one[column].equals(other[column]):
            differs = ~((one[column] == other[column]) | (one[column].isna() & other[column].isna()))
            row = both[differs.to_numpy()][0]
            values = f"first {row}: {one[column].loc[row]} | {other[column].loc[row]}"
            lines.append(f"data/forecast.parquet: {column} differs in {int(differs.sum()):,} rows, {values}")
    return lines


def stop(builds: dict[Path, subprocess.Popen]) -> None:
    """End all builds that still run, with the programs that they started."""
    for process in builds.values():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def wait(builds: dict[Path, subprocess.Popen]) -> None:
    """Wait for all builds; the end of a log is shown when one fails."""
    begun = time.monotonic()
    try:
        for project, process in builds.items():
            while process.poll() is None:
                time.sleep(1)
                if sys.stderr.isatty():
                    print(f"\r  building for {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
            if process.returncode:
                log = project.with_suffix(".log")
                tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-25:])
                sys.exit(f"\nverify: the build in {project} failed. Its log ends with:\n{tail}")
    except KeyboardInterrupt:
        sys.exit("\nverify: interrupted; nothing was compared")
    finally:
        stop(builds)
    print(f"  built in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    """What was asked for on the command line; the program ends when a file is not there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="COMMIT", help="compare with what this commit makes")
    parser.add_argument("--source", help="a file of configs/data_sources (default: the embedded source)")
    parser.add_argument("--data", help="its data file")
    parser.add_argument("--keep", action="store_true", help="leave the clones where they are")
    given = parser.parse_args()
    if given.data and not Path(given.data).exists():
        sys.exit(f"verify: {given.data}: not there. Remedy: give the path of the data file.")
    return given


def compare(projects: list[Path]) -> list[str]:
    """All differences between what two built clones hold; they are printed, and counted in a last line."""
    first, second = (dict([*version_facts(project), *result_facts(project)]) for project in projects)
    lines = compare_facts(first, second) + compare_forecasts(*projects)
    for line in lines[:SHOWN]:
        print(line)
    if len(lines) > SHOWN:
        print(f"... and {len(lines) - SHOWN} more")
    forecasts = len(pd.read_parquet(projects[0] / "data/forecast.parquet"))
    print(f"{len(first):,} facts and {forecasts:,} forecasts compared: {len(lines) or 'none'} differ")
    return lines


def main() -> None:
    """`python tools/verify.py --help`."""
    given = parse_arguments()
    names = ("HEAD", given.against or "HEAD")
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}") for name in names]
    if git("status", "--porcelain", "--untracked-files=no"):
        print("verify: changes that are not committed are left out", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="drg-verify-"))
    try:
        projects = [clone(commit, folder / name) for commit, name in zip(commits, ("one", "another-folder"))]
        for commit, project in zip(commits, projects):
            print(f"  {git('log', '-1', '--format=%h %s', commit)} -> {project}", file=sys.stderr)
        wait({project: build(project, given.source, given.data) for project in projects})
        sys.exit(1 if compare(projects) else 0)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
