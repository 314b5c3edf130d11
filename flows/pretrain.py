"""Trains the embedded base from the emoji pack: autoencoder → latents → denoiser, text encoder → wishes → classifiers → weights, card.

`python -m flows.pretrain FOLDER`; every stage resumes from FOLDER where it was stopped.
"""

import logging
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, task

from flows.temporary_server import temporary_server

AUTOENCODER_STEPS = 5000
DENOISER_STEPS = 11_000
WISH_STEPS = 1500
WORKERS = 2


@task(name="autoencoder")
def autoencoder(folder: Path, steps: int) -> None:
    """64×64 pictures ↔ 8×8×8 latents."""
    from fedcore.pretraining.loop import Schedule
    from tasks import pretrain

    pretrain.in_workers(pretrain.autoencoder_worker, WORKERS, folder, Schedule(steps=steps, lr=2e-3, decay=0.4), 8)


@task(name="latents")
def latents(folder: Path, start: Path | None) -> None:
    """Vocabulary and unit latents, or those of the base to start from; every picture encoded in all its versions."""
    from tasks import pretrain

    if start is None:
        pretrain.prepare(folder)
    else:
        pretrain.begin_from(folder, start)
    pretrain.in_workers(pretrain.latents_worker, WORKERS, folder)


@task(name="denoiser")
def denoiser(folder: Path, steps: int) -> None:
    """Text encoder and UNet; the learning rate holds, then falls over the last two fifths."""
    from fedcore.pretraining.loop import Schedule
    from tasks import pretrain

    pretrain.in_workers(pretrain.diffusion_worker, WORKERS, folder, Schedule(steps=steps, lr=1.2e-3, warmup=200, decay=0.4), 64)


@task(name="wishes")
def wishes(folder: Path) -> None:
    """The text encoder alone: sentences that ask for one look come to lie together."""
    from fedcore.pretraining.loop import Schedule
    from tasks import pretrain

    pretrain.in_workers(pretrain.wishes_worker, WORKERS, folder, Schedule(steps=WISH_STEPS, lr=1e-3, ema=0.99))


@task(name="classifier")
def classifier(folder: Path) -> None:
    """The style classifier."""
    from tasks import critics

    critics.judge(folder)


@task(name="features")
def features(folder: Path) -> None:
    """The network whose features sets of pictures are compared by."""
    from tasks import critics

    critics.features(folder)


@task(name="assemble")
def assemble(folder: Path, target: Path) -> None:
    """fp16 weights as a pipeline folder, contact sheet, and the figures of the card."""
    from tasks import pretrain

    pretrain.finish(folder, target)


@flow(name="pretrain")
def pretrain_base(folder: Path, target: Path, autoencoder_steps: int, denoiser_steps: int, start: Path | None) -> None:
    """All stages in order; training goes on from its last checkpoint."""
    if start is None:
        autoencoder(folder, autoencoder_steps)
    latents(folder, start)
    denoiser(folder, denoiser_steps)
    wishes(folder)
    classifier(folder)
    features(folder)
    assemble(folder, target)


def main(
    folder: Annotated[Path, typer.Argument(help="Where checkpoints are kept; the same folder resumes.")],
    target: Annotated[Path, typer.Option(help="Where the finished base goes.")] = Path("data/base"),
    autoencoder_steps: Annotated[int, typer.Option(help="Autoencoder steps of 16 pictures.")] = AUTOENCODER_STEPS,
    denoiser_steps: Annotated[int, typer.Option(help="Denoiser steps of 128 pictures.")] = DENOISER_STEPS,
    start: Annotated[Path | None, typer.Option(help="A finished base whose denoiser goes on; its autoencoder is kept.")] = None,
) -> None:
    """Train the embedded base model from the emoji pack."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with temporary_server():
        pretrain_base(folder, target, autoencoder_steps, denoiser_steps, start)


if __name__ == "__main__":
    typer.run(main)
