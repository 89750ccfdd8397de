"""The lines that `gmd advise` prints."""

import math
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from gmd.advice.evidence import Finding
from gmd.advice.rules import Advice
from gmd.advice.seen import Conflict, Seen
from gmd.advice.skill import Skill
from gmd.config.file import CONFIG

WIDTH = 100
FEW_UNITS, FEW_STEPS = 20, 20
SAME, TELLING = 0.5, 0.05  # points: an interval within the one is no difference, an end below the other rounds to none


def lines_of(seen: Seen, advice: Sequence[Advice]) -> list[str]:
    """Returns what a run shows, what to try next and why, and how sure that is."""
    lines = [f"{seen.run}: {seen.config.method}, {seen.epochs} of {seen.config.epochs} epochs, {seen.steps} steps"]
    lines += ["", "Seen", *_wrapped(_seen(seen))]
    for number, one in enumerate(advice, 1):
        what = "Try next" if number == 1 else "Or"
        does = "stay with this method" if one.method is None else command(seen, one)
        lines += ["", what, f"  {does}", *_wrapped(_reasons(one))]  # a command stays one line, to be copied
    return [*lines, "", "How sure", *_wrapped(_how_sure(seen, advice))]


def _wrapped(sentences: Iterable[str]) -> list[str]:
    """Returns each sentence in lines that fit a terminal, indented, the further ones more."""
    wrap = textwrap.TextWrapper(WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return [line for sentence in sentences for line in wrap.wrap(sentence)]


def counted(number: int, noun: str) -> str:
    """Returns `1 step` or `2 steps`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _seen(seen: Seen) -> Iterator[str]:
    if seen.conflict is not None:
        yield _of_conflict(seen.conflict)
    yield f"{seen.dominant} dominates" if seen.dominant else "no modality is known to dominate"
    if seen.skill is not None:
        yield from _of_skill(seen.skill)
    else:
        yield f"no scores yet: gmd evaluate {shlex.quote(str(seen.run))}"


def _of_conflict(conflict: Conflict) -> str:
    longest = "" if conflict.ratio is None else f"; the longest gradient is {conflict.ratio:.3g} times the shortest"
    pairs, compared = math.comb(conflict.objectives, 2), counted(conflict.steps, "step")
    share = f"{100 * conflict.share:.2g} % of {pairs} pairs of objectives conflict"
    return f"{share}, in the last {compared} that compared them{longest}"


def _of_skill(skill: Skill) -> Iterator[str]:
    worst = f"{skill.of[skill.worst]:.2f} with {skill.worst}"
    mean = f"{skill.mean:.2f} in the mean of the subsets"
    yield f"skill, {skill.what}: {skill.full:.2f} with all modalities, {mean}, {worst}"
    yield "by itself: " + ", ".join(f"{m} {value:.2f}" for m, value in skill.alone.items())


def _reasons(advice: Advice) -> Iterator[str]:
    yield f"why: {advice.why}"
    for finding in advice.evidence:
        yield f"measured: {_quoted(finding)}"


def command(seen: Seen, advice: Advice) -> str:
    """Returns the command that trains what is advised: the run's options, but for the method and what goes with it."""
    assert advice.method is not None
    config = seen.config
    words = ["gmd", "train", config.TASK, "--config", str(seen.run / CONFIG), "--method", advice.method]
    given = advice.options[::2]
    for name, methods in type(config).FOR.items():
        ordinary = getattr(type(config), name)
        if advice.method not in methods and getattr(config, name) != ordinary and f"--{name}" not in given:
            words += [f"--{name.replace('_', '-')}", *_as_words(ordinary)]
    words += [*advice.options, "--out", f"{seen.run}-{advice.method}"]
    return shlex.join(words)


def _as_words(value: object) -> list[str]:
    """Returns the value of an option as words of a line."""
    return [str(part) for part in value] if isinstance(value, tuple) else [str(value)]


def _quoted(finding: Finding) -> str:
    """Returns a finding in words: what it is of, the gain with its interval, and what that shows."""
    conflicts = "" if finding.conflicts is None else f", {100 * finding.conflicts:.2g} % of pairs in conflict"
    low, high = finding.mean_low, finding.mean_high
    same = "the same" if max(-low, high) <= SAME else "no difference is shown"
    shown = same if low <= TELLING and high >= -TELLING else "a gain" if low > 0 else "a loss"
    return (
        f"{finding.data}{conflicts}: {finding.method} {finding.mean:+.1f} points of {finding.score} more than "
        f"{finding.against} in the mean of the subsets ({low:+.1f} to {high:+.1f}, {finding.seeds} seeds): {shown}"
    )


def _how_sure(seen: Seen, advice: Sequence[Advice]) -> Iterator[str]:
    if seen.conflict is not None and seen.conflict.steps < FEW_STEPS:
        yield f"conflicts are of {counted(seen.conflict.steps, 'step')} only: they may change"
    if seen.epochs < seen.config.epochs:
        yield f"the training is at {seen.epochs} of {seen.config.epochs} epochs: conflicts grow as a rule"
    if seen.skill is not None:
        gap, noun = seen.skill.gap, seen.skill.unit_noun
        if gap.units < FEW_UNITS:
            yield f"skill is of {counted(gap.units, noun)} only: one more may turn it"
        yield f"all modalities less the mean of the subsets: {gap.difference:.2f} ({gap.low:.2f} to {gap.high:.2f})"
    if any(one.evidence for one in advice):
        yield "what was measured is of other data, small networks, and few seeds: it is a hint, and gmd compare decides"
    else:
        yield "nothing measured bears on this: gmd compare decides"
