"""Videos and animated pictures to frames, and frames to a video, with what ComfyUI brings (PyAV).

A variable frame rate becomes its average.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import BatchInputError

FRAMES = "frames-"

RATE_FILE = "rate"
"""Written when all frames are there; holds the frames a second, or nothing where there are none."""


def is_moving(path: Path) -> bool:
    """Whether a file is a picture of several frames, or none at all and so perhaps a video."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return int(getattr(picture, "n_frames", 1)) > 1
    except UnidentifiedImageError:
        return True


def unpack(source: Path, work: Path) -> tuple[list[Path], Fraction | None]:
    """The frames of `source` as PNG files below `work`, in order, and its frames a second.

    Done once for a source. The files have its time, so that they count as the same when they are
    made again. Raises `BatchInputError` if it cannot be read.
    """
    found = source.stat()
    told = f"{source.resolve()} {found.st_size} {found.st_mtime_ns}"
    folder = work / f"{FRAMES}{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    if not (folder / RATE_FILE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        number, seconds = 0, Fraction(0)
        for number, (picture, shown) in enumerate(_frames(source), 1):
            seconds += shown
            path = folder / f"{number:06}.png"
            picture.save(path, compress_level=1)
            os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))
        if not number:
            raise BatchInputError(f"{source} has no frames.")
        rate = str(Fraction(number) / seconds) if seconds else ""
        (folder / RATE_FILE).write_text(rate, encoding="ascii")
    known = (folder / RATE_FILE).read_text(encoding="ascii")
    return sorted(folder.glob("*.png")), Fraction(known) if known else None


def forget_frames(work: Path) -> None:
    """Remove the frames that were unpacked below `work`."""
    for folder in work.glob(f"{FRAMES}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _frames(source: Path) -> Iterator[tuple[Any, Fraction]]:
    """Pictures, and for how many seconds each is shown; 0 where the file does not tell."""
    import av
    from PIL import Image, ImageSequence, UnidentifiedImageError

    try:
        with Image.open(source) as picture:
            for frame in ImageSequence.Iterator(picture):
                whole = frame.convert("RGBA" if "A" in frame.getbands() else "RGB")
                yield whole, Fraction(round(frame.info.get("duration", 0)), 1000)
        return
    except UnidentifiedImageError:
        pass  # a video
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise BatchInputError(f"{source} has no pictures in it.")
            stream = container.streams.video[0]
            shown = 1 / stream.average_rate if stream.average_rate else Fraction(0)
            for decoded in container.decode(stream):
                yield decoded.to_image(), shown
    except av.FFmpegError as error:
        raise BatchInputError(f"{source} cannot be read as a video: {error}") from error


def join_frames(frames: Sequence[Path], target: Path, rate: Fraction, sound: Path | None) -> None:
    """Write frames as an H.264 video, with the sound of the file `sound` if it has any.

    An odd last row or column is left out, because the format has none. `target` appears when it is
    finished. Raises `BatchInputError` if it cannot be written.
    """
    import av

    draft = target.with_name(f".{target.stem}.draft{target.suffix}")
    try:
        with av.open(str(draft), "w") as container:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "16"})
            stream.pix_fmt = "yuv420p"
            copied = _sound_streams(container, sound)
            _encode(container, stream, frames)
            for packet in copied:
                container.mux(packet)
    except (av.FFmpegError, ValueError, OSError) as error:
        draft.unlink(missing_ok=True)
        raise BatchInputError(
            f"The video {target} cannot be written: {error}. The frames are all there; try a name "
            "that ends in .mp4 or .mkv."
        ) from error
    os.replace(draft, target)


def _encode(container: Any, stream: Any, frames: Sequence[Path]) -> None:
    import av
    from PIL import Image

    for number, path in enumerate(frames):
        with Image.open(path) as picture:
            width, height = (side - side % 2 for side in picture.size)
            whole = picture.convert("RGB").crop((0, 0, width, height))
        if not number:
            stream.width, stream.height = whole.size
        elif whole.size != (stream.width, stream.height):
            raise ValueError(f"{path.name} has another size than the first frame")
        container.mux(stream.encode(av.VideoFrame.from_image(whole)))
    container.mux(stream.encode(None))


def _sound_streams(container: Any, sound: Path | None) -> Iterator[Any]:
    """Announce the sound's stream now; its packets come when they are asked for."""
    import av

    if sound is None:
        return iter(())
    with av.open(str(sound)) as source:
        if not source.streams.audio:
            return iter(())
        target = container.add_stream_from_template(source.streams.audio[0])

    def packets() -> Iterator[Any]:
        with av.open(str(sound)) as source:
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = target
                    yield packet

    return packets()
