"""Gives a trained autoencoder unit latents, by folding the standardisation into its 1×1 `quant_conv` and `post_quant_conv`."""

import torch
from diffusers import AutoencoderKL
from torch import Tensor


@torch.no_grad()
def standardise(model: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Change `model` in place so that a latent z becomes (z − mean) / std, channel by channel.

    `mean`, `std`: (channels,). Exact for the means and for the log-variances; reconstructions do not change.
    """
    quant, post = model.quant_conv, model.post_quant_conv
    channels = len(mean)
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[channels:] -= 2 * std.log()
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(dim=1)
    post.weight *= std[None, :, None, None]
