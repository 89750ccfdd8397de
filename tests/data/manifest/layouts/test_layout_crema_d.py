"""CREMA-D: OGM-GE's and MLA's lists, its files, and actors in both splits."""

import re
from pathlib import Path

import pytest

from gmd.errors import UserError
from helpers.layout_cases import (
    PICTURE,
    SOUND,
    by_split,
    crema_d,
    crema_d_of_mla,
    crema_names,
    made,
    write,
    write_lines,
)

NAME = "1001_IEO_NEU_XX"


def test_the_lists_and_files_of_ogm_ge(tmp_path: Path):
    rows, said = made("crema-d", crema_d(tmp_path / "d"))
    names = crema_names()
    assert {row["id"] for row in rows} == {*names["train"], *names["test"]}
    assert {row["id"] for row in rows if row["split"] == "test"} == set(names["test"])
    for row in rows:
        assert (tmp_path / "d" / row["audio:audio"]).read_bytes() == SOUND
        assert sorted(path.name for path in (tmp_path / "d" / row["image:video"]).iterdir()) == [
            "frame_00000.jpg",
            "frame_00001.jpg",
        ]
        assert row["label"] == row["id"][9:12]
        assert row["speaker"] == row["id"][:4]
    assert "lists: ogm-ge (train.csv, test.csv)\n" in said
    assert "no list says who validates: a tenth of the training samples, drawn with seed 0" in said
    assert "leaks: 6 of the 6 speakers of test train or validate too; --split speaker keeps each in one split" in said
    assert "classes: 6: ANG 12, DIS 12, FEA 12, HAP 12, NEU 12, SAD 12" in said


def test_the_lists_and_files_of_mla_have_the_same_labels(tmp_path: Path):
    rows, said = made("crema-d", crema_d_of_mla(tmp_path / "d"))
    assert len(rows) == 72
    for row in rows:
        part = "test" if row["split"] == "test" else "train"
        assert row["label"] == row["id"][9:12]
        assert row["features:audio"] == f"audio/{part}_fbank/{row['id']}.npy"
        assert row["image:video"] == f"visual/{part}_imgs/Image-01-FPS/{row['id']}"
    assert "lists: mla (my_train_cre.txt, my_test_cre.txt)" in said


def test_of_several_lists_the_first_is_taken_and_the_others_are_told(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    write_lines(root / "data/my_train_cre.txt", [f"{name}.flv Neutral" for name in (NAME, "1002_IEO_NEU_XX")])
    write_lines(root / "data/my_test_cre.txt", ["1003_IEO_NEU_XX.flv Neutral"])
    rows, said = made("crema-d", root)
    assert len(rows) == 72
    assert "lists: ogm-ge (train.csv, test.csv); for those of mla: --list mla\n" in said
    rows, said = made("crema-d", root, whose="mla")
    assert sorted(row["split"] for row in rows) == ["test", "train", "validation"]
    assert "lists: mla (data/my_train_cre.txt, data/my_test_cre.txt); for those of ogm-ge: --list ogm-ge\n" in said


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_by_speaker_no_speaker_is_in_two_splits(tmp_path: Path, seed: int):
    rows, said = made("crema-d", crema_d(tmp_path / "d"), split="speaker", seed=seed)
    speakers = by_split(rows, "speaker")
    assert all(speakers.values())
    assert sum(map(len, speakers.values())) == len({row["speaker"] for row in rows}) == 6
    assert f"split: speaker, no speaker in two splits, drawn with seed {seed}" in said
    assert "leaks: none of the 1 speakers of test trains or validates" in said


def test_splits_come_from_the_lists_and_the_seed_alone(tmp_path: Path):
    """Not from the files that happen to be there."""
    root = crema_d(tmp_path / "d")
    for split in ("published", "speaker"):
        first, _ = made("crema-d", root, split=split, seed=3)
        again, _ = made("crema-d", root, split=split, seed=3)
        other, _ = made("crema-d", root, split=split, seed=4)
        assert first == again != other
    for row in first[:20]:
        (root / row["audio:audio"]).unlink()
    fewer, _ = made("crema-d", root, split="speaker", seed=3)
    assert [(row["id"], row["split"]) for row in fewer] == [(row["id"], row["split"]) for row in first]


def test_validation_is_of_the_training_samples_and_of_every_class(tmp_path: Path):
    rows, _ = made("crema-d", crema_d(tmp_path / "d"))
    assert by_split(rows, "label")["validation"] == {"ANG", "DIS", "FEA", "HAP", "NEU", "SAD"}
    assert not by_split(rows, "id")["validation"] & set(crema_names()["test"])


def test_what_is_missing_is_counted_named_and_left_empty(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    lost = crema_names()["train"]
    for name in lost[:7]:
        (root / f"AudioWAV/{name}.wav").unlink()
    for name in lost[6:8]:  # of the first of them nothing is left, of the second the folder
        for frame in (root / "Image-01-FPS" / name).iterdir():
            frame.unlink()
    rows, said = made("crema-d", root)
    assert len(rows) == 71
    row_of = {row["id"]: row for row in rows}
    assert [row_of[name]["audio:audio"] for name in lost[:6]] == [""] * 6
    assert row_of[lost[7]]["image:video"] == ""
    assert f"left out, without any modality: 1: {lost[6]}" in said
    assert f"audio:audio: 65, such as AudioWAV/{lost[8]}.wav" in said.replace(lost[7], lost[8])
    assert f"6 are missing: {', '.join(lost[:5])}, ..." in said
    assert f"1 are missing: {lost[7]}" in said


def test_a_modality_that_is_nowhere_has_no_column(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    (root / "Image-01-FPS").rename(root / "elsewhere")
    write(root / "VideoFlash" / f"{NAME}.flv", b"")
    rows, said = made("crema-d", root)
    assert "image:video" not in rows[0]
    assert "video: none; looked for Image-01-FPS/{name}/*.jpg, " in said
    assert "VideoFlash is there: videos are not read: take a frame of each second" in said


def test_nothing_but_lists(tmp_path: Path):
    root = tmp_path / "d"
    for part, names in crema_names().items():
        write_lines(root / f"{part}.csv", [f"{name},{name[9:12]}" for name in names])
    write(root / "audio" / f"{NAME}.pkl", b"")
    with pytest.raises(UserError, match="holds no file of the 72 samples that the lists name; looked for") as refused:
        made("crema-d", root)
    assert "audio: AudioWAV/{name}.wav, " in str(refused.value)
    assert "audio/*.pkl is there: spectrograms in .pkl are not read" in str(refused.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1001_IEO_NEU_XX;NEU", "separated by ';', expected commas"),
        ("1001_IEO_NEU_XX\tNEU", r"separated by '\\t', expected commas"),
        ("1001_IEO_NEU_XX", "expected NAME,EMOTION such as"),
        ("1001_IEO_NEU_XX,NEU,1", "expected NAME,EMOTION such as"),
        ("1001_IEO_NEU_XX,BOR", "got the label 'BOR', expected one of NEU, HAP, SAD, FEA, DIS, ANG"),
        ("1001,NEU", "got the name '1001', expected one such as 1001_IEO_NEU_XX"),
        ("../1001_IEO_NEU_XX,NEU", r"got the name '../1001_IEO_NEU_XX', expected the name of a file"),
        ("/etc/passwd,NEU", "got the name '/etc/passwd', expected the name of a file"),
        ("1002_TIE_SAD_XX,SAD", "1002_TIE_SAD_XX is in .*train.csv:18 too; a sample can train or test, not both"),
        ("1001_IEO_NEU_XX,HAP", "1001_IEO_NEU_XX is HAP here and NEU in .*test.csv:1; take one of the lines away"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_lines_that_are_refused(tmp_path: Path, line: str, said: str):
    root = crema_d(tmp_path / "d")
    with open(root / "test.csv", "a", encoding="utf-8") as file:
        file.write(f"\r\n{line}\r\n")
    with pytest.raises(UserError, match=rf"test.csv:13: .*{said}"):
        made("crema-d", root)
    assert not list(tmp_path.glob("*.csv"))


def test_a_line_of_mla_that_is_none(tmp_path: Path):
    root = crema_d_of_mla(tmp_path / "d")
    write_lines(root / "my_test_cre.txt", [f"{NAME}.mp4 Neutral"])
    with pytest.raises(
        UserError, match=r"my_test_cre.txt:1: got '1001_IEO_NEU_XX.mp4 Neutral', expected NAME.flv LABEL"
    ):
        made("crema-d", root)


def test_the_same_line_twice_counts_once(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    with open(root / "train.csv", "a", encoding="utf-8") as file:
        file.write("1002_TIE_SAD_XX,SAD\n")
    rows, said = made("crema-d", root)
    assert len(rows) == 72
    assert "lists: 1 lines say again what another says, and are left out" in said


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_list_in_another_encoding(tmp_path: Path, encoding: str):
    root = crema_d(tmp_path / "d")
    (root / "test.csv").write_text(f"{NAME},NEU\nnaïve,NEU\n", encoding=encoding)
    with pytest.raises(UserError, match=r"test.csv:\d: is no text in UTF-8.*; save it as UTF-8"):
        made("crema-d", root)


def test_one_list_without_the_other(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    (root / "test.csv").unlink()
    with pytest.raises(UserError, match=r"test.csv is missing beside train.csv; add it"):
        made("crema-d", root)


def test_a_folder_without_lists(tmp_path: Path):
    write(tmp_path / "d/VideoFlash/a.flv", b"")
    with pytest.raises(UserError, match="holds no lists of crema-d; looked for") as refused:
        made("crema-d", tmp_path / "d")
    told = str(refused.value)
    assert re.search(r"\n  ogm-ge: train.csv, test.csv \(also in data/CREMAD, CREMAD, data\)", told)
    assert re.search(r"\n  mla: my_train_cre.txt, my_dev_cre.txt, my_test_cre.txt \(also in data\)", told)
    assert "VideoFlash is there" in told


@pytest.mark.parametrize("links", ["the folder", "a file", "frames"])
def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path, links: str):
    root = crema_d(tmp_path / "d")
    name = crema_names()["train"][0]
    place = {"the folder": "AudioWAV", "a file": f"AudioWAV/{name}.wav", "frames": f"Image-01-FPS/{name}"}[links]
    (root / place).rename(tmp_path / "outside")
    (root / place).symlink_to(tmp_path / "outside")
    rows, said = made("crema-d", root)
    assert f"links out of {root} are not followed: {place}; give a folder that holds all" in said
    row = next(row for row in rows if row["id"] == name)
    assert not row.get("image:video" if links == "frames" else "audio:audio")


def test_where_all_files_lie_outside_it_is_said(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    for folder in ("AudioWAV", "Image-01-FPS"):
        (root / folder).rename(tmp_path / folder)
        (root / folder).symlink_to(tmp_path / folder)
    with pytest.raises(UserError, match=f"links out of {root} are not followed: AudioWAV, Image-01-FPS"):
        made("crema-d", root)


def test_a_list_may_be_a_link(tmp_path: Path):
    """As it lies in a checkout of the publication's code."""
    root = crema_d(tmp_path / "d")
    (root / "train.csv").rename(tmp_path / "lists.csv")
    (root / "train.csv").symlink_to(tmp_path / "lists.csv")
    rows, _ = made("crema-d", root)
    assert len(rows) == 72


def test_a_link_within_the_folder_is_as_good_as_a_file(tmp_path: Path):
    root = crema_d(tmp_path / "d")
    (root / "AudioWAV").rename(root / "sound")
    (root / "AudioWAV").symlink_to("sound")
    rows, said = made("crema-d", root)
    assert all(row["audio:audio"] for row in rows)
    assert "not followed" not in said


def test_frames_alone_and_no_actor_to_spare(tmp_path: Path):
    root = tmp_path / "d"
    write_lines(root / "train.csv", ["1001_IEO_NEU_XX,NEU", "1001_IEO_HAP_XX,HAP"])
    write_lines(root / "test.csv", ["1002_IEO_NEU_XX,NEU"])
    write(root / "visual/1001_IEO_NEU_XX/0.jpg", PICTURE)
    with pytest.raises(
        UserError, match="the samples are of 2 speakers, expected at least three to split them by speaker"
    ):
        made("crema-d", root, split="speaker")
    with pytest.raises(UserError, match="no class of the 2 training samples has one to validate"):
        made("crema-d", root)
    with open(root / "train.csv", "a", encoding="utf-8") as file:
        file.write("1003_IEO_NEU_XX,NEU\n")
    with pytest.raises(UserError, match=r"no sample of .*test has a file there"):
        made("crema-d", root)
