"""gmd.GMD in a MONAI training loop: MONAI's loading, transforms, cache, network and loss; our two lines."""

import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd, RandFlipd

from gmd.subsets import all_subsets
from helpers.multimodal_cases import assert_equal, surgeon_of

# MONAI's flip writes a tensor into an array of numpy's, of which numpy 2.2 warns
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TWO = ("flair", "t1ce")
SUBSETS = all_subsets(TWO)
OPTIONS = {"losses": {}, "outputs": {}, "tol": {"tol": 0.2}, "module": {"granularity": "module"}}


@pytest.fixture(scope="module")
def cached(phantoms):
    """Four cases of 32 voxels along each axis, as MetaTensors."""
    folders = sorted(path.parent for path in phantoms.rglob("*_flair.nii.gz"))[:4]
    files = [{m: folder / f"{folder.name}_{m}.nii.gz" for m in (*TWO, "seg")} for folder in folders]
    keys = (*TWO, "seg")
    steps = [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        NormalizeIntensityd(TWO, nonzero=True),
        RandFlipd(keys, prob=0.5, spatial_axis=0),
    ]
    return CacheDataset(files, Compose(steps), progress=False)


def train(cached, way, plain=False, epochs=1):
    """[steps, T] losses, and the parameters; `plain`: of torch's own tensors in the place of MetaTensors."""
    cached.transform.set_random_state(seed=0)
    torch.manual_seed(0)
    network = UNet(spatial_dims=3, in_channels=1, out_channels=1, channels=(4, 8), strides=(2,))
    optimizer = torch.optim.AdamW(network.named_parameters(), lr=0.05)
    surgeon = surgeon_of(optimizer, **OPTIONS[way])
    criterion = DiceLoss(sigmoid=True)
    history = []
    for _ in range(epochs):
        for batch in DataLoader(cached, batch_size=2):
            assert isinstance(batch["flair"], MetaTensor), "this test would show nothing"
            batch = {key: value.as_tensor() if plain else value for key, value in batch.items()}
            outputs = {m: network(batch[m]) for m in TWO}
            losses = [criterion(sum(outputs[m] for m in subset), (batch["seg"] > 0).float()) for subset in SUBSETS]
            optimizer.zero_grad()
            report = surgeon.backward(losses, outputs=None if way in ("losses", "module") else outputs)
            optimizer.step()
            history.append(report.losses)
    return history, list(network.parameters())


@pytest.mark.parametrize("way", OPTIONS)
def test_metatensors_train_like_tensors(cached, way):
    losses, params = train(cached, way)
    expected_losses, expected = train(cached, way, plain=True)
    assert_equal([value.as_tensor() for value in losses], expected_losses)
    assert_equal(params, expected)


def test_the_loss_of_every_subset_falls(cached):
    losses, _ = train(cached, "outputs", epochs=8)
    assert (torch.stack(losses[-2:]).mean(dim=0) < 0.9 * torch.stack(losses[:2]).mean(dim=0)).all()
