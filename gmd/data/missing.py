"""Modalities taken away from samples that have them: by rates, the same ones in every epoch, or as a list says."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gmd.errors import UserError, shown

Rates = Mapping[str, float]  # modality -> the probability with which a sample that has it loses it, in [0, 1]


@dataclass(frozen=True)
class Missing:
    """What is taken away from the samples of a training or of an evaluation.

    Every modality of every sample gets a number in [0, 1) that depends on (seed, the sample's name, the modality) alone
    and is absent if that is below its rate. A sample that would lose all keeps the one whose number is the largest part
    of its rate. So what is absent at some rates is absent at k times these rates for every k above 1, and with one rate
    for M modalities that all samples have, the part rate - rate^M / M of the modalities is absent.

    Attributes:
        rates: of the modalities; those without one stay.
        seed: of the numbers.
        listed: name of a sample -> the modalities that it keeps of those that it has; None without a list. The rates
            are of what is left by it.
        source: the list, for messages.
    """

    rates: Rates = field(default_factory=dict)
    seed: int = 0
    listed: Mapping[str, Collection[str]] | None = None
    source: object = "the list"

    def __bool__(self) -> bool:
        return self.listed is not None or any(self.rates.values())

    def kept(self, name: str, has: Sequence[str]) -> list[str]:
        """Returns the modalities that a sample keeps of those that it has, at least one, in their order.

        A sample that the list does not name keeps what it has, before the rates.
        Raises UserError for one that has none of what the list leaves it.
        """
        left = list(has)
        if self.listed is not None and name in self.listed:
            left = [m for m in has if m in self.listed[name]]
            if not left:
                raise UserError(
                    f"{self.source}: leaves {shown(name, 80)} with {', '.join(self.listed[name]) or 'nothing'}, and it "
                    f"has {', '.join(has)}; expected at least one of these"
                )
        drawn = {m: _uniform(self.seed, name, m) for m in left}
        kept = [m for m in left if drawn[m] >= self.rates.get(m, 0.0)]
        return kept or [max(left, key=lambda m: drawn[m] / self.rates[m])]

    def kept_by(self, has: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        """Returns what each of several samples keeps: name -> some of its modalities. has: name -> those that it has"""
        return {name: tuple(self.kept(name, modalities)) for name, modalities in has.items()}

    def checksum(self) -> str | None:
        """Returns a checksum of what the list says; None without a list."""
        if self.listed is None:
            return None
        content = sorted((name, sorted(kept)) for name, kept in self.listed.items())
        return hashlib.blake2b(repr(content).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    def check_named(self, names: Collection[str]) -> None:
        """Raises UserError if the list names none of the samples: it is of other data then.

        names: of the samples
        """
        if self.listed is not None and not any(name in self.listed for name in names):
            ours, theirs = next(iter(names), "nothing"), next(iter(self.listed), "nothing")
            raise UserError(
                f"{self.source}: names no sample that there is; it begins with {shown(theirs, 80)}, and the samples "
                f"with {shown(ours, 80)}"
            )

    def label(self) -> str:
        """Returns what a line of a table is called whose samples lack this: `30 % absent, seed 0`, or `masks.csv`."""
        parts = [] if self.listed is None else [str(getattr(self.source, "name", self.source))]
        rates = [f"{m} {100 * rate:g} %" for m, rate in self.rates.items() if rate]
        if len(set(self.rates.values())) == 1:
            rates = rates and [f"{100 * next(iter(self.rates.values())):g} %"]
        parts += [f"{', '.join(rates)} absent, seed {self.seed}"] if rates else []
        return ", ".join(parts)

    def notes(self, what: str, names: Collection[str]) -> list[str]:
        """Returns sentences on what is taken away. what: the samples, such as "training samples"; names: theirs"""
        notes = []
        if self.listed is not None:
            known = sum(name in self.listed for name in names)
            rest = f"; the other {len(names) - known} keep what they have" if known < len(names) else ""
            notes.append(f"{known} of {len(names)} {what} have the modalities that {self.source} says{rest}")
        if any(self.rates.values()):
            notes.append(f"{what} lack modalities at random: {rates_text(self.rates)}; decided by --seed")
        return notes


def parse_rates(words: Sequence[str], modalities: Sequence[str], option: str = "--missing") -> dict[str, float]:
    """Returns the rate of each modality, from words of the command line.

    words: `0.3` for all modalities, `text=0.5` for one, which has precedence; nothing: no rates
    modalities: their names
    Raises UserError for a word of another form, a modality that is none, one that is given twice, a rate outside of
        [0, 1], and rates of 1 for all modalities, at which nothing would be left.
    """
    given: dict[str, float] = {}
    for word in words:
        name, equals, number = str(word).rpartition("=")
        if equals and name not in modalities:
            raise UserError(f"{option}: got {shown(word, 80)}, expected a rate of one of {', '.join(modalities)}")
        if name in given:
            raise UserError(f"{option}: got two rates {f'of {name}' if name else 'of all'}, expected one")
        given[name] = _rate(number, word, option)
    rates = {m: given.get(m, given.get("", 0.0)) for m in modalities}
    if rates and min(rates.values()) == 1:
        raise UserError(
            f"{option}: got 1 for every modality, at which no sample is left; expected less for one of them"
        )
    return rates if given else {}


def rates_text(rates: Rates) -> str:
    """Returns rates as one would type them: `0.3` if they are all the same, else `text=0.5 audio=0.2`."""
    if len(set(rates.values())) == 1:
        return f"{next(iter(rates.values())):g}"
    return " ".join(f"{m}={rate:g}" for m, rate in rates.items())


def _rate(number: str, word: str, option: str) -> float:
    try:
        rate = float(number)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise UserError(f"{option}: got {shown(word, 80)}, expected a probability from 0 to 1, or MODALITY=PROBABILITY")
    return rate


def _uniform(seed: int, name: str, modality: str) -> float:
    """Returns a hash in [0, 1): a generator would make one sample's draw depend on the samples before it."""
    # the name's length, so that no name with a modality in it is taken for another
    key = f"{seed} {len(name)} {name} {modality}".encode("utf-8", "surrogatepass")  # a file may be called anything
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # the digits that a float64 has
