"""Native kernels of the engines, and the plain torch references that they equal."""
