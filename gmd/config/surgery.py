"""The options of gradient surgery: which weights the objectives get, of what, how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar, Literal

import torch

from gmd.config.checks import check_option
from gmd.config.weighting_options import weighting_options
from gmd.errors import UserError
from gmd.subsets import all_subsets, subset_name
from gmd.surgery import Weighting
from gmd.surgery._options import check_options
from gmd.surgery._scalarisations import RULES
from gmd_kernels import MAX_OBJECTIVES, weightings

WITH_SURGERY = ("gmd", "cggm-gmd", "surgery")
OF_THE_RUN = ("steps", "generator")  # options of rules that a training sets itself


@dataclass(frozen=True)
class Surgery:
    """The options of the methods that weigh the objectives' gradients; a part of every task's options.

    The text below a field is its --help.
    """

    weighting: str | None = None
    """surgery: what makes weights of the gradients' inner products, such as upgrad, cagrad, mgda or nash_mtl; all are
    in docs/methods.md. scalarised: what makes one loss of all, stch, famo, dwa, uw, rlw or gls."""
    weighting_options: tuple[str, ...] = ()
    """Options of the weighting, such as c=0.4 of cagrad, and of all smooth=0.9: the weights are averaged over steps."""
    granularity: Literal["model", "module", "tensor"] = "model"
    """What is weighed as one gradient: the whole model's, each module's or each tensor's. Conflicts that cancel out
    over the model show in its parts; the time is the same."""
    tol: float = 0.0
    """Error, relative to each objective's own gradient, up to which gmd may compress the gradients before it
    back-propagates them. 0: exact. At 0.1 a step takes about half of the backward passes, and fewer early on. With
    --every the error is in the weights alone."""
    every: int | Literal["auto"] = 1
    """How often weights are taken: at every step (1), at every so many, or auto: the interval grows while they hardly
    move. The steps between are one backward pass, exact for the weights that there are, at the price of enumerate's."""
    fraction: float = 1.0
    """With --every, where batches are large: the part of a batch that weights are taken from. The samples with the most
    modalities come first, and as many more as it takes for every subset to be there."""

    scope: Literal["global", "local"] = "global"
    """In several processes: whose gradients are operated on. global: those of the whole batch, as in one process.
    local: each process operates on its own share of the batch, and what they merge is averaged, which is another
    method: with fewer samples, more conflicts."""

    # options that mean something to some methods only, and these methods
    FOR_SURGERY: ClassVar[dict[str, tuple[str, ...]]] = {
        "weighting": ("surgery", "scalarised"),
        "weighting_options": ("surgery", "scalarised"),
        "granularity": WITH_SURGERY,
        "tol": WITH_SURGERY,
        "every": WITH_SURGERY,
        "fraction": ("gmd", "surgery"),
        "scope": ("gmd", "surgery"),
    }

    def check_surgery(self, method: str, modalities: Sequence[str]) -> None:
        """Raises UserError for a value that cannot work, or that means nothing with the others."""
        check_option(self.tol < 1, "tol", self.tol, "less than 1, at which nothing is left of the gradients")
        some = self.every == "auto" or 0 < self.every < 2**32
        check_option(some, "every", self.every, "a number of steps, 1 or more, or auto")
        expected = f"1 with --granularity {self.granularity}: between, each loss has one weight for the whole model"
        check_option(self.every == 1 or self.granularity == "model", "every", self.every, expected)
        check_option(0 < self.fraction <= 1, "fraction", self.fraction, "more than 0, and at most 1, the whole batch")
        expected = "--every with it, a number above 1 or auto: between, a step is of the whole batch anyway"
        check_option(self.every != 1 or self.fraction == 1, "fraction", self.fraction, expected)
        if method in self.FOR_SURGERY["weighting"] and modalities:  # which the data may decide
            self._check_weighting(method, [subset_name(subset) for subset in all_subsets(modalities)])

    def _check_weighting(self, method: str, objectives: Sequence[str]) -> None:
        """Raises UserError unless there is such a weighting, with such options. objectives: their names"""
        names = weightings.NAMES if method == "surgery" else tuple(RULES)
        expected = f"one of {', '.join(names)} for --method {method}"
        check_option(self.weighting in names, "weighting", self.weighting or "nothing", expected)
        options: dict[str, Any] = dict(weighting_options(self.weighting_options))
        options_known = _options_of(method, str(self.weighting))
        for name, value in options.items():
            check_option(name in options_known, "weighting_options", name, f"some of {', '.join(options_known)}")
            if isinstance(value, dict):
                check_option(set(value) == set(objectives), "weighting_options", name, _each(name, objectives))
            if name == "primary":
                check_option(value in objectives, "weighting_options", f"primary={value}", _one(objectives))
        try:
            _try(method, str(self.weighting), options)
        except (TypeError, ValueError) as error:
            raise UserError(f"--weighting-options: {error}") from error
        if method == "surgery" and len(objectives) <= MAX_OBJECTIVES:  # more are refused otherwise
            _try_on(objectives, str(self.weighting), options)


def _options_of(method: str, name: str) -> tuple[str, ...]:
    """Returns the options of a weighting that are for the user to choose."""
    if method == "surgery":
        return (*weightings.options_of(name), "smooth")
    return tuple(option for option in signature(RULES[name]).parameters if option not in OF_THE_RUN)


def _try(method: str, name: str, options: dict[str, Any]) -> None:
    """Raises ValueError or TypeError for options that cannot be."""
    if method == "surgery":
        Weighting(name, **options)
        return
    parameters = signature(RULES[name]).parameters
    check_options(f"rule {name!r}", options, {key: parameters[key] for key in parameters if key not in OF_THE_RUN})
    RULES[name](**options, **({"steps": 1} if "steps" in parameters else {}))


def _try_on(objectives: Sequence[str], name: str, options: dict[str, Any]) -> None:
    """Raises UserError for a weighting that cannot be of so many objectives. objectives: their names"""
    random = "generator" in signature(weightings.named(name)).parameters
    weighting = Weighting(name, generator=torch.Generator() if random else None, **options)
    losses = torch.ones(len(objectives))
    try:
        weighting(torch.eye(len(objectives), dtype=torch.float64), tuple(objectives), losses)
    except ValueError as error:
        raise UserError(f"--weighting {name}: {error}") from error


def _each(name: str, objectives: Sequence[str]) -> str:
    return f"{name}=OBJECTIVE:NUMBER,... with a number for each of {', '.join(objectives)}"


def _one(objectives: Sequence[str]) -> str:
    return f"an objective, one of {', '.join(objectives)}"


# what runs of earlier versions, whose files lack it, were trained with
ADDED: dict[str, object] = {"weighting": None, "weighting_options": [], "every": 1, "fraction": 1.0, "scope": "global"}
