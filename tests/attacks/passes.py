"""The passes of an attack, counted in one run, and the nth of them where something happens in another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

from soul_lightning.callbacks.attack import AttackCallback
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel


class Passes:
    """Counts the forward passes of all layers inside of attacks, whatever network they ask.

    Args:
        number: At which of them something happens, from 1; at none by 0.
        happens: What.
    """

    def __init__(self, number: int = 0, happens: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self._number = number
        self._happens = happens
        self._is_inside = False

    @contextmanager
    def counted(self, after: Callable[[int], object] = lambda count: None) -> Iterator[None]:
        """Inside, attacks are counted.

        Args:
            after: Called with the count behind each attack.
        """
        patched: Any = AttackCallback
        original = AttackCallback.score

        def score(callback: AttackCallback, model: ScoredModel) -> list[MeasuredRow]:
            self._is_inside = True
            try:
                return original(callback, model)
            finally:
                self._is_inside = False
                after(self.count)

        hook = register_module_forward_pre_hook(self._pass)
        patched.score = score
        try:
            yield
        finally:
            patched.score = original
            hook.remove()

    def _pass(self, *_: Any) -> None:
        if self._is_inside:
            self.count += 1
            if self.count == self._number:
                self._happens()
