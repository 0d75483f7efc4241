"""The database source on SQLite, and on a real PostgreSQL where one can be started."""

import datetime
import decimal
import functools
import glob
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from conftest import ROOT

from drg_lib.base.names import DataError
from drg_lib.base.tables import content_hash
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources import database as source_database
from drg_lib.sources.database import as_text, database_url, masked
from drg_lib.sources.read import read_source, read_with_set_aside, source_record
from drg_lib.versions.store import load_version, save_version

TYPES = {
    "year": "INTEGER",
    "facility_id": "TEXT",
    "facility_name": "TEXT",
    "apr_drg_code": "TEXT",
    "apr_severity_of_illness_code": "SMALLINT",
    "discharges": "REAL",
    "mean_charge": "NUMERIC(12, 2)",
    "median_charge": "DOUBLE PRECISION",
    "mean_cost": "DOUBLE PRECISION",
    "median_cost": "DOUBLE PRECISION",
}
ROWS = [
    (
        2016 + i // 20,
        str(i % 5 + 1),
        "Albany <b>Memorial</b>, Inc." if i % 3 else None,
        "064" if i % 2 else "194",
        i // 5 % 4 + 1,
        float(i + 1),
        1000.25 + i,
        0.1 + 0.2,
        7456979.0,
        None if i == 7 else 0.01,
    )
    for i in range(40)
]
EXPECTED = pd.DataFrame(
    [
        [
            str(y),
            f,
            n or "",
            d,
            str(s),
            str(int(k)),
            f"{mc:.2f}",
            "0.30000000000000004",
            "7456979",
            "" if md is None else "0.01",
        ]
        for y, f, n, d, s, k, mc, _, _, md in ROWS
    ],
    columns=list(TYPES),
    dtype="str",
)
KEYS = ["year", "facility_id", "apr_drg_code", "apr_severity_of_illness_code"]
composed = functools.cache(lambda: as_dict(compose(["data_sources=database"]).data_sources))
VARIABLE = composed()["url_variable"]


def fill(engine, table="sparcs_cost"):
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {table} ({', '.join(f'{n} {t}' for n, t in TYPES.items())})"
        )
        connection.execute(
            sa.text(f"INSERT INTO {table} VALUES ({', '.join(f':{n}' for n in TYPES)})"),
            [dict(zip(TYPES, row)) for row in ROWS[::-1]],
        )
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path, monkeypatch):
    path = tmp_path / "costs.db"
    fill(sa.create_engine(f"sqlite:///{path}"))
    monkeypatch.setenv(VARIABLE, f"sqlite:///{path}")
    return path


def configured(**more):
    return composed() | more


def in_order(frame):
    return frame.sort_values(KEYS, ignore_index=True)


def test_a_table_as_text(sqlite):
    frame = read_source(configured())
    expected = EXPECTED.assign(
        mean_charge=EXPECTED["mean_charge"].str.replace(r"\.?0+$", "", regex=True)
    )  # SQLite has no decimals
    pd.testing.assert_frame_equal(in_order(frame), in_order(expected))
    pd.testing.assert_frame_equal(frame, in_order(frame))
    for rows in (1, 7, 1000):
        assert content_hash(read_source(configured(page_rows=rows))) == content_hash(frame)
    pd.testing.assert_frame_equal(read_source(configured(page_rows=3), sample_rows=8), frame.head(8))


def test_a_query(sqlite):
    query = (
        "SELECT *, '50%' AS remark, ':x' AS colon FROM sparcs_cost "
        "WHERE year = 2016 AND facility_name LIKE 'Albany%' ORDER BY median_charge, facility_id;"
    )
    frame = read_source(configured(table=None, query=query))
    assert (
        set(frame["year"]) == {"2016"}
        and set(frame["remark"]) == {"50%"}
        and set(frame["colon"]) == {":x"}
        and frame["facility_id"].is_monotonic_increasing
    )


def test_cleaning_takes_it(sqlite):
    source = configured()
    kept, aside = sanitize_column_names(read_source(source), source["columns"], source["optional_columns"])
    assert (
        len(kept) == 40
        and not len(aside)
        and kept["discharges"].sum() == sum(row[5] for row in ROWS)
        and set(kept["apr_drg_code"]) == {"064", "194"}
    )


def test_values_keep_all_their_digits():
    values = [
        0.1,
        1e22,
        12.0,
        -0.0,
        2**63,
        decimal.Decimal("1E+3"),
        decimal.Decimal("12345678901234567890.10"),
        float("nan"),
        decimal.Decimal("NaN"),
        None,
        " x ",
        datetime.date(2016, 1, 2),
    ]
    text = as_text(values)
    assert text == [
        "0.1",
        "1e+22",
        "12",
        "-0",
        "9223372036854775808",
        "1000",
        "12345678901234567890.10",
        "",
        "",
        "",
        " x ",
        "2016-01-02",
    ]
    assert [float(t) for t in text[:4]] == values[:4]
    with pytest.raises(DataError, match="table x: 'a' holds bytes. Remedy: cast it"):
        as_text([b"\0"], "table x: 'a'")


def test_mixed_types_in_one_column(sqlite):
    with sa.create_engine(os.environ[VARIABLE]).begin() as connection:
        connection.exec_driver_sql("UPDATE sparcs_cost SET mean_cost = '7,456,979.00' WHERE year = 2016")
    assert set(read_source(configured(page_rows=7))["mean_cost"]) == {"7,456,979.00", "7456979"}


REFUSED = {
    "no table": (dict(table="costs"), ["has no table 'costs'", "it has sparcs_cost", "Remedy: set `table`"]),
    "no table and no query": (dict(table=None), ["neither `table` nor `query` is set", "Remedy"]),
    "a table and a query": (dict(query="SELECT 1"), ["both `table` and `query` are set", "Remedy"]),
    "a query in error": (
        dict(table=None, query="SELECT x FROM nowhere"),
        ["no such table: nowhere", "Remedy"],
    ),
    "a query without rows": (
        dict(table=None, query="SELECT * FROM sparcs_cost WHERE year = 1999"),
        ["the query holds no rows", "Remedy"],
    ),
    "a query that lacks a column": (
        dict(table=None, query="SELECT year FROM sparcs_cost"),
        ["the query: the header lacks facility_id", "Remedy"],
    ),
    "a column twice": (
        dict(table=None, query="SELECT *, year FROM sparcs_cost"),
        ["names 'year' more than once", "Remedy"],
    ),
    "a statement that changes something": (dict(table=None, query="DELETE FROM sparcs_cost"), ["Remedy"]),
    "bytes": (
        dict(
            table=None,
            query="SELECT facility_id, apr_drg_code, apr_severity_of_illness_code, discharges, mean_charge, "
            "median_charge, mean_cost, median_cost, x'00ff' AS year FROM sparcs_cost",
        ),
        ["the query: 'year' holds bytes", "Remedy"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused(sqlite, case):
    change, words = REFUSED[case]
    with pytest.raises(DataError) as error:
        read_source(configured(**change))
    for word in words:
        assert word in str(error.value), str(error.value)
    assert len(read_source(configured())) == 40


def test_a_table_that_lacks_a_column(sqlite):
    with sa.create_engine(os.environ[VARIABLE]).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE part AS SELECT year, facility_id FROM sparcs_cost")
    with pytest.raises(DataError, match="table part: the header lacks apr_drg_code.*Remedy"):
        read_source(configured(table="part"))


URLS = {
    "": "the environment has no DRG_LIB_DATABASE_URL. Remedy: export DRG_LIB_DATABASE_URL=",
    "reader:sesame@host": "DRG_LIB_DATABASE_URL is no SQLAlchemy URL. Remedy",
    "sqlite:///nowhere/costs.db": "nowhere/costs.db is not there. Remedy",
    "fables://reader:sesame@host/costs": "knows no database 'fables'. Remedy",
    "mysql+pymysql://reader:sesame@host/costs": (
        "driver pymysql for 'mysql.pymysql' is not installed. Remedy: pip install pymysql"
    ),
}


@pytest.mark.parametrize("url", URLS)
def test_the_url_of_the_environment(monkeypatch, url):
    if "pymysql" in url and importlib.util.find_spec("pymysql"):
        pytest.skip("pymysql is installed here")
    monkeypatch.setenv(VARIABLE, url)
    with pytest.raises(DataError, match=URLS[url]) as error:
        read_source(configured())
    assert "sesame" not in str(error.value) and error.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:sesame@host/costs",
        "postgresql://host/costs?password=sesame",
        "mssql://host/costs?PWD=sesame",
    ],
)
def test_a_password_in_the_config_is_refused(monkeypatch, url):
    for given in ("", "sqlite://"):
        monkeypatch.setenv(VARIABLE, given)
        for use in (read_source, source_record):
            with pytest.raises(
                DataError,
                match="`url` in the config holds a password. Remedy: remove it there, change that password",
            ) as error:
                use(configured(url=url))
            assert "sesame" not in str(error.value)


def test_a_url_for_a_name_is_refused_and_not_shown():
    with pytest.raises(
        DataError, match="`url_variable` is not the name of an environment variable. Remedy"
    ) as error:
        read_source(configured(url_variable="postgresql://reader:sesame@host/costs"))
    assert "sesame" not in str(error.value)


def test_a_url_without_a_password_may_stand_in_the_config(sqlite, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    assert len(read_source(configured(url=f"sqlite:///{sqlite}"))) == 40
    assert database_url(configured(url="sqlite:///costs.db")).database == str(ROOT / "costs.db")


@pytest.mark.parametrize(
    "text",
    [
        "login of reader with s@me/1 failed",
        "login with s%40me%2F1",
        "postgresql://reader:s%40me%2F1@host/costs",
        "postgresql://reader:other@host/costs",
        "key=k3y",
    ],
)
def test_masking(text):
    message = masked(
        text, sa.URL.create("postgresql", "reader", "s@me/1", "host", query={"sslpassword": "k3y"})
    )
    assert "***" in message and not any(secret in message for secret in ("s@me", "s%40me", "other", "k3y"))


def test_v0_and_its_record(sqlite, tmp_path):
    frame, set_aside = read_with_set_aside(configured())
    record = source_record(configured())
    assert (
        set_aside is None
        and record["database"] == "sqlite"
        and record["table"] == "sparcs_cost"
        and str(tmp_path) not in str(record)
    )
    sidecar = save_version(frame, "v0", tmp_path / "data", config=record)
    assert sidecar["config"] == record
    pd.testing.assert_frame_equal(load_version("v0", tmp_path / "data"), frame)


PASSWORD = "open-sesame/1"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a PostgreSQL that this session starts as an unprivileged user, or a skip that says why."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [
        str(Path(shutil.which("initdb") or "").parent)
    ]
    programs = Path(folders[-1])
    if not (programs / "initdb").is_file():
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if not (importlib.util.find_spec("psycopg") or importlib.util.find_spec("psycopg2")):
        pytest.skip("no PostgreSQL driver here: pip install 'psycopg[binary]'")
    home = tmp_path_factory.mktemp("postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "password").write_text(PASSWORD)
    user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            account = pwd.getpwnam("nobody")
        user = dict(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
        for path in (home, home / "password"):
            os.chown(path, account.pw_uid, account.pw_gid)
        for path in (path for path in home.parents if path.stat().st_mode & 0o011 != 0o011):
            path.chmod(path.stat().st_mode | 0o011)  # however deep the test process's own folder lies

    def do(*command):
        done = subprocess.run(
            [str(c) for c in command],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            **user,
        )
        if done.returncode:
            pytest.skip(f"PostgreSQL does not start here: {done.stdout.strip()[-300:]}")

    do(
        programs / "initdb",
        "-D",
        home / "data",
        "-U",
        "reader",
        "-A",
        "scram-sha-256",
        f"--pwfile={home / 'password'}",
        "-E",
        "UTF8",
        "--no-locale",
        "--no-sync",
    )
    do(
        programs / "pg_ctl",
        "-D",
        home / "data",
        "-w",
        "-l",
        home / "log",
        "-o",
        f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off",
        "start",
    )
    driver = "psycopg" if importlib.util.find_spec("psycopg") else "psycopg2"
    url = sa.URL.create(f"postgresql+{driver}", "reader", PASSWORD, "127.0.0.1", port, "postgres")
    try:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA costs")
        fill(engine, "costs.yearly")
        yield url
    finally:
        subprocess.run(
            [str(programs / "pg_ctl"), "-D", str(home / "data"), "-m", "immediate", "stop"],
            cwd=home,
            capture_output=True,
            timeout=60,
            **user,
        )


def given(monkeypatch, url):
    monkeypatch.setenv(VARIABLE, url.render_as_string(hide_password=False))


def test_postgres_table_and_query(postgres, monkeypatch):
    given(monkeypatch, postgres)
    frame = read_source(configured(table="costs.yearly", page_rows=7))
    pd.testing.assert_frame_equal(in_order(frame), in_order(EXPECTED))
    query = (
        "SELECT *, '50%' AS remark, year::text AS text FROM costs.yearly "
        "WHERE facility_name LIKE 'Alb%' ORDER BY year, facility_id, apr_drg_code, 5"
    )
    asked = read_source(configured(table=None, query=query, page_rows=7))
    assert (
        len(asked) == sum(row[2] is not None for row in ROWS)
        and set(asked["remark"]) == {"50%"}
        and (asked["year"] == asked["text"]).all()
    )
    record = source_record(configured(table="costs.yearly"))
    assert record["database"] == "postgresql" and not any(
        word in str(record) for word in (PASSWORD, "127.0.0.1", "reader")
    )


def test_postgres_streams(postgres, monkeypatch):
    given(monkeypatch, postgres)
    most = []
    keep = source_database.as_text

    def watch(values, where):
        most.append(len(values))
        return keep(values, where)

    monkeypatch.setattr(source_database, "as_text", watch)
    query = (
        "SELECT 2016 AS year, 10000 * i + j AS facility_id, 194 AS apr_drg_code, "
        "1 AS apr_severity_of_illness_code, 1 AS discharges, 0.5 AS mean_charge, "
        "1 AS median_charge, 1 AS mean_cost, 1 AS median_cost "
        "FROM generate_series(1, 10000) AS i, generate_series(1, 10000) AS j"
    )
    assert (
        len(read_source(configured(table=None, query=query, page_rows=500), sample_rows=1200)) == 1200
    )  # a hundred million rows would not fit
    assert set(most) == {500}


def test_postgres_refuses_and_the_password_is_not_shown(postgres, monkeypatch):
    given(monkeypatch, postgres)
    with pytest.raises(DataError, match="has no table 'yearly'; it has none that you may read"):
        read_source(configured(table="yearly"))
    with pytest.raises(DataError, match='relation "nowhere" does not exist.*Remedy'):
        read_source(configured(table=None, query="SELECT * FROM nowhere"))
    with pytest.raises(DataError, match="division by zero.*Remedy"):
        read_source(configured(table=None, query="SELECT year/0 AS year FROM costs.yearly"))
    changing = "INSERT INTO costs.yearly SELECT * FROM costs.yearly RETURNING *"
    with pytest.raises(DataError, match="Remedy"):
        read_source(configured(table=None, query=changing))
    assert len(read_source(configured(table="costs.yearly"))) == 40
    with pytest.raises(DataError, match=r"a password \*\*\* in the query"):
        read_source(
            configured(table=None, query=f"SELECT CAST('a password {PASSWORD} in the query' AS int) AS year")
        )
    for url in (
        postgres.set(password="wrong-sesame"),
        postgres.set(port=9),
        postgres.set(database="nowhere"),
    ):
        given(monkeypatch, url)
        with pytest.raises(
            DataError, match="the database answers: .*Remedy: check that the server runs"
        ) as error:
            read_source(configured(table="costs.yearly"))
        assert "sesame" not in str(error.value) and error.value.__context__ is None
