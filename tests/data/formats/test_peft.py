"""An exported folder, opened by PEFT itself, computes what the adapter means."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from data.formats.peft import write_peft
from data.formats.tensors import made_for
from fedcore.base import BaseModel
from fedcore.injection import target_shapes
from fedcore.seeds import generator
from tests.tiny import LATENT, merged, random_adapter


@pytest.mark.parametrize(("ranks", "scales"), [((3,), (1.0,)), ((3,), (0.5,)), ((1, 4, 2), (0.5, 2.0))], ids=["plain", "scaled", "mixed"])
@torch.no_grad()
def test_peft_opens_the_folder_and_computes_the_merged_weights(
    base: BaseModel, base_folder: Path, tmp_path: Path, ranks: tuple[int, ...], scales: tuple[float, ...]
) -> None:
    shapes = target_shapes(base, "all")
    adapter = {
        name: random_adapter({name: shape}, ranks[i % len(ranks)], scale=scales[i % len(scales)], size=0.05)[name]
        for i, (name, shape) in enumerate(shapes.items())
    }
    write_peft(adapter, made_for("tiny", base_folder, adapter), tmp_path)
    opened = PeftModel.from_pretrained(deepcopy(base.denoiser), tmp_path)
    draw = generator(0, "inputs")
    inputs = torch.randn(2, *LATENT, generator=draw), torch.tensor([5, 600]), torch.randn(2, 32, 128, generator=draw)
    want = merged(base.denoiser, adapter)(*inputs).sample
    torch.testing.assert_close(opened(*inputs).sample, want, rtol=1e-3, atol=1e-3)
    assert float((want - base.denoiser(*inputs).sample).abs().mean()) > 0.01


def test_the_same_adapter_gives_the_same_files(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    adapter = random_adapter(target_shapes(base, "attention"), 2)
    of = made_for("tiny", base_folder, adapter)
    for name, order in (("x", adapter), ("y", dict(reversed(adapter.items())))):
        (tmp_path / name).mkdir()
        write_peft(order, of, tmp_path / name)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_kernel_shapes_come_from_the_unets_file(base: BaseModel, base_folder: Path) -> None:
    names = ["mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "down_blocks.0.resnets.0.conv1"]
    assert made_for("tiny", base_folder, names).kernels == {names[0]: (32, 128), names[1]: (16, 16, 3, 3)}
