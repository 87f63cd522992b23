"""Figures as inline SVG; the bytes depend on the numbers alone: fixed ids, no date, no address."""

import io
import re
from typing import Any

from postbc.reporting.results import Evaluation, life_title, method_title

COLOURS = {  # readable on light and on dark
    "bc": "#5b7fb4",
    "sigma_bc": "#8a8f5a",
    "postbc": "#d2691e",
    "postbc_mixture": "#8b6fb0",
    "postbc_conditional": "#4f9d8f",
}
_OTHER = "#8b6fb0"
_INK = "#123456"  # stands for the page's text colour until the SVG is written
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.18,
    "grid.color": _INK,
    "legend.frameon": False,
}


def _svg(figure: Any, title: str) -> str:
    """The figure as an <svg> element that takes the text colour of the page around it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    label = title.replace('"', "'")
    return svg.replace(_INK, "currentColor").replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def _draw(title: str, width: float, height: float, panels: int, paint: Any) -> str:
    """Open a figure with this module's style, let ``paint`` fill its axes, return its SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
        paint(axes)
        return _svg(figure, title)


def success_figure(evaluation: Evaluation) -> str:
    """Success of every policy with its interval, one line a life, one colour a method."""

    def paint(axes: Any) -> None:
        lives, methods, (ax,) = list(evaluation.results), evaluation.methods, axes
        for number, method in enumerate(methods):
            known = [(i, row[method]) for i, row in enumerate(evaluation.results.values()) if method in row]
            offset = 0.16 * (number - (len(methods) - 1) / 2)
            x, y = [100 * r.success for _, r in known], [i + offset for i, _ in known]
            width = [
                [100 * (r.success - r.low) for _, r in known],
                [100 * (r.high - r.success) for _, r in known],
            ]
            colour = COLOURS.get(method, _OTHER)
            ax.errorbar(x, y, xerr=width, fmt="o", color=colour, lw=2, ms=6, label=method_title(method))
        ax.set_yticks(range(len(lives)), [life_title(life) for life in lives])
        ax.set_ylim(len(lives) - 0.5, -0.5)
        ax.set_xlim(-2, 102)
        ax.set_xlabel("success, % of held-out episodes, with 95 % interval")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(methods))

    return _draw("Success by policy", 9, 1.2 + 0.5 * max(len(evaluation.results), 1), 1, paint)


def curves_figure(stages: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Learning curves: heading → method → columns (env_steps, success, perhaps low and high)."""

    def paint(axes: Any) -> None:
        for ax, (heading, curves) in zip(axes, stages.items(), strict=True):
            for method, curve in curves.items():
                colour, percent = (
                    COLOURS.get(method, _OTHER),
                    {k: [100 * v for v in c] for k, c in curve.items()},
                )
                ax.plot(
                    curve["env_steps"],
                    percent["success"],
                    "o-",
                    color=colour,
                    ms=4,
                    label=method_title(method),
                )
                if {"low", "high"} <= curve.keys():
                    ax.fill_between(curve["env_steps"], percent["low"], percent["high"], color=colour, alpha=0.16, lw=0)
            ax.set_title(heading, loc="left", fontsize=10)
            ax.set_xlabel("finetuning steps")
            ax.set_ylim(-2, 102)
            ax.legend(loc="best")
        axes[0].set_ylabel("success, %")

    return _draw("Learning curves", 4.6 * max(len(stages), 1.4), 3.2, len(stages), paint)


def actions_figure(states: dict[str, dict[str, list[list[float]]]]) -> str:
    """Sampled actions at a few states: one panel a state, one row an action dimension, one line of points a method."""
    first = next(iter(states.values()))
    size, who = len(next(iter(first.values()))[0]), [name for name in first if name != "demonstrated"]

    def paint(axes: Any) -> None:
        for ax, (state, samples) in zip(axes, states.items(), strict=True):
            for number, name in enumerate(who):
                points = [(v, d + 0.7 * (number + 0.5) / len(who)) for one in samples[name] for d, v in enumerate(one)]
                x, y = zip(*points, strict=True)
                ax.plot(x, y, "|", ms=7, alpha=0.5, color=COLOURS.get(name, _INK), label=method_title(name))
            for d, value in enumerate(samples["demonstrated"][0]):
                ax.plot([value, value], [d, d + 0.7], color=_INK, lw=1.6, label=None if d else "demonstrated")
            ax.set_title(state, loc="left", fontsize=10)
            ax.set_xlim(-1.08, 1.08)
            ax.set_xlabel("in half ranges")
        axes[0].set_yticks([d + 0.35 for d in range(size)], [f"action {d}" for d in range(size)])
        axes[0].set_ylim(size - 0.1, -0.2)
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(who) + 1)

    return _draw("Sampled actions", 10, 1.6 + 0.35 * size, len(states), paint)


def coverage_figure(coverage: dict[str, Any]) -> str:
    """Success of the best of n tries before any finetuning, one curve a method."""

    def paint(axes: Any) -> None:
        (ax,) = axes
        for method, row in coverage["methods"].items():
            curve, colour = [100 * share for share in row["best_of"]], COLOURS.get(method, _OTHER)
            ax.plot(range(1, len(curve) + 1), curve, "o-", ms=4, color=colour, label=method_title(method))
        ax.set_xlabel("tries from the same start")
        ax.set_ylabel("at least one success, %")
        ax.set_ylim(-2, 102)
        ax.legend(loc="lower right")

    return _draw("Best of n tries", 6, 3.2, 1, paint)
