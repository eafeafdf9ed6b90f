"""Parts of `benchmarks.byzantine`: attacks on updates, and a small spiking network that is trained on real data."""
