"""What all commands share: the application, its console, the environment it sets, and how errors are told."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console(stderr=False, highlight=False)

SPACE = 16 * 2**20
"""Below so many free bytes a disk counts as full: databases write whole pages and journals."""


def settings() -> None:
    """Where Prefect keeps its state, and how much it says; set before Prefect is imported."""
    from data.home import HOME, STORE, Home, absolute
    from flows.heartbeat import HEARTBEAT

    home = Home.current()
    os.environ[HOME] = str(home.root)
    if os.environ.get(STORE):
        os.environ[STORE] = absolute(os.environ[STORE])  # flow runs begin in other folders
    home.prefect.mkdir(parents=True, exist_ok=True)  # Prefect would make no folder above its own
    for name, value in {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "TRANSFORMERS_VERBOSITY": "error",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "fedcore,data,tasks,flows",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes of 250 MB otherwise
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
    }.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Entry point: our own errors become one line and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from fedcore.errors import FedcoreError, InputError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # names of files may be no text
    try:
        insist_on_text(sys.argv[1:])
        app(standalone_mode=True)
    except FedcoreError as error:
        tell(str(error))
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except Exception as error:
        if reason := server_missing(error):
            tell(reason)
            raise SystemExit(1) from None
        try:
            insist_on_space()  # whichever database or library ran out first, this is the reason
        except FedcoreError as error:
            tell(str(error))
            raise SystemExit(1) from None
        if isinstance(error, OSError) and error.filename is not None:
            tell(f"{error.filename}: {error.strerror}")
            raise SystemExit(1) from None
        raise


def insist_on_text(arguments: Sequence[str]) -> None:
    """Refuse what is no UTF-8, which arrives as halves of characters.

    Raises:
        InputError: names the argument.
    """
    from fedcore.errors import InputError

    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(f"{argument!a} is no UTF-8; give words in UTF-8, and rename a file or folder of such a name") from None


def server_missing(error: Exception) -> str | None:
    """That Prefect's server did not answer, where this was the reason."""
    import httpx

    if isinstance(error, httpx.TransportError) or str(error).startswith("Failed to reach API"):
        return f"the Prefect server at {os.environ.get('PREFECT_API_URL')} does not answer; start it, or unset PREFECT_API_URL, and resume"
    return None


def insist_on_space() -> None:
    """Raise a StoreError where the disk of FEDCORE_HOME is full."""
    from data.home import Home
    from data.store import NO_SPACE
    from fedcore.errors import StoreError

    home = Home.current().root
    if home.exists() and shutil.disk_usage(home).free < SPACE:
        raise StoreError(NO_SPACE.format(home))


def tell(error: str) -> None:
    """One line on standard error."""
    Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True)
