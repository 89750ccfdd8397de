"""Mask files of the field and tables of one's own: what each says, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.data.missing_list import read_missing_list
from gmd.errors import UserError
from helpers.nifti_cases import error_of

BRATS = ("t1", "t1ce", "t2", "flair")


def written(tmp_path, text: str, encoding: str = "utf-8"):
    path = tmp_path / "masks.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_masks_of_im_fuse(tmp_path):
    text = 'case,mask\nBraTS-GLI-1,"[False, False, True, False]"\nBraTS-GLI-2,"[True, True, True, True]"\n'
    assert read_missing_list(written(tmp_path, text), BRATS) == {"BraTS-GLI-1": ("t1",), "BraTS-GLI-2": BRATS}


def test_masks_of_passion(tmp_path):
    text = (
        "data_name,mask_id,mask,pos_mask_ids\n"
        'HG_001,7,"[True, False, False, True]","[0, 3, 7]"\nLG_300,1,"[False, True, False, False]","[1]"\n'
    )
    assert read_missing_list(written(tmp_path, text), BRATS) == {"HG_001": ("t2", "flair"), "LG_300": ("t1ce",)}


def test_a_table_of_ones_own(tmp_path):
    text = "id,vision,text,smell\na,1,0,1\nb,true,TRUE,0\n"
    assert read_missing_list(written(tmp_path, text), ("text", "vision")) == {"a": ("vision",), "b": ("text", "vision")}


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
    path = written(tmp_path, "id,text,audio\r\na,1,0\r\n", "utf-8-sig")
    assert read_missing_list(path, ("text", "audio")) == {"a": ("text",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,text\na,1\n", "there is none for audio"),
        ("id,mask\na,1\n", "its masks are of flair, t1ce, t1, t2, and the run has text, audio"),
        ("id,text,audio\na,1,maybe\n", "line 2: audio: got 'maybe', expected 1 or 0, True or False"),
        ("id,text,audio\na,0,0\n", "line 2: a keeps none of text, audio, expected one at least"),
        ("id,text,audio\na,1,1\na,1,0\n", "line 3: got a twice, expected a new name"),
        ("id,text,audio\n,1,1\n", "line 2: got no name"),
        ("id,text,audio\n", "names no sample"),
        ("id;text;audio\na;1;1\n", "there is none for text, audio"),
        ("id,text,audio,text\na,1,1,0\n", "has two columns text, expected one of each"),
        ("id,text,audio\na,1\n", "line 2 has 2 cells, expected 3"),
        ("", "has no columns"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, said):
    reason = error_of(read_missing_list, written(tmp_path, text), ("text", "audio"))
    assert "masks.csv" in reason
    assert said in reason


@pytest.mark.parametrize("mask", ["[True, False, True]", "True", ""])
def test_a_mask_of_another_length_is_refused(tmp_path, mask):
    reason = error_of(read_missing_list, written(tmp_path, f'case,mask\na,"{mask}"\n'), BRATS)
    assert "line 2: the mask of a says nothing of " in reason


def test_a_mask_of_more_modalities_is_refused(tmp_path):
    path = written(tmp_path, 'case,mask\na,"[True, False, True, False, True]"\n')
    assert "line 2: the mask of a has 5 entries, expected 4" in error_of(read_missing_list, path, BRATS)


# characters of CSV, of masks, of another encoding, and of nothing
PIECES = (b",", b'"', b"\n", b"\r", b"[", b"]", b" ", b"=1", b"1", b"0", b"True", b"False", b"9" * 30)
PIECES += (b"id", b"case", b"mask", b"text", b"audio", *(m.encode() for m in BRATS))
PIECES += (b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xe2\x80\xae")


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40), st.sampled_from([BRATS, ("text", "audio"), ("mask", "text")]))
def test_whatever_stands_in_it_is_a_list_or_an_error_of_one_line(tmp_path_factory, parts, modalities):
    path = tmp_path_factory.mktemp("list") / "masks.csv"
    path.write_bytes(b"".join(parts))
    try:
        listed = read_missing_list(path, modalities)
    except UserError as error:
        told = str(error)
    else:
        told = "masks.csv"
        assert listed
        assert all(listed)
        assert all(kept == tuple(m for m in modalities if m in kept) != () for kept in listed.values())
    assert "masks.csv" in told
    assert all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in told)


def test_no_file(tmp_path):
    assert "there is no such file; expected a table" in error_of(read_missing_list, tmp_path / "masks.csv", BRATS)
