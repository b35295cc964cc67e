"""Writes docs/api.md, the reference, from the docstrings: `python tools/reference.py`."""

import dataclasses
import importlib.util
import inspect
import pathlib
import re
import textwrap

import keras_iplt as iplt

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "api.md"

# Modules with public names of their own, beside those that the package lists, where they are there.
BESIDE = [
    "keras_iplt.plots",
    "keras_iplt.reporting",
    "keras_iplt_recipes.zoo",
    "keras_iplt_recipes.data",
    "keras_iplt.layers",
    "keras_iplt.tfmot_bridge",
]

TITLE = """\
# Reference

Every public name by subject, from its docstring. New here? Read the [guide](guide.md).
This page is generated: change the docstrings, then run `python tools/reference.py`.
"""


def parts():
    """`(title, module, names)` of each part of the page: the subjects of the package, as the
    comments in its `__all__` say, then module after module."""
    listed = re.search(r"__all__ = \[\n(.*?)^\]", inspect.getsource(iplt), re.DOTALL | re.MULTILINE)
    found, modules = [], []
    for subject, name in re.findall(r'# (.+)|"(\w+)"', listed[1]):
        if subject:
            found.append((subject.capitalize(), iplt, []))
        elif inspect.ismodule(getattr(iplt, name)):
            modules.append(getattr(iplt, name))
        else:
            found[-1][2].append(name)
    for name in BESIDE:
        if name.removeprefix("keras_iplt.") not in iplt.__all__ and importlib.util.find_spec(name):
            modules.append(importlib.import_module(name))
    while modules:
        module = modules.pop(0)
        inner = [name for name in module.__all__ if inspect.ismodule(getattr(module, name))]
        modules[:0] = [getattr(module, name) for name in inner]
        names = [name for name in module.__all__ if name not in inner]
        found.append((f"`{module.__name__}`", module, names))
    return [part for part in found if part[2]]


def public():
    """`{full name: object}` of all that the page tells about, under the first of its names."""
    found = {}
    for _, module, names in parts():
        for name in names:
            thing = getattr(module, name)
            if not any(thing is other for other in found.values()):
                found[f"{module.__name__}.{name}"] = thing
    return found


def own(thing):
    """Whether this is ours: the texts of Keras and tfmot are theirs to print."""
    return (getattr(thing, "__module__", None) or "").startswith("keras_iplt")


def call(name, thing):
    """How it is called: without annotations, and with objects shown by their class."""
    parameters = inspect.signature(thing).parameters.values()
    parameters = [p.replace(annotation=p.empty) for p in parameters]
    skip = bool(parameters) and parameters[0].name in ("self", "cls")
    text = name + str(inspect.Signature(parameters[skip:]))
    return re.sub(r"<(?:function )?(?:\w+\.)*(\w+)(?: object)? at 0x\w+>", r"\1(…)", text)


def head(thing):
    """What the page says of a name before its docstring."""
    if isinstance(thing, type) and issubclass(thing, Exception):
        bases = [f"`{base.__name__}`" for base in thing.__bases__]
        return f"An exception, a kind of {' and '.join(bases)}.\n\n"
    if dataclasses.is_dataclass(thing):  # made by the library only
        return ""
    text = textwrap.fill(call(thing.__name__, thing), 100, subsequent_indent="    ")
    return f"```py\n{text}\n```\n\n"


def methods(cls, known):
    """`{how it is called: object}` of what a class adds to Keras and to the classes in `known`."""
    foreign = [base for base in cls.__mro__[1:] if not own(base) or base in known]
    found = {}
    for base in cls.__mro__ if not issubclass(cls, Exception) else ():
        for name, member in vars(base).items() if base not in foreign else ():
            inner = getattr(member, "__func__", getattr(member, "func", member))
            attribute = isinstance(member, property) or hasattr(member, "func")
            ours = name[0] != "_" and not any(hasattr(other, name) for other in foreign)
            if ours and inner.__doc__ and (attribute or inspect.isfunction(inner)):
                found.setdefault(name if attribute else call(name, inner), inner)
    return found


def markdown(text):
    """A docstring as Markdown: arguments as a list, examples in fences."""
    blocks = []
    for block in re.split(r"\n\n+", inspect.cleandoc(text)):
        section = re.match(r"(Args|Attributes|Raises|Returns|Example):(.*)\n?", block)
        if block.startswith(">>>"):
            block = "```pycon\n" + block.replace("<BLANKLINE>", "") + "\n```"
        elif section:
            blocks.append(f"**{section[1]}:**{section[2]}")
            block = textwrap.dedent(block[section.end() :])
            if section[1] in ("Args", "Attributes", "Raises"):
                block = re.sub(r"(?m)^(\S[^:\n]*):", r"- `\1`:", block)
                block = re.sub(r"(?m)^- .*?:", lambda m: m[0].replace(", ", "`, `"), block)
        blocks.append(block)
    return "\n\n".join(filter(None, blocks))


def entry(name, names):
    """What the page says of one name."""
    thing, short = names[name], name.rpartition(".")[2]
    text = f'<a id="{name}"></a>\n\n### {short}\n\n'
    if not own(thing):
        return f"{text}The class of that name of tensorflow-model-optimization.\n"
    text += head(thing) + markdown(thing.__doc__) + "\n"
    added = methods(thing, {*names.values()} - {thing}) if isinstance(thing, type) else {}
    for called, method in added.items():
        text += f"\n#### `{short}.{called}`\n\n{markdown(method.__doc__)}\n"
    return text


def page():
    """The whole page."""
    names, contents, text = public(), [TITLE], []
    for title, module, listed in parts():
        links, where = [], title.lower().replace(" ", "-").strip("`")
        text.append(f'<a id="{where}"></a>\n\n## {title}\n')
        text += [markdown(module.__doc__) + "\n"] if module is not iplt else []
        for short in listed:
            name = next(n for n, thing in names.items() if thing is getattr(module, short))
            links.append(f"[{short}](#{name})")
            here = name == f"{module.__name__}.{short}"
            text.append(entry(name, names) if here else f"`{short}` is [`{name}`](#{name}).\n")
        contents.append(f"- [{title}](#{where}): {', '.join(links)}")
    text = "\n".join([*contents, "", *text]).rstrip() + "\n"
    for name in names:  # full names in the text lead to where they are told about
        text = re.sub(rf"(?<!\[)`{name}`", f"[`{name}`](#{name})", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
