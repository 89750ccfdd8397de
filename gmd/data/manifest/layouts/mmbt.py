"""Lists of MMBT (Kiela et al., 2019), which QMF and MLA took over: `train.jsonl`, `dev.jsonl` and `test.jsonl`."""

from collections.abc import Callable, Iterator
from pathlib import Path

from gmd.data.manifest.layouts.layout import Lists
from gmd.data.manifest.layouts.listed import Listed, Part, checked_name, checked_path, lines_of
from gmd.data.text_files import brief, parse_json
from gmd.errors import UserError, shown

KEYS = '{"id": ..., "label": ..., "text": ..., "img": ...}'


def lists(label_of: Callable[[str, object], str]) -> Lists:
    """Returns the lists of a data set whose labels `label_of` checks, from where one stands and the label."""

    def read(path: Path, part: Part) -> Iterator[Listed]:
        for where, line in lines_of(path):
            try:
                value = parse_json(line)
            except ValueError as error:
                raise UserError(f"{where}: no JSON ({shown(error, 200)}); expected a line {KEYS}") from error
            yield described(where, value, part, label_of, ("text", "img"))

    return Lists("mmbt", {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}, read)


def described(
    where: str, value: object, part: Part, label_of: Callable[[str, object], str], keys: tuple[str, str]
) -> Listed:
    """Returns the sample that an object of JSON describes. Raises UserError for one that lacks something.

    keys: of its text, words or a list of words, and of its picture; either may be null, for a sample without it
    """
    of_text, of_image = keys
    if not isinstance(value, dict) or not {"id", "label", *keys} <= value.keys():
        raise UserError(f'{where}: got {brief(value)}, expected {{"id": ..., "label": ..., {of_text}, {of_image}}}')
    name = str(value["id"]) if isinstance(value["id"], int) else value["id"]
    fields = _text(where, value[of_text])
    if value[of_image] is not None:
        fields["image"] = checked_path(where, value[of_image])
    name = checked_name(where, name)
    label = label_of(where, value["label"])
    return Listed(name, label, part, where, {"text": fields.get("text", "")}, fields)


def _text(where: str, value: object) -> dict[str, str]:
    """Returns a text, of words in a list with spaces between them, or tokens. Raises UserError for anything else."""
    if value is None or isinstance(value, str):
        return {"text": value or ""}
    if isinstance(value, list):
        if all(isinstance(word, str) for word in value):
            return {"text": " ".join(value)}
        if all(type(token) is int and token >= 0 for token in value):
            return {"tokens": str(value)}
    raise UserError(f"{where}: got the text {brief(value)}, expected text, or a list of words or of tokens")
