"""The command line, `fedcore …`: one module a group of commands; the order of imports is the order in the help."""

from flows.cli import runs, outcomes, pictures, exchange, services, benchmarks  # noqa: F401, I001 importing registers the commands
from flows.cli.app import main

__all__ = ["main"]
