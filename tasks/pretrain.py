"""The stages of pre-training, each run by data-parallel worker processes that resume from a safetensors checkpoint."""

import hashlib
import json
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from data.base.assemble import assemble
from data.base.load import load_base
from data.emoji.pack import base_drawings, drawings, pixels
from data.emoji.styles import STYLES
from data.gallery import contact_sheet
from fedcore.course import Course
from fedcore.generation import generate
from fedcore.pretraining.assess import caption_test
from fedcore.pretraining.autoencoder import autoencoder_loss, new_autoencoder, peak_signal_to_noise
from fedcore.pretraining.captions import PLAIN_LOOK, STYLE_WORDS, caption
from fedcore.pretraining.diffusion import Latents, TextToLatent, diffusion_loss, new_denoiser
from fedcore.pretraining.loop import Schedule, State, fast_precision, optimise
from fedcore.pretraining.pictures import VARIANTS, move
from fedcore.pretraining.text import new_text_encoder, train_tokenizer
from fedcore.pretraining.whitening import standardise
from fedcore.pretraining.wishes import wish_loss
from fedcore.prompts import encode as encode_texts
from fedcore.sampling import alone
from fedcore.seeds import derive, generator, isolated

log = logging.getLogger("tasks.pretrain")
SEED = 0
SIDES = ("left", "right", "clockwise")  # words that a mirrored picture would make wrong


def _join(rank: int, workers: int, rendezvous: str) -> None:
    """One thread per worker: two threads in one process are slower than two processes of one thread."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)


def in_workers(worker: Callable[..., None], workers: int, folder: Path, *arguments: object) -> None:
    """Run `worker(rank, workers, rendezvous, folder, *arguments)` in that many fresh processes and wait for all."""
    folder.mkdir(parents=True, exist_ok=True)
    rendezvous = folder.resolve() / f"rendezvous-{os.getpid()}-{worker.__name__}"
    rendezvous.unlink(missing_ok=True)
    mp.spawn(worker, args=(workers, str(rendezvous), folder, *arguments), nprocs=workers)


def _checkpoint(path: Path, rank: int) -> tuple[State | None, Callable[[int, State], None], Callable[[int, float], None]]:
    """What `optimise` needs to resume, save and report; only rank 0 writes."""
    state = load_file(path) if path.exists() else None
    began = time.monotonic()

    def save(_step: int, state: State) -> None:
        if rank == 0:
            save_file({k: v.contiguous() for k, v in state.items()}, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)

    def report(step: int, loss: float) -> None:
        if rank == 0:
            log.info("%s step %d loss %.4f (%.0f s)", path.stem, step, loss, time.monotonic() - began)

    return state, save, report


def base_pictures() -> Tensor:
    """The pictures that may train the base, uint8."""
    return pixels([d.png for d in base_drawings() if not d.unseen])


def autoencoder_worker(rank: int, workers: int, rendezvous: str, folder: Path, schedule: Schedule, batch: int) -> None:
    """Train the autoencoder; rank 0 leaves it in `folder/vae`."""
    _join(rank, workers, rendezvous)
    with isolated(SEED, "autoencoder"):
        model = new_autoencoder()
    loss = autoencoder_loss(model, base_pictures(), batch=batch, seed=SEED, rank=rank)
    state, save, report = _checkpoint(folder / "autoencoder.safetensors", rank)
    optimise(model, loss, schedule, workers=workers, state=state, save_every=250, save=save, report=report)
    if rank == 0:
        model.save_pretrained(folder / "vae", safe_serialization=True)
        for style in STYLES:
            unseen = pixels([d.png for d in drawings(style.name) if d.unseen])
            log.info("PSNR on unseen subjects, %s (%s): %.2f dB", style.name, style.role, peak_signal_to_noise(model, unseen))


def begin_from(folder: Path, base: Path) -> None:
    """Let the denoiser go on from a finished base: its autoencoder and tokenizer are kept, the optimiser begins anew."""
    for part, target in (("tokenizer", "tokenizer"), ("vae", "vae-unit")):
        shutil.copytree(base / part, folder / target, dirs_exist_ok=True)
    shutil.copytree(base, folder / "start", dirs_exist_ok=True)


def prepare(folder: Path) -> None:
    """Learn the vocabulary (`folder/tokenizer`), give the autoencoder unit latents (`folder/vae-unit`)."""
    corpus = [d for d in base_drawings() if not d.unseen]
    draw = random.Random(derive(SEED, "vocabulary"))
    looks = [*STYLE_WORDS]
    captions = [caption(d.names, draw.choice((d.style, *looks)), draw) for d in corpus for _ in range(8)]
    train_tokenizer([*captions, *(name for d in corpus for name in d.names)]).save_pretrained(folder / "tokenizer")
    model = AutoencoderKL.from_pretrained(folder / "vae")
    latents = torch.cat([encode(model, part.float() / 127.5 - 1) for part in base_pictures()[::4].split(32)])
    standardise(model, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
    model.save_pretrained(folder / "vae-unit", safe_serialization=True)


@torch.no_grad()
def encode(model: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Mean latents of pictures in [-1, 1]."""
    with fast_precision():
        mean: Tensor = model.encode(pictures).latent_dist.mean
    return mean.float()


MOVES = 6


def latents_worker(rank: int, workers: int, rendezvous: str, folder: Path) -> None:
    """Encode every base picture as drawn, mirrored, moved, and once in each drawn variant; rank r takes every r-th block."""
    _join(rank, workers, rendezvous)
    model = AutoencoderKL.from_pretrained(folder / "vae-unit").eval()
    corpus = [d for d in base_drawings() if not d.unseen]
    blocks = range(0, len(corpus), 64)
    for block in list(blocks)[rank::workers]:
        path = folder / "latents" / f"{block:06}.safetensors"
        if path.exists():
            continue
        part = corpus[block : block + 64]
        clean = pixels([d.png for d in part]).float() / 127.5 - 1
        draw = generator(SEED, "moves", block)
        sided = torch.tensor([any(word in name for name in d.names for word in SIDES) for d in part])[:, None, None, None]
        mirrored = torch.where(sided, clean, clean.flip(-1))
        versions = [clean, mirrored]
        versions += [
            torch.where(sided, move(clean, draw, smallest=0.85, flip=False), move(clean, draw, smallest=0.85)) for _ in range(MOVES)
        ]
        versions += [variant(clean if i % 2 else mirrored) for i, variant in enumerate(VARIANTS.values())]
        path.parent.mkdir(exist_ok=True)
        values = torch.stack([encode(model, v) for v in versions], dim=1).half()
        save_file({"values": values.contiguous()}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        log.info("latents %d of %d", block, len(corpus))


SELDOM = {"Smileys & Emotion": 1 / 3, "People & Body": 1 / 3}
"""A quarter of the pictures are faces, hands and people; animals, food, objects and places are what users draw."""
OFTEN = 3.0  # the look of plain captions


def latents(folder: Path) -> Latents:
    """What `latents_worker` encoded."""
    corpus = [d for d in base_drawings() if not d.unseen]
    values = torch.cat([load_file(p)["values"] for p in sorted((folder / "latents").glob("*.safetensors"))])
    looks = (*(None for _ in range(2 + MOVES)), *VARIANTS)
    shares = tuple(SELDOM.get(d.category, 1.0) * (OFTEN if d.style == PLAIN_LOOK else 1.0) for d in corpus)
    return Latents(values, looks, tuple(d.names for d in corpus), tuple(d.style for d in corpus), shares)


def diffusion_worker(rank: int, workers: int, rendezvous: str, folder: Path, schedule: Schedule, batch: int) -> None:
    """Train text encoder and denoiser; rank 0 leaves them in `folder/unet` and `folder/text_encoder`."""
    _join(rank, workers, rendezvous)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    with isolated(SEED, "diffusion"):
        model = TextToLatent(new_text_encoder(tokenizer), new_denoiser())
    if (folder / "start").exists():
        begun = load_base(str((folder / "start").resolve()))
        model.text_encoder.load_state_dict(begun.text_encoders[0].state_dict())
        model.unet.load_state_dict(begun.denoiser.state_dict())
        model.requires_grad_(True)
    model.unet.set_attn_processor(AttnProcessor())  # on CPU, 27 % faster a step than fused attention, whose backward pass is slow
    model.unet.to(memory_format=torch.channels_last)  # 15 % faster a step (1.26 → 1.07 s for 64 pictures on one AVX2 core)
    model.train()
    loss = diffusion_loss(model, tokenizer, latents(folder), batch=batch, seed=SEED, rank=rank)
    state, save, report = _checkpoint(folder / "diffusion.safetensors", rank)
    optimise(model, loss, schedule, workers=workers, state=state, save_every=500, save=save, report=report)
    if rank == 0:
        model.unet.save_pretrained(folder / "unet", safe_serialization=True)
        model.text_encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)


SENTENCES = Path(__file__).parents[1] / "data" / "base" / "sentences.yaml"


def wishes_worker(rank: int, workers: int, rendezvous: str, folder: Path, schedule: Schedule) -> None:
    """Teach the trained text encoder to tell wishes apart; rank 0 leaves it in `folder/text_encoder-wishes`."""
    _join(rank, workers, rendezvous)
    teacher = CLIPTextModel.from_pretrained(folder / "text_encoder").eval().requires_grad_(False)
    student = CLIPTextModel.from_pretrained(folder / "text_encoder").train()
    subjects = [(d.names, d.style) for d in base_drawings() if not d.unseen]
    sentences: dict[str, list[str]] = yaml.safe_load(SENTENCES.read_text())
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    loss = wish_loss(student, teacher, tokenizer, subjects, sentences, seed=SEED, rank=rank)
    taught = hashlib.sha256((folder / "text_encoder" / "model.safetensors").read_bytes()).hexdigest()
    state, save, report = _checkpoint(folder / f"wishes-{taught[:12]}.safetensors", rank)
    optimise(student, loss, schedule, workers=workers, state=state, save_every=250, save=save, report=report)
    if rank == 0:
        student.save_pretrained(folder / "text_encoder-wishes", safe_serialization=True)


CARD_PROMPTS = (
    "cat", "dog", "sunflower", "pizza", "guitar", "house", "car", "tree", "red apple", "banana", "fish", "penguin",
    "heart", "star", "sun", "umbrella", "books", "bicycle", "airplane", "hamburger", "birthday cake", "crown", "snowman", "rocket",
)  # fmt: skip


def finish(folder: Path, target: Path) -> None:
    """Assemble the base and measure what its card states: caption tests on fixed noise, reconstruction, a contact sheet."""
    torch.set_num_threads(1)
    assemble(folder, target / "weights")
    with safe_open(folder / "diffusion.safetensors", "pt") as checkpoint:
        step = int(checkpoint.get_tensor("step"))
    for part in ("judge", "features"):
        if (folder / part).exists():
            shutil.copytree(folder / part, target / part, dirs_exist_ok=True)
    base = load_base(str(target / "weights"))
    corpus = base_drawings()
    figures: dict[str, object] = {"denoiser_steps": step, "weights_sha256": base.digest}
    for title, chosen in (("unseen", [d for d in corpus if d.unseen]), ("known", [d for d in corpus if not d.unseen][::14])):
        clean = pixels([d.png for d in chosen]).float() / 127.5 - 1
        means = torch.cat([encode(base.vae, part) for part in clean.split(32)])
        test = caption_test(base, means, [d.names[0] for d in chosen], [STYLE_WORDS[d.style][0] for d in chosen], seed=SEED)
        figures[title] = {"pictures": len(chosen), "right": test.right, "wrong": test.wrong, "margin": test.margin}
    for style in STYLES:
        unseen = pixels([d.png for d in drawings(style.name) if d.unseen])
        figures[f"psnr_db/{style.name}"] = peak_signal_to_noise(base.vae, unseen)
    (target / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    prompts = encode_texts(base, CARD_PROMPTS).prompts
    seeds = [derive(SEED, "sheet", i) for i in range(len(CARD_PROMPTS))]
    contact_sheet(generate(base, Course(30, 3.0), prompts, alone(None), seeds=seeds), CARD_PROMPTS).save(target / "sheet.png")
    log.info("base of step %d: %s", step, figures)
