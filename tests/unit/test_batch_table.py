"""From a table or frames to jobs: what columns and cells mean, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.batch.errors import BatchInputError
from comfyui_ipex.batch.jobs import Job, check_names, find_frames, frame_jobs, sort_naturally
from comfyui_ipex.batch.table import convert, read_table
from comfyui_ipex.batch.workflow import Target, Workflow


def nodes() -> dict[str, Any]:
    """A workflow with two prompts, a nested node, and a title with a dot."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "3": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["9", 1], "text": "a fox"},
            "_meta": {"title": "Positive v1.5"},
        },
        "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["9", 1], "text": "blurry"}},
        "6": {
            "class_type": "KSampler",
            "inputs": {"seed": 42, "cfg": 8, "denoise": 1.0, "add": True, "positive": ["3", 0]},
        },
        "8:2": {"class_type": "Resize", "inputs": {"type": "x", "type.width": 5, "box": [1, 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "p"}},
    }


@pytest.fixture
def workflow() -> Workflow:
    return Workflow(nodes())


@pytest.mark.parametrize(
    ("column", "node", "name"),
    [
        ("6.seed", "6", "seed"),
        ("KSampler.seed", "6", "seed"),
        ("Positive v1.5.text", "3", "text"),
        ("8:2.type.width", "8:2", "type.width"),
        ("Resize.type", "8:2", "type"),
        ("LoadImage.image", "1", "image"),
    ],
)
def test_a_column_names_a_node_by_id_class_or_title(
    workflow: Workflow, column: str, node: str, name: str
) -> None:
    assert workflow.find(column) == Target(node, name)


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("seed", "not of the form NODE.INPUT"),
        (".seed", "not of the form NODE.INPUT"),
        ("6.", "not of the form NODE.INPUT"),
        ("7.seed", "there is no node '7'"),
        ("KSampelr.seed", "Did you mean 'KSampler'"),
        ("6.sead", "the node 6 has no input 'sead'. Did you mean 'seed'"),
        ("CLIPTextEncode.text", "may be the nodes 3, 4. Write 3.text or 4.text"),
        ("6.positive", "it is linked to the node 3"),
        ("9.filename_prefix", "results are named after their job"),
    ],
)
def test_a_column_that_names_nothing_says_why_and_what_there_is(
    workflow: Workflow, column: str, why: str
) -> None:
    with pytest.raises(BatchInputError) as caught:
        workflow.find(column)
    assert why in str(caught.value)
    if "results are named" not in why:
        assert '  3 CLIPTextEncode "Positive v1.5": text\n' in str(caught.value)
        assert "  6 KSampler: seed, cfg, denoise, add\n" in str(caught.value)


@pytest.mark.parametrize(
    ("present", "cell", "value"),
    [
        (42, "7", 7),
        (42, str(2**64 - 1), 2**64 - 1),
        (8, "4.5", 4.5),
        (1.0, "3", 3.0),
        (1.0, 3, 3.0),
        (True, "no", False),
        (False, True, True),
        ("a", "7", "7"),
        ("a", 7, "7"),
        ([1, 2], "[3, 4]", [3, 4]),
        ([1, 2], [3, 4], [3, 4]),
        (None, "text", "text"),
    ],
)
def test_a_cell_becomes_what_the_workflow_has_there(present: Any, cell: Any, value: Any) -> None:
    made = convert(present, cell, "6.x")
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("present", "cell"), [(42, "many"), (1.0, "nan"), (1.0, "inf"), (1, True), (True, "2")]
)
def test_a_cell_of_another_kind_is_refused(present: Any, cell: Any) -> None:
    with pytest.raises(BatchInputError, match=r"6\.x: "):
        convert(present, cell, "6.x")


def test_rows_become_prompts_with_files_beside_the_table(
    workflow: Workflow, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat.png").write_bytes(b"png")
    text = (
        '\ufeffjob,6.seed,3.text,@1.image\r\nred,1,"a fox, red",in/cat.png\r\n\r\n,,,\r\nb,2,,\r\n'
    )
    (tmp_path / "jobs.csv").write_text(text, encoding="utf-8")
    red, other = read_table(tmp_path / "jobs.csv", workflow)
    assert (red.name, other.name) == ("red", "b")
    assert red.prompt["6"]["inputs"]["seed"] == 1
    assert red.prompt["3"]["inputs"]["text"] == "a fox, red"
    assert red.files == {Target("1", "image"): tmp_path / "in" / "cat.png"}
    assert other.prompt["3"]["inputs"]["text"] == "a fox"
    assert other.files == {}
    assert workflow.nodes == nodes()


def test_json_lines_without_names_are_numbered(workflow: Workflow, tmp_path: Path) -> None:
    rows = [{"6.seed": 1}, {"3.text": "x", "6.seed": None}, {"job": "c", "6.add": False}]
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    jobs = read_table(path, workflow)
    assert [job.name for job in jobs] == ["0001", "0002", "c"]
    assert [job.prompt["6"]["inputs"]["seed"] for job in jobs] == [1, 42, 42]
    assert jobs[2].prompt["6"]["inputs"]["add"] is False


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("t.csv", "6.seed\n1\nx\n", "line 3: 6.seed: 'x' is no number"),
        ("t.csv", "6.seed,6.cfg\n1\n", "line 2: 1 cells for 2 columns"),
        ("t.csv", "6.seed,6.seed\n1,2\n", "name every column, each once"),
        ("t.csv", "6.seed,KSampler.seed\n1,2\n", "set the same input"),
        ("t.csv", "6.seed\n", "has no rows"),
        ("t.csv", "", "the first line must name every column"),
        ("t.csv", '6.seed\n"1\n', "cannot be read"),
        ("t.csv", "@1.image\nnone.png\n", "line 2: @1.image: there is no file"),
        ("t.csv", "job,6.seed\na,1\na,2\n", "Two jobs are called 'a'"),
        ("t.csv", "job,6.seed\n../a,1\n", "'../a' cannot name a job"),
        ("t.jsonl", '{"6.seed": 1}\n[]\n', "line 2: a row is a JSON object"),
        ("t.jsonl", "{\n", "line 1: no JSON"),
        ("t.xlsx", "", "a table is a file .csv or .jsonl"),
    ],
)
def test_a_wrong_table_is_refused_with_the_line(
    workflow: Workflow, tmp_path: Path, name: str, text: str, why: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BatchInputError) as caught:
        read_table(tmp_path / name, workflow)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"nodes": [], "links": []}', "Workflow > Export (API)"),
        ("[]", "it is no JSON object"),
        ("{}", "has no nodes"),
        ('{"1": {"inputs": {}}}', "has no class_type"),
        ('{"1": 5}', "'1' is no node"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_that_is_no_workflow_in_api_format_says_so(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(BatchInputError, match="workflow") as caught:
        Workflow.read(tmp_path / "w.json")
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["a", "frame.0001", "\u00e9t\u00e9 2", "a,b (c)", "9" * 120])
def test_names_that_a_file_can_have_are_taken(name: str) -> None:
    check_names([Job(name, {})])


@pytest.mark.parametrize("name", ["", ".a", "a/b", "a\nb", "a ", "a.", "-x", "9" * 121])
def test_names_that_a_file_should_not_have_are_refused(name: str) -> None:
    with pytest.raises(BatchInputError, match="cannot name a job"):
        check_names([Job(name, {})])


def test_frames_are_jobs_in_the_order_that_people_count(workflow: Workflow, tmp_path: Path) -> None:
    for name in ("f10.png", "f2.png", "f1.JPG", "notes.txt", "f002.png"):
        (tmp_path / name).write_bytes(name.encode())
    frames = find_frames(str(tmp_path))
    jobs = frame_jobs(workflow, frames, "")
    assert [job.name for job in jobs] == ["f1", "f002", "f2", "f10"]
    assert jobs[3].files == {Target("1", "image"): tmp_path / "f10.png"}
    assert find_frames(str(tmp_path / "f?.png")) == [tmp_path / "f2.png"]
    assert sort_naturally([Path("b"), Path("10"), Path("a1")]) == [
        Path("10"),
        Path("a1"),
        Path("b"),
    ]


def test_frames_need_pictures_and_one_place_to_go(workflow: Workflow, tmp_path: Path) -> None:
    with pytest.raises(BatchInputError, match="There are no frames in"):
        find_frames(str(tmp_path))
    (tmp_path / "f.png").write_bytes(b"")
    two = nodes() | {"2": nodes()["1"]}
    with pytest.raises(BatchInputError, match=r"2 nodes LoadImage.*--frames-input NODE\.INPUT"):
        frame_jobs(Workflow(two), [tmp_path / "f.png"], "")
    assert frame_jobs(Workflow(two), [tmp_path / "f.png"], "2.image")[0].files == {
        Target("2", "image"): tmp_path / "f.png"
    }


def test_a_jobs_digest_follows_its_prompt_and_its_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    target = Target("1", "image")
    first = Job("a", nodes(), {target: path}).digest
    assert Job("b", nodes(), {target: path}).digest == first
    assert Job("a", {}, {target: path}).digest != first
    path.write_bytes(b"22")
    assert Job("a", nodes(), {target: path}).digest != first
    path.unlink()
    with pytest.raises(BatchInputError, match="cannot be read"):
        _ = Job("a", nodes(), {target: path}).digest
