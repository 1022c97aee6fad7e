"""Figures, their goals and the table."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One line of the table. `value` is compared with `must`; less is better unless `at_least`."""

    name: str
    must: float | None = None
    then: float | None = None
    value: float | None = None
    unit: str = ""
    at_least: bool = False
    note: str = ""
    judged: bool = True
    # The machine was too busy to say: neither reached nor refuted, and so not shown.
    noisy: bool = False
    data: dict = field(default_factory=dict)

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        if self.must is None or not self.judged:
            return ""
        if self.noisy:
            return "too noisy"
        if not self.reaches(self.must):
            return "**FAIL**"
        return "pass, then" if self.then is not None and self.reaches(self.then) else "pass"

    @property
    def failed(self):
        if self.must is None or not self.judged:
            return False
        return self.value is None or self.noisy or not self.reaches(self.must)

    def reaches(self, goal):
        return self.value >= goal if self.at_least else self.value <= goal


@dataclass
class Pairs:
    """Ratios of a subject to its reference, one of each round."""

    ratios: list = field(default_factory=list)
    subject: list = field(default_factory=list)
    reference: list = field(default_factory=list)

    def add(self, subject, reference):
        self.subject.append(subject)
        self.reference.append(reference)
        self.ratios.append(subject / reference)

    @property
    def median(self):
        return statistics.median(self.ratios)

    @property
    def of_sums(self):
        return sum(self.subject) / sum(self.reference)

    def middle(self):
        """Between which ratios the middle half lies."""
        if len(self.ratios) < 4:
            return f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        low, _, high = statistics.quantiles(self.ratios, n=4)
        return f"{low:.2f} to {high:.2f}"


def number(value, unit=""):
    if value is None:
        return ""
    text = f"{value:.0f}" if unit and float(value).is_integer() else f"{value:.2f}"
    return f"{text} {unit}".strip()


def table(figures):
    """The figures as a Markdown table."""
    lines = ["| figure | must | then | measured | verdict | note |", "|---|---|---|---|---|---|"]
    for figure in figures:
        cells = [
            figure.name,
            number(figure.must, figure.unit),
            number(figure.then, figure.unit),
            number(figure.value, figure.unit),
            figure.verdict,
            figure.note,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
