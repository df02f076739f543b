"""Conversations out of a column of messages."""

from __future__ import annotations

from typing import Any, NamedTuple

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Turn
from soul_lightning.records.table import RecordTable


class Conversation(NamedTuple):
    """What a row says.

    Attributes:
        prompt: The last message of the user.
        answer: The answer to it.
        turns: What was said before.
    """

    prompt: str
    answer: str
    turns: tuple[Turn, ...] = ()


def read_conversations(table: RecordTable, column: str) -> list[Conversation]:
    """The conversations of a column: lists of {role, content}, as chat models are trained on.

    Args:
        table: The rows.
        column: The column of the messages.

    Raises:
        MisconfigurationError: There is no such column, a cell is no list of messages, a message is no text, or they
            come in another order than perhaps a system message, then user and assistant in turn, an answer last.
    """
    conversations = []
    for number, messages in zip(table.numbers, table.values(column), strict=True):
        _check_roles(messages, f"{table.unit} {number} of {table.name}", column)
        said = RecordTable(table.name, messages, [number] * len(messages), table.unit).texts("content")
        turns = [Turn(message["role"], text) for message, text in zip(messages, said, strict=True)]
        conversations.append(Conversation(turns[-2].text, turns[-1].text, tuple(turns[:-2])))
    return conversations


def _check_roles(messages: Any, place: str, column: str) -> None:
    if not (isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)):
        raise MisconfigurationError(
            f"{place} holds {messages!r:.40} in the column {column!r}, not a list of messages; write "
            f'[{{"role": "user", "content": "…"}}, {{"role": "assistant", "content": "…"}}]'
        )
    roles = [message.get("role") for message in messages]
    spoken = roles[1:] if roles[0] == "system" else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise MisconfigurationError(
            f"{place} holds messages of {', '.join(map(str, roles))} in the column {column!r}; user and assistant must "
            f"take turns, after a system message if there is one, and the last message must be an answer"
        )
