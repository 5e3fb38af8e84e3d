"""Drift against forgetting, with honesty about few runs; weight updates as means over seeds, kinds by norm."""

import re

import pytest
from tests.synthetic_report import synthetic_report

from tokensieve.analysis.results import ModuleUpdate, WeightUpdate
from tokensieve.metrics import Estimate
from tokensieve.report import ArmReport, Report, SeedRun, TargetReport
from tokensieve.report.drift_section import correlation, drift_points, drift_section, update_section
from tokensieve.report.page import render
from tokensieve.report.plots import ArmStyle, DriftPoint, drift_scatter, spectra
from tokensieve.report.results_schema import ArmFrontier, DriftSet, FrontierPoint


def with_runs(report: Report, **update: object) -> Report:
    """The report with the same values in every run."""
    targets = []
    for target in report.targets:
        arms = [
            arm.model_copy(update={"runs": tuple(run.model_copy(update=update) for run in arm.runs)})
            for arm in target.arms
        ]
        targets.append(target.model_copy(update={"arms": tuple(arms)}))
    return report.model_copy(update={"targets": tuple(targets)})


def test_every_run_is_a_mark_and_the_correlation_has_an_interval() -> None:
    report = synthetic_report(seeds=(0, 1))
    section = drift_section(report)
    assert section is not None
    assert len(drift_points(report)) == 2 * 5 * 2
    for picture in (section.picture.wide, section.picture.narrow):
        assert len(re.findall(r'class="dot', picture)) == 20
    assert "over 20 runs of 10 arms" in section.sentences[0].lower()
    assert "forgot more" in section.sentences[0]
    found = correlation(drift_points(report))
    assert found.value is not None
    assert found.value < -0.8
    assert found.interval is not None


def test_rates_that_were_not_chosen_are_points_too() -> None:
    report = synthetic_report()
    target = report.targets[0]
    points = tuple(
        FrontierPoint(
            learning_rate=rate,
            target_accuracy=Estimate(value=0.5),
            backward_transfer=Estimate(value=-rate * 1e4),
            drift=rate * 100,
            chosen=rate == 2e-4,
        )
        for rate in (1e-4, 2e-4, 4e-4)
    )
    swept = target.model_copy(update={"frontier": (ArmFrontier(arm="plain", points=points),)})
    found = drift_points(report.model_copy(update={"targets": (swept,)}))
    assert [point.run for point in found if point.arm == "plain"] == ["seed 0", "rate 1e-4", "rate 4e-4"]
    assert len(found) == 7


def test_one_targets_few_arms_have_no_interval_and_that_is_said() -> None:
    sections = drift_section(synthetic_report(seeds=(0, 1)))
    assert sections is not None
    assert len(sections.sentences) == 3
    assert all("without an interval: 5 arms are fewer than 6" in one for one in sections.sentences[1:])


def test_few_runs_are_said_to_be_too_few() -> None:
    report = synthetic_report()
    one = report.model_copy(update={"targets": report.targets[:1]})
    section = drift_section(one)
    assert section is not None
    assert section.sentences == (
        "5 runs with both numbers: too few to say whether drift tells what is forgotten (6 at least).",
    )
    assert section.hollow == ""


def test_a_study_without_drift_has_no_such_section() -> None:
    report = with_runs(synthetic_report(), drift=None)
    assert drift_section(report) is None
    assert 'id="drift"' not in render(report)
    assert 'id="drift"' in render(synthetic_report())


def test_a_constant_measure_is_said_to_be_one() -> None:
    section = drift_section(with_runs(synthetic_report(), backward_transfer=-3.0))
    assert section is not None
    assert "the same everywhere" in section.sentences[0]


@pytest.mark.parametrize(("drifts", "ticks"), [((0.001, 0.5), ["0.001", "0.01", "0.1"]), ((0.1, 0.4), ["0", "0.1"])])
def test_the_axis_is_logarithmic_where_drift_spans_decades(drifts: tuple[float, float], ticks: list[str]) -> None:
    points = [DriftPoint("t", "a", "seed 0", drift, -5.0, ArmStyle("arm-0", "circle")) for drift in drifts]
    picture = str(drift_scatter(points, 600))
    assert [f">{tick}<" in picture for tick in ticks] == [True] * len(ticks)


def test_each_set_of_rows_has_its_drift_change_of_nll_and_perplexity() -> None:
    kl = Estimate.of(0.25, 0.125, 0.5)
    sets = tuple(
        DriftSet(name=name, kl=kl, nll_change=Estimate.of(-0.5), base_perplexity=2.0, tuned_perplexity=1.25)
        for name in ("dialogues", "answers")
    )
    report = with_runs(synthetic_report(seeds=(0, 1)), drift_sets=sets)
    section = drift_section(report)
    assert section is not None
    assert len(section.rows) == 2 * 5 * 2
    row = section.rows[0]
    assert (row.name, row.kl, row.spread, row.perplexity) == ("dialogues", "0.2500", "0.2500 to 0.2500", "2.00 → 1.25")
    page = render(report)
    assert page.count("0.2500 to 0.2500") == 20
    one = drift_section(with_runs(synthetic_report(seeds=(0,)), drift_sets=sets))
    assert one is not None
    assert one.rows[0].spread == "0.1250 to 0.5000"


def arm(name: str, *norms: float) -> ArmReport:
    updates = [
        WeightUpdate(
            norm=norm,
            modules=(
                ModuleUpdate(kind="norm", modules=2, norm=norm / 2),
                ModuleUpdate(kind="q_proj", modules=3, norm=norm, effective_rank=norm, spectrum=(norm, norm / 2)),
            ),
        )
        for norm in norms
    ]
    runs = tuple(SeedRun(seed=seed, update=update) for seed, update in enumerate(updates))
    return ArmReport(name=name, policy="plain", rows_in=1, rows_out=1, runs=runs)


def test_means_are_over_seeds_and_kinds_go_by_norm() -> None:
    report = synthetic_report()
    target = TargetReport(task="t", others=(), base=(), arms=(arm("plain", 1.0, 3.0), arm("none")))
    (view,) = update_section(report.model_copy(update={"targets": (target,)}))
    (row,) = view.rows
    assert (row.arm.name, row.norm, row.relative_norm, row.rank) == ("plain", 2.0, None, 2.0)
    assert row.kinds == (("q_proj", 2.0, 2.0), ("norm", 1.0, None))
    assert view.picture is not None
    assert "none" not in view.picture.wide


def test_a_study_that_measures_no_update_has_no_such_section() -> None:
    report = synthetic_report()
    assert 'id="update"' in render(report)
    targets = tuple(
        target.model_copy(
            update={"arms": tuple(one.model_copy(update={"runs": (SeedRun(seed=0),)}) for one in target.arms)}
        )
        for target in report.targets
    )
    bare: Report = report.model_copy(update={"targets": targets})
    assert update_section(bare) == ()
    assert 'id="update"' not in render(bare)


def test_spectra_need_two_values_above_zero() -> None:
    styles = {"a": ArmStyle("arm-0", "circle")}
    assert spectra({"a": [1.0, 0.0]}, styles, 400) is None
    assert spectra({}, {}, 400) is None
    assert "curve arm-0" in str(spectra({"a": [1.0, 0.1, 1e-12]}, styles, 400))


def test_self_bleu_stands_below_the_training_sets() -> None:
    assert "Self-BLEU of the responses" in render(synthetic_report())
