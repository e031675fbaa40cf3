"""The source archive of a release: the files of a commit, the same bytes whenever it is made.

usage: python3 tools/archive.py FILE.tar.gz [COMMIT]
Files bear the commit's time, the archive itself that or SOURCE_DATE_EPOCH.
"""

import gzip
import os
import subprocess
import sys
from pathlib import Path

NAME = "comfyui-ipex"
REPOSITORY = Path(__file__).resolve().parent.parent


def archive_commit(commit: str = "HEAD", repository: Path = REPOSITORY) -> bytes:
    """The gzipped tar of the files of `commit`. Raises `subprocess.CalledProcessError`."""
    wanted = ("archive", "--format=tar", f"--prefix={NAME}/", commit)
    shown = ("show", "--no-patch", "--format=%ct", commit)
    tar, time = (
        subprocess.run(["git", *one], cwd=repository, check=True, capture_output=True).stdout
        for one in (wanted, shown)
    )
    when = os.environ.get("SOURCE_DATE_EPOCH") or time.decode().strip()
    return gzip.compress(tar, mtime=int(when))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(archive_commit(*sys.argv[2:3]))
