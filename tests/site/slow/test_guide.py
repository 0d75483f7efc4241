"""The guide and the README say what happens: their commands and Python are run on a copy of a built project, and what they show is compared.

In docs/guide/*.md (in the order of its table of contents)
- a `console` block holds commands, `$ command`, and what they print; `...` stands for what varies; where nothing is shown, success is enough;
- a `pycon` block holds Python in the form of doctest, on its own feet;
- a `code-block` with a `:caption:` is an excerpt of the file it names, or makes that file, where it does not exist (a notebook's cells are divided by `# %%`);
  with the language `diff` it is applied;
- a `pycon` code-block with the caption "On the Medicare panel" reads that build instead, where the extract is at hand (without it the block is left out).
`GUIDE_UPDATE=1 pytest tests/site/slow/test_guide.py` writes what was printed into the pages, where it differs.
"""

import doctest
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import yaml
from conftest import EXTRACTS, ROOT, copy_build, environment

GUIDE = ROOT / "docs" / "guide"
START = "before-the-guide"  # a tag of the copies
UPDATE = bool(os.environ.get("GUIDE_UPDATE"))
FENCE = re.compile(
    r"^```(?P<kind>\S[^\n]*)\n(?::caption: (?P<caption>[^\n]*)\n\n?)?(?P<body>.*?)^```$", re.M | re.S
)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PROGRAMS = r"(?:make|dvc|git|drg-\w+|nbdev_\w+|mlflow|jupyter|python|pytest)"

# Commands that are shown and not run here, with what runs them, or the reason why nothing does.
ELSEWHERE = {
    r"make (run|test|setup|help)\b.*": "sets up an environment of 250 packages first; CI runs it on a clean clone",
    r"make lab|jupyter lab.*": "tests/pipeline/slow/test_lab.py",
    r"make (bench|lock|clean)|python benchmarks/.*": "minutes, or the network",
    r"git checkout COMMIT && dvc checkout": "tests/pipeline/slow/test_storage.py",
    r"make docs": "tests/site/slow/test_site.py",
    r"source \.venv/bin/activate": "the tests run with the environment active",
    r"dvc exp run .*|dvc plots show|dvc repro( inspection)?": "tests/pipeline/slow/test_pipeline.py",
    r"drg-run (--help|.* --multirun)": "tests/pipeline/test_runner.py",
    r"drg-run stage=comparison.*": "tests/versions/test_comparison.py",
    r"drg-run stage=experiments": "tests/reporting/test_experiments.py",
    r"mlflow ui .*": "a server until it is stopped; tests/reporting/test_tracking.py reads the same store",
    r"export MLFLOW_TRACKING_URI=.*|mlflow models serve (?s:.*)": "a server until it is stopped; tests/champion/test_serving.py",
}


@dataclass
class Block:
    kind: str  # console, pycon, file or another directive
    language: str
    caption: str
    body: str
    span: tuple


def pages():
    "The pages of the guide, in the order of its table of contents."
    toctree = re.search(r"^```\{toctree\}\n(.*?)^```", (GUIDE / "index.md").read_text(), re.M | re.S)[1]
    return ["index", *[line for line in toctree.split("\n") if line and not line.startswith(":")]]


def blocks(text):
    found = []
    for m in FENCE.finditer(text):
        kind = m["kind"].removeprefix("{code-block}").strip()
        found.append(
            Block(
                kind if kind in ("console", "pycon") else "file" if m["caption"] else m["kind"],
                kind,
                m["caption"] or "",
                m["body"],
                m.span("body"),
            )
        )
    return found


def commands(body):
    """`(command, what is shown)` of a console block; lines that begin with `> ` go on with the command."""
    found = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append([line[2:], []])
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0] += "\n" + line[2:]
        else:
            found[-1][1].append(line)
    return [(command, "\n".join(shown)) for command, shown in found]


def same(shown, printed):
    return doctest.OutputChecker().check_output(shown.rstrip() + "\n", printed.rstrip() + "\n", SAME)


def elsewhere(command):
    return next((why for pattern, why in ELSEWHERE.items() if re.fullmatch(pattern, command)), None)


def in_shell(project, command):
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project,
        env=environment(project) | {"COLUMNS": "100", "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout.replace(str(project) + "/", "").replace(str(project), "PROJECT")


RUN_EXAMPLES = """
import contextlib, doctest, io, json, sys, traceback
examples, names, printed = doctest.DocTestParser().get_examples(sys.stdin.read()), {"__name__": "__main__"}, []
for example in examples:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try: exec(compile(example.source, "guide", "single"), names)
        except Exception: traceback.print_exc(file=out)
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


def run_python(project, body):
    "`(source, shown, printed)` of each example of a pycon block."
    done = subprocess.run(
        [sys.executable, "-c", RUN_EXAMPLES],
        cwd=project,
        env=environment(project),
        input=body,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [
        (e.source, e.want, printed)
        for e, printed in zip(
            doctest.DocTestParser().get_examples(body), json.loads(done.stdout), strict=True
        )
    ]


def notebook(text):
    "A notebook of cells that lines `# %%` divide, as a person would make it in JupyterLab."
    import nbformat

    cells = []
    for part in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, source = part.partition("\n")
        if "[markdown]" in head:
            cells.append(nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", source.strip(), flags=re.M)))
        else:
            cells.append(
                nbformat.v4.new_code_cell(
                    source.strip(), metadata={"tags": ["parameters"]} if "parameters" in head else {}
                )
            )
    return (
        nbformat.writes(
            nbformat.v4.new_notebook(
                cells=cells,
                metadata={"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}},
            )
        )
        + "\n"
    )


def use_file(project, name, language, text):
    "Compare an excerpt, make a file or apply a diff."
    path = project / name
    if language == "diff":
        done = subprocess.run(
            ["git", "apply", "--recount", "-"], cwd=project, input=text, text=True, capture_output=True
        )
        assert done.returncode == 0, f"{name}: {done.stderr}\n{text}"
    elif path.exists():
        held = path.read_text()
        if path.suffix == ".ipynb":
            held = "\n\n".join("".join(c["source"]) for c in json.loads(held)["cells"])
        assert doctest.OutputChecker().check_output(
            "...\n" + text + "...\n", f"\n{held}\n\n", doctest.ELLIPSIS
        ), f"{name} has no such lines:\n{text}"
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(text) if path.suffix == ".ipynb" else text)


def run_page(text, project_of):
    """Run a page; `project_of` takes whether a block is on the Medicare panel, and gives its project or None.

    Returns
    -------
    text : str
        The page with what was printed in the place of what differs.
    wrong : list of str
    """
    wrong, replaced = [], []
    for block in blocks(text):
        project = (
            project_of("Medicare" in block.caption) if block.kind in ("console", "pycon", "file") else None
        )
        if project is None:
            continue
        if block.kind == "console":
            said = []
            for command, shown in commands(block.body):
                if elsewhere(command):
                    printed, status = shown, 0
                else:
                    status, printed = in_shell(project, command)
                if status:
                    wrong.append(f"$ {command}\nexit status {status}\n{printed}")
                elif shown and not same(shown, printed):
                    wrong.append(f"$ {command}\n--- shown\n{shown}\n--- printed\n{printed}")
                    shown = printed.rstrip()
                said.append(f"$ {command}".replace("\n", "\n> ") + (f"\n{shown}" if shown else "") + "\n")
            replaced.append((block.span, "".join(said)))
        elif block.kind == "pycon":
            body = block.body
            for source, shown, printed in run_python(project, block.body):
                if same(shown, printed):
                    continue
                wrong.append(f">>> {source}--- shown\n{shown}\n--- printed\n{printed}")
                prompt = ">>> " + source.rstrip("\n").replace("\n", "\n... ") + "\n"
                body = body.replace(prompt + shown, prompt + printed, 1)
            replaced.append((block.span, body))
        elif block.kind == "file":
            try:
                use_file(project, block.caption, block.language, block.body)
            except AssertionError as error:
                wrong.append(str(error))
    for (start, end), body in reversed(replaced):
        text = text[:start] + body + text[end:]
    return text, wrong


def restore(project):
    "As committed: pages do not see what the pages before them changed."
    status, printed = in_shell(
        project, f"git reset -q --hard {START} && git clean -fdq && dvc checkout -q --force"
    )
    if status:
        pytest.fail(f"the copy could not be restored: {printed}")


@pytest.fixture(scope="module")
def copy(synthetic_build, tmp_path_factory):
    "The copy that all pages share."
    project = copy_build(synthetic_build, tmp_path_factory.mktemp("guide") / "project")
    in_shell(project, f"git tag {START}")
    return project


@pytest.mark.parametrize("page", pages())
def test_what_a_page_shows_is_what_happens(page, copy, request):
    path = GUIDE / f"{page}.md"
    panel = (EXTRACTS / "medicare_ny_2011_2019.csv.gz").is_file()
    text, wrong = run_page(
        path.read_text(),
        lambda medicare: (
            copy if not medicare else request.getfixturevalue("medicare_build") if panel else None
        ),
    )
    if UPDATE and text != path.read_text():
        path.write_text(text)
    if any(block.kind in ("console", "file") for block in blocks(text)):
        restore(copy)
    assert not wrong, "\n\n".join(wrong)


def test_every_page_is_in_the_table_of_contents():
    assert sorted(p.stem for p in GUIDE.glob("*.md")) == sorted(pages())


def test_every_block_is_of_a_kind_that_is_run():
    for page in pages():
        for block in blocks((GUIDE / f"{page}.md").read_text()):
            assert re.fullmatch(
                r"console|pycon|file|\{(toctree|note|raw|warning|rst-class)\}.*", block.kind
            ), f"{page}.md: ```{block.kind} {block.body[:60]}"


def inline(text):
    "Commands in running text and tables: code that begins with a program's name and has an argument."
    prose = FENCE.sub("", text)
    return [c for c in re.findall(r"`([^`\n]+)`", prose) if re.match(rf"{PROGRAMS}\s+\S", c)]


def run_in_blocks():
    return [
        command
        for page in pages()
        for block in blocks((GUIDE / f"{page}.md").read_text())
        if block.kind == "console"
        for command, _ in commands(block.body)
    ]


def test_commands_in_running_text_are_run_too():
    run, texts = run_in_blocks(), {page: (GUIDE / f"{page}.md").read_text() for page in pages()}
    unknown = [
        f"{page}.md: `{c}`"
        for page, text in texts.items()
        for c in inline(text)
        if not elsewhere(c) and not any(c in command for command in run)
    ]
    assert not unknown, "\n".join(unknown)


def readme_commands():
    "Of the README's bash blocks and tables."
    text = (ROOT / "README.md").read_text()
    typed = [
        line.split("#")[0].strip()
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
        for line in block.splitlines()
    ]
    return list(dict.fromkeys(c for c in [*typed, *inline(text)] if c))


def test_the_readme_s_commands_work(copy):
    run = run_in_blocks()
    wrong = []
    for command in readme_commands():
        if elsewhere(command) or any(command in c for c in run):
            continue
        status, printed = in_shell(copy, command)
        if status:
            wrong.append(f"$ {command}\nexit status {status}\n{printed}")
    restore(copy)
    assert not wrong, "\n\n".join(wrong)


def test_the_tests_that_run_other_commands_exist():
    assert all(
        (ROOT / name).is_file() for why in ELSEWHERE.values() for name in re.findall(r"tests/[\w/]+\.py", why)
    )


def test_every_config_group_is_described_and_each_key_exists():
    text = (GUIDE / "config-groups.md").read_text()
    sections = {m[1]: m[2] for m in re.finditer(r"^## `(\w+)`[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S)}
    folders = {p.name for p in (ROOT / "configs").iterdir() if p.is_dir()}
    assert set(sections) == folders
    for group, section in sections.items():
        held = set()
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            held |= set(yaml.safe_load(path.read_text()) or {})
        shown = re.findall(r"^\| `(\w+)` \|", section, re.M)
        missing = [key for key in shown if key not in held]
        assert not missing, f"config-groups.md, {group}: no file there has {', '.join(missing)}"


def test_the_picture_shows_every_entry_of_dvc_yaml_and_how_data_flows():
    from drg_lib.site.pages import stage_graph
    from drg_lib.site.picture import essential, grouped, overview_svg

    graph = stage_graph(ROOT)
    if not graph:
        pytest.skip("not a DVC repository")
    stages, flows = grouped(graph)
    assert set(stages) == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert {
        ("cleaning", "transformation"),
        ("transformation", "partitioning"),
        ("partitioning", "modeling"),
        ("modeling", "evaluation"),
        ("evaluation", "deployment"),
    } <= essential(flows)
    assert all(f'class="name">{name}</text>' in overview_svg(graph) for name in stages)
