"""What the heads cost: the host computes them, and the core group's trace and bill leave them out."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from workloads.tclsta.model import TwoStreams
from workloads.tclsta.stages import Stage

HOST_MACS = "host-macs"
"""`host-macs/PASS`: multiply-accumulates of the heads for one clip, see `host_macs`. Counted."""


def host_macs(model: TwoStreams, frames: int, size: int) -> dict[str, int]:
    """Multiply-accumulates of the heads' matrix products and convolutions for one clip. Counted.

    Element-wise operations (softmax, tanh, dropout) are not in it.

    Args:
        model: the network.
        frames: frames T of a clip.
        size: rows and columns of a frame.

    Returns:
        `inference`, and by stage what its forward and backward passes take in training.
    """
    channels = model.heads.static.connection.in_features
    maps = torch.zeros(2, frames, 1, channels, size // 8, size // 8)
    macs = {"inference": _macs(model, maps, Stage.TOGETHER, backward=False)}
    for stage in Stage:
        if stage is Stage.COLLABORATION and not model.heads(maps, stage).verdict.losses:
            continue
        macs[stage.value] = _macs(model, maps, stage, backward=True)
    return macs


def _macs(model: TwoStreams, maps: torch.Tensor, stage: Stage, *, backward: bool) -> int:
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        view = model.heads(maps.clone().requires_grad_(backward and stage.trains_backbones), stage)
        if backward:
            losses = view.losses(stage)
            parameters = [p for p in model.heads.parameters() if p.requires_grad]
            torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
    return int(counter.get_total_flops()) // 2
