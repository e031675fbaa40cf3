"""Draws the registry's icon and banner: `.venv/bin/python tools/draw.py`.

Squares are tiles of a picture; the bright ones have been enlarged already.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
ICON = (400, 400)

BANNER = (1260, 540)
"""21:9, as the registry wants it."""

BACKGROUND = (18, 24, 38)
DARK = (38, 62, 104)
BRIGHT = (64, 156, 255)
WHITE = (240, 246, 255)

SMOOTH = 4
"""Drawn so many times larger, then reduced."""

# The letter X of tiles.
PATTERN = ("#...#", ".#.#.", "..#..", ".#.#.", "#...#")


def _tiles(draw: ImageDraw.ImageDraw, left: int, top: int, side: int) -> None:
    step = side / len(PATTERN)
    gap = step * 0.08
    for row, line in enumerate(PATTERN):
        for column, mark in enumerate(line):
            x, y = left + column * step, top + row * step
            corners = (x + gap, y + gap, x + step - gap, y + step - gap)
            draw.rounded_rectangle(corners, step * 0.18, BRIGHT if mark == "#" else DARK)


def _canvas(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), BACKGROUND)
    return image, ImageDraw.Draw(image)


def icon() -> Image.Image:
    image, draw = _canvas(ICON)
    _tiles(draw, 40 * SMOOTH, 40 * SMOOTH, 320 * SMOOTH)
    return image.resize(ICON, Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    image, draw = _canvas(BANNER)
    _tiles(draw, 90 * SMOOTH, 110 * SMOOTH, 320 * SMOOTH)
    lines = (("comfyui-ipex", 96, 170), ("ComfyUI on Intel GPUs, with native torch.xpu", 34, 310))
    for text, size, top in lines:
        font = ImageFont.load_default(size * SMOOTH)
        draw.text((480 * SMOOTH, top * SMOOTH), text, WHITE, font)
    return image.resize(BANNER, Image.Resampling.LANCZOS)


def main() -> None:
    """Write both as PNGs of few colours."""
    for name, image in (("icon", icon()), ("banner", banner())):
        image.quantize(64).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
