"""Weight updates on the page: means over seeds, kinds by norm, and nothing where nothing was measured."""

from tests.synthetic_report import synthetic_report

from tokensieve.analysis.results import ModuleUpdate, WeightUpdate
from tokensieve.report import ArmReport, Report, SeedRun, TargetReport
from tokensieve.report.page import render
from tokensieve.report.plots import ArmStyle, spectra
from tokensieve.report.update_section import update_section


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
