"""Whole federations through the real Prefect and the real MLflow."""
