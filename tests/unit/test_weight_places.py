"""Where weight files are looked for, and what they may hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfyui_ipex.nodes.preprocess.method import WeightFile
from comfyui_ipex.nodes.preprocess.weights import (
    WeightFileError,
    WeightsMissingError,
    load_state_dict,
    load_torchscript,
    locate,
)
from comfyui_ipex.xpu_runtime import host
from huggingface_hub import constants

REVISION = "0123456789012345678901234567890123456789"

FILE = WeightFile("owner/Annotators", "sub/net.pth", REVISION, 4, a1111_folder="hed")

SNAPSHOTS = "hub/models--owner--Annotators/snapshots"

PLACES = (
    "annotators/owner/Annotators/sub/net.pth",
    "more/owner/Annotators/sub/net.pth",
    "annotators/net.pth",
    "annotators/hed/net.pth",
    "packs/ComfyUI_controlnet_aux/ckpts/owner/Annotators/sub/net.pth",
    "packs/ComfyUI_controlnet_aux/elsewhere/owner/Annotators/sub/net.pth",
    "aux/owner/Annotators/sub/net.pth",
    "webui/extensions/sd-webui-controlnet/annotator/downloads/hed/net.pth",
    f"{SNAPSHOTS}/{REVISION}/sub/net.pth",
    f"{SNAPSHOTS}/another/sub/net.pth",
)
"""In the order in which they are looked at."""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has all these folders and may not download."""
    folders = {
        "annotators": [str(tmp_path / "annotators"), str(tmp_path / "more")],
        "controlnet": [str(tmp_path / "webui" / "models" / "ControlNet")],
    }
    monkeypatch.setattr(host, "model_folders", folders.__getitem__)
    monkeypatch.setattr(host, "pack_folders", lambda: [str(tmp_path / "packs")])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("AUX_ANNOTATOR_CKPTS_PATH", str(tmp_path / "aux"))
    pack = tmp_path / "packs" / "ComfyUI_controlnet_aux"
    pack.mkdir(parents=True)
    (pack / "config.yaml").write_text("annotator_ckpts_path: ./elsewhere\n", encoding="utf-8")
    return tmp_path


def put(path: Path, data: bytes = b"abcd") -> Path:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_file_is_found_in_every_place(machine: Path, place: str) -> None:
    path = put(machine / place)
    assert locate(FILE) == path


def test_the_places_are_looked_at_in_order(machine: Path) -> None:
    for place in PLACES:
        put(machine / place)
    for place in PLACES:
        assert locate(FILE) == machine / place
        (machine / place).unlink()


def test_a_file_of_another_size_is_passed_over(
    machine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(machine / PLACES[2], b"another")
    put(machine / PLACES[4])
    assert locate(FILE) == machine / PLACES[4]
    assert f"{machine / PLACES[2]} is passed over" in caplog.text
    assert locate(replace(FILE, size=None)) == machine / PLACES[2]


def test_a_file_that_was_saved_again_serves_where_nothing_may_be_downloaded(
    machine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(machine / PLACES[2], b"saved again")
    assert locate(FILE, download=False) == machine / PLACES[2]
    assert f"{machine / PLACES[2]} is read all the same: it has 11 bytes" in caplog.text


def test_the_error_for_a_missing_file_says_what_where_and_how(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    with pytest.raises(WeightsMissingError) as raised:
        locate(FILE)
    text = str(raised.value)
    assert "sub/net.pth of owner/Annotators (4 bytes) is not on this machine" in text
    assert "HF_HUB_OFFLINE is set" in text
    assert f"https://hub.example/owner/Annotators/resolve/{REVISION}/sub/net.pth" in text
    assert f"put it at {machine / PLACES[0]}" in text
    for place in PLACES[:8]:
        assert f"\n  {machine / place}\n" in text
    assert f"\n  {machine / 'hub'}" in text


def test_a_configuration_of_the_other_pack_that_is_broken_is_a_warning(
    machine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = put(machine / "packs" / "ComfyUI_controlnet_aux" / "config.yaml", b"a: [")
    path = put(machine / PLACES[4])
    assert locate(FILE) == path
    assert f"{config} cannot be read" in caplog.text


def test_the_folder_of_annotators_is_made_known_to_the_host_after_the_users_own(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the host's module of folders."""
    import sys
    import types

    monkeypatch.undo()
    folders = {"annotators": ["/user's"]}
    stand_in = types.SimpleNamespace(
        models_dir="/models",
        add_model_folder_path=lambda kind, path: folders.setdefault(kind, []).append(path),
        get_folder_paths=folders.__getitem__,
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "folder_paths", stand_in)
        assert host.model_folders("annotators") == ["/user's", "/models/annotators"]
        assert host.model_folders("new") == ["/models/new"]


WEIGHTS = {"a.weight": torch.ones(2)}


def by_torch(value: object) -> Callable[[Path], None]:
    """A writer of a checkpoint."""
    return lambda path: torch.save(value, path)


@pytest.mark.parametrize(
    ("value", "within"),
    [
        (WEIGHTS, ""),
        ({"state_dict": {"module.a.weight": torch.ones(2)}, "epoch": 3}, ""),
        ({"model": WEIGHTS, "optimizer": {}}, ""),
        ({"depth_model": {"module.a.weight": torch.ones(2)}, "step": 3}, "depth_model"),
    ],
)
def test_weights_are_taken_out_of_what_training_wraps_around_them(
    tmp_path: Path, value: object, within: str
) -> None:
    path = tmp_path / "net.pth"
    torch.save(value, path)
    assert list(load_state_dict(path, within)) == ["a.weight"]


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("net.pth", lambda path: path.write_bytes(b""), "is empty"),
        ("net.pth", lambda path: path.write_text("<html>"), "no checkpoint at all"),
        ("net.safetensors", lambda path: path.write_text("<html>"), "no whole safetensors file"),
        ("net.zip", lambda path: path.write_text("x"), "must end in one of"),
        ("net.pth", by_torch({"code": Path("/")}), "could run any code"),
        ("net.pth", by_torch({"epoch": 3}), "holds no weights"),
        ("net.pth", by_torch([1, 2]), "holds no weights"),
    ],
)
def test_a_file_that_holds_something_else_is_named_with_the_reason(
    tmp_path: Path, name: str, write: Callable[[Path], None], reason: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(WeightFileError, match=f"{name} cannot be used: .*{reason}"):
        load_state_dict(tmp_path / name)


def test_a_truncated_checkpoint_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(WeightFileError, match="damaged or incomplete"):
        load_state_dict(path)
    with pytest.raises(WeightFileError, match="nothing called 'x'"):
        torch.save(WEIGHTS, path)
        load_state_dict(path, "x")
    with pytest.raises(FileNotFoundError):
        load_state_dict(tmp_path / "absent.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_loaded_by_its_own_function_only(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript.pt"
    torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2)).save(str(path))
    assert load_torchscript(path)(torch.ones(1, 2)).shape == (1, 3)
    with pytest.raises(WeightFileError):
        load_state_dict(path)
    path.write_text("<html>")
    with pytest.raises(WeightFileError, match="no whole TorchScript file"):
        load_torchscript(path)
