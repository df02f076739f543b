"""The files of an audit: all that was found, and what is shown of it."""

from __future__ import annotations

import json
from pathlib import Path

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.files import replaced_when_written
from soul_lightning.records.text_files import read_text
from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_html import audit_html
from soul_lightning.reports.audit_markdown import audit_markdown

JSON_NAME, MARKDOWN_NAME, HTML_NAME = "audit.json", "audit.md", "audit.html"


def write_audit(folder: Path, report: AuditReport) -> None:
    """Write `audit.json`, which `read_audit` reads, `audit.md` and `audit.html`; each is whole or not there.

    Args:
        folder: Is made.
        report: The audit.
    """
    contents = {
        JSON_NAME: json.dumps(report.record(), indent=2, allow_nan=False) + "\n",
        MARKDOWN_NAME: audit_markdown(report),
        HTML_NAME: audit_html(report),
    }
    for name, text in contents.items():
        with replaced_when_written(folder / name) as temporary:
            # Names of files may hold what is no text; it is shown as `\udc80` and kept in JSON.
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_audit(path: Path) -> AuditReport:
    """The audit in a file that `write_audit` wrote.

    Args:
        path: The file, or the folder that it stands in.

    Raises:
        MisconfigurationError: There is no such file, or it holds something else.
    """
    file = path / JSON_NAME if path.is_dir() else path
    try:
        return AuditReport.from_record(json.loads(read_text(file)))
    except json.JSONDecodeError as error:
        raise MisconfigurationError(f"{file} is no JSON ({error}); audit again") from error
    except MisconfigurationError as error:
        raise MisconfigurationError(f"{file} cannot be read as an audit: {error}") from error
