"""Tables of text: a row an utterance, or a step of one."""

import pytest

from gmd.data.sequences.sequence_files import Reading, read_sequences
from helpers.nifti_cases import error_of
from helpers.sequence_cases import all_samples
from helpers.sequence_layouts import table_rows, write_table

NUMBERS = Reading(numbers=True)


def test_a_row_is_an_utterance(tmp_path):
    rows = table_rows()
    data = read_sequences(write_table(tmp_path / "a.csv", rows))
    assert data.features == {"text": 2, "heart rate": 1}
    assert data.classes is None
    assert [sample.name for sample in data.splits["train"]] == ["u0", "u1", "u4", "u5", "u8"]
    assert [sample.name for sample in data.splits["validation"]] == ["u2", "u6"]
    by_name = {row[0]: row for row in rows[1:]}
    for sample in all_samples(data):
        row = by_name[sample.name]
        assert sample.target == pytest.approx(float(row[2]))
        assert sample.values["text"].tolist() == [pytest.approx([float(cell) for cell in row[3:5]])]
        assert sample.values["heart rate"].tolist() == [pytest.approx([float(row[5])])]
    assert "columns that are not read: comment" in data.notes


def test_with_steps_an_utterance_has_several_rows_in_any_order(tmp_path):
    rows = table_rows(steps=True)
    data = read_sequences(write_table(tmp_path / "a.csv", rows))
    mine = sorted((row for row in rows if row[0] == "u3"), key=lambda row: int(row[3]))
    expected = [pytest.approx([float(cell) for cell in row[4:6]]) for row in mine]
    assert data.splits["test"][0].values["text"].tolist() == expected


def test_labels_are_classes_and_empty_cells_are_missing(tmp_path):
    rows = table_rows(target="label")
    rows[1][5] = ""
    rows[2][3:6] = ["", "", ""]
    rows[4][3] = "nan"
    data = read_sequences(write_table(tmp_path / "a.csv", rows))
    assert data.classes == ("calm", "tense")
    assert [int(sample.target) for sample in data.splits["test"]] == [1, 1]
    assert list(data.splits["train"][0].values) == ["text"]
    assert "u1" not in [sample.name for sample in data.splits["train"]]
    assert "heart rate: 2 samples do not have it: their sequence is absent, empty or all zeros" in data.notes
    assert "1 samples have no modality at all and are left out" in data.notes
    assert "text: 1 values that are NaN, infinite or beyond 1e18 are replaced by 0" in data.notes


def test_without_rows_that_validate_some_are_held_out(tmp_path):
    rows = [[cell if cell != "valid" else "train" for cell in row] for row in table_rows()]
    path = write_table(tmp_path / "a.csv", rows)
    drawn = [[sample.name for sample in read_sequences(path, Reading(seed)).splits["validation"]] for seed in range(4)]
    assert {len(names) for names in drawn} == {1}
    assert len({tuple(names) for names in drawn}) > 1
    assert "validation: 1 of the training rows are held out, drawn by seed 3" in read_sequences(path, Reading(3)).notes


def test_numbers_of_any_range(tmp_path):
    rows = table_rows()
    for number, row in enumerate(rows[1:]):
        row[2] = str(1000 + number)
    path = write_table(tmp_path / "a.csv", rows)
    assert "the label of u0 is 1000, expected one in [-3, 3]" in error_of(read_sequences, path)
    data = read_sequences(path, NUMBERS)
    assert [sample.target.item() for sample in data.splits["validation"]] == [1002, 1006]
    assert data.unit == pytest.approx((1003.6, 2.870540))  # of 1000, 1001, 1004, 1005 and 1008
    assert data.largest_score is None


def test_a_table_of_a_spreadsheet_has_a_mark_in_front(tmp_path):
    path = write_table(tmp_path / "a.csv", table_rows())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_sequences(path).features == {"text": 2, "heart rate": 1}


def with_cell(row, column, value, steps=False):
    rows = table_rows(steps=steps)
    rows[row][column] = value
    return rows


WRONG = {
    "no id": (with_cell(0, 0, "name"), "expected id, split, one of score and label"),
    "two targets": (with_cell(0, 6, "label"), "expected id, split, one of score and label"),
    "twice": (with_cell(0, 4, "text_0"), "has two columns 'text_0'"),
    "no features": ([["id", "split", "score", "x"], ["a", "train", "1", "2"]], "has no columns of features"),
    "a number left out": (with_cell(0, 4, "text_2"), "text has columns up to text_2, but only 2 of them"),
    "a name of gmd's": (with_cell(0, 5, "score_0"), "got 'score', which is a word of its own"),
    "no number": (with_cell(2, 3, "high"), "line 3: text has 'high' in it, expected a number in each cell"),
    "half empty": (with_cell(2, 3, ""), "line 3: text has '' in it, expected a number in each cell"),
    "no score": (with_cell(2, 2, ""), "line 3: u1 has no score or label"),
    "a score of text": (with_cell(2, 2, "good"), "the score of u1 is 'good', expected a number"),
    "an unknown split": (with_cell(2, 1, "both"), "line 3: split is 'both', expected one of train"),
    "an empty id": (with_cell(2, 0, ""), "line 3: the id has 0 letters"),
    "twice an id": (with_cell(2, 0, "u0"), "line 3: a second row of u0; steps need a column `step`"),
    "a step of another split": (with_cell(2, 1, "test", True), "line 3: u0 has another split or target before it"),
    "a step that is no number": (with_cell(2, 3, "first", True), "line 3: step has 'first' in it"),
    "another width": ([*table_rows(), ["u9", "train", "1"]], "line 11 has 3 cells, expected 7"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name, tmp_path):
    rows, message = WRONG[name]
    assert message in error_of(read_sequences, write_table(tmp_path / "a.csv", rows))


def test_other_delimiters_and_encodings(tmp_path):
    for mark in ";\t|":
        message = error_of(read_sequences, write_table(tmp_path / "a.csv", table_rows(), mark))
        assert "expected commas between the columns" in message
    path = write_table(tmp_path / "a.csv", with_cell(2, 6, "größer"))
    path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16"))
    assert "is no text in UTF-8" in error_of(read_sequences, path)
    path.write_bytes(b"")
    assert "is empty, expected a header and rows" in error_of(read_sequences, path)
    path.write_bytes(b'id,split,score,text_0\n"a,train,1,2\n')
    assert "is no line of a table" in error_of(read_sequences, path)
