"""What greedy answers cost beside a bare decoding loop, on TOFU's questions about the authors to forget.

The bare loop is the floor of batched decoding with kept keys and values: prompts that are encoded and sorted already,
padded on the left, logits of the last position only, rows that end leave the batch, and no text is made. Ours encodes,
decodes, and in the second measurement looks for a stop text that never comes.

OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python -m benchmarks.generation MODEL TOFU [--rows 32]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from benchmarks.paired import compare
from soul_lightning.datamodules import TOFUDataModule
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.scoring.generation import cache_argument, generated_answers
from soul_lightning.scoring.prompts import encode_prompts

NEVER = "\N{SYMBOL FOR UNIT SEPARATOR}" * 2


def main() -> None:
    """Check that both give the same answers, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or name of a causal language model")
    parser.add_argument("tofu", help="folder with the published files of TOFU")
    parser.add_argument("--rows", type=int, default=32, help="questions")
    parser.add_argument("--batch-size", type=int, default=32, help="questions answered at once")
    parser.add_argument("--max-new-tokens", type=int, default=48, help="most tokens of an answer")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of measurements")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = PretrainedNetwork(arguments.model)
    network, tokenizer = source.load_network().eval(), source.load_tokenizer()
    assert isinstance(network, PreTrainedModel)
    task = TOFUDataModule("forget01", folder=arguments.tofu, tokenizer=tokenizer).load()
    probe = next(probe for probe in task.probes if probe.name == "forget_questions")
    rows = probe.examples[: arguments.rows]
    prompts = [list(prompt.whole().rest) for prompt in encode_prompts(rows, tokenizer, probe.template)]
    places = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    batches = [places[start : start + arguments.batch_size] for start in range(0, len(places), arguments.batch_size)]

    def bare() -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for batch in batches:
            tokens = decode(
                network, [prompts[place] for place in batch], tokenizer.eos_token_id, arguments.max_new_tokens
            )
            found |= dict(zip(batch, tokens, strict=True))
        return found

    def ours(stop: str | None = None) -> list[str]:
        return generated_answers(
            network,
            tokenizer,
            rows,
            probe.template,
            max_new_tokens=arguments.max_new_tokens,
            batch_size=arguments.batch_size,
            stop=stop,
        )

    found, answers = bare(), ours()
    texts = {place: str(tokenizer.decode(tokens, skip_special_tokens=True)) for place, tokens in found.items()}
    same = sum(text.strip() == answers[place] for place, text in texts.items())
    print(f"{len(rows)} questions, {sum(map(len, found.values())):,} tokens of answers; {same} answers are the same")
    print(compare("bare decoding", bare, "generated_answers", ours, arguments.pairs))
    print(compare("bare decoding", bare, "generated_answers, stop text", lambda: ours(NEVER), arguments.pairs))


@torch.no_grad()
def decode(network: PreTrainedModel, prompts: Sequence[list[int]], end: int, max_new_tokens: int) -> list[list[int]]:
    """Greedy tokens of one batch of prompts, the longest first, each up to `end` or `max_new_tokens`."""
    width = len(prompts[0])
    input_ids = torch.tensor([[end] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    settings = {cache_argument(network) or "past_key_values": DynamicCache(config=network.config)}
    (cache,) = settings.values()
    answers: list[list[int]] = [[] for _ in prompts]
    active = torch.arange(len(prompts))
    for _ in range(max_new_tokens):
        output = network(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **settings,
        )
        chosen = output.logits[:, -1].argmax(dim=-1)
        for row, token in zip(active.tolist(), chosen.tolist(), strict=True):
            answers[row].append(token)
        going_on = (chosen != end).nonzero()[:, 0]
        if not len(going_on):
            break
        if len(going_on) < len(chosen):
            cache.batch_select_indices(going_on)
            active, chosen, mask, positions = (tensor[going_on] for tensor in (active, chosen, mask, positions))
        input_ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return answers


if __name__ == "__main__":
    main()
