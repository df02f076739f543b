"""Reports of jsonargparse become one sentence that says where and what."""

from __future__ import annotations

from argparse import ArgumentError

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException

from soul_lightning.cli.mistakes import as_sentences, sentence
from soul_lightning.exceptions import MisconfigurationError

NESTED = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'soul_lightning.modules.base.StreamModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'soul_lightning.UnlearningModule':
        Parser key "forget":
          Does not validate against any of the Union subtypes
          Errors:
            - {reason}
            - Expected a <class 'NoneType'>
          Given value type: <class 'str'>
    - Expected a <class 'NoneType'>
  Given value: NestedArg(key='forget', val='x')"""


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Option 'bta' is not accepted", "model.forget: option 'bta' is not accepted"),
        ("Expected a <class 'float'>. Got value: x", "model.forget: expected float, got x"),
        ("Expected a typing.Literal['a', 'b']. Got value: c", "model.forget: expected one of 'a', 'b', got c"),
        (
            "Expected a dot import path string: NPPO",
            "model.forget: there is no class 'NPPO' (did you mean NPO or SimNPO?); give a short name or an import path",
        ),
        (
            "Expected a dot import path string: my.Loss",
            "model.forget: there is no class 'my.Loss'; give a short name or an import path",
        ),
    ],
)
def test_the_innermost_reason_is_said(reason: str, said: str) -> None:
    assert sentence(NESTED.format(reason=reason)) == said


def test_what_has_no_tree_stays_as_it_is() -> None:
    assert sentence("Problems parsing config: line 1\n  column 2") == "Problems parsing config: line 1 column 2"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            "unrecognized arguments: --modle.forget=NPO",
            "there is no option --modle.forget (did you mean --model?); see the command with --help",
        ),
        (
            "unrecognized arguments: quickstart --json",
            "'quickstart' stands where an option is expected (did you mean --config quickstart?); see the command with "
            "--help",
        ),
        ("unrecognized arguments: other", "'other' stands where an option is expected; see the command with --help"),
        ("argument --trainer.max_steps: expected one argument", "--trainer.max_steps needs a value"),
        ("Option 'modle.init_args' is not accepted", "there is no key 'modle' (did you mean model?)"),
        (
            "Group 'trainer' does not accept option 'max_epoch'",
            "trainer: option 'max_epoch' is not accepted (did you mean max_epochs or min_epochs or max_steps?)",
        ),
        (
            "Problem with given class_path 'soul_lightning.objectives.NPO': Option 'betta' is not accepted",
            "option 'betta' is not accepted (did you mean beta?)",
        ),
        (
            "Problem with given class_path 'soul_lightning.callbacks.Utility': Option 'every_n_epoch' is not accepted",
            "option 'every_n_epoch' is not accepted (did you mean every_n_epochs or every_n_steps?)",
        ),
    ],
)
def test_a_misspelt_name_is_told_with_what_it_looks_like(report: str, said: str) -> None:
    assert sentence(report) == said


def test_a_number_that_could_be_an_object_is_told_as_a_number() -> None:
    report = NESTED.format(reason="Expected a <class 'float'>\n            - Expected a dot import path string: much")
    assert sentence(report) == "model.forget: expected float"


def test_wrapped_sentences_come_out_and_bugs_stay() -> None:
    with pytest.raises(MisconfigurationError, match=r"^beta must be above 0$"), as_sentences():
        try:
            raise MisconfigurationError("beta must be above 0")
        except MisconfigurationError as error:
            raise ValueError("Does not validate") from error
    with pytest.raises(MisconfigurationError, match=r"^The strategy is unknown$"), as_sentences():
        raise MisconfigurationException("The strategy\n is unknown!")
    with pytest.raises(MisconfigurationError, match=r"gpu backend found; set it to auto, or to cpu$"), as_sentences():
        raise MisconfigurationException("No supported gpu backend found!")
    with pytest.raises(MisconfigurationError, match=r"^requirement 'wandb' not met"), as_sentences():
        raise ValueError("Does not validate\n - Requirement 'wandb' not met. HINT: …\n - Expected a <class 'bool'>")
    with pytest.raises(MisconfigurationError, match="no key 'x'"), as_sentences():
        raise ArgumentError(None, "Option 'x' is not accepted")
    with pytest.raises(ValueError, match="a bug"), as_sentences():
        raise ValueError("a bug")
