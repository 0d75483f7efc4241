"""Checks of each version: what stops, what is reported, with which words; leaks; rows that add up."""

import json
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, extract, run

from drg_lib.base.names import KEYS, LOOKING_BACK, SEVERITY, DataError
from drg_lib.inspection import find_all
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.pipeline.explore import apply_step
from drg_lib.pipeline.parameters import stage_parameters
from drg_lib.sources.read import read_with_set_aside, source_record
from drg_lib.transformation.create_lag_features import create_lag_features
from drg_lib.transformation.rolling_features import rolling_features
from drg_lib.versions.chain import known_versions
from drg_lib.versions.checks import check_table
from drg_lib.versions.leaks import moved_features
from drg_lib.versions.lineage import reconcile
from drg_lib.versions.rules import FINDING, RULES, as_findings, refuse, rule_of, thresholds_of
from drg_lib.versions.step import VersionStep, write_checked
from drg_lib.versions.store import find_version, save_version

THRESHOLDS = thresholds_of()


@cache
def composed(version, source=None):
    return compose([f"data_versions={version}", *([f"data_sources={source}"] if source else [])])


def parameters_of(version, source):
    "The parameters of a step for a source, as one composition with that source's config would give them."
    config = composed(version).copy()
    config.data_sources = source
    return as_dict(config.transformation)


def build(folder, name, **changes):
    "v0 to v12 of a source in `folder`, by the notebooks' functions: the tables, findings and config of each."
    source, made = composed("v12", name).data_sources.copy(), {}
    for key, value in changes.items():
        source[key] = value
    config, source = source, as_dict(source)
    frame, aside = read_with_set_aside(source)
    stays = int(frame["Discharges"].astype(float).sum()) if source["kind"] == "discharges" else None
    sidecar = save_version(
        frame, "v0", folder, set_aside=aside, config=source_record(source), rows_joined=stays
    )
    made["v0"] = dict(after=frame, aside=aside, source=source)
    for version in known_versions():
        parameters, before = parameters_of(version, config), frame
        frame, aside, lookups = apply_step(version, before, parameters)
        parent = sidecar
        sidecar, findings = write_checked(
            before, frame, version, folder, parent, aside, lookups, parameters, THRESHOLDS
        )
        made[version] = dict(
            before=before,
            after=frame,
            aside=aside,
            lookups=lookups,
            parameters=parameters,
            parent=parent,
            findings=findings,
        )
    return made


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, build(folder, "synthetic", scale=0.004, rare_drg_discharges=20)


@pytest.fixture(scope="module")
def medicare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("medicare")
    return folder, build(folder, "medicare_csv", path=str(extract("medicare_ny_2011_2019.csv.gz")))


# ---- what is right passes, and the rows add up


def adds_up(folder, made):
    table = reconcile(folder).set_index("version")
    assert list(table.index) == ["v0", *known_versions()] and (table["balanced"] == "yes").all()
    out = table["joined"].where(table["joined"] > 0, table["rows_out"])
    assert (table["rows_in"] == out + table["set_aside"]).all() and (
        table["rows_in"].iloc[1:].to_numpy() == table["rows_out"].iloc[:-1].to_numpy()
    ).all()
    for version in table.index:
        assert (
            len(made[version]["after"])
            == len(pd.read_parquet(folder / f"{version}.parquet"))
            == table.loc[version, "rows_out"]
        )
        assert len(pd.read_parquet(folder / version / "set_aside.parquet")) == table.loc[version, "set_aside"]
        if version != "v0":
            findings = pd.read_parquet(folder / version / "findings.parquet")
            assert (
                findings.dtypes.astype(str).to_dict() == FINDING
                and not (findings["severity"] == "stop").any()
                and len(findings) == len(made[version]["findings"])
            )
            assert (
                json.loads((folder / f"{version}.json").read_text())["findings"]
                == findings["check"].value_counts().sort_index().to_dict()
            )
    assert table.loc["v6", "joined"] == len(made["v5"]["after"]) and "joined into" in table.loc["v6", "note"]
    return table


def test_the_synthetic_source_from_v0_to_v12(synthetic):
    table = adds_up(*synthetic)
    assert (
        table.loc["v6", "rows_out"] < table.loc["v6", "joined"]
        and table.loc["v11", "set_aside"] > 0 < table.loc["v12", "rows_out"]
    )


def test_the_medicare_panel_from_v0_to_v12(medicare):
    table = adds_up(*medicare)
    assert (
        table.loc["v0", "rows_in"] == 44_956
        and table.loc["v12", "rows_out"] == 29_148
        and table.loc["v11", "set_aside"] == 15_808
    )
    reported = set(zip(*[medicare[1]["v1"]["findings"][c] for c in ("check", "column")]))
    assert {
        ("missing", "discharges"),
        ("missing", "mean_medicare_payment"),
        ("payment above charge", ""),
        ("year absent", "year"),
        ("year not whole", "year"),
    } == reported
    above = medicare[1]["v1"]["findings"].set_index("check").loc["payment above charge"]
    assert 0.004 < above["share"] < 0.026  # DATA: payment exceeds charge in 0.4 to 2.6 % of cells


@pytest.mark.build
@pytest.mark.parametrize(
    ("source", "name", "rows_in", "v6"),
    [
        ("sparcs_csv", "sparcs_cost_2020_musculoskeletal.csv.gz", 7_515, 3_192),
        ("sparcs_discharges", "sparcs_discharges_2016_sample.csv", 1_000, None),
    ],
)
def test_one_year_from_v0_to_v12(source, name, rows_in, v6, tmp_path):
    "One year has no history: every row is set aside with that reason, and a finding says what to bring."
    made = build(tmp_path, source, path=str(extract(name)))
    table = adds_up(tmp_path, made)
    assert (
        table.loc["v0", "rows_in"] == rows_in
        and table.loc["v5", "set_aside"] == 0
        and table.loc["v12", "rows_out"] == 0
    )
    assert table.loc["v11", "set_aside"] == table.loc["v6", "rows_out"] and (
        v6 is None or table.loc["v6", "rows_out"] == v6
    )
    assert made["v5"]["findings"]["check"].to_list() == ["rare DRGs not told"] and made["v10"]["findings"][
        "check"
    ].to_list() == ["no history"]
    assert "two years" in made["v10"]["findings"]["message"][0]


@pytest.mark.build
def test_partitioning_says_that_one_year_is_too_few(tmp_path):
    from drg_lib.partitioning import assemble

    made = build(tmp_path, "sparcs_csv", path=str(extract("sparcs_cost_2021_severity2.csv")))
    target = dict(name="median_cost", column="w_median_cost", transform="log_change")
    with pytest.raises(DataError, match="0 year.*Remedy.*four years"):
        assemble(made["v12"]["after"], made["v9"]["after"], target, 2, 3)


@pytest.mark.build
def test_several_years_of_single_stays_lose_the_same_share_of_rare_drgs(tmp_path):
    "The limit of 5,000 of 21.3 million, as a share, keeps what one year's sample holds."
    source = as_dict(composed("v12", "sparcs_discharges").data_sources)
    assert source["rare_drg_discharges"] is None and source["rare_drg_share"] == pytest.approx(
        5000 / 21_284_066, rel=0.01
    )
    stays = pd.read_csv(extract("sparcs_discharges_2016_sample.csv"), dtype=str, keep_default_na=False)
    for year in range(2009, 2016):
        stays.assign(**{"Discharge Year": str(year)}).to_csv(tmp_path / f"{year}.csv", index=False)
    made = build(tmp_path / "data", "sparcs_discharges", path=str(tmp_path))
    table = adds_up(tmp_path / "data", made)
    assert (
        table.loc["v0", "rows_in"] == 7_000
        and table.loc["v5", "set_aside"] == 0
        and table.loc["v12", "rows_out"] > 0 == len(made["v5"]["findings"])
    )


def test_sidecars_that_do_not_add_up_are_named(synthetic, tmp_path):
    for path in synthetic[0].glob("v*.json"):
        (tmp_path / path.name).write_text(path.read_text())

    def spoil(version, **changes):
        path = tmp_path / f"{version}.json"
        path.write_text(json.dumps(json.loads((synthetic[0] / path.name).read_text()) | changes))
        return reconcile(tmp_path).set_index("version")

    v6 = json.loads((synthetic[0] / "v6.json").read_text())
    table = spoil("v6", rows_joined=v6["rows_joined"] - 1)
    assert (
        table.loc["v6", "balanced"] == "no"
        and "do not add up" in table.loc["v6", "note"]
        and (table["balanced"] == "no").sum() == 1
    )
    assert "another state of v5" in spoil("v6", parent_sha256="0" * 64).loc["v6", "note"]
    assert reconcile(tmp_path / "nothing").empty


# ---- what is wrong stops


def recheck(made, version, change, **more):
    "Findings on a version whose table `change` has spoilt."
    own = made[version]
    frame = own["after"].copy()
    changed = change(frame)
    return check_table(
        frame if changed is None else changed,
        version,
        None,
        THRESHOLDS | more,
        own["before"],
        own["aside"],
        own["lookups"],
        own["parameters"],
    )


def put(column, value, row=3):
    def change(frame):
        frame[column] = frame[column].astype(
            "object"
            if isinstance(value, str)
            and frame[column].dtype.kind != "O"
            and column not in ("facility_id", "apr_drg_code")
            else frame[column].dtype
        )
        frame.loc[row, column] = value

    return change


def scaled(column, by=2.0, row=3):
    def change(frame):
        frame.loc[row, column] = frame.loc[row, column] * by + 1

    return change


SPOILT = {
    "a negative charge": ("v1", put("mean_charge", -0.01), "range", "mean_charge"),
    "an infinite cost": ("v1", put("mean_cost", np.inf), "range", "mean_cost"),
    "a misprint of a charge": ("v2", put("median_charge", 1e11), "range", "median_charge"),
    "no discharge": ("v1", put("discharges", 0.0), "range", "discharges"),
    "an unknown severity": ("v1", put(SEVERITY, 5), "allowed", SEVERITY),
    "a year of another calendar": ("v2", put("year", 216), "range", "year"),
    "a facility without a digit": ("v2", put("facility_id", "Albany"), "form", "facility_id"),
    "a facility that is missing": ("v2", put("facility_id", None), "known", "facility_id"),
    "a DRG of two digits": ("v2", put("apr_drg_code", "64"), "form", "apr_drg_code"),
    "a year as a float": ("v2", lambda f: f.astype({"year": "float64"}), "type", "year"),
    "a charge as text": ("v2", lambda f: f.astype({"mean_charge": "str"}), "type", "mean_charge"),
    "a key twice": (
        "v2",
        lambda f: pd.concat([f.iloc[1:], f.iloc[[7]]], ignore_index=True),
        "key unique",
        "",
    ),
    "discharges lost": ("v2", scaled("discharges"), "discharges add up", ""),
    "a column lost": ("v2", lambda f: f.drop(columns="apr_drg_code"), "column present", "apr_drg_code"),
    "a description left": ("v2", lambda f: f.assign(facility_name="x"), "column over", "facility_name"),
    "no rows": ("v2", lambda f: f.iloc[:0], "rows", ""),
    "a profit that is no difference": (
        "v3",
        scaled("median_profit"),
        "profit is charge less cost: median_profit",
        "",
    ),
    "a total that is no product": (
        "v4",
        scaled("total_mean_cost"),
        "total is amount times discharges: total_mean_cost",
        "",
    ),
    "rare discharges lost": ("v5", lambda f: f.iloc[1:].reset_index(drop=True), "discharges add up", ""),
    "shares of one and a half": ("v6", put("share_severity_1", 0.9), "severity shares sum to 1", ""),
    "a share above 1": ("v6", put("share_severity_4", 1.5), "range", "share_severity_4"),
    "an aggregate's discharges": ("v6", scaled("sum_discharges"), "sum of its parts: sum_discharges", ""),
    "an aggregate's total": (
        "v6",
        scaled("sum_total_mean_charge", 1.000001),
        "sum of its parts: sum_total_mean_charge",
        "",
    ),
    "an aggregate's mean": (
        "v6",
        scaled("w_mean_cost"),
        "sum is mean times discharges: sum_total_mean_cost",
        "",
    ),
    "a group lost": (
        "v6",
        lambda f: f.iloc[1:].reset_index(drop=True),
        "one row for each year, facility and DRG",
        "",
    ),
    "a severity left": ("v6", lambda f: f.assign(**{SEVERITY: np.int8(1)}), "column over", SEVERITY),
    "a share of DRGs above 1": (
        "v7",
        put("ratio_drg_facility_vs_year", 1.01),
        "range",
        "ratio_drg_facility_vs_year",
    ),
    "a size class 0": ("v8", put("yearly_discharge_bin", 0.0), "range", "yearly_discharge_bin"),
    "a ratio that is none": ("v9", scaled("charge_to_cost_ratio"), "ratio: charge_to_cost_ratio", ""),
    "a negative lag": ("v10", put("lag_w_mean_cost", -1.0), "range", "lag_w_mean_cost"),
    "a lag of this year": ("v10", put("lag_gap_years", 0.0), "range", "lag_gap_years"),
    "an infinite trend": ("v11", put("roll2_w_mean_charge", np.inf), "range", "roll2_w_mean_charge"),
    "the year itself": ("v12", lambda f: f.assign(w_mean_cost=1.0), "column over", "w_mean_cost"),
    "a feature that is not its parent's": (
        "v12",
        scaled("lag_w_mean_cost"),
        "as in its parent: lag_w_mean_cost",
        "",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_cannot_be_right_stops(case, synthetic):
    version, change, check, column = SPOILT[case]
    found = recheck(synthetic[1], version, change)
    stops = found[found["severity"] == "stop"]
    assert (check, column) in set(zip(stops["check"], stops["column"])), stops[
        ["check", "column", "message"]
    ].to_string()
    own = stops[(stops["check"] == check) & (stops["column"] == column)].iloc[0]
    assert "Remedy: " in own["message"] and own["version"] == version
    with pytest.raises(DataError, match=f"^{version}: ") as error:
        refuse(found)
    assert own["message"] in str(error.value)


def test_a_refusal_names_the_row_and_counts(synthetic):
    found = recheck(
        synthetic[1], "v1", lambda f: f.__setitem__("mean_charge", f["mean_charge"].where(f.index > 4, -1.0))
    )
    (own,) = found[(found["check"] == "range") & (found["column"] == "mean_charge")].to_dict("records")
    first = synthetic[1]["v1"]["after"].loc[0]
    assert (
        own["count"] == 5
        and own["of"] == len(synthetic[1]["v1"]["after"])
        and own["share"] == own["count"] / own["of"]
    )
    for word in (
        f"year {first['year']}",
        f"facility {first['facility_id']}",
        f"DRG {first['apr_drg_code']}",
        f"severity {first[SEVERITY]}",
        "mean_charge -1.0",
    ):
        assert word in own["message"]


def test_nothing_is_written_when_a_check_stops(synthetic, tmp_path):
    own = synthetic[1]["v9"]
    with pytest.raises(DataError, match="v9: .*charge_to_cost_ratio.*Remedy"):
        write_checked(
            own["before"],
            own["after"].assign(charge_to_cost_ratio=-1.0),
            "v9",
            tmp_path,
            own["parent"],
            parameters=own["parameters"],
        )
    with pytest.raises(DataError, match="v9: .*rows came in.*add up"):
        write_checked(
            own["before"], own["after"].iloc[1:], "v9", tmp_path, own["parent"], parameters=own["parameters"]
        )
    six = synthetic[1]["v6"]
    with pytest.raises(DataError, match="v6: .*were joined.*add up"):
        write_checked(
            six["before"], six["after"].iloc[1:], "v6", tmp_path, six["parent"], parameters=six["parameters"]
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.build
def test_limits_are_the_configs():
    config = compose(
        ["stage=cleaning", "data_versions=v1", "checks.largest_amount=5", "checks.largest_set_aside.v1=0.5"]
    )
    parameters = stage_parameters(config)
    assert (
        parameters["largest_amount"] == 5
        and parameters["checks"]["largest_amount"] == 5
        and parameters["checks"]["largest_set_aside"] == {"v0": 0.5, "v1": 0.5, "v5": 0.9}
    )
    with pytest.raises(Exception, match="largest_amount"):
        compose(["checks.largest_amount=many"])
    with pytest.raises(Exception, match="largest_sum"):
        compose(["checks.largest_sum=5"])


def test_limits_decide_between_stopping_reporting_and_passing(synthetic):
    made = synthetic[1]
    aside = made["v5"]["aside"]
    share = len(aside) / len(made["v5"]["before"])
    assert 0 < share < 0.9
    for limit, report, severity in ((share / 2, 0.0, "stop"), (0.9, share / 2, "report"), (0.9, 0.99, None)):
        found = (
            recheck(made, "v5", lambda f: None, largest_set_aside={"v5": limit}, set_aside_share=report)
            .set_index("check")["severity"]
            .to_dict()
        )
        assert found.get("rows set aside") == severity

    def half(frame):
        frame["mean_cost"] = frame["mean_cost"].where(np.arange(len(frame)) % 2 == 0)

    for limit, severity in ((0.4, "stop"), (0.9, "report")):
        found = recheck(made, "v1", half, largest_missing_share=limit)
        assert found[(found["check"] == "missing") & (found["column"] == "mean_cost")][
            "severity"
        ].to_list() == [severity]
    found = recheck(made, "v1", lambda f: None, unusual_amount=1000.0)
    assert set(found[found["check"] == "unusually large"]["severity"]) == {"report"}


def test_an_unknown_column_passes_and_must_be_finite(synthetic):
    assert not len(recheck(synthetic[1], "v9", lambda f: f.assign(beds=3.0, county="Albany")))
    found = recheck(synthetic[1], "v9", lambda f: f.assign(beds=np.inf))
    assert found[["check", "column", "severity"]].values.tolist() == [["range", "beds", "stop"]]


def test_every_column_of_every_version_has_a_rule(synthetic, medicare):
    for made in (synthetic[1], medicare[1]):
        nameless = {c for version in known_versions() for c in made[version]["after"] if rule_of(c) is None}
        assert all(c.startswith(LOOKING_BACK) for c in nameless), (
            nameless
        )  # trends and the like: finite, or missing
    assert len({r.pattern for r in RULES}) == len(RULES)


# ---- no feature of year t moves when year t's data moves


def chain(synthetic, *extra):
    made = synthetic[1]
    return [
        partial(create_lag_features, **made["v10"]["parameters"]),
        *extra,
        rolling_features,
        lambda f: f[[c for c in f if c in KEYS or c.startswith(LOOKING_BACK)]],
    ]


def test_the_steps_from_v10_to_v12_keep_their_promise(synthetic, medicare):
    for made in (synthetic[1], medicare[1]):
        steps = [partial(create_lag_features, **made["v10"]["parameters"]), rolling_features]
        assert moved_features(made["v9"]["after"], steps, pairs=100, years=8) == {}


PAIR = ["facility_id", "apr_drg_code"]
LEAKS = {
    "this year's value": lambda f: f["w_mean_cost"],
    "the mean of all years": lambda f: f.groupby(PAIR)["w_mean_cost"].transform("mean"),
    "next year's value": lambda f: f.groupby(PAIR)["w_mean_cost"].shift(-1),
    "this year's mean of the DRG": lambda f: f.groupby(["year", "apr_drg_code"])["w_mean_cost"].transform(
        "mean"
    ),
    "a little of this year": lambda f: f["lag_w_mean_cost"] + 1e-6 * f["w_mean_cost"],
    "whether this year's value is known": lambda f: f["w_mean_cost"].notna().astype(float),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_whatever_its_name(leak, synthetic):
    v9 = synthetic[1]["v9"]["after"]
    found = moved_features(v9, chain(synthetic, lambda f: f.assign(lag_innocent=LEAKS[leak](f))))
    assert set(found) == {"lag_innocent"} and "move" in found["lag_innocent"]
    own = synthetic[1]["v10"]

    def leaky(frame, **parameters):
        made = create_lag_features(frame, **parameters)
        return made.assign(lag_innocent=LEAKS[leak](made))

    with pytest.raises(DataError, match="v10: lag_innocent of a year moves.*Remedy"):
        write_checked(
            own["before"],
            leaky(own["before"], **own["parameters"]),
            "v10",
            "not/written",
            own["parent"],
            parameters=own["parameters"],
            function=leaky,
        )


def test_a_step_that_drops_rows_by_this_years_value_is_found(synthetic):
    v9 = synthetic[1]["v9"]["after"]
    typical = v9["w_mean_cost"].median()
    found = moved_features(v9, [chain(synthetic)[0], lambda f: f[f["w_mean_cost"] < typical]])
    assert set(found) == {"the rows themselves"}


# ---- everything at once, for the inspection


def test_a_damaged_file_shows_all_its_faults(synthetic):
    source, raw = synthetic[1]["v0"]["source"], synthetic[1]["v0"]["after"].copy()
    (
        raw.loc[:4, "Mean Charge"],
        raw.loc[10:11, "Mean Cost"],
        raw.loc[20, "Year"],
        raw.loc[30, "Discharges"],
    ) = "n/a", "-5", "216", "0"
    raw.loc[40, "Facility Id"], raw.loc[50:52, "Median Cost"], raw.loc[60, "APR DRG Code"] = (
        "",
        "1e300",
        "Heart",
    )
    raw.loc[70] = raw.loc[71]
    found = find_all(raw, source, THRESHOLDS)
    stops = found[found["severity"] == "stop"].set_index("column")["count"].to_dict()
    assert stops == {
        "Mean Charge": 5,
        "Mean Cost": 2,
        "Year": 1,
        "Discharges": 1,
        "Facility Id": 1,
        "Median Cost": 3,
        "APR DRG Code": 1,
        "": 1,
    }
    assert found["severity"].to_list() == sorted(found["severity"], key=["stop", "report", "aside"].index)
    assert (
        "row 1 of the file" in found.loc[found["column"] == "Mean Charge", "example"].iloc[0]
        and found["message"].str.contains("Remedy|set aside").all()
    )
    with pytest.raises(DataError, match="row 41 of the file.*'Facility Id' holds ''"):
        apply_step("v1", raw, synthetic[1]["v1"]["parameters"])
    clean = find_all(synthetic[1]["v0"]["after"], source, THRESHOLDS)
    assert not (clean["severity"] == "stop").any()


@pytest.mark.build
def test_rows_set_aside_stand_beside_the_findings():
    stays = extract("sparcs_discharges_2016_sample.csv")
    source = as_dict(composed("v12", "sparcs_discharges").data_sources) | dict(path=str(stays))
    raw, aside = read_with_set_aside(source)
    found = find_all(raw, source, THRESHOLDS, aside)
    assert (
        found[found["severity"] == "aside"]["count"].sum() == len(aside)
        and found["check"].str.len().gt(0).all()
    )


def test_a_header_that_cannot_be_mapped_and_an_empty_table():
    source = dict(
        columns={"year": [], "facility_id": [], "apr_drg_code": [], "mean_charge": []}, has_severity=False
    )
    found = check_table(pd.DataFrame({"Year": ["2016"]}), "v0", source, THRESHOLDS)
    assert found["check"].to_list() == ["header"] and "mean_charge" in found["message"][0]
    assert check_table(
        pd.DataFrame(columns=["Year", "Facility Id", "APR DRG Code", "Mean Charge"], dtype="str"),
        "v0",
        source,
        THRESHOLDS,
    )["check"].to_list() == ["rows"]
    assert as_findings().dtypes.astype(str).to_dict() == FINDING


# ---- which folder is read


def test_only_the_explore_folder_falls_back_to_the_pipelines(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    for name in ("configs", "nbs", "settings.ini", "params.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("DRG_LIB_ROOT", str(tmp_path))
    save_version(pd.DataFrame({"year": [2016]}), "v2", "data")
    assert find_version("v2", "data") == "data" and find_version("v2", "data/explore") == "data"
    assert find_version("v2", "elsewhere") is None and find_version("v2", tmp_path / "data/explore") == "data"
    with pytest.raises(DataError, match=r"elsewhere/v2\.parquet: not there.*Remedy.*paths\.data"):
        VersionStep("v3", "elsewhere").load()


def test_the_runner_refuses_a_folder_without_the_parent(tmp_path):
    done = run(
        ROOT,
        "drg",
        "run",
        "transformation",
        "data_versions=v3",
        f"paths.data={tmp_path / 'data'}",
        f"paths.runs={tmp_path / 'runs'}",
        check=False,
    )
    assert (
        done.returncode == 1
        and "v2.parquet: not there" in done.stderr
        and "paths.data" in done.stderr
        and "Traceback" not in done.stderr
    ), done.stderr
    assert not (tmp_path / "data/v3.parquet").exists()
