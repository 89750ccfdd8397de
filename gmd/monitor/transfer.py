"""A step's report brought from the device to the host in one transfer, so that the step waits for the device once."""

from dataclasses import replace

import torch

from gmd.surgery.report import Report


def on_host(report: Report) -> Report:
    """Returns the report with its tensors on the host, in float64. Reading them there waits for nothing."""
    known = {name: getattr(report, name) for name in ("losses", "grams", "weights", "squared_norm")}
    known = {name: tensor for name, tensor in known.items() if tensor is not None}
    tensors = [*known.values(), *report.modality.values()]
    flat = torch.cat([tensor.detach().flatten().double() for tensor in tensors]).cpu()
    parts = [
        part.view(tensor.shape)
        for part, tensor in zip(flat.split([tensor.numel() for tensor in tensors]), tensors, strict=True)
    ]
    modality = dict(zip(report.modality, parts[len(known) :], strict=True))
    return replace(report, modality=modality, **dict(zip(known, parts, strict=False)))
