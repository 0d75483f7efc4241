"""Ingestion (v0): text untouched from every form of the file, and what is refused, with which words."""

import functools
import gzip
import io
import os
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from conftest import extract

from drg_lib.base.names import DataError, match_columns, snake_case
from drg_lib.base.tables import content_hash
from drg_lib.ingestion import rows_by_year
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources import csv as csv_files
from drg_lib.sources.read import read_batches, read_source, source_record
from drg_lib.versions.store import load_version, save_version

HEADER = (
    "Year,Facility Id,Facility Name,APR DRG Code,APR Severity of Illness Code,APR DRG Description,"
    "APR Severity of Illness Description,APR Medical Surgical Code,APR Medical Surgical Description,"
    "Discharges,Mean Charge,Median Charge,Mean Cost,Median Cost"
)
ROWS = [
    '2016,4,"Albany Memorial, Inc.",194,1,Heart Failure,Minor,M,Medical,2,'
    '"8,375.41","8,375.41","3,585.05","3,585.05"',
    '2016,4,"Albany Memorial, Inc.",956,0,UNGROUPABLE,NA,NA,Other,1,0.01,0.01,,0.00',
    "2017,0004,St. Élan Hospital,194,4,Heart Failure,Extreme,M,Medical,12,"
    '"51,260.45","35,210.82","26,081.70","15,230.62"',
]
TEXT = "\n".join([HEADER, *ROWS]) + "\n"


composed = functools.cache(lambda name: as_dict(compose([f"data_sources={name}"]).data_sources))


def configured(name="sparcs_csv", path=None):
    return composed(name) | dict(path=path and str(path))


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def read(tmp_path, content, name="costs.csv", **more):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(configured(path=path), **more)


@pytest.fixture
def plain(tmp_path):
    return read(tmp_path, TEXT, "plain.csv")


def test_text_is_untouched(plain):
    assert (
        {str(t) for t in plain.dtypes} == {"str"}
        and list(plain.columns) == HEADER.split(",")
        and len(plain) == 3
    )
    assert plain["Mean Charge"].tolist() == ["8,375.41", "0.01", "51,260.45"]
    assert plain["Mean Cost"].tolist() == ["3,585.05", "", "26,081.70"] and plain["Median Cost"][1] == "0.00"
    assert (
        plain["APR Medical Surgical Code"].tolist() == ["M", "NA", "M"] and plain["Facility Id"][2] == "0004"
    )
    assert (
        plain["Facility Name"][0] == "Albany Memorial, Inc."
        and plain["Facility Name"][2] == "St. Élan Hospital"
    )


FORMS = {
    "byte order mark": ("\ufeff" + TEXT).encode(),
    "windows line ends": TEXT.replace("\n", "\r\n").encode(),
    "no last line end": TEXT.rstrip("\n").encode(),
    "blank lines": TEXT.replace("\n", "\n\n").encode(),
    "gzip": gzip.compress(TEXT.encode()),
    "gzip with byte order mark": gzip.compress(("\ufeff" + TEXT).encode()),
    "gzip in two members": gzip.compress(TEXT[:300].encode()) + gzip.compress(TEXT[300:].encode()),
    "zip": zipped({"folder/costs.CSV": TEXT}),
    "zip with notes and resource forks": zipped(
        {"readme.txt": "x", "__MACOSX/._costs.csv": "x", "costs.csv": TEXT}
    ),
    "quoted header": ('"' + HEADER.replace(",", '","') + '"\n' + "\n".join(ROWS)).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(tmp_path, plain, form):
    pd.testing.assert_frame_equal(read(tmp_path, FORMS[form], "download"), plain)


def test_any_column_order_and_the_names_of_the_api(tmp_path, plain):
    reordered = (
        plain[plain.columns[::-1]]
        .rename(columns=snake_case)
        .rename(columns={"facility_id": "pfi", "year": "discharge_year"})
    )
    frame = read(tmp_path, reordered.to_csv(index=False))
    assert list(frame.columns) == list(reordered.columns)
    source = configured()
    assert set(match_columns(frame.columns, source["columns"], source["optional_columns"]).values()) == {
        snake_case(n) for n in HEADER.split(",")
    }
    pd.testing.assert_frame_equal(frame, reordered)


def test_unknown_columns_stay_in_v0(tmp_path):
    frame = read(tmp_path, "\n".join([HEADER + ",Remark", *[row + ",x" for row in ROWS], ""]))
    assert frame["Remark"].tolist() == ["x"] * 3


def test_sample_rows(tmp_path, plain):
    pd.testing.assert_frame_equal(read(tmp_path, TEXT, sample_rows=2), plain.head(2))
    assert len(read_source(configured("synthetic") | dict(path=None, scale=0.002), sample_rows=5)) == 5


def missing(name):
    return TEXT.replace(name, "Other").encode()


compressed = gzip.compress(("\n".join([HEADER, *(ROWS * 200)])).encode())
archive = zipped({"costs.csv": "\n".join([HEADER, *(ROWS * 200)])})
BAD = {
    "empty file": (b"", ["is empty (0 bytes)", "Remedy: download"]),
    "blank lines only": (b"\n\r\n\n", ["first line is blank", "Remedy"]),
    "a row above the header": (
        "\n".join([ROWS[0], HEADER, *ROWS[1:], ""]).encode(),
        ["line 1 above the header has 14 fields, so it may be a row", "Remedy"],
    ),
    "header only": ((HEADER + "\n").encode(), ["a header and no rows", "Remedy: download"]),
    "header only, no line end": (HEADER.encode(), ["a header and no rows", "Remedy: download"]),
    "one needed column missing": (missing("Mean Cost"), ["lacks mean_cost", "Found: 'Year'", "Remedy"]),
    "no facility id": (
        missing("Facility Id"),
        ["lacks facility_id (accepted: facility_id, facility_id_pfi, pfi", "Remedy"],
    ),
    "a web page instead": (
        b"<!DOCTYPE html>\n<html></html>\n",
        ["lacks facility_id", "Found: '<!DOCTYPE html>'", "Remedy"],
    ),
    "a name twice": (
        TEXT.replace("Median Cost", "Mean Cost").encode(),
        ["names 'Mean Cost' more than once", "Remedy: keep one"],
    ),
    "two names for one column": (
        TEXT.replace("APR DRG Description", "pfi").encode(),
        ["'Facility Id', 'pfi' both mean facility_id", "Remedy: keep one"],
    ),
    "too few fields": (
        (TEXT + "2017,4,x\n").encode(),
        ["row 4 of the file", "has 3 fields, the header has 14", "Remedy: correct that row"],
    ),
    "too many fields": (
        "\n".join([HEADER, ROWS[0], ROWS[1] + ",1", ROWS[2]]).encode(),
        ["row 2 of the file", "has 15 fields, the header has 14", "Remedy"],
    ),
    "a quote never closed": (
        (TEXT + ROWS[0].replace('Inc."', "Inc.")).encode(),
        ["row 4 of the file", "Remedy"],
    ),
    "a last quote never closed": (
        (TEXT + ROWS[0].rstrip('"') + "\n" + "2017,4,x\n" * 3).encode(),
        ["row 4 of the file", "a quote that is not closed", "Remedy"],
    ),
    "neither UTF-8 nor Windows-1252": (
        TEXT.replace("É", "\x81").encode("latin-1"),
        ["row 3 of the file", "neither UTF-8 nor Windows-1252", "Remedy: save the file as CSV in UTF-8"],
    ),
    "UTF-16 that is cut": (TEXT.encode("utf-16")[:-9], ["not whole utf-16-le text", "Remedy"]),
    "truncated gzip": (
        compressed[: len(compressed) // 2],
        ["compressed file ends early or is damaged", "Remedy: download"],
    ),
    "gzip cut in its header": (compressed[:6], ["compressed file ends early", "Remedy"]),
    "damaged gzip": (
        compressed[:40] + b"\0\0\0\0\xff\xff" + compressed[46:],
        ["compressed file ends early or is damaged", "Remedy"],
    ),
    "truncated zip": (archive[: len(archive) // 2], ["not a whole zip archive", "Remedy: download"]),
    "damaged zip": (archive[:60] + b"\0\0\0\0\xff\xff" + archive[66:], ["damaged", "Remedy"]),
    "zip with two CSV files": (
        zipped({"a.csv": TEXT, "b.csv": TEXT}),
        ["holds 2 CSV files (a.csv, b.csv)", "Remedy: unpack it"],
    ),
    "zip without a CSV file": (zipped({"a.pdf": TEXT}), ["holds 0 CSV files (none)", "Remedy: unpack it"]),
    "zip with an empty CSV": (zipped({"a.csv": ""}), ["first line is blank", "Remedy"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_place_and_remedy(tmp_path, case):
    content, words = BAD[case]
    with pytest.raises(DataError) as error:
        read(tmp_path, content, "costs.csv")
    message = str(error.value)
    assert message.startswith(str(tmp_path / "costs.csv")), message
    for word in words:
        assert word in message, message


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere.csv: not there. Remedy"):
        read_source(configured(path=tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match="the folder holds no .csv.*Remedy: put the downloaded files there"):
        read_source(configured(path=tmp_path))


@pytest.fixture
def no_privileges():
    """Root may read every file, so it steps down for the length of a test."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


def test_unreadable_file(tmp_path, request):
    path, source = tmp_path / "costs.csv", configured()
    path.write_text(TEXT)
    path.chmod(0)
    above = Path(tempfile.gettempdir()).resolve()
    for folder in (tmp_path, *tmp_path.parents):  # however deep pytest and its workers put it
        if above in folder.parents:
            folder.chmod(0o755)
    request.getfixturevalue("no_privileges")
    with pytest.raises(DataError, match="costs.csv: cannot be read.*Remedy"):
        read_source(source | dict(path=path))


@pytest.mark.parametrize("path", [None, "", "configs/calibration/sparcs_2009_2017.yaml"])
def test_no_file_given(path):
    for use in (read_source, source_record):
        with pytest.raises(
            DataError, match="'sparcs_csv': no data file is given.*Remedy.*SOURCE=sparcs_csv DATA="
        ):
            use(configured() | dict(path=path))


def test_unknown_kind():
    with pytest.raises(DataError, match="kind is 'parquet'. Remedy"):
        read_source(configured() | dict(kind="parquet"))


@pytest.mark.parametrize(
    "bad,row",
    [
        (lambda r: r + ",1", 5000),
        (lambda r: r.replace("Heart", "H\x81rt"), 5000),
        (lambda r: r.replace('Inc."', "Inc."), 5000),
    ],
)
def test_row_numbers_count_over_blocks(tmp_path, monkeypatch, bad, row):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 10_000)
    rows = [ROWS[0]] * 9000
    rows[row - 1] = bad(rows[row - 1])
    with pytest.raises(DataError, match=f"row {row} of the file"):
        read(tmp_path, "\n".join([HEADER, *rows]).encode("latin-1"))


def test_blocks_change_nothing(tmp_path, monkeypatch):
    text = "\n".join([HEADER, *(ROWS * 3000)])
    whole = read(tmp_path, text)
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 5_000)
    assert content_hash(read(tmp_path, text)) == content_hash(whole) and len(whole) == 9000


def test_v0_and_its_record(tmp_path, plain):
    source = configured(path=tmp_path / "plain.csv")
    record = source_record(source)
    assert (
        record["file"] == "plain.csv"
        and record["bytes"] == len(TEXT.encode())
        and len(record["sha256"]) == 64
    )
    assert (
        str(tmp_path) not in str(record)
        and record["synthetic"] is False
        and record["title"] == source["title"]
    )
    sidecar = save_version(plain, "v0", tmp_path / "data", config=record)
    assert sidecar["config"] == record and sidecar["rows"] == 3
    back = load_version("v0", tmp_path / "data")
    pd.testing.assert_frame_equal(back, plain)
    assert content_hash(back) == sidecar["sha256"]


def test_years_are_counted_alike_in_one_part_and_in_two():
    frame = pd.DataFrame(
        {"Year": ["2016", "2016", "2017"], "pfi": ["4", "4", "1"], "APR DRG Code": ["194", "196", "194"]}
    )
    source = dict(columns={"year": [], "facility_id": ["pfi"], "apr_drg_code": []})
    counts = rows_by_year(frame, source)
    assert counts.to_dict("list") == dict(rows=[2, 1], facilities=[1, 1], drgs=[2, 1])
    assert rows_by_year([frame[:1], frame[1:]], source).equals(counts)


def test_synthetic_source():
    source = configured("synthetic") | dict(path=None, scale=0.002)
    frame, record = read_source(source), source_record(source)
    assert record["synthetic"] is True and (record["scale"], record["seed"], record["vintage"]) == (
        0.002,
        source["seed"],
        2025,
    )
    assert rows_by_year(frame, source)["rows"].sum() == len(frame)
    assert content_hash(frame) == content_hash(read_source(source))


def test_a_synthetic_file_is_read_back_as_it_was(tmp_path):
    for vintage in (2024, 2025):
        frame = read_source(configured("synthetic") | dict(scale=0.004, vintage=vintage))
        frame.to_csv(tmp_path / "costs.csv.gz", index=False)
        pd.testing.assert_frame_equal(read_source(configured(path=tmp_path / "costs.csv.gz")), frame)


def test_medicare_panel():
    path = extract("medicare_ny_2011_2019.csv.gz")
    source = configured("medicare_csv", path)
    frame = read_source(source)
    assert rows_by_year(frame, source)["rows"].to_dict() == {
        "2011": 9178,
        "2013": 8451,
        "2016": 10741,
        "2017": 5846,
        "2019": 10740,
    }
    assert (frame.loc[frame["year"] == "2013", ["discharges", "mean_medicare_payment"]] == "").all().all()
    assert frame["ms_drg_code"].str.fullmatch(r"\d{3}").all() and frame.loc[0, "ms_drg_code"] == "064"
    matched = match_columns(frame.columns, source["columns"], source["optional_columns"])
    assert len(matched) == frame.shape[1] and matched["mean_total_payment"] == "mean_payment"


@pytest.mark.parametrize(
    "name,rows", [("sparcs_cost_2021_severity2.csv", 870), ("sparcs_cost_2020_musculoskeletal.csv.gz", 7515)]
)
def test_sparcs_extracts(name, rows):
    source = configured(path=extract(name))
    frame = read_source(source)
    assert len(frame) == rows and rows_by_year(frame, source)["rows"].sum() == rows
    pd.testing.assert_frame_equal(
        frame, pd.read_csv(source["path"], dtype="str", keep_default_na=False), check_dtype=False
    )


def test_discharge_level_extract_is_refused_as_another_file():
    with pytest.raises(
        DataError,
        match="sparcs_discharges_2016_sample.csv: the header lacks discharges.*Remedy.*"
        "The columns are those of sparcs_discharges: make run SOURCE=sparcs_discharges DATA=",
    ):
        read_source(configured(path=extract("sparcs_discharges_2016_sample.csv")))


def test_batches_are_written_as_the_whole_table_would_be(tmp_path, monkeypatch):
    from drg_lib.base import tables

    monkeypatch.setattr(tables, "ROW_GROUP", 700)
    source = configured("synthetic") | dict(scale=0.004)
    whole, (batches, set_aside) = read_source(source), read_batches(source)
    streamed = save_version(
        batches, "v0", tmp_path / "streamed", set_aside=set_aside, config=source_record(source)
    )
    at_once = save_version(whole, "v0", tmp_path / "at_once", config=source_record(source))
    for name in ("rows", "sha256", "columns"):
        assert streamed[name] == at_once[name], name
    pd.testing.assert_frame_equal(load_version("v0", tmp_path / "streamed"), whole)


def test_a_cut_file_is_not_taken_for_a_whole_one(tmp_path):
    plain = (
        TEXT.replace('"', "")
        .replace("Memorial, Inc.", "Memorial")
        .replace("8,375.41,8,375.41,3,585.05,3,585.05", "8375.41,8375.41,3585.05,3585.05")
        .replace("51,260.45,35,210.82,26,081.70,15,230.62", "51260.45,35210.82,26081.70,15230.62")
    )
    assert len(read(tmp_path, plain)) == 3
    for cut in range(1, 9):
        with pytest.raises(DataError, match="row 3 of the file: .*Remedy"):
            read(tmp_path, plain[:-cut])
