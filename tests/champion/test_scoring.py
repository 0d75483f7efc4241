"""Rows to score are read as published files are, by the command and by the service alike."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, extract

from drg_lib.base.names import DataError
from drg_lib.champion.check import answer, check_rows, said_of
from drg_lib.champion.intervals import calibrate
from drg_lib.champion.model import Champion, load_champion, save_champion
from drg_lib.champion.score import is_parquet, read_rows, score_file, scored_beside, write_rows
from drg_lib.forecasting.forecaster import make_forecaster
from drg_lib.partitioning import assemble
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.versions.chain import step_function

IDS = ["facility_id", "apr_drg_code"]
VALUES = ["prediction", "lower_50", "upper_50", "lower_90", "upper_90"]


@pytest.fixture(scope="module")
def partition():
    "The panel to 2023 as models read it, by the steps of the pipeline."
    frame, made = pd.read_csv(extract("cases/m_big_panel_to_2023.csv"), dtype=str, keep_default_na=False), {}
    for number in range(1, 13):
        version = f"v{number}"
        parameters = as_dict(
            compose([f"data_versions={version}", "data_sources=medicare_csv"]).transformation
        )
        result = step_function(version)(frame, **parameters)
        frame = made[version] = result[0] if isinstance(result, tuple) else result
    target = as_dict(compose(["target=mean_payment"]).target)
    return assemble(made["v12"], made["v9"], target, 1, 2)


def champion_of(partition, **preparation):
    "A ridge as champion of mean_payment, with intervals of made-up errors."
    table, meta = partition
    config = yaml.safe_load((ROOT / "configs" / "models" / "ridge.yaml").read_text())
    model = make_forecaster(config, meta, preparation).fit(table[table["last_value"].notna()])
    draws = np.exp(np.random.default_rng(0).normal(9, 0.1, 200))
    past = pd.DataFrame(dict(target=draws, prediction=np.exp(9.0), gap=1.0, volume=np.nan))
    about = dict(target="mean_payment", column=meta["target"]["column"], unit="USD", champion="ridge")
    lowest = table[meta["features"]].min()
    about["never_negative"] = [name for name, low in lowest.items() if not low < 0]
    return Champion({"ridge": model}, {"ridge": 1.0}, calibrate(past), about)


@pytest.fixture(scope="module")
def champion(partition):
    return champion_of(partition)


@pytest.fixture(scope="module")
def text():
    return pd.read_csv(extract("cases/score_base.csv"), dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def expected(champion, text):
    return answer(champion, check_rows(text, champion))


def numbers(text):
    "The rows as a program holds them: ids text, the rest numbers."
    return text.astype({c: "float64" for c in text if c not in IDS})


FORMS = {
    "text": lambda t: t,
    "numbers": numbers,
    "integers": lambda t: numbers(t).astype(
        {"facility_id": "int64", "apr_drg_code": "int32", "year": "int16"}
    ),
    "floats": lambda t: numbers(t).astype({"facility_id": "float64", "apr_drg_code": "float32"}),
    "nullable integers": lambda t: (
        numbers(t).astype(dict.fromkeys(IDS, "int64")).astype(dict.fromkeys(IDS, "Int64"))
    ),
    "categories": lambda t: numbers(t).astype(dict.fromkeys(IDS, "category")),
    "leading zeros": lambda t: t.assign(
        facility_id="0" + t["facility_id"], apr_drg_code="0" + t["apr_drg_code"]
    ),
    "lost zeros": lambda t: t.assign(apr_drg_code=t["apr_drg_code"].str.lstrip("0")),
    "a spreadsheet's decimals": lambda t: t.assign(facility_id=t["facility_id"] + ".0", year="2024.0"),
    "blanks": lambda t: t.assign(facility_id=" " + t["facility_id"] + " ", year=" 2024"),
    "thousands": lambda t: t.assign(
        lag_w_mean_payment=numbers(t)["lag_w_mean_payment"].map("{:,.2f}".format)
    ),
    "capitals": lambda t: t.rename(columns=str.upper),
    "words as names": lambda t: t.rename(
        columns={"facility_id": "Facility ID", "apr_drg_code": "APR DRG Code"}
    ),
    "another order and more columns": lambda t: t[t.columns[::-1]].assign(note="kept"),
    "without last_value": lambda t: t.drop(columns="last_value"),
    "last_value in place of the lag": lambda t: t.drop(columns="lag_w_mean_payment"),
    "an index that repeats": lambda t: numbers(t).set_axis([0, 0, 1, 1, 0]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_same_rows_get_the_same_forecast_in_every_form(form, suffix, champion, text, expected, tmp_path):
    rows = FORMS[form](text)
    source, out = tmp_path / f"rows.{suffix}", tmp_path / f"out.{suffix}"
    rows.to_csv(source, index=False) if suffix == "csv" else rows.to_parquet(source)
    scored = score_file(source, out, champion)
    assert len(scored) == len(text)
    pd.testing.assert_frame_equal(scored[VALUES], expected[VALUES], rtol=1e-12)


def test_the_case_with_codes_that_lost_their_zeros_is_the_case_with_them(champion, expected, tmp_path):
    scored = score_file(extract("cases/score_code39.csv"), tmp_path / "out.csv", champion)
    pd.testing.assert_frame_equal(scored[VALUES], expected[VALUES], rtol=1e-12)
    assert scored["apr_drg_code"].tolist() == ["39", "64", "65", "291", "470"], "handed on as given"


def test_keys_in_the_index_of_a_parquet_file_are_columns(champion, text, expected, tmp_path):
    numbers(text).set_index([*IDS, "year"]).to_parquet(tmp_path / "rows.parquet")
    scored = score_file(tmp_path / "rows.parquet", tmp_path / "out.csv", champion)
    pd.testing.assert_frame_equal(scored[VALUES], expected[VALUES], rtol=1e-12)


def test_only_what_is_read_is_asked_for(partition, champion):
    table, meta = partition
    left_out = champion_of(partition, drop=["lag_w_mean_charge", "roll2_w_mean_charge"])
    assert "last_value" not in champion.columns and "lag_w_mean_payment" in champion.columns
    assert "lag_w_mean_charge" in champion.columns and "lag_w_mean_charge" not in left_out.columns
    rows = table[table["split"] == "test"].reset_index(drop=True)
    rows.loc[::2, "lag_sum_discharges"] = np.nan  # the two-year mean stands in for it
    whole = left_out.forecast(rows)
    pd.testing.assert_frame_equal(left_out.forecast(rows[left_out.columns]), whole)
    varied = [c for c in left_out.columns if c not in (*IDS, "year") and table[c].nunique() > 1]
    assert len(varied) > 10
    for column in varied:  # a column that never varied taught nothing
        changed = rows.assign(**{column: rows[column] * 1.5 + 1})
        assert not left_out.forecast(changed).equals(whole), f"{column} is asked for and never read"


@pytest.mark.parametrize(
    "change, predicted, said",
    [
        (lambda t: t.assign(last_value=""), "as expected", ["Not used: last_value"]),
        (lambda t: t.assign(lag_w_mean_payment=""), "as expected", []),
        (
            lambda t: t.assign(last_value=[*t["last_value"][:3], "1", "2"]),
            "as expected",
            ["2 rows: last_value is not lag_w_mean_payment, which is used.", "Not used: last_value"],
        ),
        (lambda t: t.assign(lag_w_mean_payment="", last_value="NA"), "none", ["5 rows: no last value."]),
        (lambda t: t.assign(facility_id="999999"), "some", ["5 rows: hospital never seen."]),
        (
            lambda t: t.assign(apr_drg_code=[*t["apr_drg_code"][:4], "998"]),
            "some",
            ["1 row: DRG never seen."],
        ),
        (
            lambda t: t.assign(
                facility_id="33T901", apr_drg_code="998", lag_w_mean_payment="", last_value=""
            ),
            "none",
            ["5 rows: hospital and DRG never seen.", "5 rows: no last value."],
        ),
    ],
)
def test_what_is_not_used_or_not_known_is_counted_and_said(change, predicted, said, champion, text, expected):
    checked = check_rows(change(text), champion)
    answered = answer(champion, checked)
    sentences = said_of(answered, checked.unused)
    for sentence in said:
        assert any(s.startswith(sentence) for s in sentences), sentences
        if sentence[0].isdigit():
            count, remark = sentence.removesuffix(".").split(": ", 1)
            assert answered["remark"].str.contains(remark, regex=False).sum() == int(count.split()[0])
    if predicted == "as expected":
        pd.testing.assert_frame_equal(answered[VALUES], expected[VALUES])
    assert answered["prediction"].isna().all() == (predicted == "none")


REFUSALS = {
    "no year": (lambda t: t.drop(columns="year"), "lacks the column year. Remedy"),
    "no hospital": (lambda t: t.drop(columns="facility_id"), "lacks the column facility_id. Remedy"),
    "many columns missing": (lambda t: t[IDS], "more. Remedy"),
    "no rows": (lambda t: t.iloc[:0], "has no rows"),
    "two years": (lambda t: t.assign(Year="2024"), "'year', 'Year' both mean year"),
    "1900": (lambda t: t.assign(year=["2024"] * 4 + ["1900"]), "row 5 of"),
    "3000": (lambda t: t.assign(year="3000"), "not a calendar year from 1980 to 2100"),
    "half a year": (lambda t: t.assign(year="2024.5"), "not a calendar year"),
    "an empty year": (lambda t: t.assign(year=""), "'year' holds '', but a key must not be missing"),
    "an empty DRG": (lambda t: t.assign(apr_drg_code=""), "'apr_drg_code' holds ''"),
    "an empty hospital": (lambda t: t.assign(facility_id=["330901", None, "330901", "NA", ""]), "row 2 of"),
    "hospital 0": (lambda t: t.assign(facility_id="0"), "not a facility id"),
    "a hospital's name": (lambda t: t.assign(facility_id="Mercy"), "not a facility id"),
    "a DRG of four digits": (lambda t: t.assign(apr_drg_code="1039"), "not a DRG code"),
    "a number of words": (lambda t: t.assign(lag_w_mean_charge="n/a"), "'n/a', which is not a number"),
    "a comma that may be a point": (
        lambda t: t.assign(lag_w_mean_charge="1,5"),
        "'1,5', which is not a number",
    ),
    "infinite": (lambda t: t.assign(lag_w_mean_payment="inf"), "which is infinite"),
    "an infinite last_value": (lambda t: t.assign(last_value="-Infinity"), "'last_value' holds '-Infinity'"),
    "negative": (lambda t: t.assign(lag_w_mean_payment="-5"), "which is negative"),
    "a negative last_value": (
        lambda t: t.assign(last_value="-5"),
        "'last_value' holds '-5', which is negative",
    ),
    "too large": (lambda t: t.assign(lag_w_mean_charge="1e300"), "which is beyond"),
    "a gap of no year": (lambda t: t.assign(lag_gap_years="0"), "not a whole number of years"),
    "a gap into prehistory": (lambda t: t.assign(lag_gap_years="99"), "not a whole number of years"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_command_and_service_refuse_the_same_rows_in_the_same_words(case, champion, text):
    change, reason = REFUSALS[case]
    with pytest.raises(DataError) as refused:
        check_rows(change(text), champion, "rows.csv")
    message = str(refused.value)
    assert reason in message and "Remedy" in message and len(message.splitlines()) == 1
    status, content = request(champion, change(text))
    said = message.replace("rows.csv", "the request").replace("of the file", "of the request")
    assert status == 400 and json.loads(content)["message"] == said


def test_all_kinds_of_faults_are_told_at_once_and_briefly(champion, text):
    wrong = text.assign(year=["1900", *text["year"][1:]], apr_drg_code=[*text["apr_drg_code"][:4], "heart"])
    with pytest.raises(DataError) as refused:
        check_rows(wrong, champion)
    assert [line.split(" of the file")[0] for line in str(refused.value).splitlines()] == [
        "the file, row 5",
        "the file, row 1",
    ]
    features = [c for c in champion.columns if c not in (*IDS, "year")]
    wrong = pd.concat([text] * 4, ignore_index=True)
    for row, column in enumerate(features):
        wrong.loc[row, column] = "about"
    with pytest.raises(DataError) as refused:
        check_rows(wrong, champion)
    assert len(str(refused.value).splitlines()) == 11 and "more faults" in str(refused.value)


class Model:
    "The served model as MLflow's server calls it: no signature stands before it."

    def __init__(self, champion):
        from drg_lib.champion.serve import Served

        self.served, self.metadata = Served(), None
        self.served.champion = champion

    def predict(self, data, params=None):
        return self.served.predict(None, data)


def request(champion, rows, kind="dataframe_split"):
    "Status and content of the answer to a request, by the very function of MLflow's server."
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import (
        CONTENT_TYPE_CSV,
        CONTENT_TYPE_JSON,
        CONTENT_TYPE_PARQUET,
        invocations,
    )

    frame = rows if isinstance(rows, pd.DataFrame) else None
    if kind == "csv":
        content, form = frame.to_csv(index=False).encode(), CONTENT_TYPE_CSV
    elif kind == "parquet":
        content, form = frame.to_parquet(index=False), CONTENT_TYPE_PARQUET
    else:
        orient = "split" if kind == "dataframe_split" else "records"
        body = (
            rows
            if frame is None
            else json.loads(frame.reset_index(drop=True).to_json(orient=orient, double_precision=15))
        )
        if kind == "inputs, by column":
            kind, body = "inputs", {name: [row[name] for row in body] for name in body[0]}
        content, form = json.dumps({kind: body}), CONTENT_TYPE_JSON
    try:
        got = invocations(content, form, Model(champion), None)
    except MlflowException as error:
        return error.get_http_status_code(), error.serialize_as_json()
    return got.status, got.response


KINDS = ["dataframe_split", "dataframe_records", "instances", "inputs", "inputs, by column", "csv", "parquet"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["text", "integers", "floats", "lost zeros", "capitals"])
def test_the_service_takes_every_form_that_mlflow_takes(kind, form, champion, text, expected):
    status, content = request(champion, FORMS[form](text), kind)
    assert status == 200, content
    got = pd.DataFrame(json.loads(content)["predictions"])
    pd.testing.assert_frame_equal(got[VALUES], expected[VALUES], rtol=1e-9)
    assert got["remark"].eq("").all()


def test_an_answer_holds_null_and_never_nan_or_infinity(champion, text):
    rows = text.assign(lag_w_mean_payment=["", *text["lag_w_mean_payment"][1:]], last_value="")
    status, content = request(champion, rows)
    assert status == 200 and "NaN" not in content and "Infinity" not in content
    first, *others = json.loads(content)["predictions"]
    assert first["prediction"] is None and first["upper_90"] is None and first["remark"] == "no last value"
    assert all(row["prediction"] > 0 and row["remark"] == "" for row in others)
    status, content = request(
        champion, numbers(text).assign(lag_w_mean_charge=np.inf).to_dict("list"), "inputs"
    )
    assert status == 400 and "which is infinite" in content


@pytest.mark.parametrize(
    "kind, body, reason",
    [
        ("dataframe_records", [], "has no rows"),
        ("dataframe_records", [1, 2], "lacks the columns"),
        ("inputs", "330901", "is no table"),
        ("inputs", {"year": [1, 2], "facility_id": [1]}, "is no table"),
        ("dataframe_split", {"columns": ["year", "year"], "data": [[1, 2]]}, "more than once"),
    ],
)
def test_a_request_that_is_no_table_of_rows_is_refused_in_a_line(kind, body, reason, champion):
    status, content = request(champion, body, kind)
    message = json.loads(content)["message"]
    assert status == 400 and reason in message and "Remedy" in message and len(message.splitlines()) == 1


def test_nested_values_and_truth_values_are_refused_by_name(champion, text):
    for value in ([1], True, {"a": 1}):
        status, content = request(champion, numbers(text).assign(lag_sum_discharges=[value] * 5))
        assert status == 400 and "which is not a number" in content


def test_a_scored_file_says_what_it_holds_already(champion, text, tmp_path):
    text.to_csv(tmp_path / "rows.csv", index=False)
    score_file(tmp_path / "rows.csv", tmp_path / "scored.csv", champion)
    with pytest.raises(DataError, match="scored.csv: has the column prediction already"):
        score_file(tmp_path / "scored.csv", tmp_path / "again.csv", champion)


def test_a_file_is_read_by_the_reader_of_the_sources(text, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.to_csv(index=False, lineterminator="\r\n").encode())
    pd.testing.assert_frame_equal(read_rows(path, list(text)), text)
    path.write_text(text.to_csv(index=False)[:-9])
    with pytest.raises(DataError) as refused:
        read_rows(path, list(text))
    assert str(refused.value).startswith(f"{path}, row 5 of the file")


def test_a_parquet_file_is_known_by_its_first_bytes(text, tmp_path):
    text.to_parquet(tmp_path / "rows.data")
    assert is_parquet(tmp_path / "rows.data") and read_rows(tmp_path / "rows.data").equals(text)
    assert scored_beside(tmp_path / "rows.data") == tmp_path / "rows_scored.parquet"
    assert scored_beside(tmp_path / "rows.csv.gz") == tmp_path / "rows_scored.csv"


def test_a_result_is_csv_or_parquet(text, tmp_path):
    with pytest.raises(DataError, match="rows.xlsx: the result is CSV or Parquet. Remedy"):
        write_rows(text, tmp_path / "rows.xlsx")


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "rows.parquet").write_text("no parquet")
    (tmp_path / "rows.csv").write_bytes(b"\x00\x01\x02bad")
    for name in ("rows.parquet", "rows.csv", "none.csv"):
        with pytest.raises(DataError, match=name):
            read_rows(tmp_path / name)


def test_a_champion_on_disk_checks_as_before(champion, text, tmp_path):
    again = load_champion(tmp_path, save_champion(champion, tmp_path))
    assert again.columns == champion.columns and again.never_negative == champion.never_negative
    assert (
        "lag_w_mean_payment" in again.never_negative
        and "lag_drg_trend_w_mean_payment" not in again.never_negative
    )
    with pytest.raises(DataError, match="which is negative"):
        check_rows(text.assign(lag_w_mean_payment="-1"), again)
