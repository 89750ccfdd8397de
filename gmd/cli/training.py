"""`gmd train`: options from a file, one run or the folds of a cross-validation, and how to go on when interrupted."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from gmd.config import TASKS, TrainBrats, TrainConfig
from gmd.config.file import as_arguments
from gmd.errors import UserError
from gmd.printing import say


def with_file(arguments: Sequence[str]) -> list[str]:
    """Replaces `--config FILE` among the arguments of `gmd train TASK` by the options that the file holds.

    They come before all else on the line, so that the line overrides them. The arguments of other commands stay as they
    are. Raises UserError: no file behind --config, and what `as_arguments` raises.
    """
    arguments = list(arguments)
    if arguments[:1] != ["train"] or len(arguments) < 2 or arguments[1] not in TASKS:
        return arguments
    task, rest = arguments[1], arguments[2:]
    options = []
    while index := next((i + 1 for i, word in enumerate(rest) if word.partition("=")[0] == "--config"), 0):
        _, joined, file = rest[index - 1].partition("=")
        if not joined and index == len(rest):
            raise UserError("--config: got nothing, expected a YAML file such as a run's config.yaml")
        options += as_arguments(Path(file if joined else rest[index]), TASKS[task])
        rest = rest[: index - 1] + rest[index + (not joined) :]
    return ["train", task, *options, *rest]


def train(config: TrainConfig, arguments: Sequence[str]) -> int:
    """Trains as configured, and returns the exit status.

    arguments: those that the configuration was made of, for the command that goes on after an interruption
    """
    try:
        runs = _train(config)
    except KeyboardInterrupt:
        started = any((folder / "last.pt").exists() for folder in (config.out, *config.out.glob("fold*")))
        again = shlex.join(["gmd", *arguments, *(["--resume"] if started and not config.resume else [])])
        # not that all was saved: a second Ctrl-C stops in the middle of that
        hint = "what is saved goes on with" if started else "nothing was trained yet. Start again with"
        say("", f"gmd: interrupted; {hint}: {again}", error=True)
        return 130
    other = ["--data", "UNSEEN_CASES"] if all(map(_is_without_tests, runs)) else []
    out = f"./{config.out}" if str(config.out).startswith("-") else str(config.out)  # it is no option
    evaluate = shlex.join(["gmd", "evaluate", out, *other])
    say(f"trained: {', '.join(map(str, runs))}; next: {evaluate}")
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
