"""The two networks that look at pictures afterwards, trained from the pack: style classifier and features."""

import json
import logging
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_model
from torch import Tensor

from data.emoji.benchmark import USERS, reserved
from data.emoji.pack import Drawing, drawings, pixels
from data.emoji.styles import STYLES
from fedcore.features import train_features
from fedcore.judge import train_judge
from tasks.pretrain import SEED, encode

log = logging.getLogger("tasks.critics")
JUDGE_PICTURES = 400  # a style


def judge(folder: Path) -> None:
    """Train the style classifier on pictures as the base can draw them (through the autoencoder), with its accuracy on unseen subjects."""
    torch.set_num_threads(1)
    model = AutoencoderKL.from_pretrained(folder / "vae-unit").eval()
    styles = [style.name for style in STYLES]
    seen, held = {}, {}
    for style in styles:
        known = [d for d in drawings(style) if not d.unseen]
        seen[style] = redrawn(model, [d.png for d in known[:: max(1, len(known) // JUDGE_PICTURES)]])
        held[style] = redrawn(model, [d.png for d in drawings(style) if d.unseen])
        log.info("judge: %s ready", style)
    labels = torch.cat([torch.full((len(seen[style]),), i) for i, style in enumerate(styles)])
    classifier = train_judge(torch.cat(list(seen.values())), labels, styles, steps=1500, seed=SEED)
    right = {style: sum(name == style for name in classifier.name(pictures)) for style, pictures in held.items()}
    accuracy = sum(right.values()) / sum(len(pictures) for pictures in held.values())
    log.info("judge: %.1f %% of unseen subjects' pictures named right: %s", 100 * accuracy, right)
    target = folder / "judge"
    target.mkdir(exist_ok=True)
    save_model(classifier, str(target / "judge.safetensors"))
    (target / "judge.json").write_text(json.dumps({"styles": styles, "accuracy_on_unseen_subjects": accuracy}, indent=1) + "\n")


def features(folder: Path) -> None:
    """Train the network that sets of pictures are compared by, on drawings as they are; reserved and unseen subjects stay out of it."""
    torch.set_num_threads(1)
    left_out = {(d.style, d.subject) for style in USERS for d in reserved(style)}
    known = [d for style in STYLES for d in drawings(style.name) if not d.unseen and (d.style, d.subject) not in left_out]
    held = [d for style in STYLES for d in drawings(style.name) if d.unseen]
    hands, kinds = [style.name for style in STYLES], sorted({d.category for d in known})

    def labels(of: list[Drawing]) -> tuple[Tensor, Tensor]:
        return torch.tensor([hands.index(d.style) for d in of]), torch.tensor([kinds.index(d.category) for d in of])

    model = train_features(pixels([d.png for d in known]), *labels(known), steps=2000, seed=SEED)
    found, (hand, kind) = model.of(pixels([d.png for d in held])), labels(held)
    right = {
        "hands_right_on_unseen_subjects": (model.hand(found).argmax(dim=1) == hand).double().mean().item(),
        "kinds_right_on_unseen_subjects": (model.subject(found).argmax(dim=1) == kind).double().mean().item(),
    }
    log.info("features: %s", right)
    target = folder / "features"
    target.mkdir(exist_ok=True)
    save_model(model, str(target / "features.safetensors"))
    (target / "features.json").write_text(json.dumps({"hands": len(hands), "subjects": len(kinds), **right}, indent=1) + "\n")


@torch.no_grad()
def redrawn(model: AutoencoderKL, pngs: list[bytes]) -> Tensor:
    """Pictures through the autoencoder and back, uint8."""
    parts = [model.decode(encode(model, part.float() / 127.5 - 1)).sample for part in pixels(pngs).split(32)]
    return ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
