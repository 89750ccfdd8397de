"""How many windows a volume takes, and the bar that counts them."""

import pytest
import torch

from gmd.scoring.segmentation.prediction import num_windows, predict_modalities
from helpers.predict_cases import Pointwise

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("patch", [16, (16, 8, 12)], ids=str)
@pytest.mark.parametrize("shape", [(5, 16, 17), (28, 29, 40), (41, 8, 9), (64, 12, 16)], ids=str)
def test_the_bar_ends_with_the_last_window(
    shape: tuple[int, ...], patch: int | tuple[int, ...], capsys: pytest.CaptureFixture
):
    """As many windows as MONAI cuts, for each modality."""
    network, calls = Pointwise(), []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    volumes = {m: torch.rand(1, *shape) + 1 for m in ("t1", "t2")}
    predict_modalities(network, volumes, patch, progress=True)
    assert len(calls) == 2 * num_windows(shape, patch)
    shown = capsys.readouterr().err
    assert f"windows:   0%|          | 0/{len(calls)} [" in shown
    predict_modalities(network, volumes, patch)
    assert capsys.readouterr().err == ""


def test_only_the_brain_is_counted(capsys: pytest.CaptureFixture):
    volume = torch.zeros(1, 64, 64, 64)
    volume[:, 10:26, 20:36, 40:57] = 1
    predict_modalities(Pointwise(), {"t1": volume}, 16, progress=True)
    assert "0/2 [" in capsys.readouterr().err
