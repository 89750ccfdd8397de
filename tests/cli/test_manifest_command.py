"""`gmd manifest`: what it writes and says, and what it refuses before it reads anything."""

import shlex
from pathlib import Path

import pytest

import gmd.cli
from helpers.layout_cases import crema_d, kinetics_sounds, mvsa, read_manifest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CREMA-D, MVSA and Kinetics-Sounds. Do not write into them."""
    folder = tmp_path_factory.mktemp("data")
    crema_d(folder / "crema d")
    mvsa(folder / "mvsa")
    kinetics_sounds(folder / "ks")
    return folder


def run(*words: object) -> int:
    return gmd.cli.main(list(map(str, words)))


def test_it_writes_a_manifest_and_says_what_to_do_next(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "new folder" / "m.csv"
    assert run("manifest", "crema-d", data / "crema d", "-o", out, "--split", "speaker", "--seed", 1) == 0
    assert len(read_manifest(out)) == 72
    *notes, last = capsys.readouterr().out.splitlines()
    root = shlex.quote(str(data / "crema d"))
    assert last == f"written: {out}; next: gmd train classify --data {shlex.quote(str(out))} --root {root}"
    assert "split: speaker, no speaker in two splits, drawn with seed 1" in notes


def test_in_the_folder_of_the_data_it_needs_no_root(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = mvsa(tmp_path / "d")
    assert run("manifest", "mvsa", root, "-o", root / "m.csv", "--list", "mmbt") == 0
    assert capsys.readouterr().out.endswith(f"next: gmd train classify --data {root / 'm.csv'}\n")


def test_no_cell_is_a_formula(data: Path, tmp_path: Path):
    run("manifest", "mvsa", data / "mvsa", "-o", tmp_path / "m.csv")
    run("manifest", "kinetics-sounds", data / "ks", "-o", tmp_path / "k.csv")
    assert ",'@you #positive 1\n" in (tmp_path / "m.csv").read_text(encoding="utf-8")
    assert "\n'-aucBGXp_0Q_0_10,train,0,'-aucBGXp_0Q," in (tmp_path / "k.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mvsa {data}/mvsa -o {out}.csv --split speaker", "mvsa has no speakers that could leak; expected published"),
        (
            "crema-d {data}/mvsa -o {out}.csv --split dialogue",
            "has no dialogues that could leak; expected published or spea",
        ),
        ("crema-d {data}/mvsa -o {out}.csv", "holds no lists of crema-d; looked for\n  ogm-ge: train.csv, test.csv"),
        ("mvsa {data}/mvsa -o {out}.csv --list ogm-ge", "mvsa has no lists of ogm-ge; expected mmbt, mla"),
        ("mvsa {data}/mvsa -o {out}.csv --list mla", "holds no lists of mvsa; looked for\n  mla: my_train_mvsa.txt"),
        ("mvsa {data}/mvsa -o {out}.txt", "expected a name that ends in .csv"),
        ("mvsa {data}/mvsa -o {data}/m.csv", "m.csv is there already; give another name, or take it away"),
        ("mvsa {data}/mvsa -o {data}/folder.csv", "is a folder"),
        ("mvsa {data}/mvsa/train.jsonl -o {out}.csv", "there is no such folder; expected the one that mvsa lies in"),
        ("mvsa {data}/none -o {out}.csv", "there is no such folder"),
        ("mvsa {data}/mvsa -o {data}/m.csv/m.csv", "m.csv is a file; expected a folder"),
        ("mvsa {data}/mvsa -o {out}.csv --seed -1", "--seed: got -1, expected 0 or more"),
    ],
    ids=range(12),
)
def test_what_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: str, said: str):
    (data / "m.csv").write_text("mine", encoding="utf-8")
    (data / "folder.csv").mkdir(exist_ok=True)
    assert run("manifest", *words.format(data=data, out=tmp_path / "new").split()) == 2
    assert said in capsys.readouterr().err
    assert (data / "m.csv").read_text(encoding="utf-8") == "mine"
    assert not list(tmp_path.iterdir())
