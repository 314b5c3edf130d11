"""What all commands share: the application, its console, the environment it sets, and how errors are told."""

import logging
import os

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console(stderr=False, highlight=False)


def settings() -> None:
    """Where Prefect keeps its state, and how much it says; set before Prefect is imported."""
    from data.home import HOME, Home

    home = Home.current()
    os.environ[HOME] = str(home.root)
    for name, value in {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "fedcore,data,tasks",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
    }.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Entry point: our own errors become one line and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from fedcore.errors import FedcoreError, InputError

    try:
        app(standalone_mode=True)
    except FedcoreError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
