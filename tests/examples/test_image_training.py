"""The training on pictures: the recipe's parts, going on after a kill, the best epoch, and what is refused."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from examples import train_images
from examples.images import networks, training
from examples.images.augmentation import evaluation_transform, mixing, training_transform
from examples.images.optimisation import make_optimizer, rate
from examples.images.options import Options
from gmd.errors import UserError

# The recipe


def test_the_learning_rate_is_the_published_one():
    """From 5e-7 to 5e-4 in 20 of 300 epochs, then to 5e-6 as half a cosine; here with 10 steps in an epoch."""
    rates = np.array([5e-4 * rate(step, 200, 3000) for step in range(3000)])
    assert rates[0] == pytest.approx(5e-7)
    assert rates[200] == pytest.approx(5e-4)
    assert rates[1600] == pytest.approx((5e-4 + 5e-6) / 2)
    assert rates[-1] == pytest.approx(5e-6, rel=1e-3)
    assert (np.diff(rates[:201]) > 0).all()
    assert (np.diff(rates[200:]) < 0).all()
    assert rate(0, 0, 1) == 1


def test_biases_and_parameters_of_one_axis_are_not_decayed():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    network.grn = nn.Parameter(torch.zeros(1, 1, 1, 4))  # the published rule decays Strip-MLP's GRN and tables
    decayed, plain = make_optimizer(network, 1e-3, 0.05).param_groups
    assert [list(value.shape) for value in decayed["params"]] == [[1, 1, 1, 4], [4, 3, 1, 1], [2, 4]]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0)
    assert len(plain["params"]) == 4


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize("augmentation", ["published", "shift", "none"])
@pytest.mark.parametrize("photographs", [True, False])
def test_transforms_give_the_size_and_are_repeated_by_the_seed(augmentation, photographs):
    transform = training_transform(64, augmentation, photographs)
    torch.manual_seed(3)
    first = [transform(PICTURE) for _ in range(4)]
    torch.manual_seed(3)
    for value in first:
        assert type(value) is torch.Tensor
        assert value.shape == (3, 64, 64)
        assert value.dtype == torch.float32
        assert torch.equal(value, transform(PICTURE))
    assert torch.equal(first[0], first[1]) == (augmentation == "none")


def test_only_photographs_are_mirrored_and_cut_to_their_centre():
    names = [[type(part).__name__ for part in training_transform(32, "published", p).transforms] for p in (True, False)]
    assert ["RandomHorizontalFlip" in of for of in names] == [True, False]
    rim = Image.fromarray(np.pad(np.zeros((224, 224, 3), np.uint8), ((16, 16), (16, 16), (0, 0)), constant_values=255))
    photograph, other = (evaluation_transform(224, p)(rim) for p in (True, False))
    assert photograph[0].max() < 0
    assert other[0].max() > 2


def test_a_batch_is_mixed_with_itself_into_shares_that_sum_to_one():
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    torch.manual_seed(0)
    mixed, shares = mixing(6, 0.8, 1.0)(images, labels)
    assert mixed.shape == images.shape
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    assert mixing(6, 0, 0) is None
    _, shares = mixing(6, 0.8, 0)(images, labels)
    assert shares.shape == (6, 6)


# A training


def state_of(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first if key != "seconds")
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_a_training_that_was_killed_goes_on_to_the_same_end(small, tmp_path, monkeypatch):
    """With everything random on: the published trap is a resume that begins a fresh schedule."""
    recipe = {"epochs": 3, "augmentation": "published"}
    training.train(small(out=tmp_path / "whole", **recipe))
    epoch, done = training.Training.epoch, []

    def killed(self):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(epoch(self))

    monkeypatch.setattr(training.Training, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train(small(out=tmp_path / "cut", **recipe))
    monkeypatch.setattr(training.Training, "epoch", epoch)
    training.train(small(out=tmp_path / "cut", resume=True, **recipe))
    assert same(state_of(tmp_path / "whole"), state_of(tmp_path / "cut"))
    assert len(state_of(tmp_path / "cut")["history"]) == 3
    with open(tmp_path / "cut" / "metrics.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_the_best_epoch_is_that_of_the_validation_pictures_and_is_tested_once(small, monkeypatch):
    """The published code chooses it on the test pictures."""
    scores, scored = iter([0.5, 0.9, 0.9, 0.7, 0.25]), []

    def score(self, pictures):
        scored.append("test" if pictures is self.pictures.test else "validation")
        scored.append({name: value.clone() for name, value in self.network.state_dict().items()})
        return {"loss": 1.0, "accuracy": next(scores)}

    monkeypatch.setattr(training.Training, "score", score)
    options = small(epochs=4)
    result = training.train(options)
    assert scored[::2] == ["validation"] * 4 + ["test"]
    assert (result["best_epoch"], result["validation_accuracy"], result["test_accuracy"]) == (2, 0.9, 0.25)
    assert same(scored[9], scored[3]), "another epoch's network was tested"
    assert json.loads((options.out / "result.json").read_text()) == result


@pytest.mark.slow
def test_a_network_learns_the_shapes(small):
    result = training.train(small(network="resnet18", batch=40, epochs=3, lr=2e-3, mixup=0, cutmix=0))
    assert result["test_accuracy"] > 0.5  # by chance 0.2


def test_a_finished_training_is_only_tested_again(small):
    options = small(epochs=2)
    first = training.train(options)
    assert training.train(small(epochs=2, resume=True)) == first


def test_weights_to_begin_with_are_taken_but_for_a_head_of_other_classes(small, tmp_path):
    torch.manual_seed(1)
    published = networks.make_network("strip:16:1-1-1-1", 32, 7)
    torch.save({"model": published.state_dict()}, tmp_path / "published.pth")
    network = networks.make_network("strip:16:1-1-1-1", 32, 5)
    head = {name: value.clone() for name, value in network.state_dict().items() if name.startswith("head.")}
    networks.load_weights(network, tmp_path / "published.pth")
    for name, value in network.state_dict().items():
        assert torch.equal(value, head[name] if name in head else published.state_dict()[name])


def test_weights_of_another_network_change_nothing(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    network = networks.make_network("resnet18", 32, 5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=r"conv1.weight: got nothing, expected \[64, 3, 7, 7\], and \d+ more"):
        networks.load_weights(network, tmp_path / "other.pth")
    assert same(before, dict(network.state_dict()))


@pytest.mark.parametrize("content", [b"nothing", b"cos\nsystem\n(S'touch executed'\ntR."], ids=["text", "code"])
def test_files_that_hold_no_weights_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"--init: .*x\.pth: no weights that torch reads without executing code"):
        networks.load_weights(nn.Linear(1, 1), tmp_path / "x.pth")
    assert not (tmp_path / "executed").exists()


# The command line


def test_the_command_trains_and_its_help_teaches(tmp_path, capsys, monkeypatch):
    words = "--data generated --network strip:16:1-1-1-1 --image-size 32 --augmentation none --epochs 1"
    arguments = [*words.split(), "--warmup-epochs", "0", "--out", str(tmp_path / "run")]
    assert train_images.main(arguments) == 0
    told = capsys.readouterr().out
    assert "5 classes; 360 pictures to train, 40 to validate, 100 for the test" in told
    assert "on the test pictures" in told
    assert train_images.main(arguments) == 2
    assert "holds a training; go on with --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        train_images.main(["--help"])
    assert "CIFAR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image_size": 40}, "--image-size: got 40, expected a multiple of 32"),
        ({"batch": 1}, "--batch: got 1, expected 2 at least"),
        ({"batch": 1000}, "--batch: got 1000, expected 360 at most"),
        ({"warmup_epochs": 2}, "--warmup-epochs: got 2, expected fewer than --epochs"),
        ({"lr": math.nan}, "--lr: got nan, expected a number above 0"),
        ({"label_smoothing": 1.0}, "--label-smoothing: got 1.0"),
        ({"network": "strip:16"}, "--network: got strip:16, expected one of strip-light"),
        ({"device": "teapot"}, "--device: got teapot, which torch cannot use here"),
        ({"data": "nowhere"}, "--data: nowhere: there is nothing"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_that_cannot_be_are_refused_before_anything_is_written(small, given, words):
    options: Options = small(**given)
    with pytest.raises(UserError, match=words):
        training.train(options)
    assert not (options.out / "last.pt").exists()


def test_a_resumed_training_has_the_options_it_had(small):
    training.train(small())
    with pytest.raises(UserError, match=r"--lr: got 0.1, but the training in .* has 0.0005; go on with that"):
        training.train(small(lr=0.1, resume=True))


def test_there_is_nothing_to_go_on_with(small):
    with pytest.raises(UserError, match="no such checkpoint"):
        training.train(small(resume=True))


def test_a_loss_that_is_no_number_ends_the_training(small, monkeypatch):
    monkeypatch.setattr(training, "rate", lambda *given: math.inf)
    with pytest.raises(UserError, match="epoch 1: the loss is nan; a lower --lr"):
        training.train(small())
