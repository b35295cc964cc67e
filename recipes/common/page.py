"""The results of a recipe: Markdown to read, JSON to go on with, pictures."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from keras_iplt.errors import MissingExtraError
from keras_iplt.support.files import replacing

from .environment import environment
from .spread import Spread
from .study import Study, say

__all__ = ["Page"]


class Page:
    """What a recipe found.

    Args:
        title: what stands at its top.
        study: the `Study` whose folder it is written to.
        command: the command that it was run by.
    """

    def __init__(self, title: str, study: Study, command: str) -> None:
        self.title, self.study, self.command = title, study, command
        self._parts: list[str] = []
        self._tables: dict[str, list[dict[str, Any]]] = {}

    def heading(self, text: str) -> None:
        self._parts.append(f"## {text}")

    def text(self, text: str) -> None:
        self._parts.append(text)

    def findings(self, text: str, lines: Iterable[str]) -> None:
        """A paragraph with a list under it: of a claim, say, and what became of it in each case."""
        self.text("\n".join([f"{text}\n", *(f"- {line}" for line in lines)]))

    def table(self, name: str, rows: list[dict[str, Any]], note: str | None = None) -> None:
        """A table.

        Args:
            name: what stands over it, and its name in the file of JSON.
            rows: dicts with the same keys, the heads of the columns. Values are text, numbers,
                `Spread`s, or None.
            note: what stands under it.
        """
        self._tables[name] = [{k: _plain(v) for k, v in row.items()} for row in rows]
        heads = list(rows[0])
        lines = [heads, ["---"] * len(heads), *([_cell(row[h]) for h in heads] for row in rows)]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        self._parts.append(f"**{name}**\n\n{text}")
        if note:
            self._parts.append(note)

    def picture(self, name: str, draw: Callable[[], Any]) -> None:
        """A picture, if matplotlib is installed.

        Args:
            name: the name of the file, without a suffix.
            draw: called without arguments; returns a figure.
        """
        try:
            figure = draw()
        except MissingExtraError as error:
            say(f"without {name}.png: {error}")
            return
        with replacing(self.study.folder / f"{name}.png") as partial:
            figure.savefig(partial, dpi=130)
        self._parts.append(f"![{name}]({name}.png)")

    def write(self) -> dict[str, Any]:
        """Writes results.md and results.json; prints the former; returns the latter."""
        made_with = environment()
        content = {
            "recipe": self.study.recipe, "title": self.title, "command": self.command,
            "made with": made_with, "tables": self._tables, "runs": {
                name: {"settings": self.study.settings[name], "result": result}
                for name, result in self.study.results.items()
            },
        }  # fmt: skip
        stated = ", ".join(f"{key} {value}" for key, value in made_with.items())
        head = [f"# {self.title}", f"    {self.command}", f"Made with {stated}."]
        page = "\n\n".join([*head, *self._parts]) + "\n"
        for name, text in (
            ("results.md", page),
            ("results.json", json.dumps(content, indent=1, ensure_ascii=False)),
        ):
            with replacing(self.study.folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        print(page)
        say(f"written to {self.study.folder}/: results.md, results.json, pictures and models")
        return {"folder": str(self.study.folder), "tables": self._tables}


def _plain(value: Any) -> Any:
    return value.plain() if isinstance(value, Spread) else value


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
