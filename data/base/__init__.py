"""The base model: the embedded one, or any folder that a Stable Diffusion pipeline opens."""
