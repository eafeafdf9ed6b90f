"""NeuroFed: federated learning for spiking networks on emulated neuromorphic chips."""

__version__ = "0.1.0"
