"""What pictures.py makes its pictures of: the photo, a video, frames around results."""

import io
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 224
"""Of a result in a help page, in pixels."""

GAP = 8

QUALITY = 72

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of a screenshot."""


def photo(side: int) -> Image.Image:
    """A square part of a photo of NASA (public domain) that scikit-image ships."""
    from skimage import data

    whole = Image.fromarray(data.astronaut()).crop((32, 0, 416, 384))
    if side < SIDE:  # sharp, and so small that enlarging it shows
        return whole.crop((110, 20, 302, 212)).resize((side, side), Image.Resampling.LANCZOS)
    return whole.resize((side, side), Image.Resampling.LANCZOS)


def with_hole(image: Image.Image) -> Image.Image:
    """The same with an ellipse that is transparent: a mask."""
    alpha = Image.new("L", image.size, 255)
    width, height = image.size
    box = (width * 0.3, height * 0.15, width * 0.65, height * 0.6)
    ImageDraw.Draw(alpha).ellipse(box, 0)
    found = image.convert("RGBA")
    found.putalpha(alpha)
    return found


def as_png(image: Image.Image) -> bytes:
    """A file's content."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def video() -> bytes:
    """An MP4 of eight frames: the photo, turning a little."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for angle in range(0, 24, 3):
            frame = av.VideoFrame.from_image(photo(256).rotate(angle))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def side_by_side(before: Image.Image, after: Image.Image) -> Image.Image:
    """Both at the same height, the input on the left."""
    found = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
    found.paste(before.resize((SIDE, SIDE), Image.Resampling.NEAREST), (0, 0))
    found.paste(after.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (SIDE + GAP, 0))
    return found


def cut_out(screenshot: bytes, box: Box, widest: int = 2 * SIDE) -> Image.Image:
    """A part of a screenshot, at most `widest` pixels wide."""
    part = Image.open(io.BytesIO(screenshot)).convert("RGB").crop([round(one) for one in box])
    part.thumbnail((widest, 2 * widest), Image.Resampling.LANCZOS)
    return part


def write_webp(picture: Image.Image, path: Path) -> None:
    """A small file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "WEBP", quality=QUALITY, method=6)
