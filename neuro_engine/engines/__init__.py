"""The three engines of a core: FP, BP and WG."""
