"""What teacher-forced metrics cost beside bare forward passes, on TOFU's questions about the authors to forget.

The bare pass is the floor of scoring every text by itself: encoded, sorted and padded already, logits at the labelled
positions only, nothing computed from them (for the truth ratio the cross entropy). Ours encodes, scores and computes
the metrics. The texts of the truth ratio, a paraphrase and five false answers a question, begin alike: the bare pass
runs each of them whole.

OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python -m benchmarks.scoring MODEL TOFU [--rows 40] [--truth-rows 10]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from benchmarks.paired import compare
from soul_lightning.datamodules import TOFUDataModule
from soul_lightning.encoding import collate, encode
from soul_lightning.metrics.attack_scores import loss_score, zlib_score
from soul_lightning.metrics.membership_scores import min_k, min_k_plus_plus
from soul_lightning.metrics.memorization import exact_memorization, extraction_strength
from soul_lightning.metrics.truth_ratio import forget_truth_ratio, truth_ratio
from soul_lightning.networks.forward import head_sees_only
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.predictions import predicting_positions
from soul_lightning.protocols import Batch, Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scored_model import ScoredModel

TOKEN_BUDGET = 2048
"""Most tokens in a batch of either side, padding included."""


def main() -> None:
    """Print the metrics, then measure the seven of one pass, one pass a metric, and the truth ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or name of a causal language model")
    parser.add_argument("tofu", help="folder with the published files of TOFU")
    parser.add_argument("--rows", type=int, default=40, help="questions of the seven metrics")
    parser.add_argument("--truth-rows", type=int, default=10, help="questions of the truth ratio, six texts each")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of measurements")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = PretrainedNetwork(arguments.model)
    network, tokenizer = source.load_network().eval(), source.load_tokenizer()
    adapter = CausalLMAdapter(network, tokenizer)
    task = TOFUDataModule("forget01", folder=arguments.tofu, tokenizer=tokenizer).load()
    probe = next(probe for probe in task.probes if probe.name == "forget")

    scored = replace(probe, examples=probe.examples[: arguments.rows])
    batches = sorted_batches(scored.examples, scored, tokenizer)
    print(f"{len(scored.examples)} rows: {seven_metrics(adapter, scored)}")
    print(
        compare(
            "bare pass",
            lambda: bare_pass(network, batches),
            "seven metrics",
            lambda: seven_metrics(adapter, scored),
            arguments.pairs,
        )
    )
    few = replace(probe, examples=probe.examples[: max(1, arguments.rows // 8)])
    few_batches = sorted_batches(few.examples, few, tokenizer)
    print(
        compare(
            f"seven bare passes, {len(few.examples)} rows",
            lambda: [bare_pass(network, few_batches) for _ in range(7)],
            "seven metrics",
            lambda: seven_metrics(adapter, few),
            arguments.pairs,
        )
    )

    paired = replace(probe, examples=probe.examples[: arguments.truth_rows])
    texts = [
        replace(row, answer=answer) for row in paired.examples for answer in (row.paraphrase, *row.perturbed) if answer
    ]
    text_batches = sorted_batches(texts, paired, tokenizer)
    print(f"{len(paired.examples)} rows, {len(texts)} texts: truth ratio {truth_ratio_of(adapter, paired):.4f}")
    print(
        compare(
            "bare pass and cross entropy",
            lambda: bare_pass(network, text_batches, cross_entropy=True),
            "truth ratio",
            lambda: truth_ratio_of(adapter, paired),
            arguments.pairs,
        )
    )


def seven_metrics(adapter: CausalLMAdapter, probe: Probe) -> dict[str, float]:
    """Means over the rows of all that is read off one pass."""
    scores = ScoredModel(adapter, TOKEN_BUDGET).scores(probe)
    found: dict[str, list[float]] = {}
    for example in probe.examples:
        score = scores[example.index]
        tokens = score.statistics
        values = {
            "probability": score.probability,
            "extraction_strength": extraction_strength(tokens.hits),
            "exact_memorization": exact_memorization(tokens.hits),
            "loss": loss_score(tokens.log_probs),
            "zlib": zlib_score(score.mean_nll, example.answer),
            "min_k": min_k(tokens.log_probs),
            "min_k_plus_plus": min_k_plus_plus(tokens.log_probs, tokens.means, tokens.variances),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: round(fmean(values), 4) for name, values in found.items()}


def truth_ratio_of(adapter: CausalLMAdapter, probe: Probe) -> float:
    """The forget truth ratio, from one pass over paraphrases and false answers."""
    others = ScoredModel(adapter, TOKEN_BUDGET).alternatives(probe).values()
    true = [each.paraphrase.mean_nll for each in others if each.paraphrase is not None]
    return forget_truth_ratio(truth_ratio(true, [[one.mean_nll for one in each.perturbed] for each in others]))


def sorted_batches(examples: Sequence[Example], probe: Probe, tokenizer: PreTrainedTokenizerBase) -> list[Batch]:
    """The rows as `probe` writes them, the longest first, as many in a batch as `TOKEN_BUDGET` holds."""
    rows = sorted(encode(examples, tokenizer, probe.template), key=len, reverse=True)
    batches = []
    while rows:
        size = max(1, TOKEN_BUDGET // len(rows[0]))
        batches.append(collate(rows[:size], tokenizer.pad_token_id or 0))
        rows = rows[size:]
    return batches


@torch.no_grad()
def bare_pass(network: nn.Module, batches: Sequence[Batch], cross_entropy: bool = False) -> None:
    """Logits at the labelled positions, and nothing but the loss of each label, if that."""
    for batch in batches:
        keep = predicting_positions(batch.labels)
        with head_sees_only(network, keep):
            output = network(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        if cross_entropy:
            functional.cross_entropy(output.logits, batch.labels[:, 1:][keep[:, :-1]], reduction="none")


if __name__ == "__main__":
    main()
