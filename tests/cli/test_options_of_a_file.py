"""What stands in the file of --config are values: none of them becomes an option, whatever it looks like."""

from pathlib import Path

import pytest

import gmd.cli
import gmd.training.loop
from gmd.config import TrainBrats


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainBrats]:
    """The configurations that `train_with` would have trained."""
    seen: list[TrainBrats] = []
    monkeypatch.setattr(gmd.training.loop, "train", lambda config: seen.append(config) or config.out)
    return seen


def train_with(folder: Path, text: str) -> int:
    file = folder / "options.yaml"
    file.write_text(text, encoding="utf-8")
    given = [] if text.startswith("data") else ["--data", "d"]
    try:
        return gmd.cli.main(["train", "brats", *given, "--config", str(file)])
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("out: --resume", "out", Path("--resume")),
        ("out: -dash", "out", Path("-dash")),
        ("out: --config=x", "out", Path("--config=x")),
        ("device: --help", "device", "--help"),
        ("data: -x", "data", (Path("-x"),)),
        ("data: [a, ./-b]", "data", (Path("a"), Path("-b"))),
        ("lr: -1e-3", "lr", -1e-3),
        ("patience: -3", "patience", -3),
        ("patch: [-1, 2, 3]", "patch", (-1, 2, 3)),
        ("patterns: [flair=-*, t1=--out]", "patterns", ("flair=-*", "t1=--out")),
        ("no-deterministic: true", "deterministic", False),
        ("no_deterministic: false", "deterministic", False),
        ("modalities:", "modalities", TrainBrats.modalities),
    ],
)
def test_a_value_that_begins_with_a_dash_is_a_value(
    tmp_path: Path, trained: list[TrainBrats], text: str, name: str, value: object
):
    assert train_with(tmp_path, text) == 0
    assert [getattr(config, name) for config in trained] == [value]
    assert not any(config.resume for config in trained)


@pytest.mark.parametrize(("text", "value"), [("missing: 0.0", ()), ("missing: 0", ()), ("missing: 0.3", ("0.3",))])
def test_the_one_missing_rate_of_0_1_is_taken_as_it_is_typed_now(
    tmp_path: Path, trained: list[TrainBrats], text: str, value: tuple
):
    assert train_with(tmp_path, text) == 0
    assert trained[0].missing == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "modalities: [flair, --out, /elsewhere]",
            "modalities: got '--out' in a list, where it would be taken for an op",
        ),
        ("modalities: [flair, --resume]", "modalities: got '--resume' in a list"),
        ("data: [a, -b]", "data: got '-b' in a list, where it would be taken for an option; no name begins with -"),
        ("labels: [-o, x]", "labels: got '-o' in a list"),
        ("deterministic: --resume", "deterministic: got '--resume', expected true or false"),
        ("no_check: --out=x", "no_check: got '--out=x', expected true or false"),
        ("no_deterministic: --resume", "no_deterministic: got '--resume', expected true or false"),
        ("resume: --force", "resume: got '--force', expected true or false"),
        ("'out=/elsewhere': true", "out=/elsewhere: no option has such a name"),
        ("'resume true': 1", "resume true: no option has such a name"),
        ("'-resume': true", "-resume: no option has such a name"),
        ("help: true", "help: no option has such a name"),
        ("config: other.yaml", "config: no option has such a name"),
        ("modalities: [no]", "modalities: got False in a list, as YAML reads yes, no and null; put quotes around it"),
        ("modalities: [flair, null]", "modalities: got None in a list"),
        ("data: [[a]]", "data: expected a value or a list of values"),
        ("out: ''", "out: got '', expected a text that is not empty"),
        ('method: "\\e]0;owned\\a"', r"method: got '\x1b]0;owned\x07', expected a text that is not empty, without"),
        ('out: "a\\0b"', "out: got 'a\\x00b', expected a text that is not empty, without control characters"),
    ],
)
def test_what_would_become_an_option_is_refused(
    tmp_path: Path, trained: list[TrainBrats], capsys: pytest.CaptureFixture, text: str, said: str
):
    assert train_with(tmp_path, text) == 2
    assert f"gmd: error: {tmp_path / 'options.yaml'}: {said}" in capsys.readouterr().err
    assert not trained


@pytest.mark.parametrize("text", ["lr: --resume", "lr: true", "lr: [1, --out=x]", "epochs: '-o'", "RESUME: true"])
def test_a_value_of_the_wrong_kind_is_told_by_the_parser_or_refused(
    tmp_path: Path, trained: list[TrainBrats], capsys: pytest.CaptureFixture, text: str
):
    assert train_with(tmp_path, text) == 2
    assert not trained


@pytest.mark.parametrize("text", ["resume: true", "resume: [true, true]", "force: true", "no_resume: true"])
def test_to_go_on_with_a_run_is_for_the_line_to_say(tmp_path: Path, trained: list[TrainBrats], text: str):
    if train_with(tmp_path, text) == 0:
        assert [config.resume for config in trained] == [False]
    assert not any(config.resume for config in trained)


def test_the_line_still_overrides_the_file(tmp_path: Path, trained: list[TrainBrats]):
    (tmp_path / "a.yaml").write_text("out: -x\nmodalities: [flair, t1]\nlr: 1", encoding="utf-8")
    line = ["train", "brats", "--data", "d", "--config", str(tmp_path / "a.yaml"), "--out", "y", "--modalities", "t2"]
    assert gmd.cli.main(line) == 0
    [config] = trained
    assert (config.out, config.modalities, config.lr) == (Path("y"), ("t2",), 1)


def test_the_next_command_takes_such_a_folder_for_one(
    tmp_path: Path, trained: list[TrainBrats], capsys: pytest.CaptureFixture
):
    assert train_with(tmp_path, "out: --resume") == 0
    assert "trained: --resume; next: gmd evaluate ./--resume\n" in capsys.readouterr().out
