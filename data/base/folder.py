"""The folder of a base model: where it lies, of which family it is, whether its parts are there, and the digest that names its weights."""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fedcore.base import Family
from fedcore.errors import BaseModelError
from fedcore.families import FAMILIES

EMBEDDED = Path(__file__).parent / "weights"
INDEX, CONFIG, ADAPTER = "model_index.json", "config.json", "adapter_config.json"
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`owner/name`, as hubs name models."""


def base_folder(name: str) -> Path:
    """The folder that a federation's `base` names, with all that belongs there.

    Raises:
        BaseModelError: as in `described_folder`; or a file of its weights is missing or not whole.
    """
    folder = described_folder(name)
    for file in (file for part in parts_of(folder) for file in weights_of(folder / part)):
        try:
            with safe_open(file, "pt"):  # looks at the header and the file's length
                pass
        except FileNotFoundError:
            raise BaseModelError(f"base '{name}': {file} is missing (only safetensors are opened); copy or download it again") from None
        except SafetensorError:
            raise BaseModelError(f"base '{name}': {file} is not whole; copy or download it again") from None
    return folder


def described_folder(name: str) -> Path:
    """That folder, with or without weights: `embedded`, a folder, or a model of the hub that was downloaded before.

    Raises:
        BaseModelError: it is missing, of an unknown kind, lacks a part or a configuration, or holds an adapter.
    """
    folder = EMBEDDED if name == "embedded" else Path(name)
    if not folder.exists() and HUB.fullmatch(name):
        folder = _downloaded(name)
    if not (folder / INDEX).is_file():
        raise BaseModelError(f"base '{name}': {folder} holds no {INDEX}; give a folder that a diffusers pipeline's save_pretrained wrote")
    parts = parts_of(folder)
    if missing := [part for part in parts if not (folder / part).is_dir()]:
        raise BaseModelError(
            f"base '{name}': {folder} has no folder '{missing[0]}'; a {family_of(folder).pipeline} needs {', '.join(parts)}"
        )
    for part in parts:
        if weights_of(folder / part) and not (folder / part / CONFIG).is_file():
            raise BaseModelError(f"base '{name}': {folder / part / CONFIG} is missing; copy or download it again")
        if (folder / part / ADAPTER).exists():  # transformers would open it with the model
            raise BaseModelError(f"base '{name}': {folder / part} holds an adapter; move {ADAPTER} and its weights away")
    return folder


def weights_of(part: Path) -> list[Path]:
    """The files that the weights of a part are read from; none of a part without. Variants beside them are nobody's business.

    Raises:
        BaseModelError: what lists them is damaged.
    """
    if part.name.startswith("tokenizer") or part.name == "scheduler":
        return []
    of_transformers = part.name.startswith("text_encoder")
    whole = part / f"{'model' if of_transformers else 'diffusion_pytorch_model'}.safetensors"
    index = whole.with_name(f"{whole.name}.index.json")
    if not index.exists() or (of_transformers and whole.exists()):  # where both are, diffusers opens what the index lists
        return [whole]
    try:
        return [part / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise BaseModelError(f"base {part.parent}: {index} is damaged; copy or download it again") from None


def _downloaded(name: str) -> Path:
    """A hub's model in the local cache; gigabytes are fetched only when somebody asks for them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        raise BaseModelError(
            f"base '{name}': there is no such folder, nor a download of this name; run `hf download {name}` first"
        ) from None


def index_of(folder: Path) -> dict[str, Any]:
    """What the folder's index says: its pipeline's class, its parts, its options.

    Raises:
        BaseModelError: it cannot be read.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = None
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise BaseModelError(f"base {folder}: {INDEX} names no pipeline class; save the pipeline again with save_pretrained")
    return index


def family_of(folder: Path) -> Family:
    """The family that the folder's pipeline belongs to.

    Raises:
        BaseModelError: an unknown one.
    """
    kind = index_of(folder)["_class_name"]
    if kind not in FAMILIES:
        raise BaseModelError(f"base {folder}: a {kind}, which Fedcore does not know; it knows {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def sampler_of(folder: Path) -> str:
    """The class of the scheduler that the folder names."""
    return _of_scheduler(folder, "_class_name")


def prediction_of(folder: Path) -> str:
    """What the base predicts, as its scheduler's configuration says it; nothing for flows."""
    return _of_scheduler(folder, "prediction_type")


def _of_scheduler(folder: Path, key: str) -> str:
    try:
        return str(json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")).get(key, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def parts_of(folder: Path) -> list[str]:
    """The family's parts without those that the index leaves out by name (null)."""
    index = index_of(folder)
    return [part for part in family_of(folder).parts if index.get(part, [part]) not in (None, [None, None])]


@lru_cache(maxsize=2)
def digest(folder: Path) -> str:
    """Names the base by the content of the files that it is opened from; the same for the same weights wherever they lie."""
    total = hashlib.sha256()
    for file in sorted(file for part in parts_of(folder) for file in _opened(folder / part)):
        with file.open("rb") as content:
            mine = hashlib.file_digest(content, "sha256").digest()
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + mine)
    if index_of(folder).get("force_zeros_for_empty_prompt") is False:
        total.update(b"prompts left out are encoded")
    return total.hexdigest()


def insist_on_weights(name: str, here: str, weights: str) -> None:
    """Client and server must mean the same model, and adapters the one that they were trained for: compare digests.

    Raises:
        BaseModelError: those `here` are other `weights`.
    """
    if here != weights:
        raise BaseModelError(f"base '{name}' has other weights here ({here[:12]}) than the federation's ({weights[:12]}); install the same")


def _opened(part: Path) -> list[Path]:
    """Of a part with weights these and its configuration, of another one all but hidden files."""
    if weights := weights_of(part):
        return [part / CONFIG, *weights]
    return [p for p in part.rglob("*") if p.is_file() and not p.name.startswith(".")]


def text_width(folder: Path) -> int:
    """The width of the first text encoder's hidden states."""
    config: dict[str, int] = json.loads((folder / "text_encoder" / "config.json").read_text())
    return config["hidden_size"]
