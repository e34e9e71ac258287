"""Words for numbers: amounts, intervals, lists, and the sentences that say what was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from fmlib.data import Images
from fmlib.models.base import Estimator
from fmlib.models.registry import MODELS
from fmlib.results import Result
from fmlib.sources import some
from fmreport.compare import calibration, errors, significance, verdict
from fmreport.compare.verdict import Comparison, Finding
from fmreport.plots import short_number

COSTS = {
    "train_seconds": ("training time", "s", "trains fastest"),
    "latency_ms_p95": ("time for an image (95th percentile)", "ms", "classifies fastest"),
    "memory_mb": ("memory for training", "MiB", "needs least memory"),
}
LIMITS = {  # how advice names a limit
    "train_seconds": "training must finish within {limit} s",
    "latency_ms_p95": "one image must be classified within {limit} ms",
}
TIMED = {"train_seconds": "Trained within {limit}", "latency_ms_p95": "Classifies within {limit}"}
NEEDS = {"readable": ("Traceable decisions", "each is a path of questions")}
COMPARED = (
    " Models are compared on the same images, which is sharper; but a tie means “not told apart”, "
    "never “equal”, and the score of whichever model leads is slightly optimistic, because it was "
    "picked on these images."
)
TIMED_ONCE = (
    "Every time is that of one run. On a machine that others share the same training may take "
    "twice as long on another day, so that only large gaps mean anything."
)
ONE_RECIPE = (
    "Each model is judged by one recipe. A network stops after the epochs that its profile gives "
    "it, and settings were not sought with the same effort for every model."
)
# What Markdown may read as more than a character: marks, dashes and dots of typography, and what
# makes a list of a paragraph.
MARKS = re.compile(r"([\\`*_{}\[\]<>~$^&#|\"']|(?<=[-.])[-.]|^[-+=:])")
LEADING = re.compile(r"^(\(?\w+)([.)])")
FEW = "So few images show that everything runs, not which model is better."


# --- Numbers and names ---


def literal(text: str) -> str:
    """A text as Markdown that shows just it, whatever marks it has."""
    return LEADING.sub(r"\1\\\2", MARKS.sub(r"\\\1", text))


def listed(names: Iterable[str]) -> str:
    """Names as one phrase; with semicolons where a name has a comma in it."""
    *most, last = names
    if not most:
        return last
    if any("," in name for name in (*most, last)):
        return f"{'; '.join(most)}; and {last}"
    return f"{', '.join(most)} and {last}"


def bold(names: Iterable[str]) -> str:
    """Names as one phrase of Markdown, each in bold."""
    return listed(f"**{name}**" for name in names)


def number(value: float, spec: str) -> str:
    """The number as text, with a minus that is as wide as a digit."""
    return f"{value:{spec}}".replace("-", "\N{MINUS SIGN}")


def spread(values: Iterable[float], spec: str) -> str:
    """The least and the greatest value, or the one value where they look the same."""
    values = list(values)
    return " to ".join(dict.fromkeys((number(min(values), spec), number(max(values), spec))))


def interval(table: pd.DataFrame, spec: str) -> pd.Series:
    """The columns low and high as text, with an en dash between, or "to" where one is negative."""
    texts = table[["low", "high"]].map(lambda value: number(value, spec)).astype(object)
    between = " to " if (table["low"] < 0).any() else "\N{EN DASH}"
    return texts["low"] + between + texts["high"]


def points(fraction: float) -> str:
    """A difference of accuracies in points, with as many digits as it takes not to be 0.0."""
    small = 0 < abs(fraction) < 0.0005
    return number(100 * fraction, ".2f" if small else "z.1f")


def difference(found: Mapping[str, float]) -> str:
    """A gap between two models' accuracies with its interval, in points.

    Takes the fields of a ``significance.Difference``.
    """
    gain, low, high = (points(found[name]) for name in ("value", "low", "high"))
    return f"{gain} points (95% interval {low} to {high})"


# --- The summary ---


def summarise(
    records: Iterable[Result],
    budgets: Mapping[str, float] = verdict.BUDGETS,
    near_points: float = 1.0,
    missing: Iterable[str] = (),
) -> str:
    """The verdict on ``records`` (any number of models and seeds), as Markdown: a headline, what
    follows from it, and what the data cannot tell.

    ``budgets`` limit columns of the overview, in its units; ``near_points`` are the points of
    accuracy below the best that count as near it; ``missing`` has the title of each failed job's
    model.
    """
    records = list(records)
    absent, partial = verdict.missing(missing, records)
    cautions = [Finding("absent", tuple(absent))] if absent else []
    cautions += [Finding("incomplete", tuple(partial))] if partial else []
    lines = ["**There are no results, so there is no verdict.**", ""]
    if records:
        found = verdict.compare(records)
        lines = [words(verdict.lead(found, bool(absent))), ""]
        lines += [f"- {words(one)}" for one in verdict.findings(found, budgets, near_points)]
        cautions += verdict.limits(found)
    if cautions:
        lines += ["", "**What this cannot tell:**", ""]
    return "\n".join([*lines, *(f"- {words(one)}" for one in cautions)])


def words(finding: Finding) -> str:
    """A finding as a sentence or two, in Markdown."""
    return WORDS[finding.kind](finding.values, *map(literal, finding.models))


Values = Mapping[str, Any]


# --- The answer ---


def advice(needs: Sequence[Finding]) -> str:
    """What to take, in a sentence or two; ``needs`` are of ``verdict.needs``."""
    if not needs:
        return "**There are no results, so there is no advice.**"
    first, *others = needs
    best, values = literal(first.models[0]), first.values
    score = f"{values['accuracy']:.1%} of {values['images']:,} test images correctly"
    few = f" {FEW}" if values["images"] < verdict.FEW_IMAGES else ""
    if values["models"] == 1:
        alone = f"Only **{best}** has a result: it classifies {score}."
        return f"{alone} There is nothing to choose from.{few}"
    untold = [literal(name) for name in values["tied"]]
    told = f"Use **{best}**, the most accurate model: it classifies {score}."
    if len(untold) == values["models"] - 1:
        told = (
            f"No model is told apart from **{best}**, which scores highest: it classifies {score}."
        )
    elif untold:
        told = f"Use **{best}**, which scores highest: it classifies {score}."
        told += f" Not told apart from it: {some(untold)}."
    if fastest := values["fastest"]:
        told += f" Of these **{literal(fastest)}** trains fastest."
    limited = [one for one in others if one.values["need"] in LIMITS]
    reasons: dict[str, list[str]] = {}
    where = "Without a GPU, if" if others and others[-1].values["need"] == "gpu" else "If"
    for one in limited:
        if one.models and one.models != first.models:
            name = f"**{literal(one.models[0])}** ({one.values['accuracy']:.1%})"
            limit = LIMITS[one.values["need"]].format(limit=f"{one.values['limit']:,g}")
            reasons.setdefault(name, []).append(limit)
    for name, limits in reasons.items():
        told += f" {where} {' or '.join(limits)}, use {name}."
    if limited and all(one.models == first.models for one in limited):
        told += " It also keeps within the limits of time below."
    return told + few


def need_words(finding: Finding) -> tuple[str, str]:
    """A need, and why this model is taken for it: "" where the need says it."""
    values, need = finding.values, finding.values["need"]
    if need in NEEDS:
        return NEEDS[need]
    tied = f"not told apart: {some(values['tied'], 2)}" if values["tied"] else ""
    if need == "gpu":
        on = f"on {values['machine'].partition(' (')[0]}"
        return "With a GPU", "; ".join(filter(None, [on, tied]))
    if need == "accuracy":
        alone = "" if values["models"] == 1 else "told apart from every other"
        return "Most accurate", tied or alone
    unit = COSTS[need][1]
    label = TIMED[need].format(limit=f"{values['limit']:,g} {unit}")
    if finding.models:
        return label, tied or "most accurate within that"
    return label, f"the nearest, {values['nearest']}, needs {short_number(values['least'])} {unit}"


def certainty(found: Comparison) -> str:
    """How sure the answer is, in a line."""
    if not found.runs:
        return ""
    margins = spread(50 * (found.table["high"] - found.table["low"]), ".1f")
    margins = margins.replace("to ", "to ±")
    seeds = "each model was trained once"
    if found.of_recipes:
        seeds = f"each model was trained with up to {found.seeds['seeds'].max()} seeds"
    return (
        f"An accuracy is known to about ±{margins} points, and {seeds}: "
        "[how sure is that?](#how-sure-is-that)"
    )


def not_considered(found: Comparison) -> str:
    """Who need not be considered; "" where all may be."""
    names = [literal(name) for name in verdict.dominated(found)]
    if not names:
        return ""
    return (
        "Need not be considered where only accuracy and training time count, as another model is "
        f"at least as accurate and trains faster: {listed(names)}."
    )


# --- Who is best ---


def _lead(values: Values, *leaders: str) -> str:
    over = f", the mean over {values['seeds']:.0f} seeds" if values["seeds"] > 1 else ""
    score = (
        f"{values['accuracy']:.1%} of the {values['images']:,} test images classified correctly"
        f"{over} (95% interval {values['low']:.1%} to {values['high']:.1%})"
    )
    if values["models"] == 1:
        return (
            f"Only one model has a result, {bold(leaders)}: {score}. Nothing stands beside it, so "
            "there is no verdict."
        )
    these = "recipes" if values["of_recipes"] else "fitted models"
    which = f"the {these} that ran" if values["absent"] else f"these {these}"
    if len(leaders) > 1:
        first = f"share the highest accuracy of {which}"
    elif values["tied"]:
        first = f"scored highest of {which}"
    else:
        first = f"is the most accurate of {which}"
    return f"{bold(leaders)} {first}: {score}. {_ties(values, leaders)}"


def _ties(values: Values, leaders: Sequence[str]) -> str:
    others, them = list(values["tied"]), "it" if len(leaders) == 1 else "them"
    corrected = _corrected(values["comparisons"])
    if len(others) + len(leaders) == values["models"]:
        if not others:
            return "All score the same, so there is no winner."
        who = "No other is" if len(others) > 1 else f"{literal(others[0])} is not"
        untold = f"{who} told apart from {them}{corrected}, so there is no winner."
        return untold + _each_tie(values, others)
    if others:
        untold = f"Not told apart from {them}{corrected}: {_with_accuracy(values['tied'])}."
        return untold + _each_tie(values, others)
    after = values["next"]
    behind = difference(values["behind"][after])
    return f"The next, {literal(after)}, is told apart from it: {behind} behind."


def _each_tie(values: Values, others: Sequence[str]) -> str:
    """How far behind each of the tied is, and whether that is as good as nothing."""
    told = ""
    for name in others[:3]:
        behind = values["behind"][name]
        told += f" {literal(name)} is {difference(behind)} behind"
        if behind["equivalent"]:
            told += f", which is equivalent within {100 * significance.MARGIN:g} points"
        told += "."
    return told + (f" And {len(others) - 3} more." if len(others) > 3 else "")


def _with_accuracy(accuracies: Mapping[str, float]) -> str:
    """The models as one phrase, each with its accuracy."""
    return listed(f"{literal(name)} ({accuracy:.1%})" for name, accuracy in accuracies.items())


def _corrected(comparisons: int) -> str:
    return f", after correction for {comparisons} comparisons" if comparisons > 1 else ""


def _seeds(values: Values, best: str) -> str:
    spreads = [
        f"**{literal(name)}** {one['lowest']:.1%} to {one['highest']:.1%} (standard deviation "
        f"{100 * one['sd']:.2f} points, {one['seeds']:.0f} seeds)"
        for name, one in values["spreads"].items()
    ]
    told = f"Accuracy from seed to seed: {'; '.join(spreads)}."
    if "after" in values:
        after = literal(values["after"])
        told += (
            f" Of {values['pairs']:.0f} pairs of a training of {best} and one of {after}, {best} "
            f"is the more accurate on these images in {values['wins']:g}."
        )
    return told


def _views(values: Values, best: str) -> str:
    return (
        f"{best} predicts from the mean over {values['views']:.0f} views of an image; from one "
        f"view it scores {values['one_view']:.1%}."
    )


def evidence(found: Comparison) -> str:
    """Whether the models differ at all, by Cochran's Q, and how the best two do.

    With several seeds only the latter: the tests of models trained once say nothing of seeds.
    """
    if len(found.runs) < 2:
        return "With fewer than two models there is nothing to test."
    one, two, *others = found.runs
    first, second, row = literal(one), literal(two), found.behind.loc[two]
    if row["pairs"] > 1:
        return (
            f"{first} is {difference(row)} ahead of {second}, images and seeds together, which"
            f" gives {p_words(row['p_value'])} for no difference{_after(found, row)}."
        )
    right, other = found.correct[one][0], found.correct[two][0]
    told = _any_difference(found) if others and found.seeds["seeds"].max() == 1 else ""
    return (
        f"{told}Of the two most accurate, {first} alone is correct on {(right & ~other).sum()} "
        f"images and {second} alone on {(other & ~right).sum()}; McNemar's exact test gives "
        f"{p_words(row['p_value'])}{_after(found, row)}."
    )


def _after(found: Comparison, row: pd.Series) -> str:
    """The p-value after correction, where there is more than one comparison."""
    if len(found.behind) < 2:
        return ""
    return f", and {p_words(row['p_holm'])} after correction for {len(found.behind)} comparisons"


def p_words(p_value: float) -> str:
    """A p-value as words; one that is too small for a number as a bound."""
    return f"p = {p_value:.2g}" if p_value > 1e-16 else "p below 1e-16"


def _any_difference(found: Comparison) -> str:
    q, p_value = significance.cochran(found.correct)
    differ = p_value < significance.ALPHA
    verdict = "are not all equally accurate" if differ else "cannot be told apart"
    return (
        f"Cochran's Q over the {len(found.runs)} models is {q:.1f} ({p_words(p_value)}): they "
        f"{verdict}. "
    )


# --- What it costs ---


def _fastest_tied(values: Values, fast: str, best: str) -> str:
    seconds, of_best = map(short_number, values["seconds"])
    return (
        f"Among the tied, **{fast}** is the fastest to train: it takes {seconds} s, {best} "
        f"{of_best} s."
    )


def kind_of_memory(with_gpu: bool) -> str:
    """What the memory of models is, to be said after the word: "" of RAM alone."""
    return ", of processor and GPU together," if with_gpu else ""


def _elsewhere(values: Values, *names: str) -> str:
    each = zip(names, values["machines"].values(), strict=True)
    return (
        f"Times and memory are compared only among the {values['count']} models measured on "
        f"{values['machine']}. Measured elsewhere, and so left out: "
        f"{'; '.join(f'{name} ({machine})' for name, machine in each)}."
    )


def _costs(values: Values) -> str:
    return (
        f"Times and memory are those of {values['machine']}. "
        f"Memory{kind_of_memory(values['with_gpu'])} is what training needs on top of up to "
        f"{short_number(values['baseline_mb'])} MiB that Python, the libraries and the images take."
    )


def _budget(values: Values, *best: str) -> str:
    what, unit, _ = COSTS[values["cost"]]
    cost = f"with {short_number(values['amount'])} {unit}"
    answer = f"none; the nearest is {literal(values['nearest'])} {cost}"
    if best:
        answer = f"**{best[0]}** ({values['accuracy']:.1%}) {cost}"
    if values["tied"]:
        answer += f", statistically tied with {_with_accuracy(values['tied'])}"
    return f"Best under {values['limit']:,g} {unit} of {what}: {answer}."


def _points(values: Values) -> str:
    return f"{values['points']:g} {'point' if values['points'] == 1 else 'points'}"


def _none_near(values: Values, best: str) -> str:
    return f"No other model comes within {_points(values)} of **{best}**."


def _near(values: Values, *names: str) -> str:
    merits = [listed(COSTS[cost][2] for cost in costs) for costs in values["merits"].values()]
    each = [f"**{name}** {its}" for name, its in zip(names, merits, strict=True)]
    return f"Within {_points(values)} of the best, {'; '.join(each)}."


def _front_by_chance(values: Values, *_names: str) -> str:
    each = [f"{literal(slow)} (with {literal(fast)})" for slow, fast in values["pairs"]]
    return (
        "On the Pareto front, but statistically tied with the next that trains faster: "
        f"{listed(each)}."
    )


# --- Transfer, probabilities, classes ---


def _transfer(values: Values, pretrained: str, other: str) -> str:
    first, second = values["accuracy"]
    way = "ahead of" if values["ahead"] else "behind"
    told = ""
    if values["tied"]:
        told = f" That is no significant difference{_corrected(values['comparisons'])}."
    return (
        f"Transfer learning: the {'only' if values['only'] else 'best'} pre-trained network, "
        f"{pretrained} ({first:.1%}), is {difference(values['difference'])} {way} the best model "
        f"that is not pre-trained, {other} ({second:.1%}).{told}"
    )


def _scaling(values: Values, best: str) -> str:
    return (
        f"If you need the probabilities of **{best}**, scale them: a temperature of "
        f"{values['temperature']:.2f} takes its calibration error from {values['ece']:.3f} to "
        f"{values['ece_scaled']:.3f} and its log loss from {values['log_loss']:.3f} to "
        f"{values['log_loss_scaled']:.3f}."
    )


def _scaling_harms(values: Values, *names: str) -> str:
    rows = zip(names, values["rows"], strict=True)
    each = [f"{name} ({before:.3f} to {after:.3f})" for name, (_, before, after) in rows]
    which = "Temperature scaling, fitted to log loss, raises the calibration error of"
    return f"{which} {listed(each)}."


def _worst_class(values: Values, *names: str) -> str:
    rows = [(literal(name), f1) for name, f1, _ in values["rows"]]
    models, unclear = len(rows), sum(tied for *_, tied in values["rows"])
    whose = "it" if models == 1 else f"the worst of {unclear} of {models} models"
    ties = f" Other classes are tied with {whose}." if unclear else ""
    hardest, times = Counter(name for name, _ in rows).most_common(1)[0]
    if times == 1 < models:
        each = [
            f"{f1:.2f} for {one} by {model}" for (one, f1), model in zip(rows, names, strict=True)
        ]
        return f"The models' worst classes differ; their F1 is {listed(each)}.{ties}"
    who = f"{times} of {models} models" if times < models else "every model"
    who = names[0] if models == 1 else who
    f1 = spread([f1 for name, f1 in rows if name == hardest], ".2f")
    return f"The worst class of {who}, by F1, is **{hardest}** (F1 {f1}).{ties}"


def ensemble_sentence(ensemble: calibration.Ensemble | None) -> str:
    """What an average of the best models gives."""
    if ensemble is None:
        return "With fewer than two models there is nothing to average."
    members = [literal(name) for name in ensemble.members]
    parts = (ensemble.gain.value, ensemble.gain.low, ensemble.gain.high)
    gain, low, high = (number(100 * value, "+.1f") for value in parts)
    significant = ensemble.gain.p_value < significance.ALPHA
    told = "a significant difference" if significant else "which is no significant difference"
    return (
        f"The average of {listed(members)}, the {len(members)} best models on "
        f"validation images, classifies {ensemble.accuracy:.1%} correctly (95% interval "
        f"{ensemble.low:.1%} to {ensemble.high:.1%}). Against {members[0]} alone that is "
        f"{gain} points ({low} to {high}), {told} (McNemar's {p_words(ensemble.gain.p_value)})."
    )


def share_answered(limit: pd.Series) -> str:
    """A row of ``calibration.thresholds`` as words: "87% (0.93)", or "none"."""
    if pd.isna(limit["share"]):
        return "none"
    return f"{limit['share']:.1%} ({limit['confidence']:.2f})"


def hard_sentence(found: Comparison, missed: pd.DataFrame, doubtful: pd.DataFrame) -> str:
    """How many images every model gets wrong, and how many labels are doubtful."""
    if not found.runs:
        return ""
    told = "No test image is misclassified by every model."
    if len(missed):
        told = (
            f"Every model misclassifies {len(missed):,} of the {found.images:,} test images, so no "
            "choice among them would help there."
        )
    unanimous = len(doubtful) and doubtful["share"].min() == 1
    agreed = " On every one of them all models agree." if unanimous else ""
    return (
        f"{told} A label is a candidate where at least {errors.MIN_SHARE:.0%} of the models give "
        "one and the same other class, and all models together, after temperature scaling, a mean "
        f"probability of at least {errors.MIN_CONFIDENCE:.0%} to it.{agreed}"
    )


def relabelled_sentence(found: Comparison, doubtful: pd.DataFrame) -> str:
    """What the scores, and the order of the models, would be if all candidates were mislabelled."""
    if doubtful.empty:
        return "No label is a candidate."
    scores = 100 * errors.if_relabelled(found.runs, doubtful)
    order = scores["after"].rank(ascending=False, method="min")
    before = scores["before"].rank(ascending=False, method="min")
    moved = int((order != before).sum())
    stays = "the order of the models would stay as it is"
    if moved:
        stays = f"{moved} of {len(scores)} models would have another rank"
        best = scores["after"].idxmax()
        if best != scores["before"].idxmax():
            stays += f", and {literal(best)} would lead"
    return (
        f"Candidates: {len(doubtful)} of {found.images:,} labels. If all of them were wrong and the"
        f" models right, the scores would move by {spread(scores['change'], '+.2f')} points and "
        f"{stays}. That counts these candidates alone, which the models chose themselves; other "
        "wrong labels could move scores either way."
    )


def surprises(found: Comparison, images: Images) -> str:
    """What figures are made of that would surprise; "" where there is none. ``images`` are those
    of training."""
    models = {fits[0].model for name, fits in found.runs.items() if name in found.local.index}
    words = []
    if any(issubclass(MODELS[name], Estimator) for name in models & MODELS.keys()):
        copy = images[0].size * len(images) * 4 / 2**20
        words.append(
            "The memory of a classical model is mostly not the model: it trains on float32 copies "
            f"of the images, {copy:,.0f} MiB each."
        )
    if "random_forest" in models:
        words.append(
            "For a single image, starting threads takes the forest longer than evaluating its "
            "trees."
        )
    return " ".join(words)


# --- What this cannot tell ---


def _absent(_values: Values, *names: str) -> str:
    return f"Without a result: {listed(names)}. Every statement is about the other models."


def _incomplete(_values: Values, *names: str) -> str:
    return f"Of {listed(names)} not every seed has a result."


def _precision(values: Values, *names: str) -> str:
    margins = spread([100 * values["least"], 100 * values["most"]], ".1f").replace("to ", "to ±")
    known = (
        f"With {values['images']:,} test images an accuracy is known to about ±{margins} points."
    )
    return known + (COMPARED if len(names) > 1 else "")


def _deterministic(_values: Values, *names: str) -> str:
    draw = "draws" if len(names) == 1 else "draw"
    return (
        f"{listed(names)} {draw} nothing at random in training: one fit is made, and another seed "
        "would change its split of the images alone."
    )


def _trained_once(values: Values, *names: str) -> str:
    who = listed(names) + (" was" if len(names) == 1 else " were")
    if values["rest"]:
        who = "Every other model was" if values["others"] else "Every model was"
    return (
        f"{who} trained once: what another seed would score is not known, and no interval here "
        "covers it."
    )


def _times_vary(values: Values) -> str:
    return (
        "Times are medians over a model's fits. The slowest fit of a model took up to "
        f"{values['ratio']:.1f} times as long as its quickest here, and “faster” is said only "
        "beyond that."
    )


def _contended(_values: Values, *names: str) -> str:
    return (
        "Measured beside other work on the machine, so that their times are left out: "
        f"{listed(names)}. `make report RETIME=1` measures them again."
    )


def _twins(_values: Values, one: str, other: str) -> str:
    return f"{one} and {other} give the same probabilities for every image: are they two models?"


def _from_scratch(values: Values, *names: str) -> str:
    pretrained, alone = values["pretrained"], ""
    if len(pretrained) == 1:
        alone = f" What is said of transfer learning rests on {literal(pretrained[0])} alone."
    return f"Trained from scratch, so no evidence on transfer learning: {listed(names)}.{alone}"


WORDS: dict[str, Callable[..., str]] = {
    "lead": _lead,
    "seeds": _seeds,
    "views": _views,
    "fastest tied": _fastest_tied,
    "costs": _costs,
    "budget": _budget,
    "none near": _none_near,
    "near": _near,
    "front by chance": _front_by_chance,
    "transfer": _transfer,
    "scaling": _scaling,
    "scaling harms": _scaling_harms,
    "worst class": _worst_class,
    "absent": _absent,
    "incomplete": _incomplete,
    "elsewhere": _elsewhere,
    "precision": _precision,
    "few images": lambda _: FEW,
    "deterministic": _deterministic,
    "trained once": _trained_once,
    "times vary": _times_vary,
    "timed once": lambda _: TIMED_ONCE,
    "contended": _contended,
    "twins": _twins,
    "from scratch": _from_scratch,
    "one recipe": lambda _: ONE_RECIPE,
}
