"""What a file claims to need is believed up to half of the memory, or to what the user allows."""

from pathlib import Path

import pytest

from gmd.errors import UserError
from gmd.memory_limit import check_claim, most_bytes


def test_half_of_the_memory_by_default():
    assert 10**8 < most_bytes() < 10**14


def test_the_user_may_allow_more_or_less(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GMD_MAX_GB", "0.5")
    check_claim(Path("a.nii"), 5 * 10**8, "a volume")
    with pytest.raises(UserError, match=r"a\.nii: a volume would take 0\.6 GB .* may take 0\.5.* GMD_MAX_GB=1 in"):
        check_claim(Path("a.nii"), 6 * 10**8, "a volume")


@pytest.mark.parametrize("given", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv("GMD_MAX_GB", given)
    with pytest.raises(UserError, match="GMD_MAX_GB: got"):
        most_bytes()
