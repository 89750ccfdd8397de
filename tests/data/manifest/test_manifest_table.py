"""The table of a manifest: what it may look like, and each thing that is refused, with its line."""

import zipfile

import pytest

from gmd.data.manifest.table import read_table
from helpers.manifest_cases import write_table
from helpers.nifti_cases import error_of

ROWS = [
    {"id": "a", "split": "train", "label": "x", "text:words": "good, and 'bad'"},
    {"id": "b", "split": "val", "label": "y", "text:words": ""},
    {"id": "ü", "split": "test", "label": "x", "text:words": 'she said "no"\nand left'},
]


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_rows_come_out_as_they_went_in(tmp_path, encoding):
    columns, rows, notes = read_table(write_table(tmp_path / "m.csv", ROWS, encoding=encoding))
    assert [(column.kind, column.modality) for column in columns.modalities] == [("text", "words")]
    assert [(row.name, row.split) for row in rows] == [("a", "train"), ("b", "validation"), ("ü", "test")]
    assert [row.cells[0] for row in rows] == [row["text:words"] for row in ROWS]
    assert [row.line for row in rows] == [2, 3, 5]
    assert notes == []


@pytest.mark.parametrize(("delimiter", "called"), [(";", "semicolons"), ("\t", "tabs")], ids=["semicolon", "tab"])
def test_another_delimiter_is_read_and_told(tmp_path, delimiter, called):
    _, rows, notes = read_table(write_table(tmp_path / "m.csv", ROWS, delimiter))
    assert [row.name for row in rows] == ["a", "b", "ü"]
    assert notes == [f"m.csv: its cells are separated by {called}, not by commas, and read so"]


def test_other_columns_are_ignored_and_told(tmp_path):
    path = written(tmp_path, "id,speaker,split,label,text:a\n1,me,train,x,yes\n")
    assert read_table(path)[2] == ["columns that are ignored: speaker"]


def test_several_outputs(tmp_path):
    columns, [row], _ = read_table(written(tmp_path, "id,split,label:v,label:w,text:a\n1,train,0.5,,yes\n"))
    assert columns.labels.keys() == {"v", "w"}
    assert row.labels == ("0.5", "")


def test_what_gmd_writes_for_spreadsheets_is_read_back(tmp_path):
    [row] = read_table(written(tmp_path, "id,split,label,text:a\n1,train,x,'=no formula\n"))[1]
    assert row.cells == ("=no formula",)


HEADER = "id,split,label,text:a\n"
REFUSED = {
    "nothing": ("", "is empty"),
    "no rows": (HEADER, "has no rows below its header"),
    "no label": ("id,split,text:a\n1,train,x\n", "has no label; there is id, split, text:a"),
    "no id": ("name,split,label,text:a\n1,train,x,y\n", "has no id"),
    "no modality": ("id,split,label\n1,train,x\n", "has no column of a modality"),
    "another kind": (
        "id,split,label,video:a\n",
        "a column is of kind video, expected one of image, audio, text, features",
    ),
    "no name": ("id,split,label,text:\n", "which is empty"),
    "a bad name": ("id,split,label,text:a+b\n", "holds '+'"),
    "one name of two kinds": ("id,split,label,text:a,audio:a\n", "got 'a' twice"),
    "a column twice": ("id,split,label,text:a,text:a\n", "the column text:a is there twice"),
    "label twice": ("id,split,label,label:b,text:a\n", "has the column label beside label:NAME"),
    "an id twice": (HEADER + "1,train,x,y\n1,test,x,z\n", "line 3: the id 1 stands in line 2, too"),
    "an id of nothing": (HEADER + " ,train,x,y\n", "line 2 has no id"),
    "a long id": (HEADER + "i" * 1025 + ",train,x,y\n", "has 1025 letters"),
    "no split": (HEADER + "1,,x,y\n", "line 2: the split of 1 is '', expected one of train, validation"),
    "another split": (HEADER + "1,learn,x,y\n", "the split of 1 is 'learn'"),
    "a short row": (HEADER + "1,train,x\n", "line 2 has 3 cells, expected 4"),
    "a long row": (HEADER + "1,train,x,y,z\n", "line 2 has 5 cells, expected 4"),
    "an open quote": (HEADER + '1,train,x,"y\n2,train,x,z\n', "is no line of a table"),
    "letters behind a quote": (HEADER + '1,train,x,"y"z\n', "line 2 is no line of a table"),
    "a huge cell": (HEADER + f"1,train,x,{'y' * 200_000}\n", "field larger than field limit"),
    "semicolons, and no header": ("a;b;c\n1;2;3\n", "look separated by semicolons: a;b;c; expected commas"),
    "a zero byte": (HEADER + "1,train,x,y\0\n", "line 2: holds a zero byte"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    text, sentence = REFUSED[case]
    path = written(tmp_path, text)
    message = error_of(read_table, path)
    assert sentence in message
    assert message.startswith(str(path))


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [("utf-16", "UTF-16, expected UTF-8"), ("latin-1", "line 2: the byte 0xe9 is none of UTF-8, perhaps of Latin-1")],
)
def test_other_encodings_are_named(tmp_path, encoding, sentence):
    assert sentence in error_of(read_table, written(tmp_path, HEADER + "1,train,x,café\n", encoding))


def test_a_spreadsheet_is_called_one(tmp_path):
    path = tmp_path / "m.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.xml", "")
    assert "is a spreadsheet (.xlsx), expected a table of text (CSV); save it as CSV" in error_of(read_table, path)


def test_no_file_and_a_folder(tmp_path):
    assert "there is no such file; expected a manifest" in error_of(read_table, tmp_path / "m.csv")
    assert "is a folder" in error_of(read_table, tmp_path)
