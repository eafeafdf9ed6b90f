"""Networks by their shapes alone: enough to know what training them costs, without weights, data or torch."""

from neuro_engine.cost.networks.catalogue import available, network
from neuro_engine.cost.networks.nir_shapes import shape_from_nir
from neuro_engine.cost.networks.shape import NetworkShape
from neuro_engine.cost.networks.window import Window

__all__ = ["NetworkShape", "Window", "available", "network", "shape_from_nir"]
