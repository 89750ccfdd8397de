"""Absent modalities: fixed for each sample, whatever the order; never all of them; by rates or as a list says."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gmd.data.missing import Missing, parse_rates, rates_text
from gmd.data.sequences.missing_modalities import make_absent
from gmd.data.sequences.samples import Sample
from helpers.nifti_cases import error_of

MODALITIES = ("text", "audio", "vision")
rate = st.floats(0, 1)
rates = st.fixed_dictionaries({m: rate for m in MODALITIES})
seeds = st.integers(0, 2**32)
sets = st.lists(
    st.tuples(st.text(max_size=8), st.sets(st.sampled_from(MODALITIES), min_size=1)),
    max_size=12,
    unique_by=lambda item: item[0],
)


def samples_of(items):
    return [
        Sample(name, {m: torch.ones(2, 3) for m in MODALITIES if m in modalities}, torch.tensor(1.0))
        for name, modalities in items
    ]


def present(samples):
    return {sample.name: tuple(sample.values) for sample in samples}


def everywhere(rate: float) -> dict[str, float]:
    return dict.fromkeys(MODALITIES, rate)


@settings(deadline=None)
@given(sets, rates, seeds, st.randoms(use_true_random=False))
def test_what_is_absent_depends_on_seed_name_and_modality_alone(items, rates, seed, random):
    samples, missing = samples_of(items), Missing(rates, seed)
    kept = present(make_absent(samples, missing))
    random.shuffle(samples)
    assert present(make_absent(samples, missing)) == kept
    for sample in samples:
        assert present(make_absent([sample], missing))[sample.name] == kept[sample.name]


@settings(deadline=None)
@given(sets, rates, st.floats(0, 1), seeds)
def test_one_modality_at_least_is_left_and_what_is_left_is_untouched(items, rates, factor, seed):
    """And what is left at some rates is left at any part of them."""
    assume(all(rate * factor > 0 for rate in rates.values() if rate))  # no quotient of tiny numbers
    samples = samples_of(items)
    less = make_absent(samples, Missing(rates, seed))
    more = make_absent(samples, Missing({m: factor * rate for m, rate in rates.items()}, seed))
    for sample, few, many in zip(samples, less, more, strict=True):
        assert few.values
        assert set(few.values) <= set(many.values) <= set(sample.values)
        assert all(few.values[m] is sample.values[m] for m in few.values)
        assert few.target is sample.target
        assert list(few.values) == [m for m in MODALITIES if m in few.values]


def test_no_rates_leave_all_as_it_is():
    samples = samples_of([("a", {"text"}), ("b", set(MODALITIES))])
    assert present(make_absent(samples, Missing(everywhere(0.0), 7))) == present(samples)
    assert not Missing(everywhere(0.0))
    assert Missing({"text": 0.1})


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.999])
def test_the_rate_is_observed_within_binomial_bounds(rate):
    count = 4000
    samples = samples_of([(f"sample {i}", set(MODALITIES)) for i in range(count)])
    kept = present(make_absent(samples, Missing(everywhere(rate), 3)))
    expected = 1 - rate + rate**3 / 3  # of three: all of them would be lost with rate^3, and one of them is kept then
    for modality in MODALITIES:
        share = sum(modality in names for names in kept.values()) / count
        assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)
    # independent: two are there together as often as their rates say
    both = sum({"text", "audio"} <= set(names) for names in kept.values()) / count
    assert abs(both - (1 - rate) ** 2) < 4.5 * math.sqrt(0.25 / count)


def test_each_modality_has_its_own_rate():
    """PASSION's imbalanced missing rates: of four modalities .2, .4, .6 and .8, of which each sample keeps one."""
    rates, count = {"text": 0.2, "audio": 0.8}, 4000
    samples = samples_of([(f"sample {i}", set(MODALITIES)) for i in range(count)])
    kept = present(make_absent(samples, Missing(rates, 5)))
    for modality in MODALITIES:  # vision, which has no rate, always stays, so nothing has to be kept for want of others
        share, expected = sum(modality in names for names in kept.values()) / count, 1 - rates.get(modality, 0)
        assert abs(share - expected) <= 4.5 * math.sqrt(expected * (1 - expected) / count)


def test_another_seed_or_name_or_modality_draws_anew():
    samples = samples_of([(f"sample {i}", set(MODALITIES)) for i in range(200)])
    draws = [make_absent(samples, Missing(everywhere(0.5), seed)) for seed in (0, 1)]
    assert present(draws[0]) != present(draws[1])
    assert {tuple(sample.values) for sample in draws[0]} > {("text",), ("audio",), ("vision",), ("text", "audio")}


def test_names_that_are_in_no_encoding_are_drawn_for_too():
    """A bug: a case whose folder's name is no UTF-8 ended in a traceback."""
    assert Missing(everywhere(0.5)).kept("case\udcff", MODALITIES)


# ---- lists ----


def test_a_list_says_what_is_kept_of_what_there_is():
    samples = samples_of([("a", set(MODALITIES)), ("b", {"text", "vision"}), ("c", {"audio"})])
    missing = Missing(listed={"a": ("audio",), "b": ("audio", "vision")}, source="masks.csv")
    assert present(make_absent(samples, missing)) == {"a": ("audio",), "b": ("vision",), "c": ("audio",)}
    [note] = missing.notes("training samples", ["a", "b", "c"])
    assert note.startswith("2 of 3 training samples have the modalities that masks.csv says; the other 1 keep")
    assert missing.label() == "masks.csv"


def test_rates_are_of_what_the_list_leaves():
    samples = samples_of([(f"{i}", set(MODALITIES)) for i in range(50)])
    missing = Missing({"text": 1.0}, 0, {f"{i}": ("text", "audio") for i in range(50)})
    assert set(present(make_absent(samples, missing)).values()) == {("audio",)}


def test_a_list_that_leaves_a_sample_nothing_is_refused():
    missing = Missing(listed={"a": ("audio",)}, source="masks.csv")
    reason = error_of(make_absent, samples_of([("a", {"text"})]), missing)
    assert reason == "masks.csv: leaves a with audio, and it has text; expected at least one of these"


def test_a_list_of_other_samples_is_refused():
    missing = Missing(listed={"a": ("audio",)}, source="masks.csv")
    reason = error_of(make_absent, samples_of([("b", {"text"})]), missing)
    assert reason == "masks.csv: names no sample that there is; it begins with a, and the samples with b"


def test_the_checksum_is_of_what_the_list_says():
    one, same = {"a": ("text",), "b": ("audio", "text")}, {"b": ("text", "audio"), "a": ("text",)}
    assert Missing(listed=one).checksum() == Missing(listed=same).checksum()
    assert Missing(listed=one).checksum() != Missing(listed=one | {"a": ("audio",)}).checksum()
    assert Missing({"text": 0.5}).checksum() is None


# ---- words of the command line ----


@pytest.mark.parametrize(
    ("words", "rates", "label"),
    [
        (["0.3"], everywhere(0.3), "30 % absent, seed 0"),
        (["text=0.5"], {"text": 0.5, "audio": 0.0, "vision": 0.0}, "text 50 % absent, seed 0"),
        (["0.2", "vision=1"], {"text": 0.2, "audio": 0.2, "vision": 1.0}, None),
        (["0"], everywhere(0.0), ""),
        ([], {}, ""),
    ],
)
def test_words_are_rates(words, rates, label):
    assert parse_rates(words, MODALITIES) == rates
    if label is not None:
        assert Missing(rates).label() == label
    if rates:
        assert parse_rates(rates_text(rates).split(), MODALITIES) == rates


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1"], "got 1 for every modality, at which no sample is left"),
        (["text=1", "audio=1", "vision=1"], "got 1 for every modality"),
        (["-0.1"], "got -0.1, expected a probability from 0 to 1"),
        (["nan"], "got nan, expected a probability"),
        (["much"], "got much, expected a probability"),
        (["text="], "got text=, expected a probability"),
        (["smell=0.1"], "got smell=0.1, expected a rate of one of text, audio, vision"),
        (["0.1", "0.2"], "got two rates of all, expected one"),
        (["text=0.1", "text=0.2"], "got two rates of text, expected one"),
    ],
)
def test_other_words_are_refused(words, said):
    assert f"--missing: {said}" in error_of(parse_rates, words, MODALITIES)
