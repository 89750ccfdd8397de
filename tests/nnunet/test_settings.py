"""The numbers that stand in nnU-Net's plans for gmd's trainers."""

import pytest

from gmd.errors import UserError
from gmd.nnunet.settings import Settings, settings_of


def test_without_the_key_they_are_those_of_before():
    assert settings_of({"batch_size": 2}, "plans") == Settings()
    assert Settings().of_nnunet == {}


def test_some_are_given():
    settings = settings_of({"gmd": {"every": "auto", "tol": 0, "num_epochs": 3}}, "plans")
    assert settings == Settings(every="auto", tol=0, num_epochs=3)
    assert settings.of_nnunet == {"num_epochs": 3}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([8], r"plans, gmd: got \[8\], expected an object with some of every, tol"),
        ({"evry": 8}, "plans, gmd: got 'evry', expected some of every, tol, num_epochs"),
        ({"every": 0}, 'plans, gmd, every: got 0, expected a number of steps, 1 or more, or "auto"'),
        ({"every": "often"}, "every: got 'often'"),
        ({"every": True}, "every: got True"),
        ({"every": 1.5}, r"every: got 1\.5"),
        ({"tol": 1}, "tol: got 1, expected a relative error, at least 0 and below 1"),
        ({"tol": "0.1"}, r"tol: got '0\.1'"),
        ({"tol": True}, "tol: got True"),
        ({"tol": float("nan")}, "tol: got nan"),
        ({"num_epochs": 0}, "num_epochs: got 0, expected a number, 1 or more"),
        ({"num_iterations_per_epoch": 2.0}, r"num_iterations_per_epoch: got 2\.0"),
        ({"num_val_iterations_per_epoch": None}, "num_val_iterations_per_epoch: got None"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, told):
    with pytest.raises(UserError, match=told):
        settings_of({"gmd": given}, "plans")
