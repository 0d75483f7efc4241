"""Lineage: sidecars say what is on disk, the chain adds up, damage is named, the command fits a terminal."""

import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import environment, run
from sidecars import sidecar, toy_sidecars

from drg_lib.base.names import DataError
from drg_lib.base.tables import content_hash, profile_columns, read_parquet, write_json, write_parquet
from drg_lib.pipeline.cli import drg
from drg_lib.versions import lineage as ln
from drg_lib.versions.chain import known_versions
from drg_lib.versions.lineage_picture import plot_lineage
from drg_lib.versions.store import digest_of, load_version, save_version
from drg_lib.versions.verify import read_sidecars, verify_versions


@pytest.fixture
def sidecars():
    return toy_sidecars()


def test_rows_in_are_rows_out_plus_set_aside_plus_joined(sidecars):
    table = ln.lineage(sidecars).set_index("version")
    assert (
        table.reconciles.eq("yes").all()
        and table.joined["v6"] == 600
        and table.added["v6"] == "w_mean_cost"
        and table.dropped["v1"] == "Year"
    )
    assert (table.rows_in[1:] == table.rows[1:] + table.set_aside[1:] + table.joined[1:]).all()
    assert (
        table.config["v1"] == "most=5"
        and table.config["v0"] == "name toy"
        and ln.broken(table.reset_index()) == []
    )


def test_lost_stale_and_orphaned_versions_are_named(sidecars):
    sidecars["v1"]["rows"] = 990
    sidecars["v5"]["parent_sha256"] = "0" * 64
    del sidecars["v0"]
    assert ln.lineage(sidecars).set_index("version").reconciles.to_dict() == {
        "v1": "parent missing",
        "v5": "stale",
        "v6": "yes",
    }
    sidecars["v6"]["rows_joined"] = 899
    table = ln.lineage(sidecars)
    assert table.reconciles.iloc[-1] == "no" and "do not add up in v1, v5, v6" in plot_lineage(
        table
    )._suptitle.get_text().replace("\n", " ")
    assert [line.split(":")[0] for line in ln.broken(table)] == ["v1", "v5", "v6"]


def test_versions_are_read_in_the_order_of_the_list_and_unknown_ones_after_it(tmp_path, sidecars):
    for name, version in (("v10", "v10"), ("v9b", "v9b"), ("v99", "v99"), ("v2", "v2"), ("vnot", "v3")):
        write_json(sidecar(version, sidecars["v1"], 1000), tmp_path / f"{name}.json")
    assert list(read_sidecars(tmp_path)) == ["v2", "v10", "v9b", "v99"]


def test_a_sidecar_that_lacks_something_is_named(tmp_path, sidecars):
    write_json({k: v for k, v in sidecars["v1"].items() if k != "sha256"}, tmp_path / "v1.json")
    with pytest.raises(DataError, match="v1.json: not a whole sidecar, it lacks sha256. Remedy"):
        read_sidecars(tmp_path)


@pytest.mark.build
def test_picture_draws_without_warnings(tmp_path, sidecars):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot_lineage(ln.lineage(sidecars), "Toy source", True)
        figure.savefig(tmp_path / "lineage.png")
    title = figure._suptitle.get_text().replace("\n", " ")
    assert (
        title.startswith("1k published rows become 300 in v6; 100 were set aside")
        and "Synthetic data" in figure._supxlabel.get_text()
    )
    said = [text.get_text() for text in figure.axes[0].texts]
    assert {"v0", "v1", "v5", "v6", "100 set aside", "600 merged"} <= set(said)


# What a table is


def test_the_hash_is_of_the_content():
    table = pd.DataFrame(
        {
            "year": [2016, 2017],
            "facility_id": ["4", "1458"],
            "mean_cost": [0.0, None],
            "few": pd.array([1, None], dtype="Int64"),
        }
    )
    one = content_hash(table)
    assert (
        one
        == content_hash(table.copy())
        == content_hash(table.assign(mean_cost=[-0.0, -np.nan]))
        == content_hash(table.set_axis([7, 8]))
    )
    others = [
        table.iloc[::-1],
        table.rename(columns={"year": "years"}),
        table.astype({"year": "int32"}),
        table.assign(facility_id=["41", "458"]),
        table.assign(mean_cost=[1e-300, None]),
        table.assign(few=pd.array([1, 0], dtype="Int64")),
        table.assign(facility_id=["4", None]),
        table[["facility_id", "year", "mean_cost", "few"]],
    ]
    assert len({one, *map(content_hash, others)}) == 1 + len(others)


def test_every_sidecar_says_what_is_on_disk(synthetic_build):
    data = synthetic_build / "data"
    held = read_sidecars(data)
    assert list(held) == ["v0", *known_versions()]
    for version, s in held.items():
        table = pd.read_parquet(data / f"{version}.parquet")
        assert (s["rows"], s["bytes"], s["sha256"]) == (
            len(table),
            (data / f"{version}.parquet").stat().st_size,
            content_hash(table),
        )
        assert s["columns"] == profile_columns(table) and all(
            set(c) == {"dtype", "missing", "unique", "min", "max"} for c in s["columns"].values()
        )
        if version == "v0":
            assert (
                s["parent"] is None and s["config"]["name"] == "synthetic" and s["config"]["seed"] is not None
            )
        else:
            assert (
                (s["parent_rows"], s["parent_sha256"], s["parent_sidecar_sha256"])
                == (held[s["parent"]]["rows"], held[s["parent"]]["sha256"], digest_of(held[s["parent"]]))
                and s["config"]["step"]
                and "parameters" in s["config"]
            )
        assert s["beside"]["set_aside"] == dict(
            rows=s["rows_set_aside"],
            sha256=content_hash(pd.read_parquet(data / version / "set_aside.parquet")),
        )
    for name, expected in (("mean_cost", pd.read_parquet(data / "v5.parquet")["mean_cost"]),):
        assert (
            held["v5"]["columns"][name]["min"] == expected.min()
            and held["v5"]["columns"][name]["unique"] == expected.nunique()
        )
    assert ln.lineage(held).reconciles.eq("yes").all() and verify_versions(data).state.eq("whole").all()


OTHER = dict(
    LC_ALL="C",
    TZ="Asia/Kathmandu",
    PYTHONHASHSEED="77",
    OMP_NUM_THREADS="1",
    OMP_THREAD_LIMIT="1",
    ARROW_USER_SIMD_LEVEL="NONE",
    NPY_DISABLE_CPU_FEATURES="AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3",
)
BUILD = "import sys; from drg_lib.pipeline.explore import build_versions; build_versions('v12', sys.argv[1])"


def test_another_machine_makes_the_same_hashes_and_bytes(synthetic_build, tmp_path):
    """Another locale, time zone, hash seed, one core, and a processor without wide instructions.

    v0's file is written in one piece there, streamed here.
    """

    def one_core():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, tmp_path / "data"],
        cwd=synthetic_build,
        env=environment(synthetic_build) | OTHER,
        preexec_fn=one_core,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    here, there = read_sidecars(synthetic_build / "data"), read_sidecars(tmp_path / "data")
    assert {v: s["sha256"] for v, s in here.items()} == {v: s["sha256"] for v, s in there.items()}
    for version in list(here)[1:]:
        assert (synthetic_build / f"data/{version}.parquet").read_bytes() == (
            tmp_path / f"data/{version}.parquet"
        ).read_bytes(), version


# Damage


@pytest.fixture
def three(tmp_path):
    """v0, v1 and v2 of one shape and size, each with other values."""
    parent, rng = None, np.random.default_rng(0)
    for n in range(3):
        table = pd.DataFrame(
            {
                "year": np.arange(2000) % 9 + 2009,
                "facility_id": (np.arange(2000) % 50).astype(str),
                "mean_cost": rng.random(2000),
            }
        )
        parent = save_version(
            table,
            f"v{n}",
            tmp_path,
            parent,
            lookups={"facilities": pd.DataFrame({"facility_id": ["4"], "facility_name": ["A <b>"]})},
            config=dict(step=f"s{n}") if n else dict(title="Toy", synthetic=True),
        )
    return tmp_path


@pytest.mark.build
def test_a_flipped_bit_anywhere_is_refused_or_harmless(three):
    """Every damaged file is refused, or still gives the same values (a bit of the footer)."""
    path, rng = three / "v1.parquet", np.random.default_rng(1)
    whole, table = path.read_bytes(), load_version("v1", three)
    refused = 0
    for at in rng.integers(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read = load_version("v1", three)
        except DataError as error:
            refused += "v1.parquet" in str(error) and "Remedy" in str(error)
        else:
            assert read.equals(table)
            refused += 1
    assert refused == 150


def test_cut_swapped_and_changed_files_are_named_and_not_used(three):
    one, two = three / "v1.parquet", three / "v2.parquet"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(first[:-100])
    with pytest.raises(DataError, match=r"v1.parquet: not what its sidecar v1.json records \(bytes .*Remedy"):
        load_version("v1", three)
    one.write_bytes(second)
    two.write_bytes(first)
    for version in ("v1", "v2"):
        with pytest.raises(
            DataError, match=f"{version}.parquet: not what its sidecar {version}.json records"
        ):
            load_version(version, three)
    checked = verify_versions(three)
    assert {p.name for p in checked.file[checked.state == "damaged"]} == {"v1.parquet", "v2.parquet"}
    one.write_bytes(first)
    changed = read_parquet(one).assign(mean_cost=lambda t: t.mean_cost.where(t.index != 5, 0.5))
    write_parquet(
        changed, one, sha256=json.loads((three / "v1.json").read_text())["sha256"]
    )  # even with the old hash in its footer
    checked = verify_versions(three).set_index("file")
    assert checked.state[one] == "damaged" and "SHA-256" in checked.said[one]


def test_lookups_missing_files_and_lost_sidecars_are_named(three):
    write_parquet(
        pd.DataFrame({"facility_id": ["4"], "facility_name": ["Another"]}), three / "v1/facilities.parquet"
    )
    (three / "v2.parquet").unlink()
    (three / "v0.json").unlink()
    checked = verify_versions(three)
    states = {
        p.relative_to(three).as_posix(): state
        for p, state in zip(checked.file, checked.state)
        if state != "whole"
    }
    assert states == {"v1/facilities.parquet": "damaged", "v2.parquet": "missing", "v0.parquet": "damaged"}


# The command


def command(data, *arguments):
    done = CliRunner().invoke(drg, ["lineage", "--data", str(data), *arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200])
def test_no_line_is_longer_than_the_terminal(synthetic_build, width):
    table = ln.lineage(read_sidecars(synthetic_build / "data"))
    for full in (False, True):
        lines = ln.as_text(table, width, full)
        assert max(map(len, lines)) <= width
        assert all(any(line.startswith(f"{version} ") for line in lines) for version in table.version)
    if width == 200:
        assert "lag_w_median_profit" in " ".join(
            " ".join(ln.as_text(table, width, True)).split()
        ) and "share_severity_0" in " ".join(lines)


def test_the_command_prints_the_lineage(three, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    status, out, err = command(three)
    said = " ".join(out.split())  # a long folder's name wraps the line that names the source
    assert (
        status == 0
        and not err
        and "Toy (synthetic data)" in said
        and "The rows add up in all 3 versions." in out
        and "v2" in out
    )
    status, out, _ = command(three, "--json", "--verify")
    held = json.loads(out)
    assert (
        status == 0
        and [v["version"] for v in held["versions"]] == ["v0", "v1", "v2"]
        and len(held["versions"][1]["sha256"]) == 64
        and {c["state"] for c in held["checks"]} == {"whole"}
    )


def test_the_command_fails_with_a_reason(three, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    status, out, err = command(empty)
    assert status == 1 and "no data version is there" in err and "dvc repro" in err and not out
    (three / "v1.parquet").write_bytes((three / "v2.parquet").read_bytes())
    status, out, err = command(three, "--verify")
    assert status == 1 and "v1.parquet" in err and "1 damaged" in out
    shutil.copy(three / "v1.json", three / "v2.json")
    status, _, err = command(three)
    assert status == 1 and "v2.json: describes v1" in err
    (three / "v0.json").write_text("{")
    status, _, err = command(three)
    assert status == 1 and "v0.json: not whole JSON" in err
    assert command(three, "--remove")[0] == 2


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ("{}", "not a whole sidecar, it lacks version, rows"),
        ("[]", "not a sidecar"),
        ({"rows": "many"}, "rows is 'many', which it cannot be"),
        ({"columns": None}, "columns is 'None', which it cannot be"),
    ],
)
def test_a_sidecar_that_is_none_is_named(three, sidecar, words):
    path = three / "v1.json"
    whole = json.loads(path.read_text())
    path.write_text(sidecar if isinstance(sidecar, str) else json.dumps(whole | sidecar))
    status, _, err = command(three)
    assert status == 1 and f"v1.json: {words}" in err and "Remedy: delete it and run `dvc repro" in err
    with pytest.raises(DataError, match="v1.json"):
        load_version("v1", three)


def test_the_command_is_installed_and_stops_quietly_with_its_reader(synthetic_build):
    assert "--verify" in run(synthetic_build, "drg", "lineage", "--help").stdout
    done = run(synthetic_build, "bash", "-c", "drg lineage --full | head -1")
    assert "synthetic" in done.stdout.lower() and not done.stderr
