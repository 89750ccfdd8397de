"""Plans of nnU-Net for a small network, as its planner would write them, without a data set to plan for."""

from collections.abc import Mapping, Sequence
from typing import Any

DATASET = "Dataset777_Blobs"
CONFIGURATION = "3d_fullres"
NAMES = ("flair", "t1", "t1ce", "t2")


def dataset_json(labels: Mapping[str, Any], names: Sequence[str] = NAMES) -> dict[str, Any]:
    """Returns a dataset.json. labels: its keys "labels" and, with regions, "regions_class_order"."""
    channels = {str(number): name for number, name in enumerate(names)}
    return {"channel_names": channels, **labels, "numTraining": 5, "file_ending": ".nii.gz"}


def plans(
    patch: Sequence[int], features: Sequence[int], channels: int = len(NAMES), gmd: object = None, **changed: Any
) -> dict[str, Any]:
    """Returns plans of one configuration, with batches of two.

    Args:
        patch: sizes of a patch, two or three.
        features: channels of the network's stages, of which each halves what comes in, but the first.
        channels: of the images.
        gmd: what stands under that key, see `gmd.nnunet.settings`; None for no such key.
        changed: other values of the configuration.
    """
    configuration: dict[str, Any] = {
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [float(size) for size in patch],
        "spacing": [1.0] * len(patch),
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "architecture": _architecture(len(patch), features),
        "batch_dice": False,
        **_resampling(),
        **changed,
    }
    settings = {} if gmd is None else {"gmd": gmd}
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0] * len(patch),
        "original_median_shape_after_transp": list(patch),
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration | settings},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }


def _architecture(dims: int, features: Sequence[int]) -> dict[str, Any]:
    """Returns nnU-Net's plain U-Net."""
    stages = len(features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * stages,
            "strides": [[1] * dims] + [[2] * dims] * (stages - 1),
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _resampling() -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for what in ("data", "seg", "probabilities"):
        entries[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        options = {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}
        entries[f"resampling_fn_{what}_kwargs"] = options
    return entries
