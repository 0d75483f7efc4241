"""The Socrata source against a local service that pages, throttles, breaks off, lies and changes."""

import contextlib
import functools
import http.server
import json
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qs

import pandas as pd
import pyarrow.parquet as pq
import pytest

from drg_lib.base.names import DataError
from drg_lib.base.tables import content_hash
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources.read import read_source, read_with_set_aside, source_record
from drg_lib.sources.socrata import api_record, download_folder
from drg_lib.versions.store import load_version, save_version

NAMES = [
    "year",
    "pfi",
    "facility_name",
    "apr_drg_code",
    "apr_severity_of_illness_code",
    "apr_drg_description",
    "discharges",
    "mean_charge",
    "median_charge",
    "mean_cost",
    "median_cost",
]


def cost_rows(n):
    rows = [
        dict(
            zip(
                NAMES,
                [
                    str(2016 + i % 2),
                    str(i // 8 + 1),
                    "Albany <b>Memorial</b>, Inc.",
                    "194",
                    str(i % 4 + 1),
                    "Heart Failure",
                    str(i + 1),
                    "8375.41",
                    "8375.41",
                    f"{i}.05",
                    "3585.05",
                ],
            )
        )
        for i in range(n)
    ]
    for row in rows[1::3]:
        del row["facility_name"]  # Socrata leaves empty values out
    return rows


class Service:
    """A dataset behind HTTP.

    `faults` holds what goes wrong: a function of (service, handler, query), True when it answered.
    """

    def __init__(self, rows):
        self.rows, self.modified, self.asked, self.faults, self.headers = (
            rows,
            "Mon, 16 Sep 2024 23:13:03 GMT",
            [],
            [],
            [],
        )
        self.fields = json.dumps([*NAMES, ":@computed_region_k83t_ady5"])
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = {name: values[0] for name, values in parse_qs(self.path.partition("?")[2]).items()}
                service.asked.append(query)
                service.headers.append(dict(self.headers))
                if service.faults and service.faults[0](service, self, query):
                    service.faults.pop(0)
                else:
                    service.answer(self, query)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True
        ).start()

    def held(self, query):
        years = (
            query.get("$where", "")
            .removeprefix("year in (")
            .removesuffix(")")
            .replace("'", "")
            .replace(" ", "")
        )
        return [row for row in self.rows if not years or row["year"] in years.split(",")]

    def content(self, query):
        rows = self.held(query)
        if query.get("$select") == "count(*)":
            return [{"count": str(len(rows))}]
        assert query["$order"] == ":id"
        first = int(query["$offset"])
        return rows[first : first + int(query["$limit"])]

    def answer(self, handler, query):
        self.send(handler, json.dumps(self.content(query)).encode())

    def send(self, handler, body, status=200, length=None, **headers):
        handler.send_response(status)
        for name, value in {
            "X-SODA2-Truth-Last-Modified": self.modified,
            "X-SODA2-Fields": self.fields,
            "Content-Length": str(len(body) if length is None else length),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(body)

    @property
    def offsets(self):
        return [int(query["$offset"]) for query in self.asked if "$offset" in query]


@pytest.fixture
def service():
    service = Service(cost_rows(23))
    yield service
    service.server.shutdown()
    service.server.server_close()


composed = functools.cache(lambda: as_dict(compose(["data_sources=sparcs_api"]).data_sources))


@pytest.fixture
def source(service, tmp_path, monkeypatch):
    monkeypatch.delenv("SOCRATA_APP_TOKEN", raising=False)
    return composed() | dict(
        url=f"http://127.0.0.1:{service.server.server_port}/resource/7dtz-qxmr.json",
        page_rows=5,
        backoff=0.01,
        timeout=2.0,
        tries=4,
        download_dir=str(tmp_path / "download"),
    )


def expected(rows):
    return pd.DataFrame(rows).reindex(columns=NAMES).fillna("").astype("str")


def only_pages(fault):
    "The fault, for pages only."
    return lambda service, handler, query: "$offset" in query and fault(service, handler, query) is not False


def status(code, **headers):
    return only_pages(lambda service, handler, query: service.send(handler, b"[]", code, **headers))


def body(content, **more):
    return only_pages(lambda service, handler, query: service.send(handler, content, **more))


def half(service, handler, query):
    whole = json.dumps(service.content(query)).encode()
    service.send(handler, whole[: len(whole) // 2], length=len(whole))
    handler.close_connection = True


def half_but_consistent(service, handler, query):
    whole = json.dumps(service.content(query)).encode()
    service.send(handler, whole[: len(whole) // 2])


def late(service, handler, query):
    service.faults = [lambda *asked: False]  # the second try comes before this one is through
    time.sleep(0.6)
    service.answer(handler, query)


def hang_up(service, handler, query):
    handler.connection.close()


def test_pages_in_order_with_the_same_bytes(service, source):
    frame = read_source(source)
    pd.testing.assert_frame_equal(frame, expected(service.rows))
    assert {str(t) for t in frame.dtypes} == {"str"} and service.offsets == [0, 5, 10, 15, 20]
    assert [q.get("$select") for q in (service.asked[0], service.asked[-1])] == ["count(*)"] * 2
    folder = download_folder(source)
    assert sorted(p.name for p in folder.iterdir()) == [*(f"{n:05d}.parquet" for n in range(5)), "state.json"]
    service.asked.clear()
    assert (
        content_hash(read_source(source)) == content_hash(frame)
        and service.offsets == []
        and len(service.asked) == 2
    )


def test_years_are_asked_for(service, source):
    frame = read_source(source | dict(years=[2017]))
    assert (
        set(frame["year"]) == {"2017"}
        and len(frame) == 11
        and all(q["$where"] == "year in ('2017')" for q in service.asked)
    )
    assert len(read_source(source | dict(years=[2016, 2017]))) == 23
    with pytest.raises(DataError, match=r"no rows for this query \(years 1999\). Remedy: check `years`"):
        read_source(source | dict(years=[1999]))


def test_sample_asks_for_the_first_pages_only(service, source):
    pd.testing.assert_frame_equal(read_source(source, sample_rows=7), expected(service.rows).head(7))
    assert service.offsets == [0, 5]


PASSES = {
    "throttled, with a wait": (lambda: [status(429, Retry_After="1")], 1.0),
    "throttled, with a date": (
        lambda: [status(429, Retry_After=formatdate(time.time() + 2, usegmt=True))],
        0.9,
    ),
    "server errors, then well": (lambda: [status(500), status(503), status(502)], 0.0),
    "still at work": (lambda: [status(202)], 0.0),
    "half an answer": (lambda: [only_pages(half)], 0.0),
    "half an answer of the right length": (lambda: [only_pages(half_but_consistent)], 0.0),
    "late": (lambda: [only_pages(late)], 0.0),
    "hangs up": (lambda: [only_pages(hang_up)], 0.0),
    "nothing": (lambda: [body(b"")], 0.0),
    "broken compression": (lambda: [body(b"\x1f\x8b\x08\0\0", Content_Encoding="gzip")], 0.0),
}


@pytest.mark.build
@pytest.mark.parametrize("case", PASSES)
def test_what_may_pass_is_tried_again(service, source, case):
    faults, least = PASSES[case]
    service.faults = faults()
    number, began = len(service.faults), time.monotonic()
    frame = read_source(source | dict(timeout=0.3))
    pd.testing.assert_frame_equal(frame, expected(service.rows))
    assert len(service.offsets) == 5 + number and least <= time.monotonic() - began < 8


STOPS = {
    "a web page": (
        body(b"<!DOCTYPE html><html>Log in</html>"),
        ["page 1 of 5: not a list of rows but '<!DOCTYPE html>", "Remedy: check that `url`"],
        1,
    ),
    "an object": (body(b'{"error": true}'), ["not a list of rows but '{\"error\": true}'", "Remedy"], 1),
    "rows without names": (
        body(b'[{"year": "2016"}, ["2016"]]'),
        ["page 1 of 5, row 2: not a row with names", "Remedy"],
        1,
    ),
    "a list for a value": (
        body(b'[{"year": "2016"}, {"year": ["2016"]}]'),
        ["page 1 of 5, row 2: 'year' holds [\"2016\"]", "Remedy"],
        1,
    ),
    "a truth value": (body(b'[{"year": true}]'), ["row 1: 'year' holds true", "Remedy"], 1),
    "NaN": (body(b'[{"year": NaN}]'), ["row 1: 'year' holds NaN", "Remedy"], 1),
    "another dataset": (
        body(b'[{"a": "1"},{"a": "1"},{"a": "1"},{"a": "1"},{"a": "1"}]', X_SODA2_Fields='["a"]'),
        ["sparcs_api (http://127.0.0.1", "lacks year", "Remedy"],
        1,
    ),
    "half a character": (
        body(b'[{"year": "\\ud800"},{},{},{},{}]'),
        ["page 1 of 5: holds text that is not Unicode", "Remedy"],
        1,
    ),
    "refused": (status(403), ["answers 403", "Remedy: check the app token in SOCRATA_APP_TOKEN"], 1),
    "no such dataset": (status(404), ["answers 404", "Remedy: check the dataset's id"], 1),
    "a bad query": (
        body(b'{"message": "Type mismatch for op$in"}', status=400),
        ["answers 400 (Type mismatch for op$in)", "Remedy: check `url` and `years`"],
        1,
    ),
    "a redirect": (
        status(302, Location="https://elsewhere.example/x.json?token=sesame"),
        [
            "answers 302",
            "Remedy: put the new address into `url`, if you trust it: https://elsewhere.example/x.json",
        ],
        1,
    ),
    "a long wait": (
        status(429, Retry_After="86400"),
        ["asks to wait 86,400 s", "Remedy: run again after that time"],
        1,
    ),
}


@pytest.mark.parametrize("case", STOPS)
def test_what_does_not_pass_stops_at_once(service, source, case):
    fault, words, asked = STOPS[case]
    service.faults = [fault]
    with pytest.raises(DataError) as error:
        read_source(source)
    message = str(error.value)
    for word in ["sparcs_api", *words]:
        assert word in message, message
    assert len(service.offsets) == asked and "sesame" not in message


def test_tries_are_bounded_and_what_came_is_kept(service, source):
    service.faults = [lambda s, h, q: q.get("$offset") == "10" and s.send(h, b"", 503) is None] * 4
    with pytest.raises(
        DataError, match="page 3 of 5: the service answers 503, 4 times. Remedy: run again later"
    ):
        read_source(source)
    assert service.offsets == [0, 5, 10, 10, 10, 10]
    service.asked.clear()
    pd.testing.assert_frame_equal(read_source(source), expected(service.rows))
    assert service.offsets == [10, 15, 20]


def test_no_service(source):
    with pytest.raises(
        DataError, match="the row count: the connection failed or the answer broke off, 2 times. Remedy"
    ):
        read_source(source | dict(url="http://127.0.0.1:9/x.json", tries=2))


def test_an_interrupted_download_goes_on(service, source):
    import drg_lib.sources.socrata as module

    keep = module.as_page
    calls = []

    def stop_at_third(records, *more):
        calls.append(more)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return keep(records, *more)

    module.as_page = stop_at_third
    try:
        with pytest.raises(KeyboardInterrupt):
            read_source(source)
    finally:
        module.as_page = keep
    folder = download_folder(source)
    assert sorted(p.name for p in folder.glob("*")) == ["00000.parquet", "00001.parquet", "state.json"]
    (folder / "00001.parquet").write_bytes(
        (folder / "00001.parquet").read_bytes()[:100]
    )  # as after a crash of the machine
    service.asked.clear()
    pd.testing.assert_frame_equal(read_source(source), expected(service.rows))
    assert service.offsets == [5, 10, 15, 20]


def grow(service, handler, query):
    if query.get("$offset") != "10":
        return False
    service.rows = service.rows + cost_rows(30)[23:]
    service.modified = "Tue, 17 Sep 2024 01:00:00 GMT"
    service.answer(handler, query)
    return True


def test_a_change_in_mid_download_starts_again(service, source, capsys):
    service.faults = [grow]
    frame = read_source(source)
    pd.testing.assert_frame_equal(frame, expected(service.rows))
    assert len(frame) == 30 and service.offsets == [0, 5, 10, 0, 5, 10, 15, 20, 25]
    assert (
        "changed from 23 rows (Mon, 16 Sep 2024 23:13:03 GMT) to 30 (Tue, 17 Sep 2024"
        in capsys.readouterr().err
    )


def test_a_change_without_a_date_is_seen_by_the_count(service, source):
    def grow_by_a_page(service, handler, query):
        if query.get("$offset") != "10":
            return False
        service.rows = cost_rows(30)[::-1]
        service.answer(handler, query)
        return True

    service.modified, service.faults = None, [grow_by_a_page]
    pd.testing.assert_frame_equal(read_source(source), expected(cost_rows(30)[::-1]))


def test_a_replacement_with_as_many_rows_is_seen_by_the_date(service, source):
    def replace(service, handler, query):
        if query.get("$offset") != "10":
            return False
        service.rows, service.modified = service.rows[::-1], "Tue, 17 Sep 2024 01:00:00 GMT"
        service.answer(handler, query)
        return True

    service.faults = [replace]
    pd.testing.assert_frame_equal(read_source(source), expected(cost_rows(23)[::-1]))


def test_endless_change_is_an_error(service, source):
    def change(service, handler, query):
        if query.get("$offset") == "0":
            service.rows = service.rows + service.rows[:1]
        return False

    service.faults = [change]
    with pytest.raises(
        DataError,
        match="the dataset changed from .*, 3 times while its pages were read. "
        "Remedy: run again when the publisher",
    ):
        read_source(source)


def test_fewer_rows_than_counted(service, source):
    short = only_pages(
        lambda service, handler, query: service.send(
            handler, json.dumps(service.content(query)[:-1]).encode()
        )
    )
    service.faults = [short]
    assert len(read_source(source)) == 23
    service.faults, service.asked = [short] * 9, []
    with pytest.raises(DataError, match="do not hold the 23 rows that the service counts"):
        read_source(source | dict(snapshot="again"))


@pytest.mark.parametrize("count", [b"[]", b'[{"count": "many"}]', b'[{"a": "1", "b": "2"}]'])
def test_a_count_that_is_none(service, source, count):
    service.faults = [lambda s, h, q: s.send(h, count) is None]
    with pytest.raises(
        DataError, match="the row count came as .*Remedy: check that `url` is a Socrata dataset"
    ):
        read_source(source)


def test_a_number_where_text_was_expected_keeps_its_digits(service, source):
    sent = (
        b'[{"year": 2016, "pfi": 4, "apr_drg_code": 194, "apr_severity_of_illness_code": 1, '
        b'"discharges": 2.0, "mean_charge": 8375.410, "median_charge": 12345678901234567890.12, '
        b'"mean_cost": null, "median_cost": 0.1}]'
    )
    service.rows = cost_rows(1)
    service.faults = [body(sent)]
    row = read_source(source).iloc[0]
    assert (row["pfi"], row["discharges"], row["mean_charge"], row["median_charge"], row["mean_cost"]) == (
        "4",
        "2.0",
        "8375.410",
        "12345678901234567890.12",
        "",
    )


def test_a_column_that_the_first_page_lacks(service, source):
    service.fields = None
    for row in service.rows[:5]:
        row.pop("facility_name", None)
    for row in service.rows[12:]:
        row["remark"] = "x"
    frame = read_source(source)
    assert list(frame.columns) == [*[n for n in NAMES if n != "facility_name"], "facility_name", "remark"]
    assert frame["remark"].tolist() == [""] * 12 + ["x"] * 11 and (frame["facility_name"][:5] == "").all()


def test_a_damaged_page_is_named_and_only_it_is_asked_for(service, source):
    before = read_source(source)
    page = download_folder(source) / "00002.parquet"
    data = bytearray(page.read_bytes())
    data[60] ^= 0xFF
    page.write_bytes(data)
    with pytest.raises(DataError, match="00002.parquet: was damaged after its download.*Remedy: run again"):
        read_source(source)
    service.asked.clear()
    pd.testing.assert_frame_equal(read_source(source), before)
    assert service.offsets == [10]


def test_another_snapshot_downloads_anew_and_so_does_an_update(service, source):
    read_source(source)
    for change in (dict(snapshot="2025-06-01"), dict(page_rows=6)):
        service.asked.clear()
        read_source(source | change)
        assert service.offsets[0] == 0
    service.modified = "Tue, 17 Sep 2024 01:00:00 GMT"
    service.asked.clear()
    read_source(source)
    assert service.offsets == [0, 5, 10, 15, 20]


def test_the_token_comes_from_the_environment_and_goes_nowhere_else(service, source, monkeypatch, capsys):
    read_source(source)
    assert not any("X-App-Token" in headers for headers in service.headers)
    monkeypatch.setenv("SOCRATA_APP_TOKEN", "open-sesame ")
    service.faults = [status(500)]
    frame = read_source(source | dict(snapshot="x"))
    assert service.headers[-1]["X-App-Token"] == "open-sesame"
    folder = download_folder(source | dict(snapshot="x"))
    written = (
        capsys.readouterr().err
        + str(source_record(source))
        + str(frame)
        + "".join(p.read_bytes().decode("latin-1") for p in folder.iterdir())
    )
    assert "sesame" not in written
    monkeypatch.setenv("SOCRATA_APP_TOKEN", "open\nsesame")
    with pytest.raises(DataError, match="SOCRATA_APP_TOKEN in the environment is no app token") as error:
        read_source(source)
    assert "sesame" not in str(error.value)


UNSAFE = {
    "http://health.data.ny.gov/resource/7dtz-qxmr.json": "is not HTTPS",
    "https://me:sesame@health.data.ny.gov/x.json": "holds a user, a password or a query",
    "https://health.data.ny.gov/x.json?$$app_token=sesame": "holds a user, a password or a query",
    "health.data.ny.gov": "no web address",
    "": "no web address",
}


@pytest.mark.parametrize("url", UNSAFE)
def test_unsafe_addresses_are_refused(source, url):
    for use in (read_source, source_record):
        with pytest.raises(DataError, match=f"{UNSAFE[url]}.*Remedy") as error:
            use(source | dict(url=url))
        assert "sesame" not in str(error.value)


def test_v0_and_its_record(service, source, tmp_path):
    assert api_record(source)["service_rows"] is None
    frame, set_aside = read_with_set_aside(source)
    record = source_record(source)
    assert (
        set_aside is None
        and record["kind"] == "api"
        and record["service_rows"] == 23
        and record["service_modified"] == service.modified
    )
    assert str(tmp_path) not in str(record)
    sidecar = save_version(frame, "v0", tmp_path / "data", set_aside=set_aside, config=record)
    pd.testing.assert_frame_equal(load_version("v0", tmp_path / "data"), frame)
    assert (
        sidecar["config"] == record and pq.read_metadata(tmp_path / "data/v0/set_aside.parquet").num_rows == 0
    )


def test_progress_is_told_by_page(service, source, capsys):
    read_source(source)
    told = capsys.readouterr().err.splitlines()
    assert (
        told[0] == "sparcs_api: page 1 of 5, 5 of 23 rows"
        and told[-1] == "sparcs_api: page 5 of 5, 23 of 23 rows"
    )


@pytest.mark.build
def test_the_config_needs_no_data_file(tmp_path):
    from drg_lib.pipeline.choices import check_data, complete

    choices = dict(
        data_sources="synthetic",
        data="configs/calibration/sparcs_2009_2017.yaml",
        crosswalk="none",
        data_versions="v12",
        targets=["w_total_median_profit"],
        models=["ridge"],
        ml_experiments="quick",
    )
    for name in ("sparcs_api", "database"):
        chosen = complete(dict(data_sources=name), choices)
        assert chosen["data"] == f"configs/data_sources/{name}.yaml" and chosen["targets"] == [
            "w_total_median_profit"
        ]
    with pytest.raises(DataError, match="needs a file"):
        complete(dict(data_sources="sparcs_discharges"), choices)
    (tmp_path / "stays").mkdir()
    assert complete(dict(data_sources="sparcs_discharges", data=str(tmp_path / "stays")), choices)[
        "data"
    ] == str(tmp_path / "stays")
    with pytest.raises(DataError, match="is not a file"):
        check_data(str(tmp_path / "nowhere"), compose(["data_sources=sparcs_csv"]).data_sources)
