"""How the embedded base model is trained: a tiny but real Stable Diffusion, from pictures and their names."""
