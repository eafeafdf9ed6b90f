"""Layers for building networks: ordinary torch modules, time-major (T, B, ...), whose work is done by the engines.

Weights are standardised by default: mean 0 and unit norm over the fan-in, times a learned gain per output channel.
Unlike batch normalisation this leaves zeros of the back-propagated gradient zero, and has no statistics to reconcile
between federated workers. The gains need `neuro_engine.calibration.calibrate` once: with gains chosen blindly, deep
networks are silent.

Keys of a layer's `state_dict`, by norm:

| norm | keys |
|---|---|
| "weight" | `weight`, `gain`, `bias` |
| "batch", "threshold" | `weight`, `norm.weight`, `norm.bias`, `norm.running_mean`, `norm.running_var` |
| "affine" | `weight`, `norm.scale`, `norm.shift` |
| "none" | `weight`, `bias` |

A learned leak adds `leak_logit`, a recurrent layer `recurrent_weight`; a readout has `weight` and `bias`. In a
`SpikingNetwork` they follow `layers.NAME.`, in a `Residual` `body.` or `shortcut.` comes between.
"""

from neuro_engine.layers.base import EngineLayer, engine_layers, follow
from neuro_engine.layers.blocks import Chain, Residual
from neuro_engine.layers.norms import BatchNorm, FrozenAffine, Norm, NormFactory, NormName, WeightNorm, standardise
from neuro_engine.layers.recurrent import SpikingRecurrent
from neuro_engine.layers.shaping import AvgPool2d, Dropout, Flatten, GlobalAvgPool2d, MaxPool2d
from neuro_engine.layers.spiking import Readout, SpikingConv2d, SpikingConvTranspose2d, SpikingLayer, SpikingLinear

__all__ = [
    "AvgPool2d",
    "BatchNorm",
    "Chain",
    "Dropout",
    "EngineLayer",
    "Flatten",
    "FrozenAffine",
    "GlobalAvgPool2d",
    "MaxPool2d",
    "Norm",
    "NormFactory",
    "NormName",
    "Readout",
    "Residual",
    "SpikingConv2d",
    "SpikingConvTranspose2d",
    "SpikingLayer",
    "SpikingLinear",
    "SpikingRecurrent",
    "WeightNorm",
    "engine_layers",
    "follow",
    "standardise",
]
