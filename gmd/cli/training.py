"""`gmd train`: options from a file, one run or the folds of a cross-validation, and how to go on when interrupted."""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from gmd.config import TASKS, TrainBrats, TrainConfig
from gmd.config.file import as_arguments, as_words
from gmd.config.presets import preset_values
from gmd.errors import UserError
from gmd.printing import say
from gmd.together import joined
from gmd.torchrun import started


def with_file(arguments: Sequence[str]) -> list[str]:
    """Replaces `--config FILE` among the arguments of `gmd train TASK` by the options that the file holds.

    They come before all else on the line, so that the line overrides them. Before the other options of a line or a file
    with `--preset` come those that the preset sets. The arguments of other commands stay as they are.
    Raises UserError: no file behind --config, and what `as_arguments` raises.
    """
    arguments = list(arguments)
    if arguments[:1] != ["train"] or len(arguments) < 2 or arguments[1] not in TASKS:
        return arguments
    task, rest = arguments[1], arguments[2:]
    kind, files = TASKS[task], []
    while index := next((i + 1 for i, word in enumerate(rest) if word.partition("=")[0] == "--config"), 0):
        _, joined, file = rest[index - 1].partition("=")
        if not joined and index == len(rest):
            raise UserError("--config: got nothing, expected a YAML file such as a run's config.yaml")
        files.append(Path(file if joined else rest[index]))
        rest = rest[: index - 1] + rest[index + (not joined) :]
    line = _given(rest)
    of_files = [word for file in files for word in as_arguments(file, kind, line)]
    of_preset = preset_values(line.get("preset"), kind, line)
    return ["train", task, *of_files, *as_words(of_preset), *rest]


def _given(words: Sequence[str]) -> dict[str, object]:
    """Returns the options that stand on a line, each with its first word."""
    given: dict[str, object] = {}
    for word, behind in pairwise([*words, ""]):
        if word.startswith("--"):
            name, joined, value = word[2:].partition("=")
            given[name.replace("-", "_")] = value if joined else behind
    return given


def train(config: TrainConfig, arguments: Sequence[str]) -> int:
    """Trains as configured, and returns the exit status.

    arguments: those that the configuration was made of, for the command that goes on after an interruption
    """
    here = started()
    try:
        with joined():
            runs = _train(config)
    except KeyboardInterrupt:
        begun = any((folder / "last.pt").exists() for folder in (config.out, *config.out.glob("fold*")))
        again = shlex.join([*arguments, *(["--resume"] if begun and not config.resume else [])])
        # not that all was saved: a second Ctrl-C stops in the middle of that
        hint = "what is saved goes on with" if begun else "nothing was trained yet. Start again with"
        if here.rank == 0:
            say("", f"gmd: interrupted; {hint}: {here.command} {again}", error=True)
        return 130
    other = ["--data", "UNSEEN_CASES"] if all(map(_is_without_tests, runs)) else []
    out = f"./{config.out}" if str(config.out).startswith("-") else str(config.out)  # it is no option
    evaluate = shlex.join(["evaluate", out, *other])
    say(f"trained: {', '.join(map(str, runs))}; next: {here.command} {evaluate}")
    return 0


def _is_without_tests(run: Path) -> bool:
    """Returns whether a run says that it has no test cases."""
    from gmd.training.saved_run import SPLITS_FILE, read_splits

    return (run / SPLITS_FILE).exists() and not read_splits(run).cases("test")


def _train(config: TrainConfig) -> list[Path]:
    """Trains one run, or all folds of a cross-validation, and returns their folders."""
    if isinstance(config, TrainBrats) and config.folds is not None and config.fold is None:
        from gmd.training.folds import train_folds

        return train_folds(config)
    from gmd.training.loop import train

    return [train(config)]
