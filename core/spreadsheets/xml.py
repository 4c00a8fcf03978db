"""Read XML as it comes, without building a tree. Entities of a document are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO
from xml.parsers import expat  # nosec B407 # entities are refused

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS
from core.errors import UnreadableFileError

XML_ERRORS = (expat.ExpatError, *ZIP_ERRORS)
_CHUNK = 2**16
_SEPARATOR = " "  # between a namespace and a name

Attributes = dict[str, str]


class Handler:
    """What happens at tags and text. Names have no namespace. Append what is found to ``found``."""

    def __init__(self) -> None:
        self.found: list[object] = []

    def start(self, name: str, attributes: Attributes) -> None:
        """Handle the start of an element."""

    def end(self, name: str) -> None:
        """Handle the end of an element."""

    def text(self, data: str) -> None:
        """Handle a piece of text."""


def parse(file: IO[bytes], name: str, handler: Handler) -> Iterator[object]:
    """Yield what the handler finds while the file is read. Raises UnreadableFileError."""
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: handler.start(
        _local(tag), {_local(key): value for key, value in attributes.items()}
    )
    parser.EndElementHandler = lambda tag: handler.end(_local(tag))
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = _refuse_entities(name)
    try:
        while chunk := file.read(_CHUNK):
            parser.Parse(chunk, False)
            yield from handler.found
            handler.found.clear()
        parser.Parse(b"", True)
        yield from handler.found
    except XML_ERRORS as error:
        text = _("%(file)s is not proper XML: %(reason)s.")
        raise UnreadableFileError(text % {"file": name, "reason": error}) from error


def _local(name: str) -> str:
    return name.rpartition(_SEPARATOR)[2]


def _refuse_entities(name: str) -> Callable[..., None]:
    def refuse(*_arguments: object) -> None:
        raise UnreadableFileError(_("%s defines XML entities, which tables never need.") % name)

    return refuse
