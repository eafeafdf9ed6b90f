"""An emulated multi-core neuromorphic chip that trains spiking networks by back-propagation through time.

Useful alone: build a network from `neuro_engine.layers`, give it to a `CoreGroup` with a chip, train, read the bill.
Submodules are imported by name (`from neuro_engine.layers import SpikingConv2d`); those that need torch say so by
importing it, the chip and the cost model do not.
"""
