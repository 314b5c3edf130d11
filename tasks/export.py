"""Export: adapters of a finished run as files that other programs open; nothing of a client but its adapter."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from data.base.folder import base_folder, digest, family_of, insist_on_weights
from data.formats import FORMATS, diffusers, kohya, made_for
from data.home import Home
from data.records import Model, RoundRecord, bound
from fedcore.adapters import single
from fedcore.errors import InputError
from tasks._models import load_model
from tasks.generate import last_round, of_cluster, personal

BANK = "bank.json"
ROUTED = """
Weights for a prompt, as `fedcore generate --auto` finds them: the softmax of the cosines of its encoded wish
(`fedcore.prompts.requirement`) with the clusters' `centroid`s, over `temperature`;
those below 0.05 are left out, the others brought to one.
"""
_DIFFUSERS = """
```python
import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

folder = Path({folder!r})
bank = json.loads((folder / "bank.json").read_text())
pipeline = DiffusionPipeline.from_pretrained({base!r}, dtype=torch.float32)
for cluster in bank["clusters"]:
    pipeline.load_lora_weights(folder / f"cluster-{{cluster}}", weight_name="{file}", adapter_name=f"cluster-{{cluster}}")
pipeline.set_adapters({names}, adapter_weights={weights})
pipeline("a cat").images[0].save("cat.png")
```
"""
EXAMPLES = {
    "diffusers": _DIFFUSERS,
    "peft": """
```python
import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from peft import PeftModel

folder = Path({folder!r})
bank = json.loads((folder / "bank.json").read_text())
pipeline = DiffusionPipeline.from_pretrained({base!r}, dtype=torch.float32)
model = PeftModel.from_pretrained(pipeline.{part}, folder / "cluster-{first}", adapter_name="cluster-{first}")
for cluster in bank["clusters"]:
    model.load_adapter(folder / f"cluster-{{cluster}}", adapter_name=f"cluster-{{cluster}}")
model.set_adapter("cluster-{first}")
pipeline("a cat").images[0].save("cat.png")
```
""",
    "kohya": f"\nEach folder's `lora.safetensors` goes into ComfyUI's `models/loras`, or A1111's; diffusers opens it, too:\n{_DIFFUSERS}",
}


def export(home: Home, name: str, *, client: str | None, cluster: int | None, kind: str, out: Path) -> list[Path]:
    """Write a client's or a cluster's adapter, or with neither the global bank, into the folder `out`; returns the files.

    The bank is a folder for each cluster, `bank.json` (centroids, temperature, weights' digests) and a README with an example.

    Raises:
        InputError: no such run, client, cluster or format, or `out` holds something else.
        BaseModelError: the base is missing, or holds other weights by now.
    """
    if kind not in FORMATS:
        raise InputError(f"there is no format '{kind}'; there are {', '.join(FORMATS)}")
    record = last_round(home, name)
    base = bound(home.server(), name).base
    insist_on_weights(base, digest(base_folder(base)), record.base)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder; name another one")
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".part-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        if client is not None or cluster is not None:
            _write(personal(record, client) if client is not None else of_cluster(record, cluster or 0), base, kind, made)
        else:
            write_bank(home, record, base, kind, made, out)
        if out.exists():
            out.rmdir()
        shutil.move(made, out)
    return sorted(path for path in out.rglob("*") if path.is_file())


def _write(model: Model, base: str, kind: str, folder: Path) -> None:
    adapter = load_model(model)
    if adapter is None:
        raise InputError("this model is the base itself: there is no adapter to export")
    small = {name: single(layer) for name, layer in adapter.items()}
    FORMATS[kind](small, made_for(base, base_folder(base), small), folder)


def write_bank(home: Home, record: RoundRecord, base: str, kind: str, folder: Path, out: Path) -> None:
    """Every cluster's adapter that somebody is in, where its wishes lie, and an example that opens them from `out`."""
    about: dict[str, Any] = json.loads(home.server().get(record.bank))
    clusters = {}
    for i, cluster in sorted(record.clusters.items()):
        if not cluster.members:
            continue  # nobody learns there any more, and nobody is routed there
        (folder / f"cluster-{i}").mkdir()
        _write(of_cluster(record, i), base, kind, folder / f"cluster-{i}")
        clusters[str(i)] = {"centroid": about["centroids"][str(i)], "rank": cluster.rank, "sha256": cluster.adapter.sha256}
    bank = {"base": base, "base_sha256": record.base, "format": kind, "temperature": about["temperature"], "clusters": clusters}
    (folder / BANK).write_text(json.dumps(bank, indent=1) + "\n", encoding="utf-8")
    names = [f"cluster-{i}" for i in clusters][:2]
    example = EXAMPLES[kind].format(
        folder=str(out),
        file={"diffusers": diffusers.FILE, "kohya": kohya.FILE}.get(kind),
        base=str(base_folder(base)),
        names=names,
        weights=[0.6, 0.4] if len(names) > 1 else [1.0],
        part=family_of(base_folder(base)).denoiser,
        first=next(iter(clusters)),
    )
    text = f"# The adapters of all {len(clusters)} clusters, and where each one's wishes lie\n\n`{BANK}` names them.\n{example}{ROUTED}"
    (folder / "README.md").write_text(text, encoding="utf-8")
