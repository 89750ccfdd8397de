"""Writes docs/public-api.txt, all that others may build on: python -m docs.public_api

A line for each public name with its signature, and for each option of the command `gmd`, with its type and default.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints
from unittest import mock

import gmd
import gmd_kernels
from gmd.cli import parse

FILE = Path(__file__).with_name("public-api.txt")
ABOUT = (
    "# The public API. A change here is one for those who use gmd: docs/versions.md. Made by python -m docs.public_api"
)


def public_api() -> str:
    """Returns the text of the file."""
    lines = [ABOUT, "", "gmd.__version__", *_of_module(gmd, gmd.__all__), ""]
    lines += [*_of_module(gmd_kernels, [name for name in gmd_kernels.__all__ if name != "weightings"]), ""]
    lines += [*_of_module(gmd_kernels.weightings, gmd_kernels.weightings.__all__), ""]
    return "\n".join([*lines, *_of_commands("gmd", _commands())]) + "\n"


def _of_module(module: Any, names: Any) -> Iterator[str]:
    for name in sorted(names):
        value, called = getattr(module, name), f"{module.__name__}.{name}"
        if inspect.isclass(value):
            yield from _of_class(value, called)
        else:
            yield called + (_signature(value) if callable(value) else f" = {value!r}")


def _of_class(kind: type, called: str) -> Iterator[str]:
    """Yields the class as it is made, then its methods, properties and fields, those of our own bases among them."""
    yield called + ("" if issubclass(kind, Exception) else _signature(kind))
    ours = [base for base in kind.__mro__ if base.__module__.startswith("gmd")]
    for name in sorted({name for base in ours for name in vars(base) if not name.startswith("_")}):
        value = inspect.getattr_static(kind, name)
        if isinstance(value, property):
            yield f"{called}.{name} -> {_written(value.fget)['return']}"
        elif inspect.isfunction(value):
            yield f"{called}.{name}{_signature(value)}"


class _Text:
    """An annotation as it is written in the source, which is the same for every version of Python and of torch."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _signature(thing: Callable[..., Any]) -> str:
    """Returns how something is called: its parameters with their defaults, and what it returns."""
    signature, written = inspect.signature(thing), _written(thing)
    parameters = [
        parameter.replace(annotation=_Text(written[name])) if name in written else parameter
        for name, parameter in signature.parameters.items()
    ]
    returns = _Text(written["return"]) if "return" in written else inspect.Signature.empty
    return str(signature.replace(parameters=parameters, return_annotation=returns))


def _written(thing: Any) -> dict[str, str]:
    """Returns parameter -> its annotation in the source; "return" -> what a function returns."""
    if not inspect.isclass(thing):
        node = _parsed(inspect.unwrap(thing))
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        found = {each.arg: ast.unparse(each.annotation) for each in every if each is not None and each.annotation}
        return found | ({"return": ast.unparse(node.returns)} if node.returns else {})
    if "__init__" in vars(thing) and not hasattr(thing, "__dataclass_fields__"):
        return {name: text for name, text in _written(thing.__init__).items() if name != "return"}
    found = {}  # of a dataclass or a named tuple the fields, the nearest base last
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("gmd"):
            fields = [node for node in _parsed(base).body if isinstance(node, ast.AnnAssign)]
            found |= {ast.unparse(field.target): ast.unparse(field.annotation) for field in fields}
            if "__init__" in vars(base) and not hasattr(base, "__dataclass_fields__"):
                found |= _written(base)
    return found


def _parsed(thing: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


# The command `gmd`


class _Commands(dict[str, Any]):
    """Stands in for tyro's table of commands, and keeps what is put into it."""

    def command(self, thing: Any = None, *, name: str | None = None, help: str | None = None) -> Any:
        """Keeps a function, a class of options, or a table of commands of its own, by its name."""
        if thing is None:
            return partial(self.command, name=name, help=help)
        self[name or thing.__name__] = thing
        return thing

    def cli(self, **asked: Any) -> None:
        """Is called once all commands are there."""
        raise _Complete(self)


class _Complete(Exception):
    """Carries the table out of the function that fills it."""


def _commands() -> _Commands:
    with mock.patch("tyro.extras.SubcommandApp", _Commands):
        try:
            parse.run(["doctor"])
        except _Complete as complete:
            return complete.args[0]
    raise AssertionError("gmd.cli.parse asks nobody for the commands any more")


def _of_commands(line: str, table: _Commands) -> Iterator[str]:
    for name, thing in sorted(table.items()):
        if isinstance(thing, _Commands):
            yield from _of_commands(f"{line} {name}", thing)
            continue
        yield f"{line} {name}"
        written, hints = _written(thing), get_type_hints(thing)
        for option, parameter in sorted(inspect.signature(thing).parameters.items()):
            positional = written[option].startswith("Positional[")
            shown = option.upper() if positional else f"--{option.replace('_', '-')}"
            values = [] if "Literal[" in written[option] else _choices(hints[option])  # of a type by its own name
            one_of = f" of {', '.join(map(str, values))}" if values else ""
            default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
            yield f"{line} {name} {shown}: {written[option]}{one_of}{default}"


def _choices(hint: Any) -> list[Any]:
    """Returns the values that a type names, as Literal does, wherever in it."""
    inner = get_args(hint)
    return [value for each in inner for value in ([each] if isinstance(each, str | int) else _choices(each))]


if __name__ == "__main__":
    FILE.write_text(public_api(), encoding="utf-8")
    print(FILE)
