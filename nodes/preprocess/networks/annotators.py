"""The weight files of the edge and line networks.

Sizes and digests are those that public projects state which pin the same files; the digests of
the files of lllyasviel/Annotators are stated by several, and hellozhuo/pidinet holds the same
table5_pidinet.pth in its repository.
"""

from ..method import WeightFile

REPOSITORY = "lllyasviel/Annotators"
"""Of most annotators, those of other modules too. It states no licence."""

REVISION = "982e7edaec38759d914a963c48c4726685de7d96"


def _annotator(name: str, folder: str, size: int, sha256: str, licence: str) -> WeightFile:
    return WeightFile(REPOSITORY, name, REVISION, size, sha256, folder, licence)


HED = _annotator(
    "ControlNetHED.pth",
    "hed",
    29444406,
    "5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa",
    "Apache-2.0 (the network's code states it; the repository states none)",
)

PIDINET = _annotator(
    "table5_pidinet.pth",
    "pidinet",
    2871148,
    "80860ac267258b5f27486e0ef152a211d0b08120f62aeb185a050acc30da486c",
    "research only (hellozhuo/pidinet); commercial use by agreement with its authors",
)

LINEART = _annotator(
    "sk_model.pth",
    "lineart",
    17173511,
    "c686ced2a666b4850b4bb6ccf0748031c3eda9f822de73a34b8979970d90f0c6",
    "MIT (Informative Drawings)",
)

LINEART_COARSE = _annotator(
    "sk_model2.pth",
    "lineart",
    17173511,
    "30a534781061f34e83bb9406b4335da4ff2616c95d22a585c1245aa8363e74e0",
    "MIT (Informative Drawings)",
)

LINEART_ANIME = _annotator(
    "netG.pth",
    "lineart_anime",
    217631959,
    "ccabdcc3f5cf3c07cf65d58776acb21df7dfda825cdc70c9766a93fd62bfc488",
    "MIT (Anime2Sketch)",
)

MANGA_LINE = _annotator(
    "erika.pth",
    "manga_line",
    172789563,
    "badbd6baf013cefbd98993307b02cc14a26c770d067416e4fdecc8720b88feeb",
    "MIT (MangaLineExtraction_PyTorch)",
)

MLSD = _annotator(
    "mlsd_large_512_fp32.pth",
    "mlsd",
    6341481,
    "5696f168eb2c30d4374bbfd45436f7415bb4d88da29bea97eea0101520fba082",
    "Apache-2.0 (M-LSD)",
)

TEED = WeightFile(
    "bdsqlsz/qinglong_controlnet-lllite",
    "Annotators/7_model.pth",
    "main",
    247232,
    "b9037964149c55156c6adbffdfbd7e8ca7d2ef2a4d90573520efa7f3a1aacf06",
    "TEED",
    "MIT (TEED)",
)

ANYLINE = WeightFile(
    "TheMistoAI/MistoLine",
    "Anyline/MTEED.pth",
    "main",
    248298,
    "a3c2d8a8ce9422555c787160bd46362d761325a565333c0e3f6a53e0bae2abdb",
    "TEED",
    "not known: none that could be read states it",
)
