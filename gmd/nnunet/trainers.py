"""Trainers for nnU-Net of networks that work with any subset of the channels.

nnU-Net finds them by these names if the environment variable nnUNet_extTrainer has the folder gmd/nnunet/external, at
training and at prediction. Planning, preprocessing, augmentation, network, loss, schedule and files are nnU-Net's own.
Numbers stand in its plans, see `gmd.nnunet.settings`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gmd.data.modality_dropout import drop_modalities
from gmd.data.pairs import Pairs, samples_having
from gmd.errors import UserError
from gmd.nnunet.channels import channel_names, check_same_channels
from gmd.nnunet.counts import voxel_counts
from gmd.nnunet.kept_state import keep_with
from gmd.nnunet.network import SubsetNetwork
from gmd.nnunet.presence import channels_there
from gmd.nnunet.settings import settings_of
from gmd.nnunet.subset_losses import FlatOutputs, ScaledLoss, full_loss, of_rows, subset_losses
from gmd.subsets import Subset
from gmd.surgery._losses import Losses
from gmd.surgery.gmd import GMD
from gmd.surgery.mean import MeanGradient
from gmd.surgery.report import Report
from gmd_kernels import MAX_OBJECTIVES

MOST_CHANNELS = 6  # whose 63 subsets the surgery takes, 64 objectives at most
CLIPPED_AT = 12.0  # norm of the gradient, as in nnU-Net's own trainer

Rows = Mapping[str, list[int]]  # modality -> the rows of a batch that have it, ascending


class SubsetTrainer(nnUNetTrainer, ABC):
    """What gmd's trainers share: the network of all modalities, steps on subsets of them, validation on every subset.

    A subclass says what the losses of a step are, and what makes one gradient of them.

    nnU-Net makes it with arguments of these very names; for what they are, see nnUNetTrainer.

    Attributes:
        channels: names of the channels, from dataset.json.
        generator: what random subsets and orders of projection are drawn from.
        surgeon: whose `backward` makes one gradient of the losses; made by `initialize`.
        present: case -> the numbers of the channels that it has.

    Raises UserError for a cascade, a number of channels that cannot be, or settings in the plans that are none.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  # nnU-Net's
    ):
        chosen = PlansManager(plans).get_configuration(configuration)
        _check_configuration(chosen, configuration)
        self.settings = settings_of(chosen.configuration, f"plans, configuration {configuration}")
        self.channels = channel_names(dataset_json)
        if len(self.channels) != len(chosen.normalization_schemes):
            told = f"{len(self.channels)} channels, expected {len(chosen.normalization_schemes)}, as the plans have"
            raise UserError(f"dataset.json: got {told}")
        super().__init__(plans, configuration, fold, dataset_json, device)
        for name, value in self.settings.of_nnunet.items():
            setattr(self, name, value)
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.surgeon: GMD | MeanGradient | None = None
        self.present: dict[str, list[int]] = {}
        self._reports: list[Report] = []

    # ---- what a subclass says ----

    @abstractmethod
    def make_surgeon(self) -> GMD | MeanGradient:
        """Returns what makes one gradient of a step's losses."""

    def kept(self, rows: Rows) -> Rows:
        """Returns which modalities a step uses, of those that there are; all, unless a subclass drops some."""
        return rows

    def losses(self, outputs: FlatOutputs, targets: list[Tensor]) -> Losses:
        """Returns the losses of a step; one of the batch, unless a subclass has one for each subset."""
        return [full_loss(outputs, targets, self._loss)]

    def on_reports(self, reports: list[Report]) -> None:
        """Takes notice of the reports of an epoch's steps."""

    # ---- nnU-Net's methods ----

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Returns nnU-Net's network for one channel, shared by all. Its predictor calls it too, with plans alone."""
        _check_configuration(configuration_manager, "of the plans")
        network = nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, 1, num_output_channels, enable_deep_supervision
        )
        return SubsetNetwork(network, num_input_channels)

    def initialize(self) -> None:
        super().initialize()
        network = self._subset_network
        if super()._do_i_compile():
            _allow_several_passes()
            network.compile()
        if self.is_ddp:  # anew, since a modality that no row of a rank has leaves parameters of its own without a use
            self.network = DistributedDataParallel(network, device_ids=[self.local_rank], find_unused_parameters=True)
        self.surgeon = self.make_surgeon()
        keep_with(self.optimizer, self.generator, self.surgeon, self.print_to_log_file)

    def _do_i_compile(self) -> bool:
        return False  # not the whole: `initialize` compiles the views, which then have one graph in common

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        self._subset_network.set_deep_supervision(enabled)

    def get_tr_and_val_datasets(self) -> tuple:
        """Returns nnU-Net's data sets. Looks which channels their cases have, before augmentation makes noise of zeros.

        Raises UserError for a case whose channels cannot be told, and in several processes for one that lacks some.
        """
        datasets = super().get_tr_and_val_datasets()
        for dataset in datasets:
            for case in dataset.identifiers:
                self.present[case] = channels_there(dataset.load_case(case)[0], case, self.channels)
        lacking = [case for case, there in self.present.items() if len(there) < len(self.channels)]
        if lacking and self.is_ddp:
            raise UserError(
                f"{lacking[0]}: lacks a channel, expected all channels in every case with more than one GPU, where "
                "all processes have to have the same losses; train on one GPU, or leave the case out of the split"
            )
        numbers = Counter(n for there in self.present.values() for n in set(range(len(self.channels))) - set(there))
        missing = {self.channels[number]: count for number, count in sorted(numbers.items())}
        told = ", ".join(f"{name} in {count}" for name, count in missing.items()) or "none"
        self.print_to_log_file(f"Channels missing in the {len(self.present)} cases of this fold: {told}")
        return datasets

    def train_step(self, batch: dict) -> dict:
        data, targets = self._on_device(batch)
        rows = self.kept(self._rows(batch))
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            outputs = self._outputs(data, rows)
            losses = self.losses(outputs, targets)
        assert self.surgeon is not None  # made by `initialize`
        report = self.surgeon.backward(losses, outputs=outputs.pairs.values)  # `.grad` comes out unscaled
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIPPED_AT)
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        self._reports.append(report)
        return {"loss": report.losses.mean().cpu().numpy()}

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        self.on_reports(self._reports)
        self._reports = []

    def validation_step(self, batch: dict) -> dict:
        """Returns the mean loss over all subsets, and the counts of voxels of all of them together.

        So the checkpoint that nnU-Net calls the best is the best over subsets, not with all channels.
        """
        data, targets = self._on_device(batch)
        with self._autocast():
            outputs = self._outputs(data, self._rows(batch))
            losses = subset_losses(outputs, targets, self._loss)
        counts = torch.stack([self._counts(outputs, subset, targets[0]) for subset in losses]).sum(dim=0)
        true_positives, false_positives, false_negatives = counts.cpu().numpy()
        return {
            "loss": torch.stack(list(losses.values())).mean().cpu().numpy(),
            "tp_hard": true_positives,
            "fp_hard": false_positives,
            "fn_hard": false_negatives,
        }

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Continues from a checkpoint. Raises UserError if its channels are others, or in another order."""
        super().load_checkpoint(filename_or_checkpoint)
        trained = channel_names(self.my_init_kwargs["dataset_json"], "dataset.json in the checkpoint")
        check_same_channels(trained, self.channels, "dataset.json")

    # ---- parts of a step ----

    @property
    def _subset_network(self) -> SubsetNetwork:
        return self.network.module if self.is_ddp else self.network

    @property
    def _loss(self) -> ScaledLoss:
        """Returns nnU-Net's loss; with deep supervision it is of several resolutions."""
        if isinstance(self.loss, DeepSupervisionWrapper):
            return ScaledLoss(self.loss.loss, tuple(map(float, self.loss.weight_factors)))
        return ScaledLoss(self.loss)

    def _on_device(self, batch: dict) -> tuple[Tensor, list[Tensor]]:
        """Returns the data, [B, M, *spatial], and the targets of each resolution that takes part."""
        targets = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
        moved = [target.to(self.device, non_blocking=True) for target in self._loss.taking_part(targets)]
        return batch["data"].to(self.device, non_blocking=True), moved

    def _rows(self, batch: dict) -> Rows:
        """Returns which rows of the batch have each modality, by what is known of their cases."""
        modalities = self._subset_network.modalities
        there = [[modalities[number] for number in self.present[str(case)]] for case in batch["keys"]]
        return samples_having(there, modalities)

    def _outputs(self, data: Tensor, rows: Rows) -> FlatOutputs:
        """Goes through the paths of the modalities; by the wrapper of several processes, which has to know of it."""
        outputs = self.network(data, rows)
        loss = self._loss
        return FlatOutputs.of({m: loss.taking_part(scales) for m, scales in outputs.items()}, rows, len(data))

    def _counts(self, outputs: FlatOutputs, subset: Subset, target: Tensor) -> Tensor:
        """Returns true positives, false positives and false negatives of a subset: int64 [3, R]."""
        scales, members = outputs.subset(subset)
        labels = self.label_manager
        return voxel_counts(scales[0], *of_rows([target], members), labels.has_regions, labels.ignore_label)

    def _autocast(self) -> AbstractContextManager:
        """Returns nnU-Net's mixed precision on a GPU, and nothing elsewhere."""
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()


class nnUNetTrainerGMDJoint(SubsetTrainer):
    """Trains with all the channels that each case has: the baseline that has never seen one missing.

    What it costs: the network once for each channel, where nnU-Net's own takes all channels at once.
    """

    def make_surgeon(self) -> MeanGradient:
        return MeanGradient(self.optimizer, scaler=self.grad_scaler)


class nnUNetTrainerGMDDropout(nnUNetTrainerGMDJoint):
    """Trains with a random subset of its channels for each sample, another one in each step (modality dropout)."""

    def kept(self, rows: Rows) -> Rows:
        numbers = {m: torch.tensor(members) for m, members in rows.items()}
        batch = Pairs(1 + max(map(max, rows.values())), dict(rows), numbers)
        return drop_modalities(batch, self.generator).samples


class nnUNetTrainerGMDEnumerate(nnUNetTrainerGMDJoint):
    """Trains on the mean of the losses of all subsets of the channels, in one backward pass."""

    def losses(self, outputs: FlatOutputs, targets: list[Tensor]) -> dict[Subset, Tensor]:
        return subset_losses(outputs, targets, self._loss)


class nnUNetTrainerGMD(nnUNetTrainerGMDEnumerate):
    """Trains on the losses of all subsets, whose gradients are cleared of conflicts (GMD; Wang et al., AAAI 2024).

    By the settings `every` and `tol` weights are taken now and then, of compressed gradients, and the steps between
    cost what those of nnUNetTrainerGMDEnumerate do.
    """

    def make_surgeon(self) -> GMD:
        every, tol = self.settings.every, self.settings.tol
        return GMD(self.optimizer, generator=self.generator, every=every, tol=tol, scaler=self.grad_scaler)

    def on_reports(self, reports: list[Report]) -> None:
        """Logs how many pairs of objectives had gradients against each other, at the steps that took weights."""
        conflicts = [report.conflicts for report in reports if report.refreshed]
        if conflicts:
            share = float(torch.stack(conflicts).double().mean())
            told = f"mean over the {len(conflicts)} of {len(reports)} steps that took weights"
            self.print_to_log_file(f"Conflicts: {100 * share:.1f} % of the pairs of objectives, {told}")


def _check_configuration(chosen: ConfigurationManager, name: str) -> None:
    """Raises UserError for a configuration of the plans that these trainers do not serve."""
    if chosen.previous_stage_name is not None:
        raise UserError(
            f"configuration {name}: got the second stage of a cascade, whose input has channels that are none of the "
            "images; expected another one, such as 3d_fullres or 3d_lowres"
        )
    number = len(chosen.normalization_schemes)
    if not 2 <= number <= MOST_CHANNELS:
        raise UserError(
            f"configuration {name}: got {number} channel{'s' * (number != 1)}, expected 2 to {MOST_CHANNELS}, as the "
            f"objectives are the subsets of the channels, and the surgery takes {MAX_OBJECTIVES} at most"
        )


def _allow_several_passes() -> None:
    """Lets a compiled network go backward several times, and keeps what Inductor caches of it from others."""
    import torch._functorch.config

    torch._functorch.config.donated_buffer = False
    torch.compiler.config.cache_key_tag = "several losses"
