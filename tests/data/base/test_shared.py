"""One copy of the weights for all processes: mapped, equal to the bit, made again where it was damaged."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from data.base.shared import share


def modules() -> list[nn.Module]:
    """Linear and convolutions in both memory layouts, odd sizes, half precision, buffers, a tied weight."""
    torch.manual_seed(1)
    tied = nn.Linear(3, 3)
    tied.weight = (first := nn.Linear(3, 3)).weight
    last = nn.Conv2d(8, 5, 3).to(memory_format=torch.channels_last)
    return [nn.Sequential(nn.Linear(7, 5), nn.BatchNorm2d(3), nn.Conv2d(8, 5, 3), last), nn.Linear(9, 2).bfloat16(), first, tied]


def tensors(of: list[nn.Module]) -> list[Tensor]:
    return [t for module in of for t in (*module.parameters(), *module.buffers())]


def shared_kilobytes(file: Path) -> int:
    """Of the mapping of `file` in this process."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    inside, found = False, 0
    for line in lines:
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith(("Shared_Clean", "Private_Clean")):
            found += int(line.split()[1])
    return found


def test_weights_are_equal_to_the_bit_in_layout_and_place(tmp_path: Path) -> None:
    plain, mapped = modules(), modules()
    share(mapped, tmp_path / "base")
    for one, other in zip(tensors(plain), tensors(mapped), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert other.data_ptr() % 64 == 0
    x = torch.randn(2, 7)
    assert torch.equal(plain[0][0](x), mapped[0][0](x))  # type: ignore[index]


def test_the_second_process_maps_what_the_first_one_wrote(tmp_path: Path) -> None:
    file = tmp_path / "base"
    share(modules(), file)
    written = file.stat().st_mtime_ns
    again = modules()
    share(again, file)
    assert file.stat().st_mtime_ns == written
    assert shared_kilobytes(file) > 0
    ends = {t.data_ptr() // 4096 for t in tensors(again)}
    assert len(ends) <= 1 + file.stat().st_size // 4096  # all lie in the one small mapping


def test_writing_to_a_weight_changes_nobody_elses(tmp_path: Path) -> None:
    one, other, plain = modules(), modules(), modules()
    share(one, tmp_path / "base")
    share(other, tmp_path / "base")
    with torch.no_grad():
        tensors(one)[0] += 1
    assert torch.equal(tensors(other)[0], tensors(plain)[0])
    assert torch.equal(tensors(one)[0], tensors(plain)[0] + 1)


@pytest.mark.parametrize("damage", ["short", "flipped", "empty", "folder"])
def test_a_damaged_file_is_never_used(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "base"
    share(modules(), file)
    blob = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes({"short": blob[:-64], "flipped": bytes([blob[0] ^ 1]) + blob[1:], "empty": b""}[damage])
    mapped = modules()
    share(mapped, file)
    assert all(torch.equal(a, b) for a, b in zip(tensors(modules()), tensors(mapped), strict=True))
    if damage != "folder":
        assert file.read_bytes() == blob
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
