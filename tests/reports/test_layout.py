"""Which charts a dashboard has, and which numbers sum a run up."""

from __future__ import annotations

from soul_lightning.reports.layout import TRAINING, Chart, Headline, chart_layout, final_numbers

NAMES = [
    "train/forget_loss", "train/retain_loss", "train/loss", "curvature/win_rate",
    "membership/loss_auc", "membership/loss_auc_low", "membership/loss_auc_high", "membership/min_k_auc",
    "utility/model_utility", "utility/model_utility_relative", "utility/before/model_utility",
]  # fmt: skip
AREAS = ("membership", Chart("Privacy", "AUC of {}", "*_auc"))
UTILITY = ("utility", Chart("Utility", "model utility", "model_utility"))


def test_only_what_is_logged_has_a_chart_and_sections_stand_in_their_order() -> None:
    missing = ("restoration", Chart("Restoration", "restoration", "restoration"))
    layout = chart_layout([UTILITY, AREAS, missing, *TRAINING], NAMES)
    assert list(layout) == ["Forget against retain", "Privacy", "Utility", "Curvature"]
    assert layout["Forget against retain"] == {
        "forget loss": ("Multiline", ["^train/forget_loss$"]),
        "retain loss": ("Multiline", ["^train/retain_loss$"]),
    }
    assert [lines for _, lines in layout["Curvature"].values()] == [["^curvature/win_rate$"]]
    assert layout["Utility"] == {"model utility": ("Multiline", ["^utility/model_utility$"])}


def test_a_number_with_both_ends_is_drawn_with_its_interval() -> None:
    layout = chart_layout([AREAS], NAMES)
    assert layout["Privacy"] == {
        "AUC of loss": ("Margin", ["membership/loss_auc", "membership/loss_auc_low", "membership/loss_auc_high"]),
        "AUC of min k": ("Multiline", ["^membership/min_k_auc$"]),
    }
    assert chart_layout([AREAS], NAMES[4:6])["Privacy"] == {"AUC of loss": ("Multiline", ["^membership/loss_auc$"])}


def test_two_of_a_kind_have_titles_of_their_own() -> None:
    twin = ("more", Chart("Utility", "model utility", "model_utility"))
    assert list(chart_layout([UTILITY, twin], [*NAMES, "more/model_utility"])["Utility"]) == [
        "model utility", "more: model utility",
    ]  # fmt: skip


def test_a_name_is_taken_word_for_word() -> None:
    chart = ("a+b", Chart("Utility", "probability, {}", "*_probability"))
    (lines,) = chart_layout([chart], ["a+b/x.y_probability", "aab/x_probability", "a+b/c/x_probability"])[
        "Utility"
    ].values()
    assert lines == ("Multiline", [r"^a\+b/x\.y_probability$"])


def test_the_last_numbers_have_flat_names() -> None:
    headlines = [
        ("membership", Headline("*_auc", "membership AUC")),
        ("utility", Headline("model_utility")),
        ("more", Headline("model_utility")),
        ("utility", Headline("*_rouge_l")),
        ("utility", Headline("nothing")),
    ]
    metrics = {
        "membership/loss_auc": None, "membership/zlib_auc": 0.6, "utility/model_utility": 0.9,
        "more/model_utility": 0.8, "utility/retain_rouge_l": 1.0,
    }  # fmt: skip
    assert final_numbers(headlines, metrics) == {
        "membership AUC": 0.6, "model utility": 0.9, "more model utility": 0.8, "retain rouge l": 1.0,
    }  # fmt: skip
