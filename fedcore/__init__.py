"""Fedcore: federated personalisation of text-to-image diffusion models with LoRA adapters."""
