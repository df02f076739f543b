"""The files of an audit: three of them, each whole, the first to be read again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.reports import audit_files
from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_files import read_audit, write_audit
from tests.reports.sample_audit import sample_audit


def test_three_files_of_which_one_reads_back(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "audit"
    report = replace(sample_audit(), parts=sample_audit().parts[:6])
    write_audit(folder, report)
    assert sorted(path.name for path in folder.iterdir()) == ["audit.html", "audit.json", "audit.md"]
    assert read_audit(folder) == read_audit(folder / "audit.json") == report
    assert (folder / "audit.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    report = replace(sample_audit(), model=os.fsdecode(b"model-\x80"), parts=())
    write_audit(tmp_path, report)
    assert read_audit(tmp_path) == report
    assert "model-\\udc80" in (tmp_path / "audit.html").read_text(encoding="utf-8")


def test_nothing_is_written_of_a_report_that_cannot_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audit(tmp_path, sample_audit())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(report: AuditReport) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(audit_files, "audit_html", fails)
    with pytest.raises(RuntimeError, match="no page"):
        write_audit(tmp_path, replace(sample_audit(), seed=1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "no JSON"), ("[]", "not a mapping"), (json.dumps({"format": 99}), "format 99")],
)
def test_another_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(MisconfigurationError, match=named) as caught:
        read_audit(path)
    assert str(path) in str(caught.value)


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match="cannot be read"):
        read_audit(tmp_path)
