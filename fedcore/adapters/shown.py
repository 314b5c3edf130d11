"""Names from strangers' files, safe to print."""

import re


def shown(name: str) -> str:
    """A name from a stranger's file, safe to print: printable ASCII, 80 characters at most."""
    return repr(re.sub(r"[^\x20-\x7e]", "?", name)[:80])
