"""What counts as the same pictures, and that nothing compared is no success."""

import io
import subprocess
from pathlib import Path

import graphs
import numpy as np
import pytest
from comfyui_ipex.tools import compare_pictures
from comfyui_ipex.tools.compare_pictures import PictureSet, Verdict, compare_sets, print_table
from comfyui_ipex.tools.house_figures import unpack_revision
from PIL import Image, PngImagePlugin

GREY = np.full((2, 3, 3), 100, np.uint8)

BRIGHTER = GREY + np.eye(2, 3, dtype=np.uint8)[:, :, None]


def pictures(*frames: np.ndarray) -> PictureSet:
    """What a workflow made: these pictures."""
    return PictureSet({f"9.{place}": [frame] for place, frame in enumerate(frames)})


@pytest.mark.parametrize(
    ("one", "other", "compared", "problem"),
    [
        (pictures(GREY), pictures(GREY.copy()), 1, ""),
        (pictures(GREY, GREY), pictures(GREY, BRIGHTER), 2, "9.1: 6 values differ, by up to 1"),
        (pictures(GREY), pictures(GREY[:, :2]), 1, "became"),
        (pictures(GREY), pictures(GREY.astype(np.uint16)), 1, "became"),
        (pictures(GREY), PictureSet({"9.0": [GREY, GREY]}), 1, "became"),
        (pictures(GREY, GREY), pictures(GREY), 1, "9.1 is missing in B"),
        (pictures(), pictures(GREY), 0, "9.0 is missing in A"),
        (pictures(), pictures(), 0, "no picture"),
        (pictures(GREY), PictureSet(failure="refused"), 0, "B: refused"),
        (PictureSet(failure="refused"), PictureSet(failure="refused"), 0, "A: refused; B: refused"),
        (PictureSet(absent_nodes=("SaveVideo",)), PictureSet(absent_nodes=("SaveVideo",)), 0, ""),
        (PictureSet(absent_nodes=("SaveVideo",)), pictures(GREY), 0, "that the other lacks"),
    ],
)
def test_only_the_same_bytes_in_every_picture_are_the_same(
    one: PictureSet, other: PictureSet, compared: int, problem: str
) -> None:
    verdict = compare_sets(one, other)
    assert verdict.compared == compared
    assert problem in verdict.problem
    assert bool(problem) == bool(verdict.problem)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([Verdict(1, ""), Verdict(3, "")], 0),
        ([Verdict(1, ""), Verdict(0, "", "no SaveVideo")], 0),
        ([Verdict(1, ""), Verdict(1, "9.0: 1 values differ, by up to 1")], 1),
        ([Verdict(0, "", "no SaveVideo")], 1),
        ([], 1),
    ],
    ids=["same", "one not run", "different", "nothing compared", "nothing ran"],
)
def test_the_status_is_good_only_where_something_was_compared(
    verdicts: list[Verdict], status: int
) -> None:
    rows = (("0.3.47", "cpu", "upscale", verdict) for verdict in verdicts)
    assert print_table(rows) == status


def test_a_host_that_compared_nothing_is_seen_beside_one_that_did() -> None:
    rows = [("0.3.47", "cpu", "one", Verdict(1, "")), ("0.33.0", "cpu", "one", Verdict(0, "", "x"))]
    assert print_table(iter(rows)) == 1


def test_pixels_count_and_what_else_a_file_says_does_not() -> None:
    files = []
    for text in ("a prompt", "another one"):
        said, file = PngImagePlugin.PngInfo(), io.BytesIO()
        said.add_text("prompt", text)
        Image.fromarray(GREY).save(file, "png", pnginfo=said)
        files.append(file.getvalue())
    assert files[0] != files[1]
    (one,), (other,) = map(compare_pictures.read_frames, files)
    assert np.array_equal(one, other)
    assert np.array_equal(one, GREY)
    video = compare_pictures.read_frames(graphs.video())
    assert [frame.shape for frame in video] == [(64, 64, 3)] * 4


def test_a_revision_is_unpacked_as_it_was_committed(tmp_path: Path) -> None:
    commit = unpack_revision("HEAD", tmp_path / "here")
    assert len(commit) == 40
    assert compare_pictures.read_workflows(tmp_path / "here").keys() >= {
        "tests/workflows/txt2img.json",
        "example_workflows/upscale.json",
    }
    with pytest.raises(subprocess.CalledProcessError):
        unpack_revision("no-such-revision", tmp_path / "none")
