"""Discharge-level files added up: cells as a plain groupby gives them, stays set aside, the real extract."""

import functools
import gzip
import statistics

import numpy as np
import pandas as pd
import pytest
from conftest import extract
from panels import PUBLISHED

from drg_lib.base.names import DataError
from drg_lib.base.tables import content_hash
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.ingestion import rows_by_year
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources import csv as csv_files
from drg_lib.sources.read import read_source, read_with_set_aside, source_record
from drg_lib.versions.store import load_version, save_version

HEADER = [
    "Hospital County",
    "Facility Id",
    "Facility Name",
    "Length of Stay",
    "Discharge Year",
    "APR DRG Code",
    "APR DRG Description",
    "APR Severity of Illness Code",
    "APR Severity of Illness Description",
    "APR Medical Surgical Description",
    "Total Charges",
    "Total Costs",
]
SEVERITIES = ["", "Minor", "Moderate", "Major", "Extreme"]
composed = functools.cache(lambda: as_dict(compose(["data_sources=sparcs_discharges"]).data_sources))


def configured(path):
    return composed() | dict(path=str(path))


def stay(
    facility="1,458",
    drg="194",
    severity="1",
    charge='"8,375.41"',
    cost='"3,585.05"',
    year="2016",
    name="Weill Cornell",
):
    place = f'New York,"{facility}",{name},120 +,{year}'
    return f"{place},{drg},Heart Failure,{severity},Minor,Medical,{charge},{cost}"


def write(path, stays):
    path.write_text("\n".join([",".join(HEADER), *stays]) + "\n", encoding="utf-8")
    return path


def generated(n, seed=1, year=2016):
    """Stays by numbers, and the same as published text."""
    random = np.random.default_rng(seed)
    numbers = pd.DataFrame(
        dict(
            year=year,
            facility=random.choice([1, 4, 1458, 12345], n),
            drg=random.choice([5, 64, 194, 956], n),
            severity=random.integers(0, 5, n),
            charge=random.lognormal(10, 1, n).round(2),
            cost=random.lognormal(9, 1, n).round(2),
        )
    )
    text = pd.DataFrame({name: "x" for name in HEADER}, index=numbers.index).assign(
        **{
            "Facility Id": numbers["facility"].map("{:,}".format),
            "Facility Name": "Hospital " + numbers["facility"].astype("str"),
            "Discharge Year": str(year),
            "APR DRG Code": numbers["drg"].astype("str"),
            "APR DRG Description": "DRG " + numbers["drg"].astype("str"),
            "APR Severity of Illness Code": numbers["severity"].astype("str"),
            "APR Severity of Illness Description": [SEVERITIES[s] for s in numbers["severity"]],
            "Total Charges": numbers["charge"].map("{:,.2f}".format),
            "Total Costs": numbers["cost"].map("{:,.1f}".format),
        }
    )
    return numbers.assign(cost=numbers["cost"].map("{:.1f}".format).astype(float)), text


def test_cells_are_those_of_a_plain_groupby(tmp_path):
    numbers, text = generated(3000)
    text.to_csv(tmp_path / "stays.csv.gz", index=False)
    frame, set_aside = read_with_set_aside(configured(tmp_path / "stays.csv.gz"))
    assert list(frame.columns) == [name for name in PUBLISHED if name != "APR Medical Surgical Code"]
    assert (
        not len(set_aside)
        and {str(t) for t in frame.dtypes} == {"str"}
        and len(frame) == 80
        and frame["Discharges"].astype(int).sum() == 3000
    )
    groups = numbers.groupby(["facility", "drg", "severity"])
    for row in frame.itertuples(index=False):
        stays = groups.get_group((int(row[1]), int(row[3]), int(row[4])))
        assert (
            len(stays) == int(row[8])
            and len(row[3]) == 3
            and row[2] == f"Hospital {row[1]}"
            and row[5] == f"DRG {int(row[3])}"
            and row[6] == SEVERITIES[int(row[4])]
        )
        for value, known in zip(
            row[9:],
            (
                stays["charge"].mean(),
                statistics.median(stays["charge"]),
                stays["cost"].mean(),
                statistics.median(stays["cost"]),
            ),
        ):
            assert abs(float(value) - known) < 0.00501 and value[-3] == "."
    kept, aside = sanitize_column_names(frame, configured("")["columns"], configured("")["optional_columns"])
    assert len(kept) == 80 and not len(aside)


DIRT = [
    (dict(facility=""), "no facility id"),
    (dict(facility="", name="Redacted for Confidentiality"), "no facility id"),
    (dict(facility="NA"), "no facility id"),
    (dict(facility="1,45"), "no facility id"),
    (dict(facility="0"), "no facility id"),
    (dict(facility="0000"), "no facility id"),
    (dict(drg=""), "no DRG code"),
    (dict(drg="UNGROUPABLE"), "no DRG code"),
    (dict(drg="19.5"), "no DRG code"),
    (dict(drg="1940"), "no DRG code"),
    (dict(drg="-1"), "no DRG code"),
    (dict(severity=""), "no severity of illness"),
    (dict(severity="5"), "no severity of illness"),
    (dict(severity="1.5"), "no severity of illness"),
    (dict(year=""), "no year"),
    (dict(year="216"), "no year"),
    (dict(year="inf"), "no year"),
    (dict(charge=""), "no total charges"),
    (dict(charge="120 +"), "no total charges"),
    (dict(charge="-5"), "no total charges"),
    (dict(charge="inf"), "no total charges"),
    (dict(charge='"1,5"'), "no total charges"),
    (dict(cost=""), "no total costs"),
    (dict(cost="NaN"), "no total costs"),
    (dict(cost="<b>5</b>"), "no total costs"),
]
FINE = [
    dict(),
    dict(facility="1458"),
    dict(facility="0001458"),
    dict(facility="1458.0"),
    dict(facility=" 1458 "),
    dict(drg="0194"),
    dict(drg="194.0"),
    dict(severity=" 1"),
    dict(charge='"$8,375.41"'),
    dict(charge="8375.41"),
    dict(charge=" 8375.410"),
    dict(year="2016.0"),
]


def test_dirt_is_set_aside_with_its_reason_and_its_text(tmp_path):
    stays = [
        stay(),
        *(
            line
            for i, (change, _) in enumerate(DIRT)
            for line in ([stay(**change)] + ([stay()] if i % 3 == 0 else []))
        ),
    ]
    frame, set_aside = read_with_set_aside(configured(write(tmp_path / "stays.csv", stays)))
    assert set_aside["reason"].tolist() == [reason for _, reason in DIRT]
    assert (
        len(frame) == 1
        and int(frame["Discharges"][0]) + len(set_aside) == len(stays)
        and frame["Median Charge"][0] == "8375.41"
    )
    assert list(set_aside.columns) == [*HEADER, "file", "row", "reason"] and set(set_aside["file"]) == {
        "stays.csv"
    }
    lines = (tmp_path / "stays.csv").read_text().splitlines()
    for row in set_aside.to_dict("records"):
        assert (
            ",".join(f'"{row[n]}"' if n == "Facility Id" or "," in row[n] else row[n] for n in HEADER)
            == lines[row["row"]]
        )
    sidecar = save_version(
        frame,
        "v0",
        tmp_path / "data",
        set_aside=set_aside,
        config=source_record(configured(tmp_path / "stays.csv")),
    )
    assert sidecar["rows_set_aside"] == len(DIRT) and sidecar["set_aside"]["no facility id"] == 6
    pd.testing.assert_frame_equal(load_version("v0", tmp_path / "data"), frame)


def test_ways_to_write_the_same_cell(tmp_path):
    frame, set_aside = read_with_set_aside(
        configured(write(tmp_path / "stays.csv", [stay(**change) for change in FINE]))
    )
    assert not len(set_aside) and frame[
        ["Year", "Facility Id", "APR DRG Code", "APR Severity of Illness Code", "Discharges", "Mean Charge"]
    ].values.tolist() == [["2016", "1458", "194", "1", str(len(FINE)), "8375.41"]]


def test_labels_are_the_most_frequent_of_the_year(tmp_path):
    names = ["B", "B", "A", "", ""]
    stays = (
        [stay(name=name) for name in names]
        + [stay(name=name, drg="005") for name in ["C", "A"]]
        + [stay(name="Z", year="2017")]
    )
    frame = read_source(configured(write(tmp_path / "stays.csv", stays)))
    assert frame[["Year", "APR DRG Code", "Facility Name"]].values.tolist() == [
        ["2016", "005", "A"],
        ["2016", "194", "A"],
        ["2017", "194", "Z"],
    ]  # A and B twice each: by the alphabet


@pytest.mark.build
def test_blocks_change_nothing(tmp_path, monkeypatch):
    _, text = generated(2000)
    text.loc[::7, "Facility Id"] = ""
    text.to_csv(tmp_path / "stays.csv", index=False)
    whole, aside = read_with_set_aside(configured(tmp_path / "stays.csv"))
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 5_000)
    again, aside_again = read_with_set_aside(configured(tmp_path / "stays.csv"))
    assert content_hash(again) == content_hash(whole) and content_hash(aside_again) == content_hash(aside)
    assert aside["row"].tolist() == list(range(1, 2001, 7))
    pd.testing.assert_frame_equal(
        read_source(configured(tmp_path / "stays.csv"), sample_rows=5), whole.head(5)
    )


def test_a_folder_with_a_file_a_year(tmp_path):
    parts = {}
    for year in (2017, 2016):
        _, parts[year] = generated(400, seed=year, year=year)
        parts[year].loc[0, "Facility Id"] = ""
    parts[2017].to_csv(tmp_path / "b.csv.gz", index=False)
    parts[2016].drop(columns="Hospital County").rename(
        columns={"Facility Id": "Permanent Facility Id"}
    ).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "readme.txt").write_text("x")
    source = configured(tmp_path)
    frame, set_aside = read_with_set_aside(source)
    assert (
        rows_by_year(frame, source)["facilities"].to_dict() == {"2016": 4, "2017": 4}
        and frame["Discharges"].astype(int).sum() == 798
    )
    assert (
        set_aside["file"].tolist() == ["a.csv", "b.csv.gz"]
        and set_aside["Hospital County"].tolist() == ["", "x"]
        and set_aside["Permanent Facility Id"].tolist() == ["", ""]
    )
    record = source_record(source)
    assert (
        [f["name"] for f in record["files"]] == ["a.csv", "b.csv.gz"]
        and record["file"] == tmp_path.name
        and str(tmp_path) not in str(record)
    )
    separate = [read_source(configured(tmp_path / name)) for name in ("a.csv", "b.csv.gz")]
    assert content_hash(pd.concat(separate, ignore_index=True)) == content_hash(frame)


BAD = {
    "another file": ("Year,Discharges\n2016,1\n", ["the header lacks", "facility_id", "Remedy"]),
    "header only": (",".join(HEADER) + "\n", ["a header and no rows", "Remedy"]),
    "nothing usable": (
        "\n".join([",".join(HEADER), stay(facility=""), stay(drg="")]) + "\n",
        ["none of the stays can be used (1 no facility id, 1 no DRG code)", "Remedy"],
    ),
    "too few fields": (
        "\n".join([",".join(HEADER), stay(), "2016,4"]) + "\n",
        ["row 2 of the file: has 2 fields", "Remedy"],
    ),
    "neither UTF-8 nor Windows-1252": (
        ("\n".join([",".join(HEADER), stay(name="\x81lan")]) + "\n").encode("latin-1"),
        ["row 1 of the file: holds bytes that are neither UTF-8 nor Windows-1252", "Remedy"],
    ),
    "cut gzip": (
        gzip.compress("\n".join([",".join(HEADER), *[stay()] * 500]).encode())[:-30],
        ["ends early or is damaged", "Remedy"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(tmp_path, case):
    content, words = BAD[case]
    path = tmp_path / "stays.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for place in (path, tmp_path):
        with pytest.raises(DataError) as error:
            read_source(configured(place))
        for word in [str(path), *words]:
            assert word in str(error.value), str(error.value)


def test_no_files(tmp_path):
    with pytest.raises(DataError, match="folder holds no .csv.*Remedy"):
        read_source(configured(tmp_path))
    with pytest.raises(DataError, match="nowhere.csv: not there. Remedy"):
        read_source(configured(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match="no data file is given.*Remedy"):
        source_record(composed() | dict(path="params.yaml"))


def test_the_real_extract():
    path = extract("sparcs_discharges_2016_sample.csv")
    frame, set_aside = read_with_set_aside(configured(path))
    raw = pd.read_csv(path, dtype="str", keep_default_na=False)
    assert frame["Discharges"].astype(int).sum() + len(set_aside) == len(raw) == 1000
    assert (
        set(set_aside["reason"]) == {"no facility id"}
        and len(set_aside) == (raw["Facility Id"] == "").sum()
        and set(set_aside["Facility Name"]) == {"Redacted for Confidentiality"}
    )
    assert (
        set(frame["Year"]) == {"2016"}
        and "1458" in set(frame["Facility Id"])
        and not frame["Facility Id"].str.contains(",").any()
    )
    used = raw[raw["Facility Id"] != ""]
    charges = used["Total Charges"].str.replace(",", "").astype(float).sum()
    added = (frame["Mean Charge"].astype(float) * frame["Discharges"].astype(int)).sum()
    assert abs(added / charges - 1) < 1e-6
    kept, aside = sanitize_column_names(frame, composed()["columns"], composed()["optional_columns"])
    assert len(kept) == len(frame) and not len(aside) and kept["apr_drg_code"].str.fullmatch(r"\d{3}").all()
