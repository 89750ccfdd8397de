"""Strip-MLP written out from the paper's formulas in einsums, for tests: slow, and of nothing that gmd/models has."""

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def logits(state: State, images: Tensor, depths: tuple[int, ...], width: int, training: bool) -> Tensor:
    """Computes the network's logits from its state, without DropPath; the running statistics stay."""
    x = patches(images, state["patch_embed.weight"])
    skips = []
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            own = of(state, f"blocks{stage}.{block}")
            x = x + tokens(of(own, "token_mixing"), x, training)
            x = x + channels(of(own, "channel_mixing"), x)
        if stage == 4:
            break
        x = patches(x, state[f"merging{stage}.weight"])
        if stage == 1:
            a3 = F.conv2d(x, state["conv_s1_28.weight"], stride=2, groups=2 * width)
            skips = [a3, F.conv2d(a3, state["conv_s1_14.weight"], stride=2, groups=4 * width)]
        elif stage == 2:
            skips.append(F.conv2d(x, state["conv_s2_14.weight"], stride=2, groups=4 * width))
            x = x + skips[0]
        else:
            x = x + skips[1] + skips[2]
    x = batch_norm(of(state, "norm"), x, training)
    return torch.einsum("nchw,kc->nk", x, state["head.weight"]) / x.shape[2] / x.shape[3] + state["head.bias"]


def of(state: State, name: str) -> State:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def patches(x: Tensor, weight: Tensor) -> Tensor:
    size = weight.shape[-1]
    return torch.einsum("nchiwj,ocij->nohw", x.unflatten(3, (-1, size)).unflatten(2, (-1, size)), weight)


def batch_norm(state: State, x: Tensor, training: bool) -> Tensor:
    mean = x.mean((0, 2, 3)) if training else state["running_mean"]
    variance = x.var((0, 2, 3), correction=0) if training else state["running_var"]
    scale = state["weight"] / (variance + 1e-5).sqrt()
    return torch.einsum("nchw,c->nchw", x - mean[:, None, None], scale) + state["bias"][:, None, None]


def pointwise(state: State, x: Tensor) -> Tensor:
    x = torch.einsum("nchw,oc->nohw", x, state["weight"].flatten(1))
    return x + state["bias"][:, None, None] if "bias" in state else x


def depthwise(weight: Tensor, x: Tensor) -> Tensor:
    high, wide = weight.shape[-2:]
    windows = F.pad(x, (wide // 2, wide // 2, high // 2, high // 2)).unfold(2, high, 1).unfold(3, wide, 1)
    return torch.einsum("nchwij,cij->nchw", windows, weight[:, 0])


def strip(state: State, u: Tensor) -> Tensor:
    """v[n, p, g, h, w'] = bias[g, w'] + sum over w and k of W[g, w', w, k] u[n, p, g, h + k, w]."""
    size = u.shape[-1]
    weight = state["weight"].reshape(-1, size, size, 3)
    u = u.reshape(len(u), -1, len(weight), size, size)
    above, below = torch.zeros_like(u), torch.zeros_like(u)
    above[..., 1:, :], below[..., :-1, :] = u[..., :-1, :], u[..., 1:, :]
    v = torch.einsum("gvwk,npghwk->npghv", weight, torch.stack([above, u, below], dim=-1))
    return (v + state["bias"].reshape(-1, 1, size)).reshape(len(u), -1, size, size)


def positions(table: Tensor, size: int) -> Tensor:
    rows = [[table[min(max(w - h, -size), size) + size] for w in range(size)] for h in range(size)]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def tokens(state: State, x: Tensor, training: bool) -> Tensor:
    x = depthwise(
        state["dwsc.conv_merge.Conv.weight"], F.gelu(batch_norm(of(state, "dwsc.conv_merge.BN"), x, training))
    )
    s = of(state, "smlp_block")
    x = F.gelu(batch_norm(of(s, "mlp.1"), pointwise(of(s, "mlp.0"), x), training))
    half, size = x.shape[1] // 2, x.shape[-1]
    x1, x2 = x[:, :half], x[:, half:]
    v = strip(of(s, "proj_h"), x1 + positions(s["relate_pos_h.embeddings_table"], size))
    t = F.gelu(batch_norm(of(s, "BN"), pointwise(of(s, "fuse_h"), torch.cat([v, x1], 1)), training))
    t = t + positions(s["relate_pos_w.embeddings_table"], size)
    y1 = pointwise(of(s, "fuse_w"), torch.cat([x1, strip(of(s, "proj_w"), t.mT).mT], 1))
    a, b = depthwise(s["fc_h.weight"], x2), depthwise(s["fc_w.weight"], x2)
    mean = (b + a + x2).mean((2, 3), keepdim=True)
    q = pointwise(of(s, "reweight.fc2"), F.gelu(pointwise(of(s, "reweight.fc1"), mean)))
    q = q.reshape(len(x), half, 3, 1, 1).softmax(dim=2)
    y2 = b * q[:, :, 0] + a * q[:, :, 1] + x2 * q[:, :, 2]
    return pointwise(of(s, "fuse"), torch.cat([y1, y2], 1))


def channels(state: State, x: Tensor) -> Tensor:
    x = depthwise(state["conv_77.weight"], x)
    deviation = (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    norm = of(state, "layer_norm")
    x = (x - x.mean(1, keepdim=True)) / deviation * norm["weight"][:, None, None] + norm["bias"][:, None, None]
    x = F.gelu(pointwise(of(state, "fc1"), x))
    g = x.square().sum((2, 3), keepdim=True).sqrt()
    gamma, beta = (state[f"grn.{name}"].reshape(-1, 1, 1) for name in ("gamma", "beta"))
    x = gamma * (x * (g / (g.mean(1, keepdim=True) + 1e-6))) + beta + x
    return pointwise(of(state, "fc2"), x)
