"""Benchmarks: the results that are kept are what the program writes, and README names each."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from comfyui_ipex.benchmarks import record, report
from conftest import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results"

FILES = sorted(RESULTS.glob("*.json"))

README = (RESULTS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_kept_result_is_valid_and_its_table_is_drawn_from_it(path: Path) -> None:
    schema = json.loads(record.SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text(encoding="utf-8")))
    kept = record.load(path)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == report.markdown(kept)
    emulated = {known["device"] for known in kept.conditions if known["emulated"]}
    assert not [one.case for one in kept.results if one.device in emulated and one.seconds]


def test_the_readme_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"`([\w-]+)\.(?:json|md)`", README))
    assert named == {path.stem for path in RESULTS.iterdir()} - {"README"}
