"""One training step of a spiking network, in NeuroFed and in four other libraries: what `train_step` measures."""
