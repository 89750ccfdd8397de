"""What the values of a label map mean, and the regions that they make up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean.

    Attributes:
        name: what users and files call the scheme.
        meanings: label value -> what it stands for, 0 among them; a value of no region is background.
        regions: region -> its label values; a region that lies in another comes after it. See `paint` for the value
            that a voxel of some regions is written as.
    """

    name: str
    meanings: dict[int, str]
    regions: dict[str, tuple[int, ...]]

    @property
    def values(self) -> tuple[int, ...]:
        """Returns every label value that may occur, ascending."""
        return tuple(sorted(self.meanings))

    def includes(self, other: "LabelScheme") -> bool:
        """Returns whether the other scheme's values make up the same regions here; there may be more of both here."""
        return set(self.meanings) >= set(other.meanings) and all(
            set(values).intersection(other.meanings) == set(other.regions.get(region, ()))
            for region, values in self.regions.items()
        )

    def described(self) -> str:
        """Returns what each value and each region means, as `"1 oedema, 2 core; WT = 1 2, TC = 2"`."""
        values = ", ".join(f"{value} {self.meanings[value]}" for value in self.values if value)
        regions = ", ".join(f"{region} = {' '.join(map(str, sorted(own)))}" for region, own in self.regions.items())
        return f"{values}; {regions}"
