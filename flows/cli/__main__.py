"""`python -m flows.cli` is `fedcore`."""

from flows.cli import main

main()
