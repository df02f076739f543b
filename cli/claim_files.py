"""What the claims of a `restor` recipe come to: the table on the screen, CSV, Markdown, the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from soul_lightning.cli.claims import Claim, Evidence
from soul_lightning.cli.corruptions import origins
from soul_lightning.cli.stages import RestorConfig
from soul_lightning.cli.terminal import output_console
from soul_lightning.metrics.claims import Origin, contrast, recovery_by_confidence, verdict
from soul_lightning.reports.claims import ClaimRow, claims_figure, claims_markdown, claims_records, claims_table
from soul_lightning.reports.figures import save_figure
from soul_lightning.reports.tables import write_records_csv
from soul_lightning.run_folder import write_text
from soul_lightning.scoring.answers import AnswerRow

CSV_NAME = "claims.csv"
MARKDOWN_NAME = "claims.md"
FIGURE_NAME = "claims.png"
FILE_NAMES = (CSV_NAME, MARKDOWN_NAME, FIGURE_NAME)
Probabilities = Mapping[str, Mapping[tuple[int, str, int], float]]
"""By clean stage and question (`AnswerRow.key`): the probability of the true answer."""


def confident_stages(config: RestorConfig) -> set[str]:
    """The clean stages whose confidence a claim asks for."""
    found = origins(config)
    return {found[each.of[0]].clean for claim in config.claims for each in claim.evidence if each.by_confidence}


def write_claims(
    folder: Path,
    rows: Mapping[str, Sequence[AnswerRow]],
    probabilities: Probabilities,
    config: RestorConfig,
    recipe: str,
) -> dict[str, Any]:
    """Test the claims, show the table, write every file.

    Args:
        folder: Where the files go.
        rows: The answers of each stage over all seeds.
        probabilities: Of the stages that `confident_stages` names.
        config: Which claims there are.
        recipe: What the run is called by.

    Returns:
        `claims`, one record a number, for `summary.json`; nothing, and no file, without claims.
    """
    if not config.claims:
        return {}
    found = [
        _row(claim, evidence, rows, probabilities, origins(config))
        for claim in config.claims
        for evidence in claim.evidence
    ]
    records = claims_records(found)
    write_records_csv(folder / CSV_NAME, records)
    write_text(folder / MARKDOWN_NAME, claims_markdown(found, f"{recipe}: claims"))
    save_figure(claims_figure(found), folder / FIGURE_NAME)
    output_console().print(claims_table(found))
    return {"claims": records}


def _row(
    claim: Claim,
    evidence: Evidence,
    rows: Mapping[str, Sequence[AnswerRow]],
    probabilities: Probabilities,
    before: Mapping[str, Origin],
) -> ClaimRow:
    if evidence.by_confidence:
        (model,) = evidence.of
        found = recovery_by_confidence(rows, before[model], model, probabilities[before[model].clean])
        note = (
            f"of {found.facts} lost facts {found.recovered_below:.2f} came back in the less sure half, "
            f"{found.recovered_above:.2f} in the other"
        )
        return ClaimRow(
            claim.sentence, evidence.text, "rank correlation", found.correlation, verdict(found.correlation), note=note
        )
    difference = contrast(rows, before, evidence.of, evidence.minus)
    restoration = difference.restoration
    return ClaimRow(
        claim.sentence,
        evidence.text,
        "restoration",
        restoration,
        verdict(restoration) if evidence.minus else None,
        difference.false_share,
        difference.accuracy_control,
        "" if restoration is not None else "too little was lost to say",
    )
