"""What clusters learn from each other: exchange of adapters, and the global bank with its router."""

from fedcore.interaction.bank import Bank, mixed, route
from fedcore.interaction.exchange import INTERACTIONS, Interact, none, similarity

__all__ = ["INTERACTIONS", "Bank", "Interact", "mixed", "none", "route", "similarity"]
