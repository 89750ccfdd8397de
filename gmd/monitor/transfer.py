"""A step's report brought from the device to the host in one transfer, so that the step waits for the device once."""

from dataclasses import replace

import torch

from gmd.surgery.report import Report


def on_host(report: Report) -> Report:
    """Returns the report with its tensors on the host, in float64. Reading them there waits for nothing."""
    known = [] if report.squared_norm is None else [report.squared_norm]
    tensors = [report.losses, report.grams, report.weights, *known, *report.modality.values()]
    flat = torch.cat([tensor.detach().flatten().double() for tensor in tensors]).cpu()
    losses, grams, weights, *rest = (
        part.view(tensor.shape)
        for part, tensor in zip(flat.split([tensor.numel() for tensor in tensors]), tensors, strict=True)
    )
    modality = dict(zip(report.modality, rest[len(known) :], strict=True))
    squared_norm = rest[0] if known else None
    return replace(report, losses=losses, grams=grams, weights=weights, modality=modality, squared_norm=squared_norm)
