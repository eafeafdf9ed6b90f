"""`python -m neurofed` is `neurofed`."""

from neurofed.cli import main

main()
