"""The web page: a live view of the runs, its JSON interface, and the numbers for Prometheus."""
