"""A run's options as a YAML file: written with the run, and accepted back by `gmd train TASK --config FILE`."""

import os
from pathlib import Path

import yaml

from gmd.config.train_config import TrainConfig
from gmd.data.file_kind import other_kind
from gmd.data.text_files import MOST_YAML, parse_yaml, read_text_of_run
from gmd.errors import UserError, shown
from gmd.files import replacing

CONFIG = "config.yaml"


def write_config(path: Path, config: TrainConfig) -> None:
    """Writes a run's options. Raises OSError if it cannot be written; what was there before is intact then."""
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    with replacing(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        file.write(
            f"# The options of this run. The same again: gmd train {config.TASK} --config THIS --out ANOTHER\n{text}"
        )
        file.flush()
        os.fsync(file.fileno())


def read_yaml(path: Path) -> dict:
    """Reads option -> value, as the file has it.

    Raises UserError: no such file, no file at all, no YAML, or something else than options.
    """
    try:
        values = parse_yaml(read_text_of_run(path, MOST_YAML))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a run's {CONFIG} or one of your own"
        ) from error
    except UserError:
        raise
    except ValueError as error:
        reason = shown(" ".join(str(error).split()), 300)
        raise UserError(f"{path}: not YAML ({reason}){other_kind(path)}; mend it or restore it from a copy") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        got = f"{type(values).__name__}{other_kind(path, own=('empty',))}"
        raise UserError(f"{path}: expected lines of the form `option: value`, got {got}")
    return values


def as_arguments(path: Path, task: str) -> list[str]:
    """Reads options as one would type them, so that one parser reads file and command line and speaks of both alike.

    Raises UserError: as `read_yaml`; options of another task; a name that cannot be shown; a value that is a mapping.
    """
    values = read_yaml(path)
    if values.pop("task", task) != task:
        raise UserError(f"{path}: options of another task; expected task: {task}, or none")
    arguments = []
    for name, value in values.items():
        if shown(name) != name:
            raise UserError(f"{path}: {name}: no option has such a name; take it out")
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, (dict, list)) for item in items):
            raise UserError(f"{path}: {name}: expected a value or a list of values, got {value}")
        # absent, no and nothing are what an option is that does not stand on the line; and a run that was gone on with
        # is not therefore one to go on with
        if value is None or value is False or value == [] or name == "resume":
            continue
        arguments += [f"--{name.replace('_', '-')}", *([] if value is True else map(str, items))]
    return arguments
