"""What clusters learn from each other: exchange of adapters, and the global bank with its router."""

from fedcore.interaction.bank import Bank, route
from fedcore.interaction.exchange import INTERACTIONS, Interaction, Weigh, Weights
from fedcore.interaction.mix import Exchanged, exchanged, mixed

__all__ = ["INTERACTIONS", "Bank", "Exchanged", "Interaction", "Weigh", "Weights", "exchanged", "mixed", "route"]
