"""How often a flow run gives a sign of life, for all who start flow runs and for who watches over them."""

HEARTBEAT = 30
"""Seconds between two signs of life; Prefect takes no less."""
