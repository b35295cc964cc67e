"""Makes the reference while the site is built: a page per subject, from `__all__` and docstrings.

mkdocs calls the functions that begin with `on_` (see `hooks` in mkdocs.yml). What is public is read
from the source, so that building the site imports neither Keras nor a backend; the docstrings are
put in their places by mkdocstrings. The notebooks become pages of the site, too.
"""

import ast
import dataclasses
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = {"keras_iplt": ROOT / "keras_iplt", "keras_iplt_recipes": ROOT / "recipes"}

# Public modules beside those that the package lists itself.
BESIDE = [
    "keras_iplt.exporting",
    "keras_iplt.layers",
    "keras_iplt.tfmot_bridge",
    "keras_iplt_recipes.zoo",
    "keras_iplt_recipes.data",
]

# They are tfmot's, whose text is theirs to print.
OF_TFMOT = {"keras_iplt.tfmot_bridge.PrunableLayer", "keras_iplt.tfmot_bridge.PruningSchedule"}


@dataclasses.dataclass(frozen=True)
class Part:
    """A page of the reference.

    Attributes:
        title: a subject of the package, or the name of a module.
        module: the module that the names are public in.
        names: public names in it.
    """

    title: str
    module: str
    names: list[str]

    @property
    def page(self):
        return f"reference/{self.title.lower().replace(' ', '-')}.md"

    @property
    def paths(self):
        return [f"{self.module}.{name}" for name in self.names]


def source(module):
    """The file of a module, or None if there is no module of that name."""
    package, *inner = module.split(".")
    place = SOURCES[package].joinpath(*inner)
    found = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in found if file.is_file()), None)


def public_names(module):
    """`(subject, name)` for each name in `__all__`; the subject is the comment above it, if any."""
    text = source(module).read_text(encoding="utf-8")
    (listed,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    subject, found = "", []
    for comment, name in re.findall(r'# (.+)|"(\w+)"', ast.get_source_segment(text, listed)):
        subject = comment or subject
        found += [(subject, name)] if name else []
    return found


def parts():
    """The pages: the subjects of the package as its `__all__` names them, then its modules."""
    subjects, modules = {}, []
    for subject, name in public_names("keras_iplt"):
        if source(f"keras_iplt.{name}"):
            modules.append(f"keras_iplt.{name}")
        else:
            subjects.setdefault(subject.capitalize(), []).append(name)
    found = [Part(subject, "keras_iplt", names) for subject, names in subjects.items()]
    modules += [module for module in BESIDE if module not in modules]
    while modules:
        module = modules.pop(0)
        names = [name for _, name in public_names(module)]
        inner = [name for name in names if source(f"{module}.{name}")]
        modules[:0] = [f"{module}.{name}" for name in inner]
        found.append(Part(module, module, [name for name in names if name not in inner]))
    return found


def described(path):
    """What a page says of one name: its docstring, once mkdocstrings has read it."""
    if path in OF_TFMOT:
        name = path.rpartition(".")[2]
        return (
            f"## {name} {{ #{path} }}\n\nThe class of that name of tensorflow-model-optimization.\n"
        )
    return f"::: {path}\n"


def page(part):
    """A page of the reference."""
    if part.title == part.module:  # its own docstring, without what is in it
        text = f"# {part.module}\n\n::: {part.module}\n    options:\n      members: []\n"
        text += "      show_root_heading: false\n      show_root_toc_entry: false\n"
    else:
        text = f"# {part.title}\n"
    return "\n".join([text, *map(described, part.paths)])


def contents():
    """All names by subject, each a link to what is said of it."""
    lines = []
    for part in parts():
        links = [f"[{n}][{p}]" for n, p in zip(part.names, part.paths, strict=True)]
        lines.append(f"- [{part.title}]({part.page}): {', '.join(links)}")
    return "\n".join(lines)


def notebook_page(path):
    """A notebook as Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    return "\n\n".join(
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    )


# -- what mkdocs calls -----------------------------------------------------------------------------


def on_config(config):
    """Lists the pages beside each other on the left."""
    (reference,) = (entry for entry in config.nav if "Reference" in entry)
    reference["Reference"] += [{part.title: part.page} for part in parts()]
    return config


def on_files(files, config):
    """Adds the pages that are in no file."""
    from mkdocs.structure.files import File

    made = {part.page: page(part) for part in parts()}
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        made[f"notebooks/{path.stem}.md"] = notebook_page(path)
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lists the reference on its page, and leads to the pages of notebooks instead of files."""
    if page.file.src_uri == "reference.md":
        markdown = f"{markdown}\n{contents()}\n"
    return re.sub(r"\]\(\.\./(notebooks/\w+)\.ipynb\)", r"](\1.md)", markdown)


def on_page_content(html, page, config, files):
    """A full name in the text, `keras_iplt.plan`, leads to what the reference says of it."""
    known = {path for part in parts() for path in part.paths}

    def linked(match):
        link = f'<autoref identifier="{match[1]}" optional>{match[0]}</autoref>'
        return link if match[1] in known else match[0]

    # Not where it is a link already, the only elements before a name with an attribute.
    return re.sub(r'(?<!">)<code>([\w.]+)</code>', linked, html)
