"""Sentences made from the numbers, never stronger than they are.

An interval of a paired difference that includes zero is "no evidence of a difference", with what it leaves
open. All intervals cover the chance of the evaluation episodes alone: one training run a method says nothing
of other seeds.
"""

from dataclasses import dataclass

from postbc.reporting.results import Difference, Evaluation, difference_of, method_title

Curves = dict[str, dict[str, list[float]]]
CAVEAT = (
    "Intervals are 95 % and cover the choice of evaluation episodes only. Each method was trained once, so "
    "none of them says how the comparison would come out with other training seeds."
)


_NO_COVERAGE = "This run did not measure coverage, and success does not stand for it."


@dataclass(frozen=True)
class Answer:
    """One question, a verdict of a few words and the numbers behind it."""

    question: str
    verdict: str
    detail: str


def percent(share: float) -> str:
    """0.4 → 40.0 %."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A signed difference of shares, in percentage points."""
    return f"{100 * share:+.1f}".replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval of shares in percent."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def difference_words(difference: Difference) -> str:
    """Value and interval of a paired difference in points."""
    interval = f"{points(difference.low)} to {points(difference.high)}"
    return f"{points(difference.value)} points (95 % interval {interval})"


def _verdict(difference: Difference | None, better: str, worse: str) -> str:
    if difference is None:
        return "Not measured"
    return {1: better, -1: worse, 0: "No evidence of a difference"}[difference.sign]


def _paired(difference: Difference | None) -> str:
    if difference is None:
        return "This run has no paired difference here."
    words = f"PostBC minus BC over the same starts: {difference_words(difference)}."
    if difference.sign:
        return words
    loss, gain = max(0.0, -difference.low), max(0.0, difference.high)
    return f"{words} It leaves room for a loss of {100 * loss:.1f} and for a gain of {100 * gain:.1f} points."


def _start(evaluation: Evaluation) -> Answer:
    difference = evaluation.differences.get("pretrained")
    verdict = _verdict(difference, "PostBC started better", "PostBC started worse")
    return Answer("Did PostBC start as well as BC?", verdict, _paired(difference))


def _cover(evaluation: Evaluation) -> Answer:
    question, coverage = "Did it cover more?", evaluation.coverage
    if not coverage or "difference" not in coverage:
        return Answer(question, "Not measured", _NO_COVERAGE)
    difference = difference_of(coverage["difference"])
    shares = ", ".join(
        f"{method_title(method)} {percent(row['value'])} ({span(row['low'], row['high'])})"
        for method, row in coverage["methods"].items()
    )
    detail = f"{coverage['measure']}: {shares}. {_paired(difference)}"
    return Answer(question, _verdict(difference, "PostBC covered more", "PostBC covered less"), detail)


def _mean_on_the_way(curve: dict[str, list[float]], until: float) -> float:
    """Mean success over the finetuning steps (trapezoids), the usual area under a learning curve.

    A curve that ended before ``until`` steps, because it was good enough, goes on as it ended.
    """
    steps, success = [*curve["env_steps"], until], [*curve["success"], curve["success"][-1]]
    if steps[-1] <= steps[0]:
        return success[-1]
    pairs = zip(zip(steps, success, strict=True), zip(steps[1:], success[1:], strict=True), strict=False)
    return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairs) / (steps[-1] - steps[0])


def _faster(evaluation: Evaluation, curves: Curves) -> Answer:
    difference = evaluation.differences.get("finetuned_sim")
    verdict = _verdict(difference, "PostBC ended better", "PostBC ended worse")
    detail = f"At the end of finetuning in simulation: {_paired(difference)}"
    if {"bc", "postbc"} <= curves.keys():
        both = {m: curves[m] for m in ("bc", "postbc")}
        until = max(curve["env_steps"][-1] for curve in both.values())
        means = " and ".join(f"{method_title(m)} {percent(_mean_on_the_way(c, until))}" for m, c in both.items())
        detail += f" Mean success along the way was {means}: one curve each, which describes and proves nothing."
    return Answer("Did it finetune faster?", verdict, detail)


def _robot(evaluation: Evaluation) -> Answer | None:
    difference = evaluation.differences.get("finetuned_robot")
    if difference is None:
        return None
    verdict = _verdict(difference, "PostBC ended better", "PostBC ended worse")
    return Answer("And on the robot?", verdict, f"After finetuning there: {_paired(difference)}")


def answers(evaluation: Evaluation, curves: Curves) -> list[Answer]:
    """The questions that this project asks, answered from one run; ``curves`` are those in simulation."""
    asked = [_start(evaluation), _cover(evaluation), _faster(evaluation, curves), _robot(evaluation)]
    return [answer for answer in asked if answer is not None]


def zero_control(evaluation: Evaluation) -> str:
    """What finetuning has to beat to count as learning, in words; empty where the control was not run."""
    control = evaluation.results.get("pretrained_zero", {})
    if not control:
        return ""
    reached = ", ".join(f"{method_title(m)} {percent(r.success)}" for m, r in sorted(control.items()))
    return (
        f"With its latent noise at zero and no finetuning at all, the pretrained policy reaches {reached}. A "
        "finetuned policy shows learning only by what it adds to that."
    )
