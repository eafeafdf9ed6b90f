"""The chip's bill, checked and timed: what `python -m benchmarks.chip_model` reports."""
