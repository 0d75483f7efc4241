"""Bad input through the commands that people type: message, exit status, and what is left in `data/`."""

import os
import shutil
import sys

import pandas as pd
import pytest
from conftest import ROOT, copy_project, run

from drg_lib.base.names import DataError
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.pipeline.explore import apply_step
from drg_lib.sources.calibration import load_calibration
from drg_lib.sources.read import read_source, source_record
from drg_lib.sources.synthetic import generate
from drg_lib.versions.chain import known_versions
from drg_lib.versions.store import save_version

CHARGE, COST, SEVERITY = "Mean Charge", "Mean Cost", "APR Severity of Illness Code"
OLD = b"the table of yesterday"


@pytest.fixture(scope="module")
def published():
    """Sixty rows a year in the shape of the published file, 2025 vintage."""
    table = generate(load_calibration(ROOT / "configs/calibration/sparcs_2009_2017.yaml"), 0.002, 1, 2025)
    return table.groupby("Year").head(60).reset_index(drop=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("bad") / "project")


@pytest.fixture
def data(project, monkeypatch):
    """An empty data folder of the project, which is the one of this process too."""
    monkeypatch.setenv("DRG_LIB_ROOT", str(project))
    shutil.rmtree(project / "data")
    (project / "data").mkdir()
    return project / "data"


def changed(table, column, value, row=5):
    table = table.copy()
    table.loc[row, column] = value
    return table


def overrides(path):
    return ["data_sources=sparcs_csv", f"data_sources.path={path}"]


def build(path, last, *more):
    """The versions up to `last` of a file, made in this process."""
    given = [*overrides(path), *more]
    source = as_dict(compose(given).data_sources)
    frame = read_source(source)
    sidecar = save_version(frame, "v0", "data", config=source_record(source))
    for version in known_versions() if last != "v0" else ():
        parameters = as_dict(compose([*given, f"data_versions={version}"]).transformation)
        frame, set_aside, lookups = apply_step(version, frame, parameters)
        sidecar = save_version(
            frame, version, "data", sidecar, set_aside, lookups, dict(step=version, parameters=parameters)
        )
        if version == last:
            return


def contents(data):
    return {p.relative_to(data).as_posix(): p.read_bytes() for p in data.rglob("*") if p.is_file()}


def refused(project, words, *arguments, status=1):
    """Run a stage that must refuse: status, message, and a data folder in which nothing has changed."""
    before = contents(project / "data")
    done = run(project, "drg", "run", *arguments, check=False)
    assert done.returncode == status, done.stderr
    assert all(word in done.stderr for word in [*words, "Remedy"]), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert contents(project / "data") == before


def test_a_missing_file(project, data):
    (data / "v0.parquet").write_bytes(OLD)
    refused(
        project,
        ["nowhere.csv: not there", "Failed in: read_and_write_v0", "runs/0_ingestion.partial.ipynb"],
        "stage=ingestion",
        *overrides("nowhere.csv"),
    )


@pytest.mark.build
def test_no_file_at_all(project, data):
    with pytest.raises(
        DataError,
        match=r"'sparcs_csv': no data file is given.*Remedy: name it, "
        r"as in `make run SOURCE=sparcs_csv DATA=",
    ):
        read_source(as_dict(compose(["data_sources=sparcs_csv"]).data_sources))


@pytest.mark.build
def test_an_empty_file(tmp_path, data):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"empty\.csv: is empty.*Remedy"):
        build(tmp_path / "empty.csv", "v0")
    assert not contents(data)


def test_a_header_without_a_needed_column(project, data, tmp_path, published):
    (data / "v0.parquet").write_bytes(OLD)
    published.drop(columns=COST).to_csv(tmp_path / "short.csv", index=False)
    refused(
        project,
        ["short.csv: the header lacks mean_cost", "Found: 'Year'", "`columns`"],
        "stage=ingestion",
        *overrides(tmp_path / "short.csv"),
    )


def test_a_negative_amount(project, data, tmp_path, published):
    published.to_csv(tmp_path / "good.csv", index=False)
    build(tmp_path / "good.csv", "v1")
    changed(published, COST, "-3,585.05").to_csv(tmp_path / "negative.csv", index=False)
    build(tmp_path / "negative.csv", "v0")
    words = [
        "negative.csv, row 6 of the file (Year 2016, Facility Id",
        f"'{COST}' holds '-3,585.05', which is negative",
        "Failed in: sanitize",
    ]
    refused(project, words, "stage=cleaning", "data_versions=v1", "data_sources=sparcs_csv")


@pytest.mark.build
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((CHARGE, "about 10"), [f"'{CHARGE}' holds 'about 10', which is not a number"]),
        ((CHARGE, "inf"), [f"'{CHARGE}' holds 'inf', which is infinite"]),
        ((COST, "-0.01"), [f"'{COST}' holds '-0.01', which is negative"]),
        (
            (SEVERITY, "7"),
            [f"{SEVERITY} 7): '{SEVERITY}' holds '7', which is not a severity of illness from 0 to 4"],
        ),
        (None, ["row 541 of the file (Year", "row 6 has the same year, facility, DRG and severity"]),
    ],
)
def test_a_wrong_value_or_a_repeated_key(data, tmp_path, published, change, words):
    table = changed(published, *change) if change else pd.concat([published, published.iloc[[5]]])
    table.to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(DataError) as refusal:
        build(tmp_path / "wrong.csv", "v1")
    assert all(word in str(refusal.value) for word in [*words, "row 6", "Remedy"]), str(refusal.value)
    assert not (data / "v1.parquet").exists() and not list(data.rglob(".*.part"))


def test_one_year_only(project, data, tmp_path, published):
    """It has no history: the versions say so row by row, and what would learn from it refuses."""
    published[published["Year"] == "2016"].to_csv(tmp_path / "one.csv", index=False)
    build(tmp_path / "one.csv", "v12")
    v11, aside = pd.read_parquet(data / "v11.parquet"), pd.read_parquet(data / "v11/set_aside.parquet")
    assert (
        not len(v11)
        and len(aside) == len(pd.read_parquet(data / "v10.parquet"))
        and set(aside["reason"]) == {"first year of the pair"}
    )
    refused(
        project,
        ["an earlier value to forecast from", "Remedy"],
        "stage=partitioning",
        "data_versions=v12",
        "data_sources=sparcs_csv",
    )


@pytest.mark.build
def test_no_two_consecutive_years(data, tmp_path, published):
    published[published["Year"].isin(["2009", "2011", "2013"])].to_csv(tmp_path / "gaps.csv", index=False)
    with pytest.raises(
        DataError,
        match=r"the years 2009, 2011, 2013, and no two of them are within 1.*Remedy.*set max_gap_years to 2",
    ):
        build(tmp_path / "gaps.csv", "v10", "data_sources.rare_drg_discharges=null")
    assert not (data / "v10.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data_sources.pth=x.csv"], ["pth"]),
        (["data_sources.max_gap_years=one"], ["max_gap_years", "one"]),
        (["data_sources=sparks"], ["data_sources/sparks", "sparcs_csv"]),
    ],
)
def test_a_wrong_override(project, data, arguments, words):
    (data / "v1.parquet").write_bytes(OLD)
    refused(project, words, "stage=cleaning", "data_versions=v1", *arguments, status=2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("max_gap_year: 2", ["max_gap_year", "data_sources/sparcs_csv"]),
        ("has_severity: perhaps", ["has_severity", "perhaps"]),
    ],
)
def test_a_config_typo(project, data, line, words):
    path = project / "configs/data_sources/sparcs_csv.yaml"
    before = path.read_text()
    path.write_text(before + line + "\n")
    try:
        refused(project, words, "stage=cleaning", "data_versions=v1", "data_sources=sparcs_csv", status=2)
    finally:
        path.write_text(before)


def test_an_upstream_version_that_is_not_there_or_not_whole(data):
    from drg_lib.versions.store import load_version

    with pytest.raises(DataError, match=r"v2\.parquet: not there\. Remedy: run `dvc repro cleaning@v2`"):
        load_version("v2", "data")
    (data / "v2.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"v2\.parquet: not a whole Parquet file.*Remedy: delete it and run"):
        load_version("v2", "data")


@pytest.fixture
def locked(published, tmp_path):
    """A copy of the project whose `data/` is read-only, and how to run a command there as one it stops."""
    project = copy_project(tmp_path / "project")
    (project / "data/v0.parquet").write_bytes(OLD)
    published.to_csv(project / "good.csv", index=False)
    (project / "data").chmod(0o555)
    # File modes do not stop root; root without the capability to override them is stopped like anyone else.
    as_other = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    if as_other and not shutil.which("setpriv"):
        pytest.skip("run as root without setpriv (util-linux), so that nothing is read-only")

    def as_reader(*command):
        return run(project, *as_other, *command, check=False, timeout=300)

    stopped = as_reader("touch", "data/probe")
    if not stopped.returncode:
        pytest.skip("this system lets a process without CAP_DAC_OVERRIDE write to a read-only folder")
    yield project, as_reader
    for name in ("data", "runs"):
        (project / name).chmod(0o755)


def test_a_read_only_data_folder(locked):
    project, as_reader = locked
    write = (
        "import pandas as pd, sys\nfrom drg_lib.base.names import DataError\nfrom drg_lib.{0} import {1}\n"
        "frame = pd.DataFrame(dict(year=[2016]))\n"
        "try: {2}\nexcept DataError as error: sys.exit(str(error))\n"
    )
    for code in (
        write.format("base.tables", "write_parquet", "write_parquet(frame, 'data/v0.parquet')"),
        write.format("versions.store", "save_version", "save_version(frame, 'v0', 'data')"),
    ):
        done = as_reader(sys.executable, "-c", code)
        assert (
            done.returncode == 1
            and "cannot be written (Permission denied). Remedy: make" in done.stderr
            and "Traceback" not in done.stderr
        ), done.stderr
    done = as_reader("drg", "run", "ingestion", *overrides("good.csv"))
    assert done.returncode == 1, done.stderr
    assert (
        "data/v0" in done.stderr
        and "Permission denied" in done.stderr
        and "Remedy: make" in done.stderr
        and "Failed in: read_and_write_v0" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert contents(project / "data") == {"v0.parquet": OLD}


def test_a_read_only_runs_folder(locked):
    project, as_reader = locked
    (project / "runs").chmod(0o555)
    done = as_reader("drg", "run", "ingestion", *overrides("good.csv"))
    assert (
        done.returncode == 1
        and "runs/0_ingestion.yaml: cannot be written" in done.stderr
        and "Remedy" in done.stderr
        and "Traceback" not in done.stderr
    )
