"""Every metric class, on its case: however the rows come, the number is that of all of them."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
import torch
from torchmetrics import Metric

from soul_lightning import metrics
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from tests.metrics.cases import CASES
from tests.metrics.cases.case import Batch, Case, call, changed, in_precision, joined, measured, numbers, singly

# of `compute` on a metric that was filled from a checkpoint, or before `forward` had rows
pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def same(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def test_every_exported_class_has_a_case() -> None:
    exported = {getattr(metrics, name) for name in metrics.__all__}
    classes = {value for value in exported if isinstance(value, type) and issubclass(value, Metric)}
    assert classes - {RowMetric} == {type(case.make()) for case in CASES.values()}


def test_batches_and_their_order_change_nothing(case: Case) -> None:
    ways = (case.batches, case.batches[::-1], joined(case.batches), singly(case.batches), singly(case.batches)[::-1])
    for batches in ways:
        assert measured(case.make(), batches) == same(case.expected)
    assert len(joined(case.batches)) <= len(case.batches) <= len(singly(case.batches))


def test_the_function_gives_what_the_class_gives(case: Case) -> None:
    if case.functional is None:
        pytest.skip("the case names no function")
    assert numbers(case.functional(*joined(case.batches))) == same(case.expected)


def test_reset_forgets_every_row(case: Case) -> None:
    metric = case.make()
    for batch in (*case.batches[-1:], *case.batches[:1]):
        call(metric.update, batch)
    metric.reset()
    assert measured(metric, case.batches) == same(case.expected)


def test_asking_twice_and_in_between_changes_nothing(case: Case) -> None:
    metric = case.make()
    for batch in case.batches:
        call(metric.update, batch)
        value_or_error(metric)
    assert numbers(metric.compute()) == same(case.expected)
    assert numbers(metric.compute()) == same(case.expected)


def test_a_pickled_metric_goes_on(case: Case) -> None:
    metric = case.make()
    for place, batch in enumerate(case.batches):
        call(metric.update, batch)
        if place == 0:
            metric = pickle.loads(pickle.dumps(metric))
    assert numbers(metric.compute()) == same(case.expected)
    assert numbers(metric.clone().compute()) == same(case.expected)


def test_rows_travel_in_a_checkpoint_where_asked_to(case: Case) -> None:
    before, after = case.make(), case.make()
    call(before.update, case.batches[0])
    assert before.state_dict() == {}
    before.persistent(True)
    after.persistent(True)
    kept = io.BytesIO()
    torch.save(before.state_dict(), kept)
    kept.seek(0)
    after.load_state_dict(torch.load(kept, weights_only=True))
    assert measured(after, case.batches[1:]) == same(case.expected)


def test_forward_gives_the_number_of_its_batch_and_keeps_the_rows(case: Case) -> None:
    metric = case.make()
    for batch in case.batches:
        alone = case.make()
        call(alone.update, batch)
        expected = value_or_error(alone)
        if isinstance(expected, MisconfigurationError):  # some numbers need more than one batch has
            with pytest.raises(MisconfigurationError):
                call(case.make().forward, batch)
            call(metric.update, batch)
        else:
            assert numbers(call(metric, batch)) == same(expected)
    assert numbers(metric.compute()) == same(case.expected)
    whole = joined(case.batches)
    if len(whole) == 1:
        assert numbers(call(case.make(), whole[0])) == same(case.expected)


def value_or_error(metric: Metric) -> Any:
    try:
        return numbers(metric.compute())
    except MisconfigurationError as error:
        return error


def with_floats(batch: Batch) -> bool:
    found: list[bool] = []

    def look(value: Any) -> None:
        if isinstance(value, list):
            for entry in value:
                look(entry)
        found.append(isinstance(value, torch.Tensor) and value.is_floating_point())

    changed(changed(batch, lambda value: in_precision(value, torch.float64)), look)
    return any(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if any(map(with_floats, case.batches))))
def test_low_precision_is_read_as_the_numbers_it_holds(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    low = [changed(batch, lambda value: in_precision(value, dtype)) for batch in case.batches]
    exact = [changed(batch, lambda value: in_precision(value, torch.float64)) for batch in low]
    found, expected = (measured(case.make(), batches) for batches in (low, exact))
    assert found == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_no_gradient_is_kept(case: Case) -> None:
    def with_gradient(value: Any) -> Any:
        value = in_precision(value, torch.float64)
        if isinstance(value, list):
            return [with_gradient(entry) for entry in value]
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.clone().requires_grad_() if floating else value

    metric = case.make()
    assert measured(metric, [changed(batch, with_gradient) for batch in case.batches]) == same(case.expected)
    states = [state for column in metric.metric_state.values() for state in column]
    assert states and not any(state.requires_grad for state in states)
