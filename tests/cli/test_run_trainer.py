"""What callbacks write stands in the run folder, whatever the logger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, write_yaml


@pytest.mark.parametrize("logger", ["CSVLogger", "WandbLogger", "TensorBoardLogger"])
def test_tables_and_exports_are_in_the_run_folder(
    run: Run, config: dict[str, Any], tmp_path: Path, wandb_offline: None, logger: str
) -> None:
    folder = tmp_path / "run"
    config["trainer"] |= {
        "default_root_dir": str(folder),
        "logger": {"class_path": logger, "init_args": {"save_dir": str(tmp_path / "logs")}},
        "callbacks": [
            {"class_path": "Utility", "init_args": {"limit": 3, "max_new_tokens": 4}},
            {"class_path": "HuggingFaceExport", "init_args": {"folder": "exported"}},
        ],
    }
    outcome = run("fit", "--config", write_yaml(tmp_path / "logged.yaml", config))
    assert outcome.code == 0, outcome.err
    assert (folder / "rows" / "utility_after.jsonl").is_file() and (folder / "exported" / "config.json").is_file()
    logs = [path.name for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert logs and not any("utility" in name or name == "config.json" for name in logs)
