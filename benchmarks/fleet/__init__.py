"""Parts of the benchmarks of the fleet plane: processes, links that can be cut, a workload without work, probes."""
