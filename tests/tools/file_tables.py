"""The tables of docs/ that say what each file holds, made from the typed descriptions.

    python tests/tools/file_tables.py        rewrites the tables in docs/*.md

In a document, a line such as <!-- file: scans.folder.Dataset --> is followed by its table.
"""

import importlib
import re
import sys
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "object"}


def kind_of(annotation):
    """The type of an entry in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in KINDS:
        return KINDS[annotation]
    if origin is typing.Annotated:
        return kind_of(inner[0])
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if origin is list:
        return f"list of {kind_of(inner[0])}s" if inner[0] in KINDS else "list"
    if origin is dict:
        return "object"
    if inner:  # a union
        kinds = [kind_of(each) for each in inner if each is not type(None)]
        return "number" if kinds == ["whole number", "number"] else " or ".join(kinds)
    return annotation.__name__


def table(name):
    """The Markdown table of one description: its title, then a row for each entry."""
    module, _, kind = name.rpartition(".")
    description = getattr(importlib.import_module(module), kind)
    title = description.__doc__.splitlines()[0]
    lines = [f"**{title}**", "", "| entry | kind | meaning |", "|---|---|---|"]
    for entry, field in description.model_fields.items():
        shown = f"`{entry}`" if field.is_required() else f"*`{entry}`*"
        lines.append(f"| {shown} | {kind_of(field.annotation)} | {field.description} |")
    return "\n".join(lines) + "\n"


def with_tables(text):
    """A document with every table as the descriptions have it now."""
    start = text.find("<!-- file:")
    names = re.findall(r"<!-- file: ([\w.]+) -->", text)
    tables = [f"<!-- file: {name} -->\n{table(name)}" for name in names]
    return text[:start] + "\n".join(tables) if names else text


def main():
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(with_tables(text), encoding="utf-8")


if __name__ == "__main__":
    main()
