"""The options of gradient surgery: which weights the objectives get, of what, how often."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from gmd.config.checks import check_option
from gmd.config.weighting_options import weighting_options
from gmd.errors import UserError
from gmd.surgery import Weighting
from gmd_kernels import weightings

EVERY: int | Literal["auto"] = 1  # how often weights are taken, if nobody says
GMD = ("gmd", "cggm-gmd")


@dataclass(frozen=True)
class Surgery:
    """The options of the methods that weigh the objectives' gradients; a part of every task's options.

    The text below a field is its --help.
    """

    weighting: str | None = None
    """surgery: what makes weights of the gradients' inner products, such as upgrad, cagrad, mgda or nash_mtl; all are
    in docs/methods.md."""
    weighting_options: tuple[str, ...] = ()
    """Options of the weighting, such as c=0.4 of cagrad, and of all smooth=0.9: the weights are averaged over steps."""
    granularity: Literal["model", "module", "tensor"] = "model"
    """What is weighed as one gradient: the whole model's, each module's or each tensor's. Conflicts that cancel out
    over the model show in its parts; the time is the same."""
    tol: float = 0.0
    """Error, relative to each objective's own gradient, up to which gmd may compress the gradients before it
    back-propagates them. 0: exact. At 0.1 a step takes about half of the backward passes, and fewer early on."""
    every: int | Literal["auto"] = EVERY
    """How often weights are taken: at every step (1), at every so many, or auto: the interval grows while they hardly
    move. The steps between are one backward pass, exact for the weights that there are, at the price of enumerate's."""
    fraction: float = 1.0
    """With --every, where batches are large: the part of a batch that weights are taken from. The samples with the most
    modalities come first, and as many more as it takes for every subset to be there."""

    # options that mean something to some methods only, and these methods
    FOR_SURGERY: ClassVar[dict[str, tuple[str, ...]]] = {
        "weighting": ("surgery",),
        "weighting_options": ("surgery",),
        "granularity": (*GMD, "surgery"),
        "tol": (*GMD, "surgery"),
        "every": (*GMD, "surgery"),
        "fraction": ("gmd", "surgery"),
    }

    def check_surgery(self, method: str) -> None:
        """Raises UserError for a value that cannot work, or that means nothing with the others."""
        check_option(self.tol < 1, "tol", self.tol, "less than 1, at which nothing is left of the gradients")
        some = self.every == "auto" or 0 < self.every < 2**32
        check_option(some, "every", self.every, "a number of steps, 1 or more, or auto")
        expected = f"1 with --granularity {self.granularity}: between, each loss has one weight for the whole model"
        check_option(self.every == 1 or self.granularity == "model", "every", self.every, expected)
        check_option(0 < self.fraction <= 1, "fraction", self.fraction, "more than 0, and at most 1, the whole batch")
        expected = "--every with it, a number above 1 or auto: between, a step is of the whole batch anyway"
        check_option(self.every != 1 or self.fraction == 1, "fraction", self.fraction, expected)
        if method == "surgery":
            self._check_weighting()

    def _check_weighting(self) -> None:
        """Raises UserError unless there is such a weighting, with such options."""
        known = self.weighting in weightings.NAMES
        expected = f"one of {', '.join(weightings.NAMES)} for --method surgery"
        check_option(known, "weighting", self.weighting or "nothing", expected)
        options = weighting_options(self.weighting_options)
        try:
            Weighting(str(self.weighting), **options)
        except (TypeError, ValueError) as error:
            raise UserError(f"--weighting-options: {error}") from error


# what runs of earlier versions, whose files lack it, were trained with
ADDED: dict[str, object] = {"weighting": None, "weighting_options": [], "every": 1, "fraction": 1.0}
