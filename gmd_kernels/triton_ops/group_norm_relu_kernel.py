"""relu(group_norm(x) * weight + bias) and its derivatives: sums over slots of voxels, then a pass over all elements.

One group of one sample may be the whole of a large volume, so its voxels are cut into slots, enough to keep the device
busy. A program adds up one slot, channel by channel; a small kernel adds up the slots of a group in float64, always in
the same order; the last pass has what it needs in a few numbers a channel. x is read twice and y written once; on the
way back x and the gradient are read twice and the gradient with respect to x is written once.

x lies either channel by channel, [n, C, V], or voxel by voxel, [n, V, C] (channels-last). A tile is VOXELS x CHANNELS
elements of it: all or many channels of some voxels where these lie together, else one channel's.
"""

import triton
import triton.language as tl

from gmd_kernels.triton_ops.tiles import rounded, widened


@triton.jit
def _place(program, slots, C: tl.constexpr, CHANNELS: tl.constexpr):
    """Returns the sample and slot of a program, int64, and the first of its channels."""
    blocks: tl.constexpr = (C + CHANNELS - 1) // CHANNELS
    sample = (program // blocks // slots).to(tl.int64)
    slot = (program // blocks % slots).to(tl.int64)
    return sample, slot, program % blocks * CHANNELS


@triton.jit
def _latest_first():
    """Returns the program's number counted from the end: the second pass begins where the first ended, in the cache."""
    return tl.num_programs(0) - 1 - tl.program_id(0)


@triton.jit
def _tile(
    sample,
    tile,  # which of the sample's
    first,  # channel
    voxels,
    C: tl.constexpr,
    LAST: tl.constexpr,  # whether channels lie together
    CHANNELS: tl.constexpr,
    VOXELS: tl.constexpr,
):
    """Returns where the tile begins, int64, the places of its elements from there on, and which of them exist."""
    v, c = tl.arange(0, VOXELS)[:, None], tl.arange(0, CHANNELS)[None, :]
    if LAST:
        begin = (sample * voxels + tile * VOXELS) * C + first
        places = v * C + c
    else:
        begin = (sample * C + first) * voxels + tile * VOXELS
        places = v + c  # of one channel
    left = tl.minimum(voxels - tile * VOXELS, VOXELS).to(tl.int32)
    return begin, places, (v < left) & (first + c < C)


@triton.jit
def _normalisation(
    sample,
    first,  # channel
    weight,  # [R, C]
    bias,  # [R, C]
    rows,  # [n] int64
    mean,  # [n, G]
    rstd,  # [n, G]
    C: tl.constexpr,
    GROUP: tl.constexpr,  # channels of a group
    CHANNELS: tl.constexpr,
):
    """Returns mean, rstd, weight and bias, [1, CHANNELS] each"""
    channel = first + tl.arange(0, CHANNELS)[None, :]
    there = channel < C
    entry = tl.load(rows + sample) * C + channel
    group = sample * (C // GROUP) + channel // GROUP
    return (
        tl.load(mean + group, mask=there, other=0.0),
        tl.load(rstd + group, mask=there, other=0.0),
        tl.load(weight + entry, mask=there, other=0.0),
        tl.load(bias + entry, mask=there, other=0.0),
    )


@triton.jit(do_not_specialize=["slots", "tiles"])
def _moments_kernel(
    x,  # [n, C, V] or [n, V, C]
    partials,  # [n, slots, 2, C]: mean of a slot's voxels, sum of the squares around it
    voxels,
    slots,
    tiles,  # of a slot
    C: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    VOXELS: tl.constexpr,
):
    """Updates moments by Welford's method, element by element of a tile: no sum grows beyond the values' spread."""
    sample, slot, first = _place(tl.program_id(0), slots, C, CHANNELS)
    number: tl.constexpr = partials.dtype.element_ty
    mean = tl.full([VOXELS, CHANNELS], 0, number)
    squares = tl.full([VOXELS, CHANNELS], 0, number)
    met = tl.full([], 0, number)
    tile = slot * tiles
    while tile < (slot + 1) * tiles:
        begin, places, inside = _tile(sample, tile, first, voxels, C, LAST, CHANNELS, VOXELS)
        value = widened(tl.load(x + begin + places, mask=inside, other=0.0))
        met += 1  # what every element has met, until the volume ends
        difference = tl.where(inside, value - mean, 0.0)
        mean += difference * (1 / met)
        squares += difference * (value - mean)
        tile += 1
    behind = voxels - slot * tiles * VOXELS - tl.arange(0, VOXELS)[:, None]
    counts = tl.minimum((behind + (VOXELS - 1)) // VOXELS, tiles).to(number)  # tiles in which there was this voxel
    middle = tl.sum(counts * mean, axis=0) / tl.sum(counts)
    around = mean - middle[None, :]
    squares = tl.sum(squares + counts * around * around, axis=0)
    channel = first + tl.arange(0, CHANNELS)
    target = partials + (sample * slots + slot) * (2 * C) + channel
    tl.store(target, middle, mask=channel < C)
    tl.store(target + C, squares, mask=channel < C)


@triton.jit(do_not_specialize=["voxels", "slots", "span"])
def _statistics_kernel(
    partials,  # [n, slots, 2, C], see above
    mean,  # [n, G]
    rstd,  # [n, G]
    voxels,
    slots,
    span,  # voxels of a slot; the last may have fewer
    EPS: tl.constexpr,
    C: tl.constexpr,
    GROUP: tl.constexpr,  # channels of a group
    WIDTH: tl.constexpr,  # a power of two >= GROUP
    SLOTS: tl.constexpr,  # that are added at a time
):
    """Finds one group's statistics of one sample by Chan's formula: the mean first, then the squares around it."""
    program, groups = tl.program_id(0), C // GROUP
    c = tl.arange(0, WIDTH)[None, :]
    source = partials + (program // groups).to(tl.int64) * slots * (2 * C) + program % groups * GROUP + c
    size = voxels.to(tl.float64) * GROUP
    middle = tl.full([], 0, tl.float64)
    first = 0
    while first < slots:
        slot = first + tl.arange(0, SLOTS)[:, None]
        there = (slot < slots) & (c < GROUP)
        count = tl.minimum(voxels - slot.to(tl.int64) * span, span).to(tl.float64)
        value = tl.load(source + slot * (2 * C), mask=there, other=0.0).to(tl.float64)
        middle += tl.sum(tl.where(there, count * value, 0.0)) / size
        first += SLOTS
    squares = tl.full([], 0, tl.float64)
    first = 0
    while first < slots:
        slot = first + tl.arange(0, SLOTS)[:, None]
        there = (slot < slots) & (c < GROUP)
        count = tl.minimum(voxels - slot.to(tl.int64) * span, span).to(tl.float64)
        value = tl.load(source + slot * (2 * C), mask=there, other=0.0).to(tl.float64)
        own = tl.load(source + slot * (2 * C) + C, mask=there, other=0.0).to(tl.float64)
        around = value - middle
        squares += tl.sum(tl.where(there, own + count * around * around, 0.0))
        first += SLOTS
    tl.store(mean + program, middle)
    tl.store(rstd + program, 1 / tl.sqrt(squares / size + EPS))


@triton.jit(do_not_specialize=["slots", "tiles"])
def _apply_kernel(
    x,  # [n, C, V] or [n, V, C]
    weight,  # [R, C]
    bias,  # [R, C]
    rows,  # [n] int64
    mean,  # [n, G]
    rstd,  # [n, G]
    y,  # as x
    voxels,
    slots,
    tiles,
    C: tl.constexpr,
    GROUP: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    VOXELS: tl.constexpr,
):
    sample, slot, first = _place(_latest_first(), slots, C, CHANNELS)
    mu, r, w, b = _normalisation(sample, first, weight, bias, rows, mean, rstd, C, GROUP, CHANNELS)
    tile = slot * tiles
    while tile < (slot + 1) * tiles:
        begin, places, inside = _tile(sample, tile, first, voxels, C, LAST, CHANNELS, VOXELS)
        value = widened(tl.load(x + begin + places, mask=inside, other=0.0))
        z = (value - mu) * (r * w) + b
        z = tl.where(z < 0, 0.0, z)  # NaN stays NaN
        tl.store(y + begin + places, rounded(z, y.dtype.element_ty), mask=inside)
        tile += 1


@triton.jit(do_not_specialize=["slots", "tiles"])
def _products_kernel(
    grad,  # as x
    x,  # [n, C, V] or [n, V, C]
    weight,  # [R, C]
    bias,  # [R, C]
    rows,  # [n] int64
    mean,  # [n, G]
    rstd,  # [n, G]
    partials,  # [n, slots, 2, C]: sums over a slot's voxels of dz, and of dz times the normalised x
    voxels,
    slots,
    tiles,
    C: tl.constexpr,
    GROUP: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    VOXELS: tl.constexpr,
):
    """Sums over a slot dz, the gradient where the ReLU let its argument z pass, and dz times the normalised x."""
    sample, slot, first = _place(tl.program_id(0), slots, C, CHANNELS)
    mu, r, w, b = _normalisation(sample, first, weight, bias, rows, mean, rstd, C, GROUP, CHANNELS)
    number: tl.constexpr = partials.dtype.element_ty
    total = tl.full([VOXELS, CHANNELS], 0, number)
    product = tl.full([VOXELS, CHANNELS], 0, number)
    tile = slot * tiles
    while tile < (slot + 1) * tiles:
        begin, places, inside = _tile(sample, tile, first, voxels, C, LAST, CHANNELS, VOXELS)
        centred = widened(tl.load(x + begin + places, mask=inside, other=0.0)) - mu
        dz = widened(tl.load(grad + begin + places, mask=inside, other=0.0))
        dz = tl.where(centred * (r * w) + b <= 0, 0.0, dz)  # NaN passes, as torch's ReLU has it
        total += dz
        product += dz * centred
        tile += 1
    channel = first + tl.arange(0, CHANNELS)
    target = partials + (sample * slots + slot) * (2 * C) + channel
    tl.store(target, tl.sum(total, axis=0), mask=channel < C)
    tl.store(target + C, tl.sum(product * r, axis=0), mask=channel < C)


@triton.jit(do_not_specialize=["voxels", "slots"])
def _sums_kernel(
    partials,  # [n, slots, 2, C], see above
    weight,  # [R, C]
    rows,  # [n] int64
    sums,  # [n, 2, C] float64: of dz, and of dz times the normalised x
    means,  # [n, 2, G]: over a group, of the same two times the weight
    voxels,
    slots,
    C: tl.constexpr,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,  # a power of two >= GROUP
    SLOTS: tl.constexpr,  # that are added at a time
):
    """Adds up the slots of one group of one sample."""
    groups: tl.constexpr = C // GROUP
    sample, group = (tl.program_id(0) // groups).to(tl.int64), tl.program_id(0) % groups
    c = tl.arange(0, WIDTH)
    channel, there = group * GROUP + c, c < GROUP
    w = tl.load(weight + tl.load(rows + sample) * C + channel, mask=there, other=0.0).to(tl.float64)
    size = voxels.to(tl.float64) * GROUP
    for which in tl.static_range(2):
        total = tl.full([WIDTH], 0, tl.float64)
        first = 0
        while first < slots:
            slot = first + tl.arange(0, SLOTS)[:, None]
            source = partials + (sample * slots + slot) * (2 * C) + which * C + channel[None, :]
            value = tl.load(source, mask=(slot < slots) & there[None, :], other=0.0)
            total += tl.sum(value.to(tl.float64), axis=0)
            first += SLOTS
        tl.store(sums + (2 * sample + which) * C + channel, total, mask=there)
        tl.store(means + (2 * sample + which) * groups + group, tl.sum(w * total) / size)


@triton.jit(do_not_specialize=["samples"])
def _tables_kernel(
    sums,  # [n, 2, C] float64, see above
    rows,  # [n] int64
    dweight,  # [R, C]
    dbias,  # [R, C]
    samples,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    SAMPLES: tl.constexpr,  # that are added at a time
):
    """Adds up, for some channels of one row of the table, the sums of all samples that have taken it."""
    blocks: tl.constexpr = (C + CHANNELS - 1) // CHANNELS
    row = tl.program_id(0) // blocks
    channel = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    of_bias = tl.full([CHANNELS], 0, tl.float64)
    of_weight = tl.full([CHANNELS], 0, tl.float64)
    first = 0
    while first < samples:
        sample = (first + tl.arange(0, SAMPLES)).to(tl.int64)
        mine = (tl.load(rows + sample, mask=sample < samples, other=-1) == row)[:, None] & (channel < C)[None, :]
        source = sums + sample[:, None] * (2 * C) + channel[None, :]
        of_bias += tl.sum(tl.load(source, mask=mine, other=0.0), axis=0)
        of_weight += tl.sum(tl.load(source + C, mask=mine, other=0.0), axis=0)
        first += SAMPLES
    target = row.to(tl.int64) * C + channel
    tl.store(dweight + target, of_weight, mask=channel < C)
    tl.store(dbias + target, of_bias, mask=channel < C)


@triton.jit(do_not_specialize=["slots", "tiles"])
def _gradient_kernel(
    grad,  # as x
    x,  # [n, C, V] or [n, V, C]
    weight,  # [R, C]
    bias,  # [R, C]
    rows,  # [n] int64
    mean,  # [n, G]
    rstd,  # [n, G]
    means,  # [n, 2, G], see above
    dx,  # as x
    voxels,
    slots,
    tiles,
    C: tl.constexpr,
    GROUP: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    VOXELS: tl.constexpr,
):
    """Computes dx = rstd (w dz - mean(w dz) - xn mean(w dz xn)), xn the normalised x, means over the group."""
    sample, slot, first = _place(_latest_first(), slots, C, CHANNELS)
    mu, r, w, b = _normalisation(sample, first, weight, bias, rows, mean, rstd, C, GROUP, CHANNELS)
    channel = first + tl.arange(0, CHANNELS)[None, :]
    group = means + sample * (2 * (C // GROUP)) + channel // GROUP
    offset = tl.load(group, mask=channel < C, other=0.0) * r
    slope = tl.load(group + C // GROUP, mask=channel < C, other=0.0) * r * r
    tile = slot * tiles
    while tile < (slot + 1) * tiles:
        begin, places, inside = _tile(sample, tile, first, voxels, C, LAST, CHANNELS, VOXELS)
        centred = widened(tl.load(x + begin + places, mask=inside, other=0.0)) - mu
        dz = widened(tl.load(grad + begin + places, mask=inside, other=0.0))
        dz = tl.where(centred * (r * w) + b <= 0, 0.0, dz)  # NaN passes, as torch's ReLU has it
        result = dz * (r * w) - offset - centred * slope
        tl.store(dx + begin + places, rounded(result, dx.dtype.element_ty), mask=inside)
        tile += 1
