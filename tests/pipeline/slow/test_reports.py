"""The executed notebooks as a reader meets them: each section's prose stands beside what it explains."""

import json
import re

import pytest

HIDDEN = re.compile(r"^#\| *(hide|default_exp|exports?i?)\b", re.M)
PARAMETERS = {"parameters", "injected-parameters"}
SHOWN = {"text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml"}


def text(cell):
    return "".join(cell["source"])


def is_shown(output):
    """Whether a reader sees an output; what is glued for later stages is not shown."""
    if output["output_type"] == "stream":
        return output["name"] == "stdout"
    kinds = set(output.get("data", {}))
    return bool(kinds & SHOWN) and not any(kind.startswith("application/scrapbook") for kind in kinds)


def shows(cell):
    """Whether a cell has an output that the page of the report shows."""
    if cell["cell_type"] != "code" or HIDDEN.search(text(cell)):
        return False
    return not PARAMETERS & set(cell["metadata"].get("tags", [])) and any(map(is_shown, cell["outputs"]))


def sections(cells):
    """The cells below each heading; those before the first, the title's, are left out."""
    groups = []
    for cell in cells[1:]:
        if cell["cell_type"] == "markdown" and text(cell).startswith("#"):
            groups.append([])
        if groups:
            groups[-1].append(cell)
    return groups


def prose(section):
    """The text of a section without its headings."""
    texts = "\n".join(text(cell) for cell in section if cell["cell_type"] == "markdown")
    return "\n".join(line for line in texts.splitlines() if line.strip() and not line.startswith("#"))


def only_told(cells):
    """Headings of the sections that have prose and nothing to look at."""
    return [
        text(section[0]).splitlines()[0]
        for section in sections(cells)
        if prose(section) and not any(map(shows, section))
    ]


@pytest.mark.parametrize("build", ["synthetic_build", "medicare_build"])
def test_no_section_is_left_with_nothing_but_text_and_folded_code(build, request):
    project = request.getfixturevalue(build)
    reports = sorted((project / "runs").rglob("*.ipynb"))
    told = {
        p.relative_to(project / "runs").as_posix(): only_told(json.loads(p.read_text())["cells"])
        for p in reports
    }
    bare = {name: headings for name, headings in told.items() if headings}
    assert reports and not bare, bare


def test_such_a_section_would_be_seen():
    def code(source, **output):
        outputs = [{"output_type": "display_data", "data": output}] if output else []
        return {"cell_type": "code", "metadata": {}, "source": source, "outputs": outputs}

    def markdown(source):
        return {"cell_type": "markdown", "metadata": {}, "source": source}

    cells = [
        markdown("# Title\n> One sentence."),
        markdown("## Without\nWhy."),
        code("x = 1"),
        code("#| hide\nx", **{"text/plain": "1"}),
        code("glue('x', x)", **{"application/scrapbook.scrap.json+json": {}, "text/plain": "1"}),
        markdown("## With\nWhy."),
        code("x", **{"text/plain": "1"}),
        markdown("## Handed on"),
        code("write(x)"),
    ]
    assert only_told(cells) == ["## Without"]
