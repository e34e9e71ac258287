"""Words for numbers: amounts, intervals, lists, and the sentences that say what was found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from fmlib.data import Images
from fmlib.models.base import Estimator
from fmlib.models.registry import MODELS
from fmlib.results import FROM_SCRATCH, Result
from fmreport.compare import calibration, errors, significance, table, verdict
from fmreport.compare.errors import worst_classes
from fmreport.compare.verdict import Comparison
from fmreport.plots import short_number

COSTS = {
    "train_seconds": ("training time", "s", "trains fastest"),
    "latency_ms_p95": ("time for an image (95th percentile)", "ms", "answers fastest"),
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
    """The columns low and high as text, with an en dash between, or "to" where one is negative."""
    texts = table[["low", "high"]].map(lambda value: number(value, spec)).astype(object)
    between = " to " if (table["low"] < 0).any() else "\N{EN DASH}"
    return texts["low"] + between + texts["high"]


def points(fraction: float) -> str:
    """A difference of accuracies in points, with as many digits as it takes not to be 0.0."""
    text = number(100 * fraction, "z.1f")
    return (
        text if fraction == 0 or float(f"{100 * fraction:.1f}") else number(100 * fraction, ".2f")
    )


def difference(found: Mapping[str, float]) -> str:
    """A gap between two models' accuracies with its interval, in points.

    Takes the fields of a ``significance.Difference``.
    """
    gain, low, high = (points(found[name]) for name in ("value", "low", "high"))
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
        averaging(found),
        fastest_of_tied(found),
        *what_budgets_buy(found, budgets),
        near_best(found, near_points),
        *dominated(found),
        transfer_learning(found),
        scaling_advice(found),
        scaling_harms(found),
        hardest_class(worst_classes(found.runs)),
    ]
    left_out = left_out_sentence(compared.elsewhere, compared.local)
    cautions = [*lost, left_out, *limits(found)]
    first = headline(found, among=" that ran" if absent else "")
    return Summary(first, list(filter(None, points)), list(filter(None, cautions)))


def in_markdown(found: Comparison) -> Comparison:
    """The comparison with every model's name as Markdown that shows just it."""
    frames = ("seeds", "table", "local", "elsewhere", "behind")
    return replace(
        found,
        runs={literal(name): fits for name, fits in found.runs.items()},
        temperatures={literal(name): t for name, t in found.temperatures.items()},
        correct={literal(name): right for name, right in found.correct.items()},
        p_values=found.p_values.rename(index=literal, columns=literal),
        tied=[literal(name) for name in found.tied],
        **{name: getattr(found, name).rename(index=literal) for name in frames},
    )


# --- Who is best ---


def headline(found: Comparison, among: str = "") -> str:
    """Who leads, and who is not told from the best; ``among`` says which models there are."""
    best, leaders = found.table.iloc[0], verdict.leaders(found)
    over = f", the mean over {best['seeds']:.0f} seeds" if best["seeds"] > 1 else ""
    score = (
        f"{best['accuracy']:.1%} of the {found.images:,} test images classified correctly{over} "
        f"(95% interval {best['low']:.1%} to {best['high']:.1%})"
    )
    if len(found.runs) == 1:
        return (
            f"Only one model has a result, {bold(leaders)}: {score}. Nothing stands beside it, so "
            "there is no verdict."
        )
    these = "recipes" if found.of_recipes else "fitted models"
    which = f"the {these}{among}" if among else f"these {these}"
    if len(leaders) > 1:
        lead = f"share the highest accuracy of {which}"
    elif len(found.tied) > 1:
        lead = f"scored highest of {which}"
    else:
        lead = f"is the most accurate of {which}"
    return f"{bold(leaders)} {lead}: {score}. {_ties(found, leaders)}"


def _ties(found: Comparison, leaders: Sequence[str]) -> str:
    others = [name for name in found.tied if name not in leaders]
    them = "it" if len(leaders) == 1 else "them"
    if len(found.tied) == len(found.runs):
        if not others:
            return "All score the same, so there is no winner."
        who = "No other is" if len(others) > 1 else f"{others[0]} is not"
        untold = f"{who} told apart from {them}{_corrected(found)}, so there is no winner."
        return untold + _each_tie(found, others)
    if others:
        names = with_accuracy(found, others)
        told = f"Not told apart from {them}{_corrected(found)}: {names}."
        return f"{told}{_each_tie(found, others)}"
    after = next(name for name in found.runs if name not in found.tied)
    return (
        f"The next, {after}, is told apart from it: {difference(found.behind.loc[after])} behind."
    )


def _each_tie(found: Comparison, others: Sequence[str]) -> str:
    """How far behind each of the tied is, and whether that is as good as nothing."""
    if not others:
        return ""
    shown = [f"{name} {difference(found.behind.loc[name])}" for name in others[:3]]
    equal = [name for name in others if found.behind.loc[name, "equivalent"]]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    words = f" Behind by: {'; '.join(shown)}{more}."
    if equal:
        margin = 100 * significance.MARGIN
        words += f" Equivalent to the best within {margin:g} points: {listed(equal)}."
    return words


def with_accuracy(found: Comparison, names: Iterable[str]) -> str:
    """The models as one phrase, each with its accuracy."""
    return listed(f"{name} ({found.table.loc[name, 'accuracy']:.1%})" for name in names)


def _corrected(found: Comparison) -> str:
    count = len(found.behind)
    return f", after correction for {count} comparisons" if count > 1 else ""


def over_seeds(found: Comparison) -> str:
    """How accuracies vary over seeds, and how often a training of the best beats one of the next;
    "" where no model has several."""
    several = found.seeds[found.seeds["seeds"] > 1]
    if several.empty:
        return ""
    spreads = [
        f"**{name}** {row['lowest']:.1%} to {row['highest']:.1%} (standard deviation "
        f"{100 * row['sd']:.2f} points, {row['seeds']:.0f} seeds)"
        for name, row in several.head(3).iterrows()
    ]
    words = f"Accuracy from seed to seed: {'; '.join(spreads)}."
    if len(found.behind) and found.behind["pairs"].iloc[0] > 1:
        best, after, row = found.table.index[0], found.behind.index[0], found.behind.iloc[0]
        words += (
            f" Of {row['pairs']:.0f} pairs of a training of {best} and one of {after}, {best} is "
            f"the more accurate on these images in {row['wins']:g}."
        )
    return words


def averaging(found: Comparison) -> str:
    """What the best model owes to the mean over several views of an image; "" where to none."""
    given = table.advantages(dict(list(found.runs.items())[:1]))
    row = given.iloc[0] if len(given) else None
    if row is None or row["views"] == 1 or pd.isna(row["one_view"]):
        return ""
    return (
        f"{given.index[0]} predicts from the mean over {row['views']:.0f} views of an image; from "
        f"one view it scores {row['one_view']:.1%}."
    )


def evidence(found: Comparison) -> str:
    """Whether the models differ at all, by Cochran's Q, and how the best two do.

    With several seeds only the latter: the tests of models trained once say nothing of seeds.
    """
    if len(found.runs) < 2:
        return "With fewer than two models there is nothing to test."
    found = in_markdown(found)
    first, second, *others = found.runs
    row = found.behind.loc[second]
    if row["pairs"] > 1:
        return (
            f"{first} is {difference(row)} ahead of {second}, images and seeds together, which"
            f" gives {p_words(row['p_value'])} for no difference{_after(found, row)}."
        )
    right, other = found.correct[first][0], found.correct[second][0]
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
        if (here[cost] == here[cost].min()).sum() == 1:
            merits.setdefault(here[cost].idxmin(), []).append(merit)
    if not merits:
        return ""
    each = [f"**{name}** {listed(its)}" for name, its in merits.items()]
    return f"Within {points:g} {unit} of the best, {'; '.join(each)}."


def dominated(found: Comparison) -> Iterator[str]:
    """Which models train slower than others as accurate, and which only chance keeps from it."""
    if names := verdict.dominated(found):
        yield (
            "For each of these, another model is at least as accurate and trains faster: "
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
    apart = significance.difference(found.correct[better], found.correct[worse])
    gap = difference(vars(apart))
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
    calibrated = calibration.calibration_table(best, found.temperatures)
    row = calibrated.iloc[0]
    if row["ece"] - row["ece_scaled"] < 0.01 or calibration.at_bound(row["temperature"]):
        return ""
    return (
        f"If you need the probabilities of **{calibrated.index[0]}**, scale them: a temperature of "
        f"{row['temperature']:.2f} takes its calibration error from {row['ece']:.3f} to "
        f"{row['ece_scaled']:.3f} and its log loss from {row['log_loss']:.3f} to "
        f"{row['log_loss_scaled']:.3f}."
    )


def scaling_harms(found: Comparison) -> str:
    """Of which models scaling raises the calibration error by a point or more; "" of none."""
    calibrated = calibration.calibration_table(found.runs, found.temperatures)
    worse = calibrated[calibrated["ece_scaled"] >= calibrated["ece"] + 0.01]
    if worse.empty:
        return ""
    each = [
        f"{name} ({row['ece']:.3f} to {row['ece_scaled']:.3f})" for name, row in worse.iterrows()
    ]
    which = "Temperature scaling, which lowers log loss, raises the calibration error of"
    return f"{which} {listed(each)}."


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
    return f"{limit['share']:.0%} ({limit['confidence']:.2f})"


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


def hardest_class(worst: pd.DataFrame) -> str:
    """Which class most models are worst at; ``worst`` is of ``errors.worst_classes``."""
    worst = worst.assign(**{"class": worst["class"].map(literal)})
    count, models = worst["class"].value_counts(), len(worst)
    unclear = int(worst["tied"].map(bool).sum())
    whose = "it" if models == 1 else f"the worst of {unclear} of {models} models"
    ties = f" Other classes are tied with {whose}." if unclear else ""
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
    images, overview = found.images, found.table
    margin = spread(50 * (overview["high"] - overview["low"]), ".1f").replace("to ", "to ±")
    known = f"With {images:,} test images an accuracy is known to about ±{margin} points."
    yield known + (COMPARED if len(overview) > 1 else "")
    if images < FEW_IMAGES:
        yield "So few images show that everything runs, not which model is better."
    yield trained_once(found.seeds)
    yield timed(found.local)
    for one, other in verdict.twins(found):
        yield (
            f"{one} and {other} give the same probabilities for every image: are they two models?"
        )
    yield from_scratch(overview)
    yield ONE_RECIPE


def trained_once(seeds: pd.DataFrame) -> str:
    """Which models have one seed, so that nothing is known of others; "" where none."""
    single = seeds["seeds"] == 1
    once = list(seeds.index[single & ~seeds["deterministic"]])
    fixed = list(seeds.index[single & seeds["deterministic"]])
    words = []
    if once:
        who = listed(once) + (" was" if len(once) == 1 else " were")
        if len(once) + len(fixed) == len(seeds):
            who = "Every model was" if not fixed else "Every other model was"
        words.append(
            f"{who} trained once: what another seed would score is not known, and no interval here "
            "covers it."
        )
    if fixed:
        draw = "draws" if len(fixed) == 1 else "draw"
        words.insert(0, f"{listed(fixed)} {draw} nothing at random in training: one fit is enough.")
    return " ".join(words)


def surprises(found: Comparison, images: Images) -> str:
    """What figures are made of that would surprise; "" where there is none. ``images`` are those
    of training."""
    models = {fits[0].model for name, fits in found.runs.items() if name in found.local.index}
    words = []
    if any(issubclass(MODELS[name], Estimator) for name in models & MODELS.keys()):
        copy = images[0].size * len(images) * 4 / 2**20
        words.append(
            "The memory of a classical model is mostly not the model: it learns from copies of the "
            f"images as numbers of four bytes, of which one takes {copy:,.0f} MiB."
        )
    if "random_forest" in models:
        words.append(
            "A forest hands its trees to threads at every call, which for a single image takes "
            "longer than asking the trees."
        )
    return " ".join(words)


def timed(local: pd.DataFrame) -> str:
    """How far times may be trusted."""
    if not (local["seeds"] > 1).any():
        return TIMED_ONCE
    ratio = table.time_spread(local)
    return (
        f"Times are medians over a model's fits. The slowest fit of a model took up to {ratio:.1f} "
        "times as long as its quickest here, and “faster” is said only beyond that."
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
