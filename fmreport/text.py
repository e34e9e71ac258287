"""Words for numbers: amounts, intervals, lists, and the sentences that say what was found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from fmlib.results import FROM_SCRATCH, Result
from fmreport.compare import calibration, significance, verdict
from fmreport.compare.errors import worst_classes
from fmreport.compare.verdict import Comparison
from fmreport.plots import short_number

COSTS = {
    "train_seconds": ("training time", "s", "trains fastest"),
    "latency_ms": ("time to classify an image", "ms", "answers fastest"),
    "memory_mb": ("memory for training", "MiB", "needs least memory"),
}
COMPARED = (
    " Models are compared on the same images, which is sharper; but a tie means “not told apart”, "
    "never “equal”, and the score of whichever model leads is slightly optimistic, because it was "
    "picked on these images."
)
TIMED_ONCE = (
    "Every time is that of one run. On another day the same training is slower or faster, so small "
    "gaps mean nothing."
)
ONE_RECIPE = (
    "Each model is judged by one recipe. A network stops after the epochs that its profile gives "
    "it, and settings were not sought with the same effort for every model."
)
# What Markdown may read as more than a character: marks, dashes and dots of typography, and what
# makes a list of a paragraph.
MARKS = re.compile(r"([\\`*_{}\[\]<>~$^&#|\"']|(?<=[-.])[-.]|^[-+=:])")
LEADING = re.compile(r"^(\(?\w+)([.)])")
FEW_IMAGES = 2000  # below this an interval is over two points wide, and a verdict is a rehearsal


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
    """The columns low and high as text, with an en dash between."""
    texts = table[["low", "high"]].map(f"{{:{spec}}}".format).astype(object)
    return texts["low"] + "\N{EN DASH}" + texts["high"]


def difference(better: pd.Series, worse: pd.Series) -> str:
    """The gap between two models' accuracies with its interval, in points.

    Takes their columns of ``significance.correct_table``.
    """
    parts = significance.paired_difference(better, worse)
    gain, low, high = (number(100 * part, "z.1f") for part in parts)
    return f"{gain} points (95% interval {low} to {high})"


def some(names: Sequence[str], most: int = 3) -> str:
    """At most so many of the names, and how many more there are; "none" of none."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more]) or "none"


# --- The summary ---


@dataclass(frozen=True)
class Summary:
    """The answer: a headline, what follows from it, and what the data cannot tell."""

    headline: str
    points: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The summary as Markdown, ready to display."""
        lines = [self.headline, "", *(f"- {point}" for point in self.points)]
        if self.cautions:
            lines += ["", "**What this cannot tell:**", ""]
        return "\n".join([*lines, *(f"- {caution}" for caution in self.cautions)])


def summarise(
    records: Iterable[Result],
    budgets: Mapping[str, float] = verdict.BUDGETS,
    near_points: float = 1.0,
    missing: Iterable[str] = (),
) -> Summary:
    """The verdict on ``records`` (any number of models and seeds).

    ``budgets`` limit columns of the overview, in its units; ``near_points`` are the points of
    accuracy below the best that count as near it; ``missing`` has the title of each failed job's
    model.
    """
    records = list(records)
    absent, partial = verdict.missing(missing, records)
    lost = list(failed(map(literal, absent), map(literal, partial)))
    if not records:
        return Summary("**There are no results, so there is no verdict.**", cautions=lost)
    compared = verdict.compare(records)
    found = in_markdown(compared)
    points = [
        over_seeds(found),
        fastest_of_tied(found),
        *what_budgets_buy(found, budgets),
        near_best(found, near_points),
        *dominated(found),
        transfer_learning(found),
        scaling_advice(found),
        hardest_class(worst_classes(found.runs)),
    ]
    left_out = left_out_sentence(compared.elsewhere, compared.local)
    cautions = [*lost, left_out, *limits(found)]
    first = headline(found, among=" of those that ran" if absent else "")
    return Summary(first, list(filter(None, points)), list(filter(None, cautions)))


def in_markdown(found: Comparison) -> Comparison:
    """The comparison with every model's name as Markdown that shows just it."""
    frames = ("seeds", "table", "local", "elsewhere")
    return replace(
        found,
        runs={literal(name): run for name, run in found.runs.items()},
        temperatures={literal(name): t for name, t in found.temperatures.items()},
        correct=found.correct.rename(columns=literal),
        p_values=found.p_values.rename(index=literal, columns=literal),
        tied=[literal(name) for name in found.tied],
        **{name: getattr(found, name).rename(index=literal) for name in frames},
    )


# --- Who is best ---


def headline(found: Comparison, among: str = "") -> str:
    """Who leads, and who is tied with the best; ``among`` qualifies the lead."""
    best, leaders = found.table.iloc[0], verdict.leaders(found)
    score = (
        f"{best['accuracy']:.1%} of the {len(found.correct):,} test images classified correctly "
        f"(95% interval {best['low']:.1%} to {best['high']:.1%})"
    )
    if len(found.runs) == 1:
        return (
            f"Only one model has a result, {bold(leaders)}: {score}. Nothing stands beside it, so "
            "there is no verdict."
        )
    alone = len(leaders) == 1
    lead = "is the most accurate model" if alone else "share the highest accuracy"
    return f"{bold(leaders)} {lead}{among}: {score}. {_ties(found, leaders)}"


def _ties(found: Comparison, leaders: Sequence[str]) -> str:
    models = list(found.runs)
    if len(found.tied) == len(models):
        return (
            f"But there is no winner: all {len(models)} models are statistically tied with the "
            "best."
        )
    others = [name for name in found.tied if name not in leaders]
    if others:
        them = "it" if len(leaders) == 1 else "them"
        names = with_accuracy(found, others)
        return f"Statistically tied with {them}{_corrected(found)}: {names}."
    after = next(name for name in models if name not in found.tied)
    return (
        f"No other model is statistically tied with the best; the next, {after}, is "
        f"{difference(found.correct[models[0]], found.correct[after])} behind."
    )


def with_accuracy(found: Comparison, names: Iterable[str]) -> str:
    """The models as one phrase, each with its accuracy."""
    return listed(f"{name} ({found.table.loc[name, 'accuracy']:.1%})" for name in names)


def _corrected(found: Comparison) -> str:
    pairs = len(found.runs) * (len(found.runs) - 1) // 2
    return f", after correction for {pairs} comparisons" if pairs > 1 else ""


def over_seeds(found: Comparison) -> str:
    """The mean accuracies of the models with several seeds; "" where there is none."""
    several = found.seeds[found.seeds["seeds"] > 1]
    if several.empty:
        return ""
    means = [
        f"**{name}** {row['mean']:.1%}, with a standard deviation of {100 * row['sd']:.2f} points "
        f"over {row['seeds']:.0f} seeds"
        for name, row in several.head(3).iterrows()
    ]
    best = found.table.index[0]
    ahead = f", by which {best} is ahead" if several.index[0] != best else ""
    return (
        f"Mean accuracy over seeds, the highest first: {'; '.join(means)}. Everything else here is "
        f"about each model's first seed{ahead}."
    )


def evidence(found: Comparison) -> str:
    """Whether the models differ at all, by Cochran's Q, and how the best two do, by McNemar's
    test."""
    if len(found.runs) < 2:
        return "With fewer than two models there is nothing to test."
    found = in_markdown(found)
    first, second, *others = found.runs
    right, other = found.correct[first], found.correct[second]
    told = _any_difference(found.correct) if others else ""  # of two, McNemar's test is exact
    return (
        f"{told}Of the two most accurate, {first} alone is correct on {(right & ~other).sum()} "
        f"images and {second} alone on {(other & ~right).sum()}; before correction for the number "
        f"of pairs, McNemar's exact test gives p = {significance.mcnemar_p(right, other):.2g}, "
        f"after it {found.p_values.loc[first, second]:.2g}."
    )


def _any_difference(correct: pd.DataFrame) -> str:
    q, p = significance.cochran(correct)
    p_words = f"p = {p:.2g}" if p > 1e-16 else "p below 1e-16"
    differ = p < significance.ALPHA
    verdict = "are not all equally accurate" if differ else "cannot be told apart"
    return (
        f"Cochran's Q over the {correct.shape[1]} models is {q:.1f} ({p_words}): they {verdict}. "
    )


# --- What it costs ---


def fastest_of_tied(found: Comparison) -> str:
    """Which of the tied models trains fastest, where that is worth knowing."""
    pair = verdict.fastest_tied(found)
    if not pair:
        return ""
    fast, best = pair
    cost, best_cost = found.local.loc[[fast, best], "train_seconds"].map(short_number)
    return (
        f"Among the tied, **{fast}** is the fastest to train: it takes {cost} s, {best} "
        f"{best_cost} s."
    )


def kind_of_memory(local: pd.DataFrame) -> str:
    """What the memory of these models is, to be said after the word: "" of RAM alone."""
    return ", of processor and GPU together," if local["vram_mb"].any() else ""


def left_out_sentence(elsewhere: pd.DataFrame, local: pd.DataFrame) -> str:
    """Whose costs are not compared, as they were measured elsewhere; "" where there is none."""
    if elsewhere.empty:
        return ""
    machines = elsewhere["machine"].items()
    names = "; ".join(f"{literal(name)} ({machine})" for name, machine in machines)
    return (
        f"Times and memory are compared only among the {len(local)} models measured on "
        f"{local['machine'].iloc[0]}. Measured elsewhere, and so left out: {names}."
    )


def what_budgets_buy(found: Comparison, budgets: Mapping[str, float]) -> Iterator[str]:
    """What the costs are, and the best model within each budget."""
    local = found.local
    yield (
        f"Times and memory are those of {local['machine'].iloc[0]}. Memory{kind_of_memory(local)} "
        f"is what training needs on top of the {short_number(local['baseline_mb'].max())} MiB that "
        "Python, the libraries and the images take."
    )
    for bought in verdict.affordable(found, budgets):
        words, unit, _ = COSTS[bought.cost]
        cost = f"with {short_number(local.loc[bought.best or bought.cheapest, bought.cost])} {unit}"
        answer = f"none; the nearest is {bought.cheapest} {cost}"
        if bought.best:
            answer = f"**{bought.best}** ({local.loc[bought.best, 'accuracy']:.1%}) {cost}"
        if bought.tied:
            answer += f", statistically tied with {with_accuracy(found, bought.tied)}"
        yield f"Best under {bought.limit:,g} {unit} of {words}: {answer}."


def near_best(found: Comparison, points: float) -> str:
    """Which of the models near the best costs least, for each cost."""
    near = verdict.near_best(found, points)
    unit = "point" if points == 1 else "points"
    if len(near) == 1 < len(found.runs):
        return f"No other model comes within {points:g} {unit} of **{near[0]}**."
    here = found.local[found.local.index.isin(near)]
    if len(here) < 2:  # measured elsewhere, so that there is nothing to compare with
        return ""
    merits: dict[str, list[str]] = {}
    for cost, (*_, merit) in COSTS.items():
        merits.setdefault(here[cost].idxmin(), []).append(merit)
    each = [f"**{name}** {listed(its)}" for name, its in merits.items()]
    return f"Within {points:g} {unit} of the best, {'; '.join(each)}."


def dominated(found: Comparison) -> Iterator[str]:
    """Which models train slower than others as accurate, and which only chance keeps from it."""
    if names := verdict.dominated(found):
        yield (
            "For each of these, another model trains as fast or faster and is as accurate or more: "
            f"{listed(names)}."
        )
    if pairs := verdict.front_by_chance(found):
        names = [f"{slow} (with {fast})" for slow, fast in pairs]
        yield (
            "More accurate, but statistically tied with a model that trains faster: "
            f"{listed(names)}."
        )


# --- Transfer, probabilities, classes ---


def transfer_learning(found: Comparison) -> str:
    """The best pre-trained network beside the best other model; "" unless there are both."""
    pair = verdict.transfer_pair(found)
    if not pair:
        return ""
    better, worse = sorted(pair, key=found.table["accuracy"].get, reverse=True)
    gap = difference(found.correct[better], found.correct[worse])
    way = "ahead of" if better == pair[0] else "behind"
    which = "best" if found.table["pretrained"].sum() > 1 else "only"
    told = ""
    if {*pair} <= {*found.tied}:
        told = f" That is no significant difference{_corrected(found)}."
    pretrained, other = (with_accuracy(found, [name]) for name in pair)
    return (
        f"Transfer learning: the {which} pre-trained network, {pretrained}, is {gap} {way} the "
        f"best model that is not pre-trained, {other}.{told}"
    )


def scaling_advice(found: Comparison) -> str:
    """Whether the best model's probabilities need scaling; "" where it gains less than a point."""
    best = dict(list(found.runs.items())[:1])
    table = calibration.calibration_table(best, found.temperatures)
    row = table.iloc[0]
    if row["ece"] - row["ece_scaled"] < 0.01:
        return ""
    return (
        f"If you need the probabilities of **{table.index[0]}**, scale them: a temperature of "
        f"{row['temperature']:.2f} takes its calibration error from {row['ece']:.3f} to "
        f"{row['ece_scaled']:.3f} and its log loss from {row['log_loss']:.3f} to "
        f"{row['log_loss_scaled']:.3f}."
    )


def ensemble_sentence(ensemble: calibration.Ensemble | None) -> str:
    """What an average of the best models gives."""
    if ensemble is None:
        return "With fewer than two models there is nothing to average."
    members = [literal(name) for name in ensemble.members]
    gain, low, high = (number(100 * value, "+.1f") for value in ensemble.gain)
    significant = ensemble.p_value < significance.ALPHA
    told = "a significant difference" if significant else "which is no significant difference"
    return (
        f"The average of {listed(members)}, the {len(members)} best models on "
        f"validation images, classifies {ensemble.accuracy:.1%} correctly (95% interval "
        f"{ensemble.low:.1%} to {ensemble.high:.1%}). Against {members[0]} alone that is "
        f"{gain} points ({low} to {high}), {told} (McNemar p = {ensemble.p_value:.2g})."
    )


def hardest_class(worst: pd.DataFrame) -> str:
    """Which class most models are worst at; ``worst`` is of ``errors.worst_classes``."""
    worst = worst.assign(**{"class": worst["class"].map(literal)})
    count, models = worst["class"].value_counts(), len(worst)
    unclear = int(worst["tied"].map(bool).sum())
    ties = f" Other classes are tied with the worst of {unclear} of {models} models."
    ties = ties if unclear else ""
    if count.iloc[0] == 1 < models:
        rows = worst[["class", "f1"]].itertuples()
        each = listed(f"{f1:.2f} for {name} by {model}" for model, name, f1 in rows)
        return f"The models' worst classes differ; their F1 is {each}.{ties}"
    hardest, times = count.index[0], count.iloc[0]
    who = f"{times} of {models} models" if times < models else "every model"
    who = worst.index[0] if models == 1 else who
    f1 = spread(worst.loc[worst["class"] == hardest, "f1"], ".2f")
    return f"The worst class of {who}, by F1, is **{hardest}** (F1 {f1}).{ties}"


# --- What this cannot tell ---


def failed(absent: Iterable[str], partial: Iterable[str]) -> Iterator[str]:
    """What to say of models without any result, and of those of which some seeds failed."""
    if absent := list(absent):
        yield (f"Without a result: {listed(absent)}. Every statement is about the other models.")
    if partial := list(partial):
        yield f"Of {listed(partial)} not every seed has a result."


def limits(found: Comparison) -> Iterator[str]:
    """What the test images, one run and one recipe a model leave open."""
    images, table = len(found.correct), found.table
    margin = spread(50 * (table["high"] - table["low"]), ".1f").replace("to ", "to ±")
    known = f"With {images:,} test images an accuracy is known to about ±{margin} points."
    yield known + (COMPARED if len(table) > 1 else "")
    if images < FEW_IMAGES:
        yield "So few images show that everything runs, not which model is better."
    yield trained_once(found.seeds)
    yield TIMED_ONCE
    for one, other in verdict.twins(found):
        yield (
            f"{one} and {other} give the same probabilities for every image: are they two models?"
        )
    yield from_scratch(table)
    yield ONE_RECIPE


def trained_once(seeds: pd.DataFrame) -> str:
    """Which models have one seed, so that nothing is known of others; "" where none."""
    once = list(seeds.index[seeds["seeds"] == 1])
    if not once:
        return ""
    who = "Every model" if len(once) == len(seeds) else listed(once)
    return (
        f"{who} was trained once: what another seed would score is not known, and no interval here "
        "covers it."
    )


def from_scratch(table: pd.DataFrame) -> str:
    """Which networks had no pre-trained weights, and so say nothing of transfer learning."""
    names = [name for name in table.index if FROM_SCRATCH in name]
    if not names:
        return ""
    pretrained = table.index[table["pretrained"]]
    alone = ""
    if len(pretrained) == 1:
        alone = f" What is said of transfer learning rests on {pretrained[0]} alone."
    return f"Trained from scratch, so no evidence on transfer learning: {listed(names)}.{alone}"
