"""Published recipes as options: what each sets, and what of the publication it lacks.

The figures are those of the authors' papers and code; what the code names nowhere is what its libraries do by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A published recipe.

    Attributes:
        task: the task that it is of.
        source: whose recipe.
        values: option -> value, as a configuration has it.
        differs: phrases on what was published otherwise, and no option here can bring.
    """

    task: str
    source: str
    values: Mapping[str, object]
    differs: tuple[str, ...]


CGGM, MLA = "CGGM (Guo et al., NeurIPS 2024)", "MLA (Zhang et al., CVPR 2024)"

CGGM_TRANSFORMERS: dict[str, object] = {
    **{"method": "cggm", "rho": 1.3, "lam": 0.2, "network": "late", "width": 40, "heads": 5, "dropout": 0.15},
    **{"epochs": 30, "batch": 64, "lr": 1e-3, "weight_decay": 0.0, "optimizer": "adam", "clip": 0.8},
    **{"schedule": "plateau", "decay": 0.1, "plateau_patience": 10, "validate_every": 1, "seed": 666},
}
CGGM_PUBLISHED_CODE = (
    "how fast a modality improves is averaged over steps; --balance published has the published rule",
    "the direction's loss compares gradients of the same step, as the paper says; --direction weights is the published "
    "code's, which comes a step late there",
)
CGGM_DIFFERS = (
    "classifiers and network take the mean over the steps, published the first one",
    "one rate of dropout, published .1 to .2 in different places",
    "modalities are fused by one block over a token of each, published by two or three over all of their steps",
    "the plateau is that of the validation's score, published that of its loss",
    *CGGM_PUBLISHED_CODE,
)

# what OGM-GE's code trains CREMA-D with, and MLA's all of its data
AUDIO_VISUAL: dict[str, object] = {
    **{"network": "branches", "epochs": 100, "batch": 64, "lr": 1e-3, "weight_decay": 1e-4, "optimizer": "sgd"},
    **{"momentum": 0.9, "schedule": "step", "milestones": (70,), "decay": 0.1},
}
MLA_TRAINING = AUDIO_VISUAL | {"method": "mla"}
MLA_ALPHA: dict[str, object] = {"alpha": 0.1, "alpha_end": 0.01}
MLA_TEXT: dict[str, object] = {"pictures": "resnet18", "image_size": 256, "longest": 256}
MLA_PROJECTOR = (
    "the published code divides the projector by its Frobenius norm, in lines that never run, and projects nothing: "
    "--projector normalised has these lines, --alpha 1e9 what the code does"
)
MLA_SOUND = "recordings are --seconds long, in --mels bands; published 1024 steps of 10 ms, in 128 bands of Kaldi's"
MLA_M3AE = "encoders are ResNet-18 and a transformer of --width, from nothing; published M3AE (768 wide), pretrained"
MLA_DIFFERS = (
    "entropy weighs predictions sample by sample, as the paper says; the published code takes it over the batch",
    "the best epoch is chosen on validation rows; published on those that are reported",
    MLA_PROJECTOR,
)

PRESETS = {
    "gmd-brats": Preset(
        task="brats",
        source="GMD (Wang et al., AAAI 2024)",
        values={
            "method": "gmd",
            **{"epochs": 600, "batch": 4, "lr": 8e-4, "weight_decay": 1e-5, "optimizer": "adam", "schedule": "poly"},
            **{"seed": 42, "validate_every": 5, "width": 0.5, "patch": (128, 128, 128)},
        },
        differs=(
            "the loss is Dice + cross-entropy, published Dice alone, pooled over the batch",
            "the learning rate decays to 0 as the paper says; the published code swaps two arguments, and its rate "
            "moves between 1.0 and 0.9 of --lr for ever",
            "objectives are all subsets, as in the paper; the published command takes those of two modalities",
            "cases are split by patient, by --seed; published five folds of BraTS 2018: python -m examples.brats_folds "
            "writes them as lists for --train-list and --test-list",
            "the best epoch is chosen on validation cases; published on the cases that are reported",
            "intensities are clipped to the brain's 0.5 and 99.5 percentiles, and scaled and shifted at random; "
            "published 1 and 99, or none and min-max, and flips alone",
            "the network begins from the regions' share of the voxels",
        ),
    ),
    "cggm-brats": Preset(
        task="brats",
        source=f"{CGGM}, its options on BraTS 2021",
        values={
            **{"method": "cggm", "rho": 1.0, "lam": 0.1, "classifier_lr": 6e-3, "epochs": 75, "batch": 2, "lr": 0.01},
            **{"optimizer": "sgd", "momentum": 0.9, "weight_decay": 3e-4, "schedule": "cosine", "warmup": 10.0},
            "seed": 666,
        },
        differs=(
            "the network is the U-Net of Dynamic Sharing, on volumes; published four ResNet-101 with a decoder, on one "
            "slice of 160 by 160 pixels of each case, which has tumour in it",
            "what magnitude modulates are a modality's own parameters, here its norms; published whole "
            "encoders, of which the published code finds none",
            "the classifiers are copies of the head, published a decoder for each modality",
            "a batch is two patches of 96 voxels a side, about as many voxels as the published 64 slices have pixels",
            "the loss is Dice + cross-entropy; published half of each, with weights for the classes",
            "the learning rate rises from 0 and falls to 0, published from 4e-4 and to 1e-3",
            "Dice is that of whole volumes on test cases; published of a random slice with tumour, chosen by its label",
            *CGGM_PUBLISHED_CODE,
        ),
    ),
    "cggm-mosi": Preset(
        task="sentiment",
        source=CGGM,
        values=CGGM_TRANSFORMERS | {"layers": 5, "classifiers": "transformers", "classifier_lr": 5e-4},
        differs=CGGM_DIFFERS,
    ),
    "cggm-iemocap": Preset(
        task="sequences",
        source=f"{CGGM}, on IEMOCAP in MMIN's layout",
        values=CGGM_TRANSFORMERS | {"layers": 4, "classifiers": "transformers", "classifier_lr": 5e-4},
        differs=CGGM_DIFFERS,
    ),
    "cggm-food101": Preset(
        task="classify",
        source=CGGM,
        values=CGGM_TRANSFORMERS
        | {"layers": 4, "lam": 0.05, "epochs": 60, "batch": 128, "optimizer": "adamw", "weight_decay": 6e-3}
        | {"longest": 256, "classifier_lr": 5e-4},
        differs=(
            "pictures and text are to be given as features:NAME, the last hidden states of ViT-B/16 (197 steps) and of "
            "BERT (50 steps), as published; nothing here computes those",
            "the classifiers are copies of the head without weight decay; published transformers on the encoded steps, "
            "with 3e-3",
            "the pictures' projection is not the text's too, as it is in the published code by mistake",
            *CGGM_DIFFERS,
        ),
    ),
    "mla-audio-visual": Preset(
        task="digits",
        source=f"{MLA}, its recipe for audio and images (CREMA-D)",
        values=MLA_TRAINING,
        differs=(
            "the data are spoken and written digits, published CREMA-D, and the encoders are transformers, published "
            "ResNet-18, for which the learning rate was chosen",
            "--alpha is constant, the head's width by default; --alpha 0.1 --alpha-end 0.01 is published, of features "
            "that no LayerNorm has made long",
            MLA_PROJECTOR,
        ),
    ),
    "mla-cremad": Preset(
        task="classify",
        source=f"{MLA}, on CREMA-D",
        values=MLA_TRAINING | MLA_ALPHA | {"pictures": "resnet18", "frames": 3, "image_size": 224},
        differs=(
            MLA_SOUND,
            *MLA_DIFFERS,
        ),
    ),
    "mla-food101": Preset(
        task="classify",
        source=f"{MLA}, on UPMC-Food101",
        values=MLA_TRAINING | MLA_ALPHA | MLA_TEXT,
        differs=(MLA_M3AE, *MLA_DIFFERS),
    ),
    "mla-mvsa": Preset(
        task="classify",
        source=f"{MLA}, on MVSA-Single",
        values=MLA_TRAINING | MLA_ALPHA | MLA_TEXT,
        differs=(MLA_M3AE, *MLA_DIFFERS),
    ),
    "mla-iemocap": Preset(
        task="classify",
        source=f"{MLA}, on IEMOCAP with sound, faces and text",
        values=MLA_TRAINING | MLA_ALPHA | MLA_TEXT,
        differs=(
            "--fusion-weights audio=0.35 vision=0.25 text=0.4, by your names of the modalities, are the published ones "
            "in the place of the entropy's",
            MLA_SOUND,
            MLA_M3AE,
            *MLA_DIFFERS,
        ),
    ),
    "ogm-ge-cremad": Preset(
        task="classify",
        source="OGM-GE (Peng et al., CVPR 2022), on CREMA-D",
        values=AUDIO_VISUAL
        | {"method": "ogm-ge", "alpha": 0.3, "modulated": "convolutions", "modulation_epochs": (1, 51)}
        | {"pictures": "resnet18", "frames": 3, "image_size": 224, "rate": 22050, "seconds": 3.0},
        differs=(
            "alpha is the default of MLA's code; that of OGM-GE's own asks for it",
            "the modalities' features are averaged before the head, published side by side",
            "sound is a log-mel spectrogram, published the logarithm of a short-time Fourier transform of 257 bands; "
            "shorter recordings end in silence, published they are repeated",
            "the best epoch is chosen on validation rows; published on those that are reported",
        ),
    ),
}
