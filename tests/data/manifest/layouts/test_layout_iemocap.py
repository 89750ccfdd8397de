"""IEMOCAP and Kinetics-Sounds: their lists, where their files lie, and sessions, dialogues and videos in two splits."""

from pathlib import Path

import numpy as np
import pytest

from gmd.errors import UserError
from helpers.layout_cases import (
    SOUND,
    by_split,
    iemocap,
    iemocap_lines,
    kinetics_sounds,
    made,
    write,
    write_array,
    write_lines,
    write_tokens,
)


def test_the_lists_of_mla(tmp_path: Path):
    rows, said = made("iemocap", iemocap(tmp_path / "d"))
    assert len(rows) == 160
    row = next(row for row in rows if row["id"] == "Ses04F_script02_2_F002")
    assert row == {
        "id": "Ses04F_script02_2_F002",
        "split": "test",
        "label": "Neutral",
        "speaker": "Ses04F",
        "dialogue": "Ses04F_script02_2",
        "text:text": "well, 0, I said, Ses04F_script02_2_F002",
        "audio:audio": "Session4/sentences/wav/Ses04F_script02_2/Ses04F_script02_2_F002.wav",
        "image:video": "visual/test_imgs/Ses04F_script02_2_F002",
    }
    assert "leaks: 10 of the 10 speakers of test train or validate too; --split speaker keeps each in one split" in said
    assert "leaks: 20 of the 20 dialogues of test train or validate too; --split dialogue keeps each" in said


def test_a_list_that_validates(tmp_path: Path):
    rows, said = made("iemocap", iemocap(tmp_path / "d", dev=True))
    assert {split: len(ids) for split, ids in by_split(rows, "id").items()} == {
        "train": 80,
        "validation": 80,
        "test": 80,
    }
    assert "lists: mla (my_train_iemo.txt, my_dev_iemo.txt, my_test_iemo.txt)\nsplit: published\n" in said


def test_a_list_that_validates_nobody(tmp_path: Path):
    root = iemocap(tmp_path / "d")
    write(root / "my_dev_iemo.txt", "\n")
    rows, said = made("iemocap", root)
    assert by_split(rows, "id")["validation"]
    assert "no list says who validates" in said


def test_two_sessions_are_too_few(tmp_path: Path):
    root = iemocap(tmp_path / "d")
    for number, part in enumerate(("train", "test")):
        write_lines(root / f"my_{part}_iemo.txt", iemocap_lines(number)[:32])
    with pytest.raises(
        UserError, match="the samples are of 2 sessions, expected at least three to split them by session"
    ):
        made("iemocap", root, split="speaker")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_by_speaker_whole_sessions_test(tmp_path: Path, seed: int):
    """The two speakers of a session speak with each other: one of them in training would give the dialogue away."""
    rows, said = made("iemocap", iemocap(tmp_path / "d"), split="speaker", seed=seed)
    for row in rows:
        row["session"] = row["id"][:5]
    for group, count in (("session", 5), ("speaker", 10), ("dialogue", 20)):
        assert sum(len(names) for names in by_split(rows, group).values()) == count
    assert [len(names) for names in by_split(rows, "session").values()] == [3, 1, 1]
    assert f"split: speaker, no session in two splits, drawn with seed {seed}" in said
    assert "leaks: none of the 2 speakers of test" in said


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_by_dialogue_speakers_leak_and_dialogues_do_not(tmp_path: Path, seed: int):
    rows, said = made("iemocap", iemocap(tmp_path / "d"), split="dialogue", seed=seed)
    assert sum(len(names) for names in by_split(rows, "dialogue").values()) == 20
    assert "split: dialogue, no dialogue in two splits" in said
    assert "leaks: none of the 4 dialogues of test trains or validates" in said
    assert "speakers of test train or validate too; --split speaker keeps each in one split" in said


def test_tokens_are_taken_before_words_and_never_both(tmp_path: Path):
    root = iemocap(tmp_path / "d")
    names = [(part, line.partition(".mp4")[0]) for i, part in enumerate(("train", "test")) for line in iemocap_lines(i)]
    for part, name in names[:-1]:
        write_tokens(root / f"text_token/{part}_token", name, [2092, 1010])
    rows, _ = made("iemocap", root)
    assert all(row["text:text"].startswith("well") for row in rows), "words are there for more samples"
    write_tokens(root / f"text_token/{names[-1][0]}_token", names[-1][1], [2092, 1010])
    rows, _ = made("iemocap", root)
    assert {row["text:text"] for row in rows} == {"[2092, 1010]"}


def test_filter_banks_and_extracted_sound_of_mla(tmp_path: Path):
    root = iemocap(tmp_path / "d")
    for path in sorted(root.glob("Session*/sentences/wav/*/*.wav")):
        write_array(root / f"audio/train_fbank/{path.stem}.npy", np.ones((16, 8), np.float32))
        path.unlink()
    rows, _ = made("iemocap", root)
    assert all((row["features:audio"] != "") == (row["split"] != "test") for row in rows), "of training alone"
    for part in (0, 1):
        for line in iemocap_lines(part):
            write(root / f"subaudio/{line.partition('.mp4')[0]}.wav", SOUND)
    rows, _ = made("iemocap", root)
    assert all(row["audio:audio"] == f"subaudio/{row['id']}.wav" for row in rows)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Ses01F_impro01_F000.mp4 hello Neutral", "expected NAME.mp4 [split|sign] TEXT [split|sign] EMOTION"),
        ("Ses01F_impro01_F000.mp4 [split|sign] hello", "expected NAME.mp4"),
        ("Ses01F_impro01_F000.mp4 [split|sign] a [split|sign] b [split|sign] Sad", "expected NAME.mp4"),
        (
            "Ses01F_impro01_F000.mp4 [split|sign] hello [split|sign] Excited",
            "expected one of Neutral, Angry, Sad, Happy",
        ),
        ("Ses06F_impro01_F000.mp4 [split|sign] hello [split|sign] Sad", "expected one such as Ses04F_script02_2_F034"),
        ("../Ses01F_impro01_F000.mp4 [split|sign] hello [split|sign] Sad", "expected the name of a file"),
    ],
    ids=range(6),
)
def test_lines_of_iemocap_that_are_refused(tmp_path: Path, line: str, said: str):
    root = iemocap(tmp_path / "d")
    write_lines(root / "my_test_iemo.txt", ["Ses01F_impro01_M090.mp4 [split|sign]  [split|sign] Sad", line])
    with pytest.raises(UserError) as refused:
        made("iemocap", root)
    assert "my_test_iemo.txt:2: got " in str(refused.value)
    assert said in str(refused.value)


def test_the_layout_of_mmin_is_sent_to_its_own_reader(tmp_path: Path):
    write(tmp_path / "d/A/comparE.h5", b"")
    with pytest.raises(UserError, match=r"A/comparE.h5 is there: MMIN's layout is read by gmd train sequences"):
        made("iemocap", tmp_path / "d")


def test_kinetics_sounds(tmp_path: Path):
    rows, said = made("kinetics-sounds", kinetics_sounds(tmp_path / "d"))
    row_of = {row["id"]: row for row in rows}
    assert row_of["-wucBGXp_0Q_0_10"] == {
        "id": "-wucBGXp_0Q_0_10",
        "split": "test",
        "label": "0",
        "video": "-wucBGXp_0Q",
        "features:audio": "test_spec/-wucBGXp_0Q_0_10.npy",
        "image:video": "./-wucBGXp_0Q_0_10",  # no spreadsheet takes it for a formula
    }
    assert len(rows) == 12
    assert "leaks: none of the 4 videos of test trains or validates" in said
    assert "classes: 2: 0 6, 30 6" in said


def test_a_video_of_kinetics_sounds_in_both_lists_is_told(tmp_path: Path):
    root = kinetics_sounds(tmp_path / "d")
    with open(root / "my_test.txt", "a", encoding="utf-8") as file:
        file.write("-aucBGXp_0Q_77,10,3\n")
    write(root / "test_wav/-aucBGXp_0Q_77.wav", SOUND)
    write(root / "val-frames-1fps/test/-aucBGXp_0Q_77/frame_00001.jpg", b"")
    rows, said = made("kinetics-sounds", root)
    assert "leaks: 1 of the 5 videos of test train or validate too\n" in said
    assert "classes that no training sample has, which training refuses: 3" in said
    assert rows[-1]["image:video"] == "val-frames-1fps/test/-aucBGXp_0Q_77"


def test_sound_is_taken_where_as_many_have_it_as_have_filter_banks(tmp_path: Path):
    root = kinetics_sounds(tmp_path / "d")
    for path in root.glob("*_spec/*.npy"):
        part = path.parent.name.removesuffix("_spec")
        write(root / f"{part}_wav/{part}/{path.stem}.wav", SOUND)
    rows, _ = made("kinetics-sounds", root)
    assert all(row["audio:audio"].endswith(f"/{row['id']}.wav") for row in rows)
    assert "features:audio" not in rows[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-aucBGXp_0Q_77,3", "expected ID_START_END,10,CLASS such as"),
        ("-aucBGXp_0Q_77 10 3", "separated by ' ', expected commas"),
        ("-aucBGXp_0Q_77,10,31", "got the label '31', expected one of 0, 1, 2"),
        ("-aucBGXp_0Q,10,3", "got the name '-aucBGXp_0Q', expected 11 characters of a video and seconds"),
        ("../../aBGXp_0Q_77,10,3", "expected 11 characters of a video"),
    ],
    ids=range(5),
)
def test_lines_of_kinetics_sounds_that_are_refused(tmp_path: Path, line: str, said: str):
    root = kinetics_sounds(tmp_path / "d")
    write_lines(root / "my_test.txt", [line])
    with pytest.raises(UserError, match=f"my_test.txt:1: .*{said}"):
        made("kinetics-sounds", root)
