"""What the guide and the README show is what happens.

Their commands and their Python are run on a copy of a built project, and what they print is compared. In
docs/guide/*.md, in the order of its table of contents,

- a `console` block holds commands, `$ command`, and what they print; `...` stands for what varies; where
  nothing is shown, success is enough;
- a `pycon` block holds Python in the form of doctest, and needs no block before it;
- a `code-block` with a `:caption:` is an excerpt of the file that it names. Where that file does not exist,
  the block makes it (a notebook's cells are divided by `# %%`). With the language `diff` it is applied;
- a `pycon` code-block with the caption "On the Medicare panel" reads that build instead, where the extract is
  at hand. Without it the block is left out.

`GUIDE_UPDATE=1 pytest tests/site/slow/test_guide.py` writes what was printed into the pages where it differs.
"""

import configparser
import doctest
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import yaml
from conftest import EXTRACTS, ROOT, copy_build, environment, run

GUIDE = ROOT / "docs" / "guide"
README, COMMANDS = ROOT / "README.md", GUIDE / "commands.md"
START = "before-the-guide"  # a tag of the copies
UPDATE = bool(os.environ.get("GUIDE_UPDATE"))
FENCE = re.compile(
    r"^```(?P<kind>\S[^\n]*)\n(?::caption: (?P<caption>[^\n]*)\n\n?)?(?P<body>.*?)^```$", re.M | re.S
)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PROGRAMS = r"(?:make|dvc|git|drg|nbdev_\w+|mlflow|jupyter|python|pytest)"

# Commands that are shown and not run here: the file in a folder of tests that runs them, or why nothing does.
ELSEWHERE = {
    r"make (run|test|setup|help|check)\b.*": "sets up 250 packages; CI runs it on a clean clone",
    r"make (format|verify|house)\b.*": "works on the checkout itself",
    r"make lab|jupyter lab.*": "test_lab.py",
    r"make (bench|lock|clean)|python benchmarks/.*": "minutes, or the network",
    r"git checkout COMMIT && dvc checkout": "test_storage.py",
    r"make docs": "test_site.py",
    r"source \.venv/bin/activate": "the tests run with the environment active",
    r"dvc checkout --force|dvc exp (show|apply)": "they follow a run; dvc exp run is in test_pipeline.py",
    r"dvc repro --force --single-item deployment": "a registration is in test_serving.py",
    r"dvc exp run --temp .*": "minutes; dvc exp run without it is in test_pipeline.py",
    r"dvc exp run .*|dvc plots show|dvc repro( inspection| deployment)?": "test_pipeline.py",
    r"drg source check (FILE|neighbour).*": "test_check.py",
    r"drg repro": "dvc repro beside a warm interpreter, as every build of the tests is made: test_warm.py",
    r"drg compare": "test_runs.py",
    r"drg run (--help|.* --multirun)": "test_runner.py",
    r"drg run comparison.*": "test_comparison.py",
    r"drg run experiments": "test_experiments.py",
    r"mlflow ui .*": "a server until it is stopped; test_tracking.py reads the same store",
    r"export MLFLOW_TRACKING_URI=.*": "test_serving.py",
    r"mlflow models serve (?s:.*)": "a server until it is stopped; test_serving.py",
    r"curl http://127.0.0.1:5001/.*": "a request to that server; test_serving.py",
}


@dataclass
class Block:
    kind: str  # console, pycon, file or another directive
    language: str
    caption: str
    body: str
    span: tuple


def pages():
    """The pages of the guide, in the order of its table of contents."""
    toctree = re.search(r"^```\{toctree\}\n(.*?)^```", (GUIDE / "index.md").read_text(), re.M | re.S)[1]
    return ["index", *[line for line in toctree.split("\n") if line and not line.startswith(":")]]


def block_of(match):
    language = match["kind"].removeprefix("{code-block}").strip()
    other = "file" if match["caption"] else match["kind"]
    kind = language if language in ("console", "pycon") else other
    return Block(kind, language, match["caption"] or "", match["body"], match.span("body"))


def blocks(text):
    return [block_of(match) for match in FENCE.finditer(text)]


def commands(body):
    """`(command, what is shown)` of a console block; a line that begins with `> ` continues the command."""
    pairs = []
    for line in body.splitlines():
        if line.startswith("$ "):
            pairs.append([line[2:], []])
        elif line.startswith("> ") and pairs and not pairs[-1][1]:
            pairs[-1][0] += "\n" + line[2:]
        else:
            pairs[-1][1].append(line)
    return [(command, "\n".join(shown)) for command, shown in pairs]


def same(shown, printed):
    return doctest.OutputChecker().check_output(shown.rstrip() + "\n", printed.rstrip() + "\n", SAME)


def elsewhere(command):
    return next((why for pattern, why in ELSEWHERE.items() if re.fullmatch(pattern, command)), None)


def in_shell(project, command):
    if re.fullmatch(r"dvc [\w@./ -]+", command):
        done = run(project, *command.split(), check=False, env={"COLUMNS": "100", "TERM": "dumb"})
        return done.returncode, without_place(project, done.stdout + done.stderr)
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
    return done.returncode, without_place(project, done.stdout)


def without_place(project, text):
    """A text that does not name the folder of the copy."""
    return text.replace(str(project) + "/", "").replace(str(project), "PROJECT")


RUN_EXAMPLES = """
import contextlib, doctest, io, json, sys, traceback
examples = doctest.DocTestParser().get_examples(sys.stdin.read())
names, printed = {"__name__": "__main__"}, []
for example in examples:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(example.source, "guide", "single"), names)
        except Exception:
            traceback.print_exc(file=out)
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


def run_python(project, body):
    """`(source, shown, printed)` of each example of a pycon block."""
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


def cell_of(head, source):
    """A cell from the line `# %% head` and the lines under it."""
    import nbformat

    if "[markdown]" in head:
        return nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", source.strip(), flags=re.M))
    metadata = {"tags": ["parameters"]} if "parameters" in head else {}
    return nbformat.v4.new_code_cell(source.strip(), metadata=metadata)


def notebook(text):
    """A notebook of cells that lines `# %%` divide, as a person would make it in JupyterLab."""
    import nbformat

    parts = [part.partition("\n") for part in re.split(r"^# %%", text, flags=re.M)[1:]]
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    made = nbformat.v4.new_notebook(
        cells=[cell_of(head, source) for head, _, source in parts], metadata={"kernelspec": kernel}
    )
    return nbformat.writes(made) + "\n"


def text_of(path):
    """A file's text; of a notebook, the text of its cells."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return text


def use_file(project, name, language, text):
    """Compare an excerpt, make a file or apply a diff."""
    path = project / name
    if language == "diff":
        done = subprocess.run(
            ["git", "apply", "--recount", "-"], cwd=project, input=text, text=True, capture_output=True
        )
        assert done.returncode == 0, f"{name}: {done.stderr}\n{text}"
    elif path.exists():
        checker, whole = doctest.OutputChecker(), f"\n{text_of(path)}\n\n"
        same_lines = checker.check_output("...\n" + text + "...\n", whole, doctest.ELLIPSIS)
        assert same_lines, f"{name} has no such lines:\n{text}"
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(text) if path.suffix == ".ipynb" else text)


def run_console(project, body):
    """The block with what its commands printed, and what differs from it."""
    lines, wrong = [], []
    for command, shown in commands(body):
        status, printed = (0, shown) if elsewhere(command) else in_shell(project, command)
        if status:
            wrong.append(f"$ {command}\nexit status {status}\n{printed}")
        elif shown and not same(shown, printed):
            wrong.append(f"$ {command}\n--- shown\n{shown}\n--- printed\n{printed}")
            shown = printed.rstrip()
        lines.append(f"$ {command}".replace("\n", "\n> ") + (f"\n{shown}" if shown else "") + "\n")
    return "".join(lines), wrong


def run_examples(project, body):
    """The block with what its examples printed, and what differs from it."""
    wrong = []
    for source, shown, printed in run_python(project, body):
        if not same(shown, printed):
            wrong.append(f">>> {source}--- shown\n{shown}\n--- printed\n{printed}")
            prompt = ">>> " + source.rstrip("\n").replace("\n", "\n... ") + "\n"
            body = body.replace(prompt + shown, prompt + printed, 1)
    return body, wrong


def run_file(project, block):
    """The block as it is, and what speaks against it."""
    try:
        use_file(project, block.caption, block.language, block.body)
    except AssertionError as error:
        return block.body, [str(error)]
    return block.body, []


def run_block(project, block):
    """The block with what was printed, and what differs from it."""
    if block.kind == "console":
        return run_console(project, block.body)
    if block.kind == "pycon":
        return run_examples(project, block.body)
    return run_file(project, block)


def run_page(text, project_of):
    """Run a page; `project_of` takes whether a block is on the Medicare panel, and gives its project or None.

    Returns
    -------
    text : str
        The page with what was printed in the place of what differs.
    wrong : list of str
    """
    wrong, results = [], []
    for block in blocks(text):
        if block.kind not in ("console", "pycon", "file"):
            continue
        project = project_of("Medicare" in block.caption)
        if project is not None:
            body, faults = run_block(project, block)
            results.append((block.span, body))
            wrong += faults
    for (start, end), body in reversed(results):
        text = text[:start] + body + text[end:]
    return text, wrong


def restore(project):
    """As committed: pages do not see what the pages before them changed."""
    run(project, "git", "reset", "-q", "--hard", START)
    run(project, "git", "clean", "-fdq")
    run(project, "dvc", "checkout", "-q", "--force")


@pytest.fixture(scope="module")
def copy(synthetic_build, tmp_path_factory):
    """The copy that all pages share."""
    project = copy_build(synthetic_build, tmp_path_factory.mktemp("guide") / "project")
    in_shell(project, f"git tag {START}")
    return project


@pytest.mark.parametrize("page", pages())
def test_what_a_page_shows_is_what_happens(page, copy, request):
    path = GUIDE / f"{page}.md"
    panel = (EXTRACTS / "medicare_ny_2011_2019.csv.gz").is_file()

    def project_of(medicare):
        if not medicare:
            return copy
        return request.getfixturevalue("medicare_build") if panel else None

    text, wrong = run_page(path.read_text(), project_of)
    if UPDATE and text != path.read_text():
        path.write_text(text)
    if any(block.kind in ("console", "file") for block in blocks(text)):
        restore(copy)
    assert not wrong, "\n\n".join(wrong)


def test_every_page_is_in_the_table_of_contents():
    assert sorted(p.stem for p in GUIDE.glob("*.md")) == sorted(pages())


def test_every_block_is_of_a_kind_that_is_run():
    for page in pages():
        listed = "bash|" if page == COMMANDS.stem else ""  # `listed_commands` runs those
        for block in blocks((GUIDE / f"{page}.md").read_text()):
            assert re.fullmatch(
                listed + r"console|pycon|file|\{(toctree|note|raw|warning|rst-class)\}.*", block.kind
            ), f"{page}.md: ```{block.kind} {block.body[:60]}"


def inline(text):
    """Commands in running text and tables: code that begins with a program's name and has an argument."""
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
    run = run_in_blocks()
    texts = {page: (GUIDE / f"{page}.md").read_text() for page in pages() if page != COMMANDS.stem}
    unknown = [
        f"{page}.md: `{command}`"
        for page, text in texts.items()
        for command in inline(text)
        if not elsewhere(command) and not any(command in longer for longer in run)
    ]
    assert not unknown, "\n".join(unknown)


def listed_commands(path):
    """The commands of a page's bash blocks and tables, each once."""
    text = path.read_text()
    typed = [
        line.split("#")[0].strip()
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
        for line in block.splitlines()
    ]
    return list(dict.fromkeys(command for command in [*typed, *inline(text)] if command))


def test_the_readme_lists_at_most_eight_daily_commands():
    daily = (ROOT / "README.md").read_text().split("## Every day")[1].split("\n## ")[0]
    assert 0 < len(re.findall(r"^\| .* \| `", daily, re.M)) <= 8


@pytest.mark.parametrize("page", [README, COMMANDS], ids=lambda page: page.stem)
def test_listed_commands_work(page, copy):
    run, wrong = run_in_blocks(), []
    for command in listed_commands(page):
        if elsewhere(command) or any(command in longer for longer in run):
            continue
        status, printed = in_shell(copy, command)
        if status:
            wrong.append(f"$ {command}\nexit status {status}\n{printed}")
    restore(copy)
    assert not wrong, "\n\n".join(wrong)


def test_the_tests_that_run_other_commands_exist():
    named = {name for why in ELSEWHERE.values() for name in re.findall(r"test_\w+\.py", why)}
    assert named and named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_the_citation_names_the_version_of_the_settings():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == settings["DEFAULT"]["version"]
    assert [author["name"] for author in citation["authors"]] == [settings["DEFAULT"]["author"]]


def test_the_changelog_names_modules_that_exist():
    rows = re.findall(r"^\| `drg_lib\.[^|]* \| ([^|]*) \|$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    modules = {name for row in rows for name in re.findall(r"`(drg_lib(?:\.\w+)+)`", row)}
    missing = [name for name in modules if not (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()]
    assert len(modules) > 30 and not missing


def keys_by_group():
    """The keys of each config group; a file of the package `_global_` holds keys of several groups."""
    groups = {}
    for path in (ROOT / "configs").glob("*/*.yaml"):
        text = path.read_text()
        content = yaml.safe_load(text) or {}
        parts = content if text.startswith("# @package _global_") else {path.parent.name: content}
        for group, keys in parts.items():
            if isinstance(keys, dict):
                groups.setdefault(group, set()).update(keys)
    return groups


def test_every_config_group_is_described_and_each_key_exists():
    text, groups = (GUIDE / "config-groups.md").read_text(), keys_by_group()
    sections = {m[1]: m[2] for m in re.finditer(r"^## `(\w+)`[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S)}
    folders = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    assert folders <= set(sections) <= folders | set(groups)
    for group, section in sections.items():
        missing = [key for key in re.findall(r"^\| `(\w+)` \|", section, re.M) if key not in groups[group]]
        assert not missing, f"config-groups.md, {group}: no file there has {', '.join(missing)}"


def rooms():
    return {path.parent.name for path in (ROOT / "nbs").glob("*/*.ipynb")}


def test_where_is_what_names_notebooks_that_exist():
    text = (GUIDE / "organization.md").read_text()
    named = re.findall(rf"`((?:{'|'.join(sorted(rooms()))})/\w+)`", text)
    missing = [name for name in named if not (ROOT / "nbs" / f"{name}.ipynb").is_file()]
    assert len(named) > 30 and not missing


def test_the_readme_s_tree_has_every_room():
    assert not [room for room in rooms() if f"  {room}/" not in README.read_text().replace("/, ", "/\n  ")]


def test_the_picture_shows_every_entry_of_dvc_yaml_and_how_data_flows():
    from drg_lib.site.picture import entries, pipeline_svg
    from drg_lib.site.reports import stage_graph

    graph = stage_graph(ROOT)
    if not graph:
        pytest.skip("not a DVC repository")
    stages = entries(graph)
    assert set(stages) == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert {
        ("cleaning", "transformation"),
        ("transformation", "partitioning"),
        ("partitioning", "modeling"),
        ("modeling", "evaluation"),
        ("evaluation", "deployment"),
    } <= {(parent, name) for name, entry in stages.items() for parent in entry["parents"]}
    picture = pipeline_svg(graph)
    assert all(re.search(rf'class="name"[^>]*>\s*{name}\s*</text>', picture) for name in stages)
