"""Adapters for other programs, and from them: `export`, `import-adapter`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, console, settings
from flows.cli.pictures import placed


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must be new or empty.")],
    client: Annotated[str | None, typer.Option(help="This client's personal model.")] = None,
    cluster: Annotated[int | None, typer.Option(help="This cluster's adapter.")] = None,
    wish: Annotated[str | None, typer.Option(help="For a newcomer: the adapter of the cluster nearest to what they like.")] = None,
    whole: Annotated[bool, typer.Option("--global", help="All clusters' adapters, with what a router needs.")] = False,
    kind: Annotated[str, typer.Option("--format", help="peft (PEFT), diffusers (diffusers) or kohya (ComfyUI, A1111).")] = "diffusers",
) -> None:
    """Write adapters as files that diffusers, PEFT, ComfyUI or A1111 open."""
    settings()
    from data.home import Home
    from fedcore.errors import InputError
    from tasks.export import export as write

    if sum((client is not None, cluster is not None, wish is not None, whole)) != 1:
        raise InputError("give one of --client, --cluster, --wish and --global")
    if wish is not None:
        cluster = placed(name, wish)
    for file in write(Home.current(), name, client=client, cluster=cluster, kind=kind, out=out):
        console.print(f"wrote {file}", markup=False, soft_wrap=True)


@app.command("import-adapter")
def import_adapter(
    file: Annotated[Path, typer.Argument(help="A PEFT folder, or a .safetensors file of diffusers or kohya.")],
    client: Annotated[str, typer.Option(help="The client that begins with it.")],
    clients: Annotated[Path, typer.Option(help="Folder of the client files.")] = Path("federations/demo"),
    base: Annotated[str, typer.Option(help="The base model that it was made for.")] = "embedded",
) -> None:
    """Let a client begin with an adapter that was made elsewhere, from the next run's first round on."""
    settings()
    from data.base.load import imagined
    from data.import_adapter import import_adapter as write
    from fedcore.injection import target_shapes

    with console.status("looking at the base …"), imagined(base, device="cpu") as opened:
        shapes = target_shapes(opened, "all")
    console.print(
        f"wrote {write(file, client, clients, opened, shapes)}, and named it in {clients / client}.yaml", markup=False, soft_wrap=True
    )
