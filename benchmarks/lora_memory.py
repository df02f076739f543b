"""Peak memory of NPO with LoRA beside that of all weights, measured and estimated.

Every variant is a process of its own that takes two optimizer steps on TOFU's forget01 and retain99. What is measured
is the peak of its resident memory over what it held with everything imported and the data encoded, before the model was
loaded: weights, gradients, optimizer states, reference and activations. The estimate is the one that `fit` prints.

glibc keeps much of what is freed. MALLOC_MMAP_THRESHOLD_=65536 makes it give memory back, at the price of time: then
the peak is what was needed, without it what the process came to hold.

OMP_NUM_THREADS=1 python -m benchmarks.lora_memory --network FOLDER [--data TOFU]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peak import in_own_process, peak_mib, resident_mib

LORA: dict[str, Any] = {"lora": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "all weights, checkpointing": {"gradient_checkpointing": True},
    "all weights, KL divergence on retain": {"retain": "KLDivergence"},
    "all weights, Sophia": {"optimizer": "Sophia"},
    "LoRA": LORA,
    "LoRA, checkpointing": {**LORA, "gradient_checkpointing": True},
    "LoRA, bfloat16 weights": {**LORA, "dtype": "bfloat16"},
    "LoRA, nf4 weights": {**LORA, "quantization": "nf4"},
}
"""What each has beyond NPO with cross entropy on retain, AdamW and float32."""


def main() -> None:
    """Print a line a variant, with its ratio to training all weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, help="folder or name of a causal language model")
    parser.add_argument("--data", help="folder with the published files of TOFU; default: $SOUL_DATA/tofu")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--batch-size", type=int, default=4, help="rows of each stream a step")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data is None and "SOUL_DATA" not in os.environ:
        parser.error("give --data, or name the folder of the data in $SOUL_DATA")
    data = arguments.data or str(Path(os.environ["SOUL_DATA"], "tofu"))
    if arguments.child:
        print(*_measured(arguments.network, data, arguments.batch_size, **VARIANTS[arguments.child]))
        return
    # The library is imported in the measured processes alone: what they are compared with is theirs.
    peaks: dict[str, float] = {}
    for variant in arguments.variants:
        shared = ("--network", arguments.network, "--data", data, "--batch-size", str(arguments.batch_size))
        peaks[variant], estimate = in_own_process("benchmarks.lora_memory", variant, *shared)
        first = next(iter(peaks.values()))
        print(
            f"{variant}: {peaks[variant]:,.0f} MiB at most, estimated {estimate:,.0f} · "
            f"{peaks[variant] / first:.2f} of {arguments.variants[0]}",
            flush=True,
        )


def _measured(
    network: str,
    data: str,
    batch_size: int,
    *,
    lora: bool = False,
    retain: str = "CrossEntropy",
    optimizer: str = "AdamW",
    **settings: Any,
) -> tuple[float, float]:
    """The peak over what was there before the model, and the estimate, in MiB."""
    from functools import partial

    import torch
    from lightning.pytorch import Trainer, seed_everything
    from peft import PeftModel

    from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule, objectives
    from soul_lightning.callbacks.memory_estimate import MemoryEstimator
    from soul_lightning.datamodules import TOFUDataModule
    from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork, load_tokenizer

    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    assert PeftModel.from_pretrained  # it is imported lazily, and brings bitsandbytes along
    second_order = optimizer == "Sophia"
    module = UnlearningModule(
        PretrainedNetwork(network, lora=LoraSettings() if lora else None, **settings),
        objectives.NPO(),
        getattr(objectives, retain)(),
        optimizer=partial(Sophia, lr=1e-5) if second_order else partial(torch.optim.AdamW, lr=1e-5, fused=True),
        curvature=GaussNewtonBartlett(1) if second_order else None,
    )
    loaded = TOFUDataModule("forget01", folder=data, batch_size=batch_size, tokenizer=load_tokenizer(network))
    loaded.setup()
    estimator = MemoryEstimator()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_steps=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[estimator],
        )
        before = resident_mib()
        trainer.fit(module, datamodule=loaded)
    assert estimator.estimate is not None
    return peak_mib() - before, estimator.estimate.total / 2**20


if __name__ == "__main__":
    main()
