"""Damaged files: each gives the right table, or an error that names the place and the remedy.

A case takes a small file in the published shape, damages it once or twice by a drawn mutation, and reads it
as the pipeline does, from the bytes to v1. A mutation knows what it did: either what the rows now say
(`RIGHT`), or that nothing may come out (`REFUSED`, with the words that name the place), or that both will do
(`EITHER`). The rows are judged by a reader of their own below, which shares no code with the project's.

    python tests/sources/test_fuzz.py 3000 1000     # so many cases, from this seed on
"""

import collections
import functools
import gzip
import io
import json
import random
import re
import sys
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import pandas as pd
import pytest

from drg_lib.base.names import DataError
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources.calibration import load_calibration
from drg_lib.sources.read import read_source
from drg_lib.sources.synthetic import generate

RIGHT, REFUSED, EITHER = "right", "refused", "either"
CASES = 300
MONEY = ["Mean Charge", "Median Charge", "Mean Cost", "Median Cost"]
TEXTS = {
    "Facility Name": "facility_name",
    "APR DRG Description": "apr_drg_description",
    "APR Severity of Illness Description": "apr_severity_of_illness_description",
    "APR Medical Surgical Code": "apr_medical_surgical_code",
    "APR Medical Surgical Description": "apr_medical_surgical_description",
}
NUMBERS = {
    "Discharges": "discharges",
    "Mean Charge": "mean_charge",
    "Median Charge": "median_charge",
    "Mean Cost": "mean_cost",
    "Median Cost": "median_cost",
}
KEYS = {
    "Year": "year",
    "Facility Id": "facility_id",
    "APR DRG Code": "apr_drg_code",
    "APR Severity of Illness Code": "apr_severity_of_illness_code",
}
API = {"Facility Id": "pfi", "Year": "discharge_year", "APR Severity of Illness Code": "apr_severity_code"}


class File:
    "A published file in the making: a header, rows of text, how they are written, and what must come out."

    def __init__(self, draw):
        rows = published(draw.choice([2024, 2025]))
        start = draw.randrange(len(rows) - 40)
        self.draw, self.header = draw, list(rows.columns)
        self.rows = rows.iloc[start : start + draw.randint(3, 40)].values.tolist()
        self.truth = [
            dict(zip(self.header, row)) for row in self.rows
        ]  # what each row says, under the published names
        self.quoting, self.newline, self.text, self.content, self.name = (
            "minimal",
            "\n",
            None,
            None,
            "costs.csv",
        )
        self.places, self.separator = [], ","

    def at(self, column):
        return self.header.index(column)

    def pick(self):
        return self.draw.randrange(len(self.rows))

    def pick_line(self, lines):
        "A line that is left, as a row."
        return self.draw.randrange(max(len(lines) - 2, 1)) if len(lines) > 1 else -1

    def put(self, row, column, text, says=None):
        "Write `text` into a cell; the row says `says`, or just that."
        self.rows[row][self.at(column)] = text
        self.truth[row][column] = text if says is None else says

    def refuse(self, *words):
        self.places.append(words)
        return REFUSED

    def refuse_row(self, row):
        return self.refuse(f"row {row + 1} of the file")

    def lines(self):
        return [self.write(self.header), *map(self.write, self.rows)]

    def write(self, fields):
        return self.separator.join(map(self.quoted, fields))

    def quoted(self, field):
        if self.quoting == "all" or any(sign in field for sign in f'{self.separator}"\n\r'):
            return '"' + field.replace('"', '""') + '"'
        return field

    def as_text(self):
        return self.text if self.text is not None else self.newline.join([*self.lines(), ""])

    def as_bytes(self):
        return self.content if self.content is not None else self.as_text().encode()


@functools.cache
def published(vintage):
    rows = generate(load_calibration(), 0.002, 7, vintage)
    return (
        rows[(rows["APR Severity of Illness Code"] != "0") & ~rows[MONEY].isin(["0"]).any(axis=1)]
        .head(300)
        .reset_index(drop=True)
    )


@functools.cache
def config():
    return as_dict(compose(["data_sources=sparcs_csv"]).data_sources), as_dict(
        compose(["data_sources=sparcs_csv", "data_versions=v1"]).transformation
    )


MUTATIONS = {"cells": {}, "rows": {}, "text": {}, "bytes": {}}


def mutation(level):
    "Mutations of a level are applied after those of the levels before it."

    def register(function):
        MUTATIONS[level][function.__name__] = function
        return function

    return register


# ---------------------------------------------------------------- odd cells that stay what they are
NAMES = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1+1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<b>Bold</b> & Sons",
    "&lt;i&gt;",
    'St. "Luke\'s" Hospital',
    "Comma, Inc.",
    "Semi;colon|pipe",
    "Backslash \\ end\\",
    "$x_1$ **not bold**",
    "[a](javascript:alert(1))",
    "Élan Ñuñez 医院",
    "\u202eright to left",
    "🏥",
    "x" * 20_000,
    "'single'",
    "null",
    "None",
    "N/A",
    "nan",
    "0",
    "1,458",
    "%s {0} ${HOME}",
    "  blanks  ",
    "{{7*7}}",
    "NaN",
]


@mutation("cells")
def odd_name(f):
    f.put(f.pick(), f.draw.choice(["Facility Name", "APR DRG Description"]), f.draw.choice(NAMES))
    return RIGHT


@mutation("cells")
def blank_text(f):
    row, column = f.pick(), f.draw.choice([*TEXTS, *MONEY])
    f.put(row, column, f.draw.choice(["", "NA", "  ", " NA "]), "")
    return RIGHT


@mutation("cells")
def spreadsheet_ids(f):
    row = f.pick()
    column, text, says = f.draw.choice(
        [
            ("Facility Id", "1,458", "1458"),
            ("Facility Id", "0004", "4"),
            ("Facility Id", "77.0", "77"),
            ("Facility Id", " 9001 ", "9001"),
            ("APR DRG Code", "7", "7"),
            ("APR DRG Code", "0007.0", "7"),
            ("Year", "2031.0", "2031"),
            ("Year", " 2032", "2032"),
            ("Year", "2,033", "2033"),
        ]
    )
    f.put(row, column, text, says)
    return RIGHT if f.truth[row] and unique(f) else EITHER


@mutation("cells")
def other_spelling_of_a_number(f):
    text, says = f.draw.choice(
        [
            ("1,234,567.5", "1234567.5"),
            ("8375.410", "8375.41"),
            ("$8,375.41", "8375.41"),
            ("$5", "5"),
            ("8.37541e3", "8375.41"),
            ("+42", "42"),
            (".5", "0.5"),
            ("7.", "7"),
            (" 8,375.41 ", "8375.41"),
            ("00012", "12"),
            ("0", "0"),
            ("0.00", "0"),
            ("9999999.99", "9999999.99"),
            ("1234.123456789", "1234.123456789"),
            ("\u00a05", "5"),
            ("-0", "0"),
        ]
    )
    f.put(f.pick(), f.draw.choice(MONEY), text, says)
    return RIGHT


@mutation("cells")
def charge_and_cost_exchanged(f):
    row = f.pick()
    charge, cost = f.rows[row][f.at("Mean Charge")], f.rows[row][f.at("Mean Cost")]
    f.put(row, "Mean Charge", cost)
    f.put(row, "Mean Cost", charge)
    return RIGHT  # costs above charges occur; inspection counts them


NO_NUMBERS = [
    "NaN",
    "nan",
    "NAN",
    "-nan",
    "inf",
    "-inf",
    "Infinity",
    "1e400",
    "1e15",
    "99999999999999999999",
    "-1",
    "-8,375.41",
    "x",
    "n/a",
    "null",
    "None",
    "-",
    ".",
    "1,5",
    "8.375,41",
    "8'375.41",
    "8 375.41",
    "8\u202f375,41",
    "83,75.41",
    "8,375,41",
    ",5",
    "1,,000",
    "(5)",
    "$",
    "5$",
    "*",
    "5 USD",
    "5%",
    "#REF!",
    "#N/A",
    "=1+1",
    "1_000",
    "0x10",
    "1e",
    "--1",
    "1.2.3",
    "١٢٣",
    "１２３",
    "True",
    "<b>5</b>",
    "2016-01-01",
    "5\u200b",
    "''",
    "1e-400x",
    "5;6",
]


@mutation("cells")
def no_number(f):
    row = f.pick()
    f.put(row, f.draw.choice([*MONEY, "Discharges"]), f.draw.choice(NO_NUMBERS))
    return f.refuse_row(row)


@mutation("cells")
def impossible_key(f):
    row = f.pick()
    column, text = f.draw.choice(
        [
            *(
                ("Year", y)
                for y in [
                    "",
                    "NA",
                    "1899",
                    "2016.5",
                    "16",
                    "20166",
                    "-2016",
                    "MMXVI",
                    "2016-17",
                    "inf",
                    "NaN",
                    "2.016",
                    "2e9",
                ]
            ),
            *(
                ("APR DRG Code", d)
                for d in ["", "NA", "AAA", "1234", "-1", "19.4", "1e2", "19 4", "٠٠٧", "194;", "=194", "NaN"]
            ),
            *(
                ("APR Severity of Illness Code", s)
                for s in ["", "NA", "5", "-1", "X", "1.5", "Major", "10", "inf", "NaN"]
            ),
            *(
                ("Facility Id", i)
                for i in [
                    "Albany Memorial",
                    "-4",
                    "4.5",
                    "=4",
                    "<b>4</b>",
                    "4 5",
                    "4/5",
                    "inf",
                    "NaN",
                    "N/A",
                    "#N/A",
                    "1,45,8",
                    "1,4",
                ]
            ),
            *(
                ("Discharges", n)
                for n in ["", "NA", "0", "-3", "2.5", "0.1", "1.040", "1e30", "123456789012"]
            ),
        ]
    )
    f.put(row, column, text)
    return f.refuse_row(row)


@mutation("cells")
def a_withheld_facility(f):
    f.put(f.pick(), "Facility Id", f.draw.choice(["", "NA", "  ", "Redacted for Confidentiality", "0"]))
    return RIGHT


@mutation("cells")
def neighbours_exchanged(f):
    row = f.pick()
    one, other = f.draw.choice(
        [
            ("Year", "Facility Id"),
            ("Facility Id", "Facility Name"),
            ("APR DRG Code", "APR DRG Description"),
            ("Year", "Mean Charge"),
            ("APR DRG Code", "Mean Cost"),
            ("APR Severity of Illness Code", "APR Severity of Illness Description"),
            ("Mean Charge", "Facility Name"),
            ("Discharges", "APR Medical Surgical Code"),
        ]
    )
    before = f.rows[row][f.at(one)], f.rows[row][f.at(other)]
    if one == "Year" and other == "Facility Id" and 1980 <= int(before[1]) <= 2100:
        return RIGHT
    f.put(row, one, before[1])
    f.put(row, other, before[0])
    return f.refuse_row(row)


# ---------------------------------------------------------------- rows and columns
@mutation("rows")
def columns_in_another_order(f):
    order = f.draw.sample(range(len(f.header)), len(f.header))
    f.header, f.rows = [f.header[i] for i in order], [[row[i] for i in order] for row in f.rows]
    return RIGHT


@mutation("rows")
def names_of_the_api(f):
    f.header = [API.get(name, re.sub(r"\W+", "_", name.lower())) for name in f.header]
    return RIGHT


@mutation("rows")
def names_written_otherwise(f):
    f.header = [
        f.draw.choice(
            [name.upper(), name.lower(), f" {name} ", name.replace(" ", "_"), name.replace(" ", "  ")]
        )
        for name in f.header
    ]
    return RIGHT


@mutation("rows")
def one_more_column(f):
    place = f.draw.randrange(len(f.header) + 1)
    f.header.insert(place, f.draw.choice(["Remark", "", "<b>x</b>", "=1", "Mean", "Total Cost"]))
    for row in f.rows:
        row.insert(place, f.draw.choice(["x", "", "1,5", '"', "=1+1"]))
    return RIGHT


@mutation("rows")
def a_needed_column_less(f):
    name = f.draw.choice([*KEYS, *NUMBERS])
    place = f.at(name)
    for fields in (f.header, *f.rows):
        del fields[place]
    return f.refuse("the header lacks " + {**KEYS, **NUMBERS}[name])


@mutation("rows")
def a_description_less(f):
    place = f.at(name := f.draw.choice(list(TEXTS)))
    for fields in (f.header, *f.rows):
        del fields[place]
    for row in f.truth:
        row[name] = ""
    return RIGHT


@mutation("rows")
def a_header_twice(f):
    one, other = f.draw.sample([*KEYS, *NUMBERS], 2)
    f.header[f.at(one)] = other
    return f.refuse(f"the header names '{other}' more than once")


@mutation("rows")
def two_names_for_one(f):
    f.header[f.at("APR DRG Description")] = "pfi"
    return f.refuse("both mean facility_id")


@mutation("rows")
def headers_exchanged(f):
    one, other = f.draw.choice(
        [
            ("Year", "Facility Name"),
            ("APR DRG Code", "APR DRG Description"),
            ("Discharges", "Facility Name"),
            ("Mean Cost", "APR DRG Description"),
            ("Year", "APR DRG Code"),
            ("Facility Id", "Facility Name"),
            ("APR Severity of Illness Code", "Year"),
        ]
    )
    i, j = f.at(one), f.at(other)
    f.header[i], f.header[j] = other, one
    return f.refuse("row 1 of the file")


@mutation("rows")
def a_row_twice(f):
    row = f.pick()
    f.rows.append(list(f.rows[row]))
    f.truth.append(dict(f.truth[row]))
    return f.refuse("row ", f"row {row + 1} ") if f.rows[row] else EITHER


@mutation("rows")
def a_key_twice_with_other_amounts(f):
    row = f.pick()
    f.rows.append([field if name not in MONEY else "1" for name, field in zip(f.header, f.rows[row])])
    f.truth.append({})
    return f.refuse("row ", f"row {row + 1} ")


@mutation("rows")
def ungroupable_twice(f):
    row = f.pick()
    f.put(row, "APR DRG Code", "956")
    f.rows.append(list(f.rows[row]))
    f.truth.append(dict(f.truth[row]))
    return RIGHT if f.header[f.at("APR DRG Code")] == "APR DRG Code" else EITHER


@mutation("rows")
def empty_columns_of_a_spreadsheet(f):
    more = f.draw.randint(1, 4)
    f.header = [*f.header, *[""] * more]
    f.rows = [[*row, *[""] * more] for row in f.rows]
    return RIGHT


@mutation("rows")
def a_total_below(f):
    f.rows.append(["Total", *[""] * (len(f.header) - 2), "1,234,567"])
    f.truth.append({})
    return f.refuse_row(len(f.rows) - 1)


@mutation("rows")
def a_field_less_or_more(f):
    row = f.pick()
    if f.draw.random() < 0.5:
        del f.rows[row][f.draw.randrange(len(f.header))]
    else:
        f.rows[row].insert(f.draw.randrange(len(f.header)), "")
    return f.refuse_row(row)


@mutation("rows")
def other_order_of_rows(f):
    order = f.draw.sample(range(len(f.rows)), len(f.rows))
    f.rows, f.truth = [f.rows[i] for i in order], [f.truth[i] for i in order]
    return RIGHT


@mutation("rows")
def european_numbers(f):
    turn = str.maketrans(",.", ".,")
    for row, says in zip(f.rows, f.truth):
        for name in [*MONEY, "Discharges"]:
            text = row[f.at(name)].replace(",", "").lstrip("$")
            if re.fullmatch(r"[0-9]*\.?[0-9]+", text):
                amount = f"{float(text):,.2f}" if name in MONEY else f"{int(text):,}"
                row[f.at(name)], says[name] = amount.translate(turn), amount
    return RIGHT


@mutation("rows")
def all_quoted(f):
    f.quoting = "all"
    return RIGHT


# ---------------------------------------------------------------- text
@mutation("text")
def other_line_ends(f):
    f.text = f.as_text().replace("\n", "\r\n")
    return RIGHT


@mutation("text")
def old_line_ends(f):
    f.text = f.as_text().replace("\n", "\r")
    return RIGHT


@mutation("text")
def header_inside(f):
    lines = f.as_text().split("\n")
    lines.insert(f.draw.randrange(1, len(lines)), lines[0])
    f.text = "\n".join(lines)
    return RIGHT


@mutation("text")
def rows_of_separators(f):
    lines = f.as_text().split("\n")
    for _ in range(f.draw.randint(1, 3)):
        lines.insert(f.draw.randrange(1, len(lines)), "," * (len(f.header) - 1))
    f.text = "\n".join(lines)
    return RIGHT


@mutation("text")
def blank_lines(f):
    lines = f.as_text().split("\n")
    for _ in range(3):
        lines.insert(f.draw.randrange(1, len(lines)), f.draw.choice(["", "\r"]))
    f.text = "\n".join(lines)
    return RIGHT


@mutation("text")
def no_last_line_end(f):
    f.text = f.as_text().rstrip("\n")
    return EITHER


@mutation("text")
def cut(f):
    text = f.as_text()
    f.text = text[: f.draw.randrange(len(text))]
    ended = f.text.count("\n")
    whole = (
        ended - 1 + (f.text.rpartition("\n")[2] == text.split("\n")[ended] != "")
    )  # a last line may lack its end alone
    if max(whole, 0) < len(f.truth):
        f.truth, f.text_rows = f.truth[: max(whole, 0)], whole
    return EITHER


@mutation("text")
def cut_in_the_last_field(f):
    lines = f.as_text().splitlines()
    last = f.draw.randrange(1, len(lines))
    field = lines[last].rpartition(",")[2]
    f.text = "\n".join(
        [*lines[:last], lines[last][: -f.draw.randint(1, len(field))] if field else lines[last]]
    )
    return f.refuse(f"row {last} of the file") if field else EITHER


@mutation("text")
def a_line_lost(f):
    lines = f.as_text().split("\n")
    if len(f.truth) < 2:
        return RIGHT
    row = f.pick()
    del lines[row + 1], f.truth[row]
    f.text = "\n".join(lines)
    return RIGHT


@mutation("text")
def other_delimiter(f):
    f.separator = f.draw.choice([";", "\t", "|"])
    f.text = f.draw.choice(["", f"sep={f.separator}\n"]) + f.as_text()
    return RIGHT


@mutation("text")
def other_delimiter_in_a_row(f):
    lines, row = f.as_text().split("\n"), f.pick()
    lines[row + 1] = lines[row + 1].replace(",", f.draw.choice([";", "\t", "|"]))
    f.text = "\n".join(lines)
    return f.refuse_row(row)


@mutation("text")
def a_quote_not_closed(f):
    lines, row = f.as_text().split("\n"), f.pick()
    place = f.draw.choice([0, *(i + 1 for i, c in enumerate(lines[row + 1]) if c == ",")])
    lines[row + 1] = lines[row + 1][:place] + '"' + lines[row + 1][place:]
    f.text = "\n".join(lines)
    return f.refuse_row(row)


@mutation("text")
def a_quote_within(f):
    lines, row = f.as_text().split("\n"), f.pick()
    letters = [i for i in range(1, len(lines[row + 1])) if lines[row + 1][i - 1 : i + 1].isalnum()]
    place = f.draw.choice(letters)
    end = f.draw.choice(["", f.draw.choice(letters)])
    line = lines[row + 1][:place] + '"' + lines[row + 1][place:]
    lines[row + 1] = line if end == "" else line[:end] + '"' + line[end:]
    f.text = "\n".join(lines)
    return f.refuse_row(row) if end == "" else EITHER


@mutation("text")
def other_quotes(f):
    row = f.pick()
    lines = f.as_text().split("\n")
    lines[row + 1] = ",".join(f.draw.choice(["'{}'", "“{}”", "«{}»"]).format(field) for field in f.rows[row])
    f.text = "\n".join(lines)
    return f.refuse_row(row)


@mutation("text")
def a_line_above(f):
    f.text = (
        f.draw.choice(["# downloaded 2025\n", "SPARCS\n", "\n", "sep=,\n", ",,,\n", '"Costs, by hospital"\n'])
        + f.as_text()
    )
    return RIGHT


@mutation("text")
def a_return_within(f):
    lines, row = f.as_text().split("\n"), f.pick()
    place = f.draw.randrange(1, len(lines[row + 1]))
    lines[row + 1] = lines[row + 1][:place] + f.draw.choice(["\r", "\n"]) + lines[row + 1][place:]
    f.text = "\n".join(lines)
    return EITHER if place == len(lines[row + 1]) - 1 else f.refuse("of the file")


@mutation("text")
def nothing_but_a_header(f):
    f.text = f.as_text().partition("\n")[0] + f.draw.choice(["", "\n", "\r\n\r\n"])
    return f.refuse("holds a header and no rows")


# ---------------------------------------------------------------- bytes
@mutation("bytes")
def byte_order_mark(f):
    marks = f.draw.choice([1, 1, 2])
    f.content = b"\xef\xbb\xbf" * marks + f.as_bytes()
    return RIGHT if marks == 1 else EITHER


@mutation("bytes")
def utf16(f):
    f.content = f.as_text().encode(f.draw.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32"]))
    return RIGHT


@mutation("bytes")
def another_encoding(f):
    def in_it(text):
        text = text.replace("Hosp", "Hôsp").replace("Medical", "Médical").replace("Minor", "Mi–or")
        return text.encode(encoding, "replace").decode(encoding)

    encoding = f.draw.choice(["latin-1", "cp1252"])
    end = "\n" if "\n" in f.as_text() else "\r"
    lines = [
        line if re.search("apr.drg.code", line, re.IGNORECASE) else in_it(line)
        for line in f.as_text().split(end)
    ]
    f.truth = [
        {name: in_it(text) if name in TEXTS else text for name, text in row.items()} for row in f.truth
    ]
    mark = f.draw.choice([b"", b"\xef\xbb\xbf"])
    f.content = mark + end.join(lines).encode(encoding, "replace")
    return RIGHT


@mutation("bytes")
def another_encoding_in_a_row(f):
    lines = f.as_bytes().split(b"\n")
    row = f.pick_line(lines)
    lines[row + 1] += f.draw.choice([b"\xe9", b"\xff", b"\xc3", b"\xf0\x9f", b"\x80", b"\x81"])
    f.content = b"\n".join(lines)
    return f.refuse(f"row {row + 1} of the file") if f.header[-1] == "Median Cost" else EITHER


@mutation("bytes")
def a_row_in_utf16(f):
    lines = f.as_bytes().split(b"\n")
    row = f.pick_line(lines)
    lines[row + 1] = lines[row + 1].decode("utf-8", "replace").encode("utf-16-le")
    f.content = b"\n".join(lines)
    if row < 0:
        return EITHER  # all of the file is one line
    return f.refuse(f"row {row + 1} of the file")


@mutation("bytes")
def nul_bytes(f):
    content = f.as_bytes()
    place = f.draw.randrange(len(content))
    f.content = content[:place] + b"\0" * f.draw.choice([1, 9]) + content[place:]
    return f.refuse("NUL")


@mutation("bytes")
def not_a_table(f):
    f.content = f.draw.choice(
        [
            b"",
            b"\n",
            b"\r\n\r\n",
            b"{}",
            b'[{"year": "2016"}]',
            b"<!DOCTYPE html>\n<html></html>\n",
            b"PAR1" + bytes(range(256)),
            bytes(range(256)) * 40,
            b"\x1f\x8b",
            b"PK",
            b"PK\3\4",
            b"\xef\xbb\xbf",
            b"a" * 3_000_000,
            b"," * 200_000 + b"\n",
            b'"' + b"x" * 200_000,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        ]
    )
    return f.refuse("costs.csv")


def zipped(members, **more):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", more.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@mutation("bytes")
def compressed(f):
    content = f.as_bytes()
    half = len(content) // 2
    f.content = f.draw.choice(
        [
            lambda: gzip.compress(content),
            lambda: gzip.compress(content[:half]) + gzip.compress(content[half:]),
            lambda: zipped({"a/costs.csv": content}),
            lambda: zipped({"COSTS.CSV": content, "readme.txt": "x", "__MACOSX/._costs.csv": "x"}),
            lambda: zipped({"costs.csv": content}, compression=zipfile.ZIP_STORED),
            lambda: zipped({"costs.csv": content}, compression=zipfile.ZIP_LZMA),
            lambda: zipped({"costs.csv": content}, compression=zipfile.ZIP_BZIP2),
            lambda: zipped({"costs.txt": content, "readme.pdf": "x"}),
        ]
    )()
    f.name = f.draw.choice(["costs.csv", "costs.csv.gz", "costs.zip", "costs"])
    return RIGHT


def workbook(sheets):
    "A workbook as a spreadsheet writes it: numbers as numbers, the rest as text."

    def cell(value):
        if re.fullmatch(r"[1-9][0-9]{0,6}(\.[0-9]{1,2})?", value):
            return f"<c><v>{value}</v></c>"
        return (
            f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>' if value else "<c/>"
        )

    names = [f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1)]
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    relations = [
        f'<Relationship Id="r{i}" Type="{kind}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    ]
    rows = {
        f"xl/worksheets/sheet{i}.xml": f'<worksheet xmlns="{main}"><sheetData>'
        + "".join(f"<row>{''.join(map(cell, row))}</row>" for row in table)
        + "</sheetData></worksheet>"
        for i, table in enumerate(sheets.values(), 1)
    }
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r0" '
        f'Type="{kind}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{kind}"><sheets>{"".join(names)}</sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f"{''.join(relations)}</Relationships>",
    }
    return zipped(parts | rows)


def whole_rows(f):
    return f.text is None and all(len(row) == len(f.header) for row in f.rows)


@mutation("bytes")
def a_workbook(f):
    if whole_rows(f):
        above = f.draw.choice([[], [["Costs by hospital"], []]])
        sheets = {"Costs": [*above, f.header, *f.rows]}
        f.content = workbook(
            f.draw.choice([{}, {"Read me": [["The costs are on the next sheet."]]}]) | sheets
        )
        f.name = f.draw.choice(["costs.xlsx", "costs.csv"])
    return RIGHT


@mutation("bytes")
def records(f):
    if whole_rows(f) and len(set(f.header)) == len(f.header):
        rows = [dict(zip(f.header, row)) for row in f.rows]
        rows[1:] = [
            {name: text for name, text in row.items() if text} for row in rows[1:]
        ]  # as the service does
        f.content = f.draw.choice(
            [
                lambda: json.dumps(rows),
                lambda: json.dumps(rows, indent=2, ensure_ascii=False),
                lambda: "\n".join(map(json.dumps, rows)) + "\n",
                lambda: json.dumps(portal_export(f)),
            ]
        )().encode(f.draw.choice(["utf-8", "utf-8-sig", "utf-16"]))
        f.name = f.draw.choice(["costs.json", "costs.csv"])
    return RIGHT


def portal_export(f):
    own = [dict(name=name, fieldName=f":{name}") for name in ("sid", "id")]
    columns = [dict(name=name, fieldName=name.lower()) for name in f.header]
    rows = [["row-1", "0000", *[text or None for text in row]] for row in f.rows]
    return dict(meta=dict(view=dict(name="Costs", columns=own + columns)), data=rows)


@mutation("bytes")
def records_that_are_cut(f):
    content = json.dumps([dict(zip(f.header, row)) for row in f.rows]).encode()
    f.content = content[: f.draw.randrange(len(content) // 2, len(content) - 1)]
    return f.refuse("costs.csv")


@mutation("bytes")
def compressed_and_cut(f):
    content = f.draw.choice([gzip.compress, lambda c: zipped({"costs.csv": c})])(f.as_bytes())
    f.content = content[: f.draw.randrange(2, len(content))]
    return f.refuse("costs.csv")


@mutation("bytes")
def compressed_and_damaged(f):
    content = bytearray(
        f.draw.choice(
            [
                gzip.compress,
                lambda c: zipped({"costs.csv": c}),
                lambda c: zipped({"costs.csv": c}, compression=zipfile.ZIP_LZMA),
                lambda c: zipped({"costs.csv": c}, compression=zipfile.ZIP_BZIP2),
            ]
        )(f.as_bytes())
    )
    for _ in range(f.draw.choice([1, 1, 4])):
        content[f.draw.randrange(2, len(content))] ^= 1 << f.draw.randrange(8)
    f.content = bytes(content)
    return EITHER


@mutation("bytes")
def wrong_archive(f):
    content = f.as_bytes()
    f.content = f.draw.choice(
        [
            lambda: zipped({"a.csv": content, "b.csv": content}),
            lambda: zipped({"costs.pdf": content}),
            lambda: zipped({}),
            lambda: gzip.compress(gzip.compress(content)),
            lambda: zipped({"xl/workbook.xml": "<x/>"}),
            lambda: gzip.compress(zipped({"costs.csv": content})),
            lambda: zipped({"costs.csv": gzip.compress(content)}),
        ]
    )()
    return f.refuse("costs.csv")


@mutation("bytes")
def after_the_archive(f):
    f.content = gzip.compress(f.as_bytes()) + f.draw.choice([b"\0" * 9, b"garbage", b"\x1f\x8b"])
    return EITHER


# ---------------------------------------------------------------- the judge
def unique(f):
    keys = [tuple(row.get(k) for k in KEYS) for row in f.truth]
    return len(set(keys)) == len(keys)


def literal(row):
    "What a row says, as values of v1."
    texts = {name: None if value.strip() in ("", "NA") else value.strip() for name, value in row.items()}
    facility = texts["Facility Id"]
    return (
        int(whole_number(row["Year"])),
        facility and (whole_number(facility) if re.fullmatch(r"[0-9,.]+", facility) else facility),
        whole_number(row["APR DRG Code"]).zfill(3),
        int(row["APR Severity of Illness Code"]),
        *(texts[name] and float(texts[name].replace(",", "").lstrip("$")) for name in NUMBERS),
        *(texts[name] for name in TEXTS),
    )


def whole_number(text):
    return str(int(float(text.replace(",", "").strip())))


def as_texts(row):
    return tuple(str(value) for value in row)


def table_rows(frame):
    names = [*KEYS.values(), *NUMBERS.values(), *TEXTS.values()]
    return [
        tuple(None if pd.isna(v) else v for v in row)
        for row in frame.reindex(columns=names).astype(object).itertuples(index=False)
    ]


def damage(seed):
    "A file and what must become of it."
    draw = random.Random(seed)
    f, every = File(draw), [(level, name) for level in MUTATIONS for name in MUTATIONS[level]]
    chosen = [every[seed % len(every)]] + ([draw.choice(every)] if draw.random() < 0.5 else [])
    levels = list(MUTATIONS)
    chosen = sorted(dict.fromkeys(chosen), key=lambda c: levels.index(c[0]))
    if len({level for level, _ in chosen}) < len(chosen):
        chosen = chosen[:1] if chosen[0][0] != "cells" else chosen
    verdicts = [MUTATIONS[level][name](f) for level, name in chosen if applies(f, name)]
    verdict = REFUSED if REFUSED in verdicts else EITHER if EITHER in verdicts else RIGHT
    if verdict == REFUSED and len(chosen) > 1 and chosen[-1][1] == "cut":
        verdict = EITHER  # the cut may have taken the damaged row away; what is left is compared
    whole = File(random.Random(seed))
    if f.as_bytes() == whole.as_bytes():
        f, verdict = whole, RIGHT  # the second damage undid the first
    return f, " and ".join(name for _, name in chosen), verdict, len(chosen)


def applies(f, name):
    "A second mutation that needs the published header or whole rows is left out after one that changed them."
    return (
        f.header == list(published(2025).columns)
        and len(f.rows) == len(f.truth)
        or name in MUTATIONS["bytes"]
        or name in MUTATIONS["text"]
        and len(f.header) == 14
    )


def judge(seed, folder):
    f, name, verdict, count = damage(seed)
    path, (source, parameters) = folder / f.name, config()
    path.write_bytes(f.as_bytes())
    case = f"seed {seed}: {name}"
    try:
        v0 = read_source(source | {"path": str(path)})
        v1, set_aside = sanitize_column_names(v0, **parameters | {"source": path.name})
    except DataError as error:
        message = str(error)
        assert verdict != RIGHT, f"{case}: refused: {message}"
        assert re.search(r"costs[.\w]*", message) and "Remedy: " in message and "\n" not in message, (
            f"{case}: {message}"
        )
        assert len(message) < 1500, f"{case}: {len(message)} characters: {message[:300]}"
        if verdict == REFUSED and count == 1:
            assert any(all(word in message for word in words) for words in f.places), (
                f"{case}: {f.places} not in: {message}"
            )
        return name, "refused"
    assert verdict != REFUSED, f"{case}: nothing was refused, though {f.places}"
    assert "reason" in set_aside and (set_aside["reason"] != "").all()
    rows = sorted([*table_rows(v1), *table_rows(set_aside)], key=as_texts)
    expected = sorted(map(literal, f.truth), key=as_texts)
    wrong, missing = ([r for r in a if r not in b][:2] for a, b in ((rows, expected), (expected, rows)))
    assert rows == expected, f"{case}: {wrong} instead of {missing}"
    return name, "right"


@pytest.mark.build
@pytest.mark.parametrize(
    "column, text, words",
    [
        (
            "Facility Name",
            '"Linden\rHospital, Inc"',
            "row 1 of the file: has a line break within a quoted field",
        ),
        ("APR DRG Code", "٠٠٧", "'٠٠٧', which is not a DRG code"),
    ],
)
def test_what_longer_runs_found_stays_refused(tmp_path, column, text, words):
    f = File(random.Random(0))
    (source, parameters), path = config(), tmp_path / f.name
    row = [value.replace(",", "") for value in f.rows[0]]
    row[f.at(column)] = text
    path.write_text(",".join(f.header) + "\n" + ",".join(row) + "\n", encoding="utf-8", newline="")
    with pytest.raises(DataError, match=re.escape(words)):
        sanitize_column_names(read_source(source | {"path": str(path)}), **parameters | {"source": path.name})


@pytest.mark.build
def test_damaged_files_give_the_right_table_or_a_clear_error(tmp_path):
    outcomes = [judge(seed, tmp_path) for seed in range(CASES)]
    counts = collections.Counter(outcome for _, outcome in outcomes)
    tried = {part for name, _ in outcomes for part in name.split(" and ")}
    assert tried == {name for level in MUTATIONS.values() for name in level}
    assert counts["refused"] > 100 and counts["right"] > 80, counts


if __name__ == "__main__":
    import tempfile

    n, start = (int(a) for a in [*sys.argv[1:], "1000", "0"][:2])
    outcomes, faults = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(start, start + n):
            try:
                outcomes[judge(seed, Path(folder))[1]] += 1
            except Exception as error:
                faults.append(
                    f"{type(error).__name__}: {error}"
                    if isinstance(error, AssertionError)
                    else f"seed {seed}: {type(error).__name__}: {error}"
                )
    print("\n".join(f[:600] for f in faults[:40]), f"\n{n} files: {dict(outcomes)}, {len(faults)} faults")
