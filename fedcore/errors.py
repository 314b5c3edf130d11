"""Everything that Fedcore raises on purpose.

    FedcoreError
    ├── InputError            the user's input is wrong (exit code 2)
    │   ├── ConfigError       a federation or client file
    │   ├── TableError        a client's table of pictures and prompts
    │   ├── BaseModelError    the base model's folder
    │   └── BusyError         a run that another process is working on
    ├── HandoverRefused       a request for a picture, or latents on their way
    ├── TooLarge              work that does not fit into the device's memory
    ├── AdapterRefused        an adapter that a client handed over, or a file that holds one
    ├── StoreError            a blob or manifest that is missing or damaged
    └── RoundFailed           a round that cannot count: quorum missed, or nothing was learnt

Every message says what was wrong, where, and what to do.
"""


class FedcoreError(Exception):
    """Base of all errors that Fedcore raises on purpose.

    `at` is the file (or other place) that the message is about; it stands before the message, and stays behind where an
    error leaves a client's side: names of files are the client's own.
    """

    def __init__(self, message: str, *, at: object = None) -> None:
        super().__init__(message if at is None else f"{at}: {message}")
        self.message = message


class InputError(FedcoreError):
    """The user's input is wrong."""


class ConfigError(InputError):
    """A federation or client file that cannot be used."""


class TableError(InputError):
    """A client's table of pictures and prompts that cannot be used."""


class BaseModelError(InputError):
    """A folder that does not hold a usable base model."""


class BusyError(InputError):
    """A run that another process is working on."""


class HandoverRefused(FedcoreError):
    """A file between device and edge server that must not be used, with the reason."""


class TooLarge(FedcoreError):
    """Work that does not fit into the device's memory."""


class AdapterRefused(FedcoreError):
    """An adapter that must not be used, with the reason."""


class StoreError(FedcoreError):
    """A blob or manifest that is missing or damaged."""


class RoundFailed(FedcoreError):
    """A round that cannot count."""
