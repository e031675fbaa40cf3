"""Tensors, views and storages behave as on a card."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("two_cards")


def _same_memory(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.untyped_storage().data_ptr() == right.untyped_storage().data_ptr()


def test_a_tensor_is_on_its_card() -> None:
    tensor = torch.ones(3, device="xpu:1")
    assert tensor.device == torch.device("xpu", 1)
    assert tensor.is_xpu and not tensor.is_cpu and not tensor.is_cuda
    assert tensor.get_device() == 1
    assert "device='xpu:1'" in repr(tensor)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[1:],
        lambda t: t[:, 2],
        lambda t: t.t(),
        lambda t: t.view(-1),
        lambda t: t.reshape(2, 12),
        lambda t: t.unfold(0, 2, 1),
        lambda t: t.expand(2, 4, 6),
        lambda t: t.diagonal(),
        lambda t: t.unsqueeze(0).squeeze(0),
        lambda t: t.split(2)[1],
        lambda t: t.chunk(2, 1)[0],
        lambda t: t.as_strided((2, 2), (1, 2), 1),
        lambda t: t.detach(),
        lambda t: t.view(torch.int32),
    ],
)
def test_views_share_memory_and_agree_with_the_cpu(
    view: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    cpu = torch.arange(24.0).view(4, 6)
    card = cpu.to("xpu")
    assert _same_memory(view(card), card)
    assert torch.equal(view(card).cpu(), view(cpu))
    assert view(card).stride() == view(cpu).stride()


def test_complex_views_share_memory() -> None:
    pairs = torch.randn(3, 2, device="xpu")
    assert _same_memory(torch.view_as_complex(pairs), pairs)
    numbers = torch.randn(3, dtype=torch.complex64, device="xpu")
    assert _same_memory(torch.view_as_real(numbers), numbers)
    assert torch.equal(numbers.conj().cpu(), numbers.cpu().conj())
    assert torch.equal(numbers.imag.cpu(), numbers.cpu().imag)


def test_writing_through_a_view_changes_the_base() -> None:
    base = torch.zeros(4, 4, device="xpu")
    base[1:3, 2].add_(5)
    base.view(-1)[0] = 7
    expected = torch.zeros(4, 4)
    expected[1:3, 2] = 5
    expected[0, 0] = 7
    assert torch.equal(base.cpu(), expected)


def test_inplace_keeps_the_tensor() -> None:
    tensor = torch.ones(3, device="xpu")
    address = tensor.data_ptr()
    assert tensor.mul_(2).sub_(1) is tensor
    assert tensor.data_ptr() == address


def test_an_out_argument_is_resized() -> None:
    out = torch.empty(0, device="xpu")
    left, right = torch.randn(3, 4, device="xpu"), torch.randn(4, 5, device="xpu")
    assert torch.mm(left, right, out=out) is out
    assert out.shape == (3, 5)
    torch.testing.assert_close(out.cpu(), left.cpu() @ right.cpu())
    indices = torch.empty(0, dtype=torch.int64, device="xpu")
    torch.nonzero(torch.tensor([0, 1, 1], device="xpu"), out=indices)
    assert indices.cpu().tolist() == [[1], [2]]
    assert indices.untyped_storage().device == torch.device("xpu", 0)


def test_resizing_keeps_the_content() -> None:
    tensor = torch.arange(4.0, device="xpu")
    tensor.resize_(6)
    assert tensor.shape == (6,) and tensor[:4].cpu().tolist() == [0, 1, 2, 3]
    other = torch.empty(0, device="xpu")
    other.set_(tensor)
    assert _same_memory(other, tensor)
    other.set_(tensor.untyped_storage(), 1, (2,), (2,))
    assert other.cpu().tolist() == [1, 3]


def test_half_precision_products_are_written_to_their_out() -> None:
    out = torch.empty(2, 2, dtype=torch.float16, device="xpu")
    left = torch.randn(2, 8, dtype=torch.float16)
    torch.mm(left.xpu(), left.xpu().t(), out=out)
    torch.testing.assert_close(out.cpu(), (left.float() @ left.float().t()).half())
    accumulated = out.clone().addmm_(left.xpu(), left.xpu().t())
    torch.testing.assert_close(accumulated.cpu().float(), 2 * out.cpu().float(), rtol=2e-3, atol=0)


def test_copies_of_objects_stay_on_the_card() -> None:
    tensor = torch.randn(3, device="xpu:1")
    for twin in (copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        assert twin.device == tensor.device
        assert torch.equal(twin, tensor)
        assert not _same_memory(twin, tensor)


def test_numpy_is_refused() -> None:
    with pytest.raises(TypeError, match="can't convert xpu:0 device type tensor to numpy"):
        torch.ones(2, device="xpu").numpy()


def test_modules_move(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.SiLU())
    image = torch.randn(1, 3, 8, 8)
    expected = module(image)
    module.to("xpu:1")
    assert {value.device.index for value in module.state_dict().values()} == {1}
    torch.testing.assert_close(module(image.to("xpu:1")).cpu(), expected)


def test_checkpoints_load_to_a_card() -> None:
    file = io.BytesIO()
    torch.save({"weight": torch.arange(4.0, device="xpu:1")}, file)
    for location, index in (("xpu:0", 0), (None, 1), (torch.device("xpu", 0), 0)):
        file.seek(0)
        weight = torch.load(file, map_location=location, weights_only=True)["weight"]
        assert weight.device == torch.device("xpu", index)
        assert weight.cpu().tolist() == [0, 1, 2, 3]
    file.seek(0)
    assert torch.load(file, map_location="cpu")["weight"].device.type == "cpu"


def test_safetensors_load_to_a_card(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    weights = {"a": torch.randn(4, 4), "b": torch.arange(3, dtype=torch.int64)}
    safetensors.save_file(weights, path)
    loaded = safetensors.load_file(path, device="xpu:1")
    for name, weight in weights.items():
        assert loaded[name].device == torch.device("xpu", 1)
        assert torch.equal(loaded[name].cpu(), weight)
    safetensors.save_file(loaded, tmp_path / "again.safetensors")


def test_the_current_device_belongs_to_its_thread() -> None:
    torch.xpu.set_device(1)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.xpu.current_device()))
    thread.start()
    thread.join()
    assert (torch.xpu.current_device(), seen) == (1, [0])
    with torch.xpu.device(0):
        assert torch.empty(1, device="xpu").device.index == 0
    assert torch.empty(1, device="xpu").device.index == 1


def test_threads_compute_at_the_same_time() -> None:
    results: list[torch.Tensor] = []

    def work(seed: int) -> None:
        tensor = torch.full((64, 64), float(seed), device=f"xpu:{seed % 2}")
        for _ in range(50):
            tensor = (tensor @ tensor).div(tensor.norm())
        results.append(tensor.isfinite().all().cpu())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(results)


def test_torch_says_xpu() -> None:
    assert torch.xpu.is_available() and torch.xpu.device_count() == 2
    assert torch.accelerator.current_accelerator() == torch.device("xpu")
    assert torch.accelerator.device_count() == 2
    assert not torch.cuda.is_available() and torch.version.cuda is None
    assert torch.__version__.endswith("+xpu") and torch.version.xpu
    properties = torch.xpu.get_device_properties("xpu:1")
    assert properties.name == torch.xpu.get_device_name(1) == "Intel(R) Arc(TM) B580 Graphics"
    assert torch.xpu.get_device_capability(0)["has_fp64"] is False
    assert "has_fp64=0" in repr(torch.xpu.get_device_properties(0))


@pytest.mark.parametrize("index", [2, 3, 7])
def test_other_devices_do_not_exist(index: int) -> None:
    with pytest.raises(RuntimeError, match=r"must be in \[0, 2\), but got"):
        torch.empty(1, device=f"xpu:{index}")
    with pytest.raises(RuntimeError, match=r"must be in \[0, 2\), but got"):
        torch.xpu.set_device(index)
