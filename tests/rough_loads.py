"""Rough loads for tests of mapping and schedule: operations over lanes, nothing measured."""

from neuro_engine.trace import Engine


def rough_loads(shapes, lanes=256, spike_rate=0.15, gradient_density=0.4):
    """Core-cycles of each engine for a sample: the operations that are left over 256 lanes; one weight a cycle.

    The analog input is dense, and its synaptic current is computed once for all steps where it is static.
    """
    loads = {}
    for layer, shape in shapes.items():
        dense = shape.synapses * shape.steps / lanes
        forward = dense * spike_rate if shape.sources else shape.synapses * (1 if shape.static else shape.steps) / lanes
        backward = dense * gradient_density if shape.sources else 0.0
        loads[layer] = {Engine.FP: forward, Engine.BP: backward, Engine.WG: forward, Engine.UPDATE: shape.weights}
    return loads
