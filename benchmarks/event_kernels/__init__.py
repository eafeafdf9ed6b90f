"""What `benchmarks.kernels` measures, and against what."""
