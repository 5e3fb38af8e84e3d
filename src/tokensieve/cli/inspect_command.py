"""``tokensieve inspect``: training data before training, in tables, as JSON and as a page."""

import json
from typing import TYPE_CHECKING, Annotated

from tokensieve.cli.console import FLAT, OptionalOut, Work, hush_datasets, hush_transformers, out
from tokensieve.config import DataSettings, InspectSettings, ModelSettings

if TYPE_CHECKING:
    from tokensieve.inspection import Inspection, MaskAudit
    from tokensieve.inspection.results import MaskCheck


def inspect(
    data: str,
    /,
    *,
    model: Annotated[ModelSettings | None, FLAT] = None,
    read: Annotated[DataSettings, FLAT] = DataSettings(),
    settings: Annotated[InspectSettings, FLAT] = InspectSettings(),
    out_: OptionalOut = None,
) -> int:
    """Look at training data before training: what is left out of the loss, or whether a loss mask is right.

    Rows that have token ids and labels already are audited against the model's chat template; the exit code is 1 where
    something is wrong. Everything else is profiled; what is not scored yet is scored first, and needs --model.

    Args:
        data: A folder of score, select or export; rows with labels (Parquet, JSONL, a saved data set); or as for score.
        out_: Folder for inspect.json, and of a profile the page inspect.html.
    """
    from tokensieve.inspection import MaskAudit, inspect_data
    from tokensieve.report import write_inspection

    hush_transformers()
    hush_datasets()
    with Work("score") as work:
        found = inspect_data(data, model, settings, read, progress=work.advanced)
    if isinstance(found, MaskAudit):
        _print_audit(found)
    else:
        _print_profile(found)
    if out_ is not None:
        out.print(f"wrote {', '.join(str(path) for path in write_inspection(found, out_))}")
    return 1 if isinstance(found, MaskAudit) and not found.ok else 0


def _print_audit(found: "MaskAudit") -> None:
    """One line a check, faults with the ids of rows; then the verdict."""
    out.print(
        f"{found.rows:,} rows, {found.tokens:,} tokens, {found.responses:,} responses, {found.trained_tokens:,} tokens "
        f"trained; labels are {found.labels}"
    )
    if found.unread:
        out.print(f"columns not read: {', '.join(found.unread)}")
    for check in found.checks:
        out.print(f"{check.verdict:>11}  {check.name}: {_finding(check)}")
        if check.verdict in ("fault", "note") and check.rows:
            out.print(f"{'':>11}  such as {', '.join(check.rows)}")
    faults = sum(check.verdict == "fault" for check in found.checks)
    out.print("the loss mask is sound" if not faults else f"{faults} fault{'s' if faults > 1 else ''} in the loss mask")


def _finding(check: "MaskCheck") -> str:
    if check.verdict in ("pass", "not checked") or check.name == "shift":
        return check.words
    return f"{check.found:,} of {check.of:,} ({check.found / check.of:.1%}) {check.words}"


def _print_profile(found: "Inspection") -> None:
    from tokensieve.cli.tables import print_table, table_of

    profile = found.profile
    out.print(f"{found.source}: policy {found.policy}")
    if found.dropped:
        out.print(f"dropped: {', '.join(f'{reason}: {number:,}' for reason, number in found.dropped.items())}")
    table = table_of("source", "rows", "tokens", "left out", "of the nll", "sentence ppl", "nats/token")
    for source in found.sources:
        one = source.profile
        left_out = None if one.trained_pooled is None else 1 - one.trained_pooled
        numbers = f"{one.rows:,}", f"{one.response_tokens:,}", _share(left_out), _share(one.nll_left_out)
        table.add_row(source.source, *numbers, _number(one.sentence_perplexity), _number(one.nll_per_token, 3))
    print_table(table)
    table = table_of("perplexity above", "tokens", "mean a row", "of the nll")
    for above in profile.shares:
        cells = (_share(above.tokens_pooled), _share(above.tokens_mean), _share(above.nll_pooled))
        table.add_row(f"{above.threshold:g}", *cells)
    print_table(table)
    table = table_of("class", "tokens", "left out", "of the class", "nats left out")
    for kind in found.classes:
        shares = f"{kind.tokens:,}", f"{kind.left_out:,}", f"{kind.left_out / kind.tokens:.1%}"
        table.add_row(kind.token_class.replace("_", " "), *shares, f"{kind.nll_left_out:,.1f}")
    print_table(table)
    _print_lists(found)
    for piece in found.advice:
        out.print(f"advice: {piece.text}")
        out.print(f"  since {piece.reason}; docs/log.md, {piece.entry}")


def _print_lists(found: "Inspection") -> None:
    """The tokens and rows that lose most, and the tokens that are near the threshold or protected."""
    from tokensieve.cli.tables import print_table, table_of

    if found.most_masked:
        table = table_of("most masked token", "left out", "of", "mean nll (nats)")
        for token in found.most_masked:
            text = json.dumps(token.text, ensure_ascii=False)
            table.add_row(text, f"{token.left_out:,}", f"{token.tokens:,}", f"{token.mean_nll:.2f}")
        print_table(table)
    if found.most_affected:
        table = table_of("most affected row", "left out", "of", "nats left out", "of its nll")
        for row in found.most_affected:
            numbers = f"{row.left_out:,}", f"{row.response_tokens:,}", f"{row.nll_left_out:.1f}"
            table.add_row(row.id, *numbers, f"{row.nll_share:.1%}")
        print_table(table)
    if found.near:
        near = ", ".join(f"{one.tokens:,} within {one.within_nats:g} nats" for one in found.near)
        out.print(f"near the threshold: {near}")
    protected = found.protected
    out.print(
        f"protected: {protected.tokens:,} structural tokens, which hold {_share(protected.share_of_kept_nll)} of the"
        " kept nll"
    )
    if own := found.own_answers:
        out.print(
            f"sentence perplexity, median of {own.rows:,} rows: {_number(own.data_median)} in the data, "
            f"{_number(own.own_median)} in the model's own answers ({own.data_only:,} rows without an answer, "
            f"{own.own_only:,} answers without a row)"
        )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
