"""From what a run shows to what to try next: a few rules, each with its reason and what was measured of it.

The rules are those of docs/methods.md. They are ordered: the first that applies is the first advice.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gmd.advice.evidence import Finding
from gmd.advice.seen import Seen

FULL_SET = ("joint", "cggm", "ogm-ge")  # whose only loss is that of all modalities
SURGERY = ("gmd", "surgery", "cggm-gmd")
RARE = 0.01  # share of pairs in conflict below which surgery has next to nothing to do
WEAK = 0.15  # skill of a modality that tells next to nothing by itself
GAP = 0.05  # skill that the mean of the subsets lacks to all modalities, where that is worth a training
QUOTED = 2  # findings, of the data whose conflicts are nearest


class Advice(NamedTuple):
    """A training to try next.

    Attributes:
        method: of `gmd train`; None: go on with the run's own.
        options: others that it needs, as --name and value.
        why: a sentence.
        evidence: what was measured that bears on it; maybe nothing.
    """

    method: str | None
    options: tuple[str, ...]
    why: str
    evidence: Sequence[Finding]


def advise_on(seen: Seen, findings: Sequence[Finding]) -> list[Advice]:
    """Returns what to try next, the most promising first; at least one advice."""
    skill = seen.skill
    if skill is not None and skill.full < WEAK:
        why = (
            f"even all modalities tell next to nothing (skill {skill.full:.2f}): a longer training, another learning "
            "rate or other data come before another method"
        )
        return [Advice(None, (), why, [])]
    if seen.config.method in FULL_SET:
        return [_of_the_full_set(seen, findings)]
    found = [*_on_weak_modalities(seen, findings), *_on_conflicts(seen, findings), *_on_dominance(seen, findings)]
    return found or [Advice(None, (), "nothing here speaks for another method", [])]


def _of_the_full_set(seen: Seen, findings: Sequence[Finding]) -> Advice:
    """Of a run that trained with all modalities only: whether subsets are worth it."""
    if seen.skill is None:
        why = "what subsets lose is told by their scores: evaluate first"
        return Advice(None, (), why, [])
    gap = seen.skill.gap
    if gap.difference < GAP or not gap.low > 0:
        why = f"the mean of the subsets is not {GAP} below all modalities, or that may be chance: little can be won"
        return Advice(None, (), why, [])
    why = (
        f"the mean of the subsets is {gap.difference:.2f} below all modalities, and training on subsets costs about "
        "what joint does. It wins where each modality tells something, and loses where one tells nothing"
    )
    known = [f for f in findings if (f.method, f.against) == ("enumerate", "joint") and f.weakest is not None]
    return Advice("enumerate", (), why, sorted(known, key=lambda finding: -(finding.weakest or 0)))


def _on_weak_modalities(seen: Seen, findings: Sequence[Finding]) -> list[Advice]:
    """Of a run that trained on subsets: whether some of them are not worth it."""
    weak = [] if seen.skill is None else [m for m, skill in seen.skill.alone.items() if skill < WEAK]
    if not weak:
        return []
    why = (
        f"by itself {' and by itself '.join(weak)} tells next to nothing, though it was trained for: its objectives "
        "pull at the network for nothing. If it is never the only one there, train on all modalities"
    )
    known = [f for f in findings if (f.method, f.against) == ("enumerate", "joint") and f.weakest is not None]
    return [Advice("joint", (), why, sorted(known, key=lambda finding: finding.weakest or 0)[:1])]


def _on_conflicts(seen: Seen, findings: Sequence[Finding]) -> list[Advice]:
    """Of a run that trained on subsets: whether surgery pays."""
    if seen.config.method not in SURGERY:
        if seen.config.method not in ("enumerate", "dropout", "scalarised"):
            return []
        why = (
            "whether surgery has anything to do is told by the share of pairs in conflict, which this method does not "
            "look at; weights now and then cost about one and a half times as much, and tell it"
        )
        return [Advice("gmd", ("--every", "auto"), why, _nearest(findings, None))]
    if seen.conflict is None:
        return [Advice(None, (), "no step has compared gradients yet: look again later", [])]
    share, near = seen.conflict.share, _nearest(findings, seen.conflict.share)
    told = f"{100 * share:.2g} % of the pairs of objectives conflict"
    if share < RARE:
        return [Advice("enumerate", (), f"{told}: surgery is nearly the mean, dearly bought", near)]
    if near and all(finding.mean_low > 0 for finding in near):
        return [Advice(None, (), f"{told}, and surgery has paid where as many did", near)]
    why = f"{told}; whether surgery pays then is told by the mean of the same losses, which costs less"
    return [Advice("enumerate", (), why, near)]


def _on_dominance(seen: Seen, findings: Sequence[Finding]) -> list[Advice]:
    """Where the network leans on one modality, and the task has methods for that."""
    if seen.dominant is None or "mla" not in type(seen.config).methods() or seen.config.method == "mla":
        return []
    why = f"the network leans on {seen.dominant}; in mla the modalities take turns, in a network of branches"
    known = [finding for finding in findings if finding.method == "mla"]
    return [Advice("mla", ("--network", "branches"), why, known[:QUOTED])]


def _nearest(findings: Sequence[Finding], share: float | None) -> list[Finding]:
    """Returns findings of gmd against enumerate, of the data whose conflicts are nearest to this share; None: all."""
    known = [f for f in findings if (f.method, f.against) == ("gmd", "enumerate") and f.conflicts is not None]
    if share is None:
        return sorted(known, key=lambda finding: -(finding.conflicts or 0))[:QUOTED]

    def distance(finding: Finding) -> float:
        return abs(math.log((finding.conflicts or 0) + RARE / 2) - math.log(share + RARE / 2))

    return sorted(known, key=distance)[:QUOTED]
