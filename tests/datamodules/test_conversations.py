"""Messages become a prompt, its answer and what was said before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from soul_lightning.datamodules import RecordSource
from soul_lightning.datamodules.conversations import read_conversations
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Turn
from soul_lightning.records.sources import read_records
from soul_lightning.records.table import RecordTable
from tests.datamodules.text_world import write_rows


def message(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


SHORT = [message("user", "who is ada ?"), message("assistant", "a baker")]
LONG = [message("system", "know"), *SHORT, message("user", "where does ada live ?"), message("assistant", "paris")]


def test_the_last_answer_is_learned_and_all_else_stands_before_it(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"chat": SHORT}, {"chat": LONG}]
    sources = [write_rows(tmp_path / "rows.jsonl", rows), str(tmp_path / "rows.parquet")]
    pd.DataFrame(rows).to_parquet(sources[1])
    for path in sources:
        short, long = read_conversations(read_records(RecordSource(path), "forget"), "chat")
        assert short == ("who is ada ?", "a baker", ())
        assert (long.prompt, long.answer) == ("where does ada live ?", "paris")
        assert long.turns == (Turn("system", "know"), Turn("user", "who is ada ?"), Turn("assistant", "a baker"))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("who is ada ?", r"holds 'who is ada \?' in the column 'chat', not a list of messages; write \[\{"),
        ([], r"holds \[\] in the column 'chat', not a list of messages"),
        (["who is ada ?"], "not a list of messages"),
        (SHORT[:1], "holds messages of user in the column 'chat'; user and assistant must take turns"),
        (SHORT[::-1], "holds messages of assistant, user in"),
        ([message("system", "know")], "holds messages of system in"),
        ([*SHORT, message("system", "know")], "holds messages of user, assistant, system in"),
        ([{"from": "human", "value": "who"}], "holds messages of None in"),
        ([*SHORT[:1], message("assistant", " ")], "hold no text in the column 'content', first line 8 with ' '"),
        ([*SHORT[:1], message("assistant", 7)], "hold no text in the column 'content', first line 8 with 7"),
    ],
)
def test_what_is_no_conversation_is_told_with_its_line(messages: object, reason: str) -> None:
    table = RecordTable("rows.jsonl", [{"chat": LONG}, {"chat": messages}], [3, 8], "line")
    with pytest.raises(MisconfigurationError, match=reason) as caught:
        read_conversations(table, "chat")
    assert "rows.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(
        MisconfigurationError, match=r"no column 'messages' in rows, which has 'chat'; name one of them"
    ):
        read_conversations(RecordTable("rows", [{"chat": SHORT}], [1]), "messages")
