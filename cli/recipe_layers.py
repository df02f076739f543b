"""Recipes that stand on layers: reading them and merging what they stand on, comments and origins included.

A configuration (a recipe, what stands under its `fit`, and each of its `stages` and `methods`) may name others under
`layers`. They are merged key by key in their order, and what the configuration says itself goes on top. Another
`class_path` takes none of the settings of the class below; a list replaces a list.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from soul_lightning.exceptions import MisconfigurationError

LAYERS = "layers"
"""The key under which a configuration names what it stands on."""
METHODS = "methods"
_NAMED = ("stages", METHODS)
"""Keys whose values are configurations by name."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is faster, and not everywhere
_TRAILING = re.compile(r"[ \t]*(#.*)?")
_AFTER_KEY = re.compile(r":[ \t]*(?:&\S+[ \t]*)?(#.*)?$", re.MULTILINE)


@dataclass
class Section:
    """A mapping of a configuration, in order.

    Attributes:
        entries: What stands under its keys.
        flow: Whether it was written in braces.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    flow: bool = False


@dataclass
class Entry:
    """What stands under one key.

    Attributes:
        value: A mapping, or the YAML text of anything else; that of a list in lines has several lines.
        origin: The file that says so; of a mapping, of its key.
        above: Comment lines before the key.
        comment: The comment behind it.
    """

    value: Section | str
    origin: str
    above: tuple[str, ...] = ()
    comment: str = ""


def read_section(text: str, origin: str, open_layer: Callable[[str], Section], method: str | None = None) -> Section:
    """A configuration, its layers merged in.

    Args:
        text: The YAML.
        origin: What its file is called.
        open_layer: Gives the configuration of a layer by its name.
        method: The one of its `methods` that goes on top of all else, in place of their list.

    Raises:
        MisconfigurationError: It is no YAML mapping, or `layers` is no list of names.
    """
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise MisconfigurationError(f"{origin} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, MappingNode):
        raise MisconfigurationError(f"{origin} must hold keys and values")
    reader = _Reader(text, origin, open_layer)
    if method is None:
        return reader.configuration(node)
    own = next((value for key, value in _pairs(node, METHODS) if key.value == method), None)
    node.value = [(key, value) for key, value in node.value if key.value != METHODS]
    whole = reader.configuration(node)
    return merged_sections(whole, reader.configuration(own)) if isinstance(own, MappingNode) else whole


def merged_sections(base: Section, own: Section) -> Section:
    """`own` on top of `base`, key by key; another `class_path` takes none of the settings of the class below."""
    both = dict(base.entries)
    for key, entry in own.entries.items():
        below = both.get(key)
        if below is None or isinstance(below.value, str) or isinstance(entry.value, str):
            both[key] = entry
        elif None not in (_class(entry.value), _class(below.value)) and _class(entry.value) != _class(below.value):
            both[key] = entry
        else:
            merged = merged_sections(below.value, entry.value)
            both[key] = replace(entry, value=merged, above=entry.above or below.above, comment=entry.comment)
    if "class_path" in both:  # first, whichever layer names it
        both = {"class_path": both["class_path"], **both}
    return Section(both, base.flow and own.flow)


def _class(section: Section) -> object:
    entry = section.entries.get("class_path")
    return entry and entry.value


def _pairs(node: MappingNode, key: str) -> list[tuple[Node, Node]]:
    """Keys and values of the mapping under a key."""
    found = (value for name, value in node.value if name.value == key)
    return [pair for value in found if isinstance(value, MappingNode) for pair in value.value]


class _Reader:
    """From the nodes of one file to sections."""

    def __init__(self, text: str, origin: str, open_layer: Callable[[str], Section]) -> None:
        self.text, self.origin, self.open_layer = text, origin, open_layer
        self.lines = text.split("\n")
        self.constructor = yaml.constructor.SafeConstructor()

    def configuration(self, node: MappingNode) -> Section:
        """A mapping that may have `layers`, and configurations below it."""
        self.constructor.flatten_mapping(node)
        found, own = Section(), Section(flow=bool(node.flow_style))
        for key, value in node.value:
            if key.value == LAYERS:
                for name in self._names(value):
                    found = merged_sections(found, self.open_layer(name))
            elif isinstance(value, MappingNode) and key.value in _NAMED:
                own.entries[key.value] = self._entry(key, value, self._named(value), node)
            elif isinstance(value, MappingNode) and key.value == "fit":
                own.entries[key.value] = self._entry(key, value, self.configuration(value), node)
            else:
                own.entries[key.value] = self._entry(key, value, self._value(value), node)
        return merged_sections(found, own) if found.entries else own

    def _named(self, node: MappingNode) -> Section:
        def read(value: Node) -> Section | str:
            return self.configuration(value) if isinstance(value, MappingNode) else self._value(value)

        self.constructor.flatten_mapping(node)
        return Section({key.value: self._entry(key, value, read(value), node) for key, value in node.value})

    def _names(self, node: Node) -> list[str]:
        listed = node.value if isinstance(node, SequenceNode) else []
        names = [each.value for each in listed if each.tag == "tag:yaml.org,2002:str"]
        if not names or len(names) < len(listed):
            raise MisconfigurationError(
                f"{self.origin}: {LAYERS} must be a list of names, as in [model/own, data/tofu]"
            )
        return names

    def _value(self, node: Node) -> Section | str:
        if isinstance(node, MappingNode) and node.value:
            self.constructor.flatten_mapping(node)
            entries = {key.value: self._entry(key, value, self._value(value), node) for key, value in node.value}
            return Section(entries, bool(node.flow_style))
        if isinstance(node, SequenceNode) and not node.flow_style:
            return self._list(node)
        return one_line(node)

    def _list(self, node: SequenceNode) -> str:
        """The lines of a list as they are, or anew where they refer to others."""
        first, last = node.start_mark.line, node.end_mark.line
        while last > first and not self.lines[last - 1].strip():
            last -= 1
        lines = textwrap.dedent("\n".join(self.lines[first:last])).rstrip()
        try:
            same = yaml.safe_load(lines) == self._plain(node)
        except yaml.YAMLError:
            same = False
        return lines if same else yaml.safe_dump(self._plain(node), sort_keys=False, allow_unicode=True).rstrip()

    def _plain(self, node: Node) -> object:
        return yaml.constructor.SafeConstructor().construct_document(node)

    def _entry(self, key: Node, node: Node, value: Section | str, parent: MappingNode) -> Entry:
        if parent.flow_style:
            return Entry(value, self.origin)
        above: list[str] = []
        line = key.start_mark.line - 1
        while line > self._header and self.lines[line].lstrip().startswith("#"):
            above.insert(0, self.lines[line].strip())
            line -= 1
        block = isinstance(node, MappingNode | SequenceNode) and not node.flow_style
        pattern, end = (_AFTER_KEY, key.end_mark) if block else (_TRAILING, node.end_mark)
        place = pattern.match(self.text, end.index)
        aliased = not block and node.start_mark.line < key.start_mark.line  # an alias has the place of its anchor
        comment = place[1] if place and place[1] and not aliased else ""
        return Entry(value, self.origin, tuple(above), comment.removeprefix("#").strip())

    @property
    def _header(self) -> int:
        """The last line of the comment that the file begins with."""
        return len(header(self.text)) - 1


def header(text: str) -> list[str]:
    """The comment lines that a file begins with."""
    lines: list[str] = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines


def one_line(node: Node) -> str:
    """The YAML of a value in one line, numbers and quotes as they were written."""
    text: str = yaml.serialize(_in_braces(node), Dumper=yaml.SafeDumper, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").rstrip("\n")


def _in_braces(node: Node) -> Node:
    """A copy without shared parts, which would get anchors, and with every collection in braces."""
    own = copy(node)
    if isinstance(own, MappingNode):
        own.value = [(_in_braces(key), _in_braces(value)) for key, value in own.value]
        own.flow_style = True
    elif isinstance(own, SequenceNode):
        own.value = [_in_braces(each) for each in own.value]
        own.flow_style = True
    elif isinstance(own, ScalarNode) and own.style in ("|", ">"):
        own.style = '"'
    return own
