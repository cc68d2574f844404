"""Claims about prompting: one sentence, one primary endpoint, one margin, all written before the run; then a verdict.

A claim is a YAML file in `studies/claims/`. Its endpoint is a contrast of a study, or an analysis (`analyses.py`). All
claims of a folder are one family: their p-values are adjusted by Holm's method, and whoever runs some of them pays for
all, since those that were never run count as p = 1. The verdicts are kept as effects of the study `claims`, so every
reader of the database finds them (view `verdict`).

    claim file --load_claims--> Claim --run_claims--> studies run, analyses made --verdict--> Settled

    expects    more, less: the difference d has this sign           same: d is within the margin          exactly: d = 0
    margin m   the smallest difference that would matter, in the measure's own unit
    low, high  the 95 % interval of d; p: adjusted over the set of claims (Holm)

The verdict on *more* and *less*, with the sign so turned that the claim expects d > 0:

    supported           low > 0, p < 0.05 and d >= m
    partly              low > 0, p < 0.05 and d < m: real, but smaller than would matter
    contradicted        else, high < m: a difference that would matter is excluded
    not testable here   else: the interval is too wide to tell, or nothing was measured

*Same* is supported where the whole interval is within the margin, whatever p. It is contradicted where 0 is outside the
interval and |d| >= m, partly supported where 0 is outside and |d| < m, and else not testable here.

Where all n units show the same d, resampling gives an interval of no width, which would let ever so few units speak
for all. Up to q = 1 - 0.025^(1/n) of units may then differ (`alike`); they may differ by as much as the measure can.

`write_figures` draws one SVG a claim for people who know nothing else: sentence, design, interval, margin, verdict.

Reference: The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial, Clopper and Pearson 1934.
"""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, StringConstraints, ValidationError, model_validator

from promptlab.claims.analyses import UnitValues, analysis_named
from promptlab.errors import PromptlabError, nearest
from promptlab.records import ContrastEffect, Measure
from promptlab.resources import claims_folder
from promptlab.results.words import VERDICT_COLOURS, tiers_in_words
from promptlab.stats.hypotheses import holm
from promptlab.study import strict_yaml
from promptlab.study.strict_yaml import Mistake, Record, study_error
from promptlab.study.study import Study, load_study

if TYPE_CHECKING:
    import altair as alt

    from promptlab.progress import Progress
    from promptlab.store import Store

__all__ = [
    "ALPHA",
    "STUDY",
    "VERDICTS",
    "Claim",
    "Expects",
    "Settled",
    "alike",
    "chart",
    "figure",
    "load_claims",
    "run_claims",
    "settle",
    "verdict",
    "write_figures",
]

STUDY = "claims"
"""The study under whose name the verdicts are kept."""
DIRECTED = ("more", "less")
"""Claims that a p-value decides."""

Line = Annotated[str, StringConstraints(pattern=r"\S", max_length=600)]


class Claim(Record):
    """One claim. Its endpoint is `contrast` of the file `study`, or an `analysis`, which may need scores of `study`."""

    id: Annotated[str, StringConstraints(pattern=r"^C[0-9]{1,2}[a-z]?$")]
    claim: Line
    source: Line
    study: Line | None = None
    contrast: Line | None = None
    analysis: Line | None = None
    expects: Expects
    margin: Annotated[float, Field(strict=True, ge=0)]
    unit: Annotated[str, StringConstraints(max_length=60)] = ""
    design: Line
    size: Line
    comparator: Line

    @model_validator(mode="after")
    def _one_endpoint(self) -> Claim:
        if (self.contrast is None) == (self.analysis is None):
            raise Mistake((), "a claim has one endpoint: a contrast, or an analysis")
        if self.contrast is not None and self.study is None:
            raise Mistake(("contrast",), "a contrast needs its study")
        if (self.expects == "exactly") != (self.margin == 0):
            raise Mistake(("margin",), "the margin is 0 where `expects: exactly`, else a positive number")
        return self


@dataclass(frozen=True)
class Settled:
    """A claim with what came out."""

    claim: Claim
    effect: ContrastEffect

    @property
    def tier(self) -> str:
        """Of what the effect speaks: T0, T1, T2."""
        return str(self.effect.detail.get("tier", ""))

    @property
    def verdict(self) -> str:
        """supported, partly, contradicted, not testable here."""
        return self.effect.verdict or "not testable here"


def _natural(claim: Claim) -> tuple[int, str]:
    number = re.match(r"C(\d+)(.*)", claim.id)
    return (int(number[1]), number[2]) if number else (0, claim.id)


def load_claims(folder: Path | None = None, only: Sequence[str] = ()) -> tuple[Claim, ...]:
    """The claims of a folder in the order of their ids; `only` these. Raises StudyError, PromptlabError."""
    found: dict[str, Claim] = {}
    for path in sorted((folder or claims_folder()).glob("c*.yaml")):
        document = strict_yaml.read(path)
        if not isinstance(document.data, dict) or "claim" not in document.data:
            continue  # a study that a claim needs
        try:
            claim = Claim.model_validate(document.data)
        except ValidationError as error:
            raise study_error(document, error) from None
        if claim.id in found:
            raise document.error(("id",), f"claim {claim.id} stands twice")
        if claim.study is not None:
            claim = claim.model_copy(update={"study": str((path.parent / claim.study).resolve())})
        found[claim.id] = claim
    for name in only:
        if name not in found:
            raise PromptlabError(f"no claim {name!r}: there are {', '.join(found)}{nearest(name, found)}")
    return tuple(sorted((c for c in found.values() if not only or c.id in only), key=_natural))


def run_claims(
    store: Store,
    claims: Sequence[Claim],
    progress: Progress | None = None,
    *,
    family: Sequence[Claim] = (),
    batch_size: int | None = None,
) -> tuple[Settled, ...]:
    """Run what the claims need, as far as it is not there, and settle them. What was made stays; run again to go on.

    `family`: all claims of the set, where `claims` are some of it. Those that were settled before stay, with their p.
    """
    from promptlab.progress import Silent
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.run.plan import tier_of

    reporter = progress or Silent()
    before = {effect.contrast: effect for effect in store.effects(STUDY)}
    effects: dict[tuple[str, str], ContrastEffect] = {}
    studies: dict[str, Study] = {c.study: load_study(c.study) for c in claims if c.study is not None}
    for path, study in studies.items():
        reporter.say(f"study {study.name}: {study.question}")
        summary = run_study(study, store, RunOptions(passports_n=0, batch_size=batch_size), reporter)
        tier = ", ".join(sorted({tier_of(cell) for cell in summary.plan.cells}))
        for effect in summary.effects:
            known = {"tier": tier, "span": _span(summary.measures.get(effect.measure))}
            effects[path, effect.contrast] = replace(effect, detail={**effect.detail, **known})
    found: list[ContrastEffect] = []
    for claim in claims:
        if claim.contrast is not None and claim.study is not None:
            if (claim.study, claim.contrast) not in effects:
                names = [c.name for c in studies[claim.study].contrasts]
                raise PromptlabError(f"{claim.id}: no contrast {claim.contrast!r}{nearest(claim.contrast, names)}")
            found.append(effects[claim.study, claim.contrast])
        else:
            found.append(_analysed(claim, store, before.get(claim.id), reporter))
    others = [claim for claim in family if claim.id not in {c.id for c in claims}]
    kept = [(claim, before[claim.id]) for claim in others if _same_endpoint(claim, before.get(claim.id))]
    unknown = sum(claim.expects in DIRECTED for claim in others) - sum(c.expects in DIRECTED for c, _ in kept)
    settled = settle([*claims, *(c for c, _ in kept)], [*found, *(e for _, e in kept)], unknown=unknown)
    with store.open_run(STUDY, text=json.dumps([_written(one.claim) for one in settled])) as run:
        run.add(*(one.effect for one in settled))
    store.publish()
    return settled[: len(claims)]


def _span(measure: Measure | None) -> float | None:
    """The largest difference that a measure can show; None where it has no bounds."""
    if measure is None or measure.lower is None or measure.upper is None:
        return None
    return measure.upper - measure.lower


def _same_endpoint(claim: Claim, effect: ContrastEffect | None) -> bool:
    """Whether a verdict that is kept answers what the file asks now."""
    if effect is None:
        return False
    written = _written(claim)
    return all(effect.detail.get(name) == written[name] for name in ("study", "contrast", "analysis"))


def _analysed(claim: Claim, store: Store, before: ContrastEffect | None, reporter: Progress) -> ContrastEffect:
    """What the claim's analysis finds, or found when all that it rests on was the same."""
    name = claim.analysis or ""
    analysis = analysis_named(name)
    key = analysis.rests_on() if analysis.rests_on else None
    if key and before is not None and before.detail.get("rests_on") == key and _same_endpoint(claim, before):
        reporter.say(f"analysis {name}: unchanged, kept")
        return before
    reporter.say(f"analysis {name}")
    effect = _measured(analysis.measure(store))
    return replace(effect, detail={**effect.detail, "rests_on": key}) if key else effect


def _written(claim: Claim) -> dict[str, Any]:
    """The claim as its file says; of its study the file's name, since a path speaks of one machine."""
    return claim.model_dump(mode="json") | ({"study": Path(claim.study).name} if claim.study else {})


def _measured(finding: UnitValues) -> ContrastEffect:
    """The mean over units with a bootstrap interval and a sign-flip p, as of a contrast over prompts."""
    from promptlab.stats.paired import paired_effect

    values = list(finding.values.values())
    detail = {**finding.detail, "unit_of_inference": finding.unit, "tier": finding.tier}
    blank = ContrastEffect(STUDY, "", "analysis", None, finding.measure, reason=finding.reason, detail=detail)
    if not values:
        return blank
    rng = np.random.default_rng(0)
    effect = paired_effect(values, [0.0] * len(values), list(finding.values), rng=rng)
    return replace(blank, **{**asdict(effect), "mean_a": None, "mean_b": None})


def settle(claims: Sequence[Claim], found: Sequence[ContrastEffect], *, unknown: int = 0) -> tuple[Settled, ...]:
    """Verdicts on claims from their effects, Holm over those that a p-value decides.

    `unknown`: so many more claims of the set have no p yet, and count as 1.
    """
    tested = [i for i, claim in enumerate(claims) if claim.expects in DIRECTED and found[i].p is not None]
    adjusted: dict[int, float] = {}
    if tested:
        p = holm([*(1.0 if (p := found[i].p) is None else p for i in tested), *[1.0] * unknown])
        adjusted = dict(zip(tested, map(float, p), strict=False))
    out = []
    for i, (claim, effect) in enumerate(zip(claims, map(_with_width, claims, found), strict=True)):
        outcome = verdict(claim.expects, claim.margin, effect.estimate, effect.low, effect.high, adjusted.get(i))
        written = {name: value for name, value in _written(claim).items() if name != "id"}
        kept = replace(effect, study=STUDY, contrast=claim.id, p_adjusted=adjusted.get(i), verdict=outcome)
        out.append(Settled(claim, replace(kept, detail={**effect.detail, **written})))
    return tuple(out)


def _with_width(claim: Claim, effect: ContrastEffect) -> ContrastEffect:
    """The effect; where all units were alike, with the interval that so many of them allow, or none."""
    if claim.expects == "exactly" or effect.estimate is None or effect.low is None or effect.low != effect.high:
        return effect
    span = effect.detail.get("span")
    if span is None:
        reason = f"all {effect.n_groups} units show the same difference, of a measure without bounds: no interval"
        return replace(effect, low=None, high=None, reason=reason)
    low, high = alike(effect.estimate, effect.n_groups, span)
    reason = f"all {effect.n_groups} units show the same difference: the interval is what so many units allow"
    return replace(effect, low=low, high=high, reason=reason)


Expects = Literal["more", "less", "same", "exactly"]
VERDICTS = ("supported", "partly", "contradicted", "not testable here")
ALPHA = 0.05


def alike(difference: float, n: int, span: float) -> tuple[float, float]:
    """95 % interval of a mean difference that all `n` units show alike, of a measure that differs by at most `span`.

    Of the units that were not looked at a share q may differ, by anything from -span to span. Raises ValueError for
    n < 1, a span that is not positive, and a difference beyond it.
    """
    if n < 1 or not span > 0 or abs(difference) > span * (1 + 1e-9):
        raise ValueError(
            f"{n} units, difference {difference}, span {span}: n >= 1 and |difference| <= span are allowed"
        )
    q = 1 - (ALPHA / 2) ** (1 / n)
    return difference - q * (span + difference), difference + q * (span - difference)


def verdict(
    expects: Expects,
    margin: float,
    estimate: float | None,
    low: float | None,
    high: float | None,
    p: float | None,
) -> str:
    """One of VERDICTS, by the rule above. Raises ValueError for a margin that is not positive (0 for *exactly*)."""
    if margin < 0 or (margin == 0) != (expects == "exactly"):
        raise ValueError(f"margin {margin} for expects={expects!r}: a positive number, or 0 for exactly")
    if estimate is None:
        return "not testable here"
    if expects == "exactly":
        return "supported" if estimate == 0 else "contradicted"
    if low is None or high is None:
        return "not testable here"
    if expects == "same":
        if -margin < low and high < margin:
            return "supported"
        if low > 0 or high < 0:
            return "contradicted" if abs(estimate) >= margin else "partly"
        return "not testable here"
    if expects == "less":
        estimate, low, high = -estimate, -high, -low
    if low > 0 and p is not None and p < ALPHA:
        return "supported" if estimate >= margin else "partly"
    return "contradicted" if high < margin else "not testable here"


WIDTH, HEIGHT = 780, 116
"""Of the axis, in pixels."""
EXPECTED = "#0072B2"


def write_figures(settled: Sequence[Settled], folder: Path) -> list[Path]:
    """`folder`/<id>.svg for each claim. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in settled:
        path = folder / f"{one.claim.id}.svg"
        path.write_text(figure(one), encoding="utf-8")
        paths.append(path)
    return paths


def figure(one: Settled) -> str:
    """The figure of a claim as SVG text, with one title for all of it in place of a label for each mark."""
    text = io.StringIO()
    chart(one).save(text, format="svg")
    head, body = text.getvalue().split(">", 1)
    title = escape(f"{one.claim.id}: {one.claim.claim}. Verdict: {one.verdict}")
    return f'{head} role="img"><title>{title}</title>{body}\n'


def chart(one: Settled) -> alt.VConcatChart:
    """The figure of a claim: sentence and design, verdict, difference on its axis, where else it was measured."""
    import altair as alt

    claim, effect = one.claim, one.effect
    sentence = textwrap.wrap(f"{claim.id}. \u201c{claim.claim}\u201d", 62)
    title = alt.Title(sentence, subtitle=textwrap.wrap(claim.design, 110), anchor="start", offset=14)
    rows: list[alt.Chart | alt.LayerChart] = [_verdict(one.verdict)]
    foot = textwrap.wrap(f"Elsewhere: {claim.comparator}", 120)
    if effect.estimate is None or effect.low is None or effect.high is None:
        reason = effect.reason or "nothing was measured"
        if effect.estimate is not None:
            reason = f"found {effect.estimate + 0:g} away from what is claimed (exact, no interval)"
        rows.append(_lines(textwrap.wrap(reason, 90), 16, "#111"))
    else:
        rows.append(_axis(one, effect.estimate, effect.low, effect.high))
        if effect.n_groups:
            n = f"{effect.n_groups} {effect.detail.get('unit_of_inference', 'prompt')}s, {effect.n_pairs} pairs"
            foot = [*textwrap.wrap(f"{n}; 95 % interval; tier {tiers_in_words(one.tier)}.", 120), *foot]
    rows.append(_lines(foot, 12, "#444"))
    whole = alt.vconcat(*rows, spacing=14, title=title, background="white", padding=24)
    return whole.configure_view(stroke=None).configure_title(fontSize=22, subtitleFontSize=14, subtitleColor="#444")


def _lines(lines: Sequence[str], size: int, colour: str) -> alt.Chart:
    import altair as alt

    words = alt.Chart(alt.Data(values=[{}])).mark_text(
        align="left", baseline="top", fontSize=size, color=colour, text=list(lines), lineHeight=size + 5
    )
    return words.encode(x=alt.value(0), y=alt.value(0)).properties(width=WIDTH, height=(size + 5) * len(lines))


def _verdict(verdict: str) -> alt.LayerChart:
    import altair as alt

    data = alt.Chart(alt.Data(values=[{}])).encode(y=alt.value(9))
    dot = data.mark_circle(size=300, color=VERDICT_COLOURS[verdict], opacity=1).encode(x=alt.value(9))
    word = data.mark_text(align="left", fontSize=16, fontWeight="bold", text=verdict).encode(x=alt.value(26))
    return alt.layer(dot, word).properties(width=WIDTH, height=18)


def _axis(one: Settled, estimate: float, low: float, high: float) -> alt.LayerChart:
    """Zero, the margin's band where the claim expects the dot, and the measured difference with its interval."""
    import altair as alt

    margin, colour = one.claim.margin, VERDICT_COLOURS[one.verdict]
    most = 1.15 * max(abs(low), abs(high), abs(estimate), 1.5 * margin)
    bands = {"more": (margin, most), "less": (-most, -margin), "same": (-margin, margin)}
    start, stop = bands.get(one.claim.expects, (0.0, 0.0))
    scale = alt.Scale(domain=[-most, most], nice=False)
    label = alt.Axis(grid=False, tickCount=7, labelFontSize=12, titleFontSize=12, titleFontWeight="normal")

    def at(value: float, height: int) -> alt.Chart:
        x = alt.X("x:Q", scale=scale, axis=label, title=f"difference in: {one.claim.unit or one.effect.measure}")
        return alt.Chart(alt.Data(values=[{"x": value, "low": low, "high": high, "stop": stop}])).encode(
            x=x, y=alt.value(height)
        )

    found = f"{estimate:+.3g} [{low:+.3g}, {high:+.3g}]"
    return alt.layer(
        at(start, 0).mark_rect(color=EXPECTED, opacity=0.12).encode(x2="stop:Q", y2=alt.value(HEIGHT)),
        at((start + stop) / 2, 12).mark_text(fontSize=12, color=EXPECTED, text="expected by the claim"),
        at(0, 0).mark_rule(color="#333", strokeDash=[4, 3]).encode(y2=alt.value(HEIGHT)),
        at(0, HEIGHT - 10).mark_text(fontSize=12, color="#444", text="no difference", align="left", dx=6),
        at(low, 46).mark_rule(color=colour, strokeWidth=5).encode(x2="high:Q"),
        at(estimate, 46).mark_circle(color=colour, size=250, opacity=1),
        at(estimate, 74).mark_text(fontSize=14, fontWeight="bold", text=found),
    ).properties(width=WIDTH, height=HEIGHT)
