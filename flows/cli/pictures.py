"""Pictures: `generate` draws, `import-images` makes a client's table."""

import io
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, console, settings


def styles_of(text: str) -> dict[int, float]:
    """`0:0.6,2:0.4` as weights by cluster, made to sum to one.

    Raises:
        InputError: it is something else.
    """
    from fedcore.errors import InputError

    try:
        pairs = [part.split(":") for part in text.split(",")]
        weights = {int(cluster): float(weight) for cluster, weight in pairs}
    except ValueError:
        raise InputError(f"--styles '{text}': expected clusters with weights, such as 0:0.6,2:0.4") from None
    total = sum(weights.values())
    if len(weights) < len(pairs) or not 0 < total < float("inf") or min(weights.values()) < 0:
        raise InputError(f"--styles '{text}': every cluster once, no weight below nought, and one of them above it")
    return {cluster: weight / total for cluster, weight in weights.items()}


def placed(name: str, wish: str) -> int:
    """A newcomer's cluster, which is told."""
    from data.home import Home
    from tasks.newcomer import nearest_cluster

    cluster = nearest_cluster(Home.current(), name, wish)
    console.print(f"the wish is nearest to those of cluster {cluster}")
    return cluster


@app.command()
def generate(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    prompt: Annotated[str, typer.Option(help="What to draw; it is encoded here and kept nowhere.")],
    client: Annotated[str | None, typer.Option(help="Draw with this client's personal model.")] = None,
    cluster: Annotated[int | None, typer.Option(help="Draw with this cluster's adapter.")] = None,
    styles: Annotated[str | None, typer.Option(help="Mix clusters by hand, e.g. 0:0.6,2:0.4.")] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Mix the clusters that the encoded prompt is near.")] = False,
    wish: Annotated[str | None, typer.Option(help="Draw for a newcomer: with the cluster that is nearest to what they like.")] = None,
    compose: Annotated[str, typer.Option(help="How styles are mixed: sum, switch or composite.")] = "sum",
    out: Annotated[Path, typer.Option(help="Where the PNG goes; a name that ends in .png.")] = Path("picture.png"),
    number: Annotated[int, typer.Option(min=1, max=64, help="How many pictures; several become a grid.")] = 1,
    seed: Annotated[int, typer.Option(help="Another seed, another picture.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed, up to 100; 1 and less: as it comes.")] = 3.0,
    scheduler: Annotated[str | None, typer.Option(help="ddim, euler, dpm++, unipc, pndm, heun or lms (default: the base's own).")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a side (default: what the base was made for).")] = None,
    keep_prompt: Annotated[bool, typer.Option("--keep-prompt", help="Write the prompt into the PNG's metadata.")] = False,
) -> None:
    """Draw pictures in a user's, a cluster's or several clusters' style (or, with none of them, as the base would).

    The PNG's metadata tells what it was made with; equal arguments give equal bytes.
    """
    settings()
    from fedcore.errors import InputError

    if sum((client is not None, cluster is not None, styles is not None, auto, wish is not None)) > 1:
        raise InputError("give one of --client, --cluster, --styles, --auto and --wish")
    from rich.progress import Progress

    from data.home import Home
    from tasks.generate import How, Who
    from tasks.generate import generate as draw

    if wish is not None:
        cluster = placed(name, wish)
    who = Who(client, {cluster: 1.0} if cluster is not None else styles_of(styles) if styles is not None else None, auto)
    how = How(compose, seed, number, steps, guidance, scheduler, size)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("drawing", total=None)
        draw(
            Home.current(), name, who, how, prompt=prompt, keep=keep_prompt, out=out,
            on_step=lambda done, of: progress.update(bar, completed=done, total=of),
        )  # fmt: skip
    console.print(f"wrote {out}", markup=False, soft_wrap=True)


split = typer.Typer(no_args_is_help=True, help="One picture by an edge server and a device: early steps there, the rest here.")
app.add_typer(split, name="split")


@split.command("ask")
def split_ask(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    prompt: Annotated[str, typer.Option(help="What to draw; it is encoded here.")],
    out: Annotated[Path, typer.Option(help="The request to write, for the server.")],
    client: Annotated[str | None, typer.Option(help="Who asks: the request names the client's cluster.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Hand over nothing of the prompt: it counts after the split only.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another picture.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps, of both together.")] = 30,
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed, up to 100; 1 and less: as it comes.")] = 3.0,
    scheduler: Annotated[str | None, typer.Option(help="ddim, euler, dpm++, unipc, pndm, heun or lms (default: the base's own).")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a side (default: what the base was made for).")] = None,
) -> None:
    """On the device: write a request for a picture."""
    settings()
    from data.home import Home
    from tasks.generate import How
    from tasks.split import ask

    how = How(seed=seed, steps=steps, guidance=guidance, scheduler=scheduler, size=size)
    length = ask(Home.current(), name, how, prompt=prompt, private=private, client=client, out=out)
    console.print(
        f"wrote {out} ({length:,} bytes{', nothing of the prompt' if private else ', the prompt encoded'})", markup=False, soft_wrap=True
    )


@split.command("begin")
def split_begin(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    requests: Annotated[list[Path], typer.Argument(help="Users' requests.")],
    done: Annotated[
        int,
        typer.Option(
            "--steps-done", min=1, help="How many steps to take here (Heun's and PNDM's schedulers have more of them than --steps)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the files that go to the devices.")],
    cluster: Annotated[
        int | None, typer.Option(help="Whose adapter takes these steps (default: the cluster that a request names).")
    ] = None,
    generic: Annotated[str, typer.Option(help="What requests without a prompt are drawn towards.")] = "",
) -> None:
    """On the edge server: take the early steps of all requests, those of one cluster in batches of up to sixteen with its adapter."""
    settings()
    from rich.progress import Progress

    from data.home import Home
    from tasks.split import begin

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("drawing", total=None)
        made = begin(
            Home.current(), name, requests, cluster=cluster, done=done, generic=generic, out=out,
            on_step=lambda step, of: progress.update(bar, completed=step, total=of),
        )  # fmt: skip
    for each in made:
        told = f"wrote {each.file} ({each.bytes:,} bytes)" if each.refused is None else f"left out {each.request}: {each.refused}"
        console.print(told, markup=False, soft_wrap=True)
    if any(each.refused is not None for each in made):
        raise typer.Exit(1)


@split.command("finish")
def split_finish(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    latents: Annotated[Path, typer.Argument(help="The file that the server made.")],
    client: Annotated[str, typer.Option(help="Whose personal model draws the rest.")],
    prompt: Annotated[str, typer.Option(help="What to draw.")],
    out: Annotated[Path, typer.Option(help="Where the PNG goes; a name that ends in .png.")] = Path("picture.png"),
    keep_prompt: Annotated[bool, typer.Option("--keep-prompt", help="Write the prompt into the PNG's metadata.")] = False,
) -> None:
    """On the device: draw the rest with the personal model."""
    settings()
    from rich.progress import Progress

    from data.home import Home
    from tasks.split import finish

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("drawing", total=None)
        finish(
            Home.current(), name, latents, client=client, prompt=prompt, keep=keep_prompt, out=out,
            on_step=lambda step, of: progress.update(bar, completed=step, total=of),
        )  # fmt: skip
    console.print(f"wrote {out}", markup=False, soft_wrap=True)


@app.command("import-images")
def import_images(
    folder: Annotated[Path, typer.Argument(help="Pictures with .txt captions, a metadata.jsonl or a captions.csv.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    statement: Annotated[
        str | None, typer.Option(help="What pictures the user wants, in plain words: writes the client file beside the table as well.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="A word that stands for pictures without a caption.")] = None,
) -> None:
    """Make a client table from a folder of pictures; what cannot be used, or is there twice, is listed and skipped."""
    from rich.progress import track

    from data.clients import new_client_file
    from data.import_images import import_images as make
    from data.store import write_atomically

    client = None if statement is None else new_client_file(out, statement)
    made = make(folder, out, trigger=trigger, track=lambda files: track(files, "reading pictures", console=console, transient=True))
    if client is not None:
        write_atomically(*client)
    for file, reason in made.skipped:
        console.print(f"skipped {file}: {reason}", markup=False, soft_wrap=True)
    beside = f" and the statement to {client[0]}" if client else ""
    skipped = f", skipped {len(made.skipped)}" if made.skipped else ""
    console.print(f"wrote {made.rows} pictures to {out}{beside}{skipped}", markup=False, soft_wrap=True)


@app.command("inspect")
def inspect_table(
    file: Annotated[Path, typer.Argument(help="A client's table.")],
    sheet: Annotated[Path | None, typer.Option(help="Where a contact sheet of the pictures goes; a name that ends in .png.")] = None,
    base: Annotated[str, typer.Option(help="The base model that it would be trained with.")] = "embedded",
) -> None:
    """Show what a client would train on: counts, sizes, what is odd, and the pictures as training sees them."""
    settings()
    from data.base.load import imagined
    from data.gallery import contact_sheet
    from data.inspection import as_trained, inspection
    from data.store import insist_on_png, write_atomically
    from data.tables import read_table
    from fedcore.errors import InputError, TableError
    from fedcore.latents import picture_size

    if sheet is not None:
        if sheet.resolve() == file.resolve():
            raise InputError("--sheet names the table itself; name another file")
        insist_on_png(sheet)
    try:
        rows = read_table(file.read_bytes(), str(file))
    except FileNotFoundError:
        raise TableError("there is no such table; make one with `fedcore import-images`", at=file) from None
    with imagined(base, device="cpu") as opened:
        size = picture_size(opened)
    found = inspection(rows, size)
    told = ", ".join(f"{count} {split}" for split, count in sorted(found.splits.items()))
    console.print(f"{len(rows)} pictures: {told}", soft_wrap=True)
    console.print(
        f"shorter side {found.sides[0]} to {found.sides[2]} pixels, {found.sides[1]} in the middle; trained at {size}×{size}, "
        f"the centre square: {100 * found.cropped:.0f} % of the longer side is cut off on average",
        soft_wrap=True,
    )  # fmt: skip
    console.print(f"captions of {found.words:.1f} words on average", soft_wrap=True)
    for row, remark in found.remarks:
        console.print(f"  row {row}: {remark}", markup=False, soft_wrap=True)
    if sheet is not None:
        pictures, names = as_trained(rows, size)
        png = io.BytesIO()
        contact_sheet(pictures, names).save(png, "PNG")
        write_atomically(sheet, png.getvalue())
        console.print(f"wrote {sheet}", markup=False, soft_wrap=True)
