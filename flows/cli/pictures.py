"""Pictures: `generate` draws, `import-images` makes a client's table."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, console, settings


@app.command()
def generate(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    prompt: Annotated[str, typer.Option(help="What to draw; it is encoded here and kept nowhere.")],
    client: Annotated[str | None, typer.Option(help="Draw with this client's personal adapter.")] = None,
    cluster: Annotated[int | None, typer.Option(help="Draw with this cluster's adapter.")] = None,
    out: Annotated[Path, typer.Option(help="Where the PNG goes.")] = Path("picture.png"),
    seed: Annotated[int, typer.Option(help="Another seed, another picture.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed.")] = 3.0,
) -> None:
    """Draw a picture in a user's or a cluster's style (or, with neither, as the base would)."""
    settings()
    if client is not None and cluster is not None:
        from fedcore.errors import InputError

        raise InputError("give --client or --cluster, not both")
    from rich.progress import Progress

    from data.home import Home
    from tasks.generate import generate as draw

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("drawing", total=steps)
        draw(
            Home.current(), name, client=client, cluster=cluster, prompt=prompt, out=out, seed=seed, steps=steps, guidance=guidance,
            on_step=lambda done, _: progress.update(bar, completed=done),
        )  # fmt: skip
    console.print(f"wrote {out}")


@app.command("import-images")
def import_images(
    folder: Annotated[Path, typer.Argument(help="Pictures with .txt captions, a metadata.jsonl or a captions.csv.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    statement: Annotated[
        str | None, typer.Option(help="What pictures the user wants, in plain words: writes the client file beside the table as well.")
    ] = None,
) -> None:
    """Make a client table from a folder of pictures; what cannot be used is listed and skipped."""
    from rich.progress import track

    from data.clients import new_client_file
    from data.import_images import import_images as make
    from data.store import write_atomically

    client = None if statement is None else new_client_file(out, statement)
    made = make(folder, out, track=lambda files: track(files, "reading pictures", console=console, transient=True))
    for file, reason in made.skipped:
        console.print(f"skipped {file}: {reason}", markup=False, soft_wrap=True)
    if client is not None:
        write_atomically(*client)
    beside = f" and the statement to {client[0]}" if client else ""
    skipped = f", skipped {len(made.skipped)}" if made.skipped else ""
    console.print(f"wrote {made.rows} pictures to {out}{beside}{skipped}", markup=False, soft_wrap=True)
