"""Videos and animated pictures become frames in order, and frames a video with sound."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from comfyui_ipex.batch import video
from comfyui_ipex.batch.errors import BatchInputError
from PIL import Image

SHADES = (20, 80, 140, 200)


def write_frames(folder: Path, size: tuple[int, int]) -> list[Path]:
    """Frames of one shade each."""
    paths = []
    for number, shade in enumerate(SHADES):
        paths.append(folder / f"{number}.png")
        Image.new("RGB", size, (shade, shade, shade)).save(paths[-1])
    return paths


def write_sound(path: Path) -> None:
    """A quarter of a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 11025), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def shades(paths: list[Path]) -> list[int]:
    return [int(np.asarray(Image.open(path).convert("L")).mean().round()) for path in paths]


def test_frames_become_a_video_with_sound_and_back(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.m4a")
    made = tmp_path / "made.mp4"
    frames = write_frames(tmp_path, (65, 48))
    video.join_frames(frames, made, Fraction(24000, 1001), tmp_path / "sound.m4a")
    with av.open(str(made)) as container:
        assert len(container.streams.audio) == 1
        assert sum(packet.size for packet in container.demux(container.streams.audio[0])) > 0
    assert video.is_moving(made)
    found, rate = video.unpack(made, tmp_path / "work")
    assert rate == Fraction(24000, 1001)
    assert [path.name for path in found] == ["000001.png", "000002.png", "000003.png", "000004.png"]
    assert np.allclose(shades(found), SHADES, atol=4)
    assert Image.open(found[0]).size == (64, 48)
    assert not list(tmp_path.glob(".*draft*"))


def test_frames_of_an_animated_picture_are_exact(tmp_path: Path) -> None:
    frames = [Image.open(path) for path in write_frames(tmp_path, (16, 16))]
    moving = tmp_path / "moving.webp"
    frames[0].save(moving, append_images=frames[1:], save_all=True, lossless=True, duration=40)
    assert video.is_moving(moving)
    assert not video.is_moving(tmp_path / "0.png")
    found, rate = video.unpack(moving, tmp_path / "work")
    assert shades(found) == list(SHADES)
    assert rate == 25


def test_unpacking_is_done_once_and_again_only_where_it_was_not_finished(tmp_path: Path) -> None:
    frames = [Image.open(path) for path in write_frames(tmp_path, (16, 16))]
    moving = tmp_path / "moving.gif"
    frames[0].save(moving, append_images=frames[1:], save_all=True, duration=100)
    found, _ = video.unpack(moving, tmp_path / "work")
    marks = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in found]
    again, _ = video.unpack(moving, tmp_path / "work")
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in again] == marks
    (found[0].parent / video.RATE_FILE).unlink()
    third, _ = video.unpack(moving, tmp_path / "work")
    assert [path.stat().st_mtime_ns for path in third] == [mark[1] for mark in marks]
    video.forget_frames(tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())


def test_what_is_no_video_and_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(BatchInputError, match="cannot be read as a video"):
        video.unpack(tmp_path / "text.mp4", tmp_path / "work")
    frames = write_frames(tmp_path, (32, 32))
    Image.new("RGB", (64, 32)).save(frames[2])
    with pytest.raises(BatchInputError, match=r"2\.png has another size"):
        video.join_frames(frames, tmp_path / "made.mp4", Fraction(24), None)
    assert not list(tmp_path.glob("*.mp4.*")) + list(tmp_path.glob(".*draft*"))
