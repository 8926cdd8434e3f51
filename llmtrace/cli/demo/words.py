"""What the demo says: on the screen and in the report, the same sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import unit_of
from llmtrace.cli.output.screen import cell, decimals, number
from llmtrace.nodes import Head, parse_node

if TYPE_CHECKING:
    from llmtrace.cli.demo.steps import Findings
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.plots import Section

SHOWN_HEADS = 12
Table = tuple[list[str], list[list[Any]]]


def show(screen: Screen, found: Findings, folder: Path) -> list[Next]:
    arch = found.arch
    size = f"{arch.n_layers} layers x {arch.n_heads} heads, trained on five small tasks in English"
    screen.say(f"{found.trace.provenance['model']}: {size}. Here: {described(found.prompts)}.")
    for heading, text, table in _story(found):
        screen.heading(heading)
        screen.say(text)
        if table is not None:
            screen.say()
            screen.table(*table)
    return nexts(found, folder)


def sections(found: Findings) -> list[Section]:
    """The story, its tables and figures, where the strongest head looks, and the prompts."""
    from pandas import DataFrame

    from llmtrace.plots import Section, plot

    figures: list[dict[str, Any]] = [
        {},
        {"Scores of all nodes": found.scores},
        {"Path patching of all heads": found.paths, "Mean ablation of all heads": found.ablation},
        {"The circuit": found.circuit},
        {"Faithfulness": found.report},
    ]
    parts = []
    for (heading, text, table), nouns in zip(_story(found), figures, strict=True):
        frame = None if table is None else DataFrame([list(map(cell, row)) for row in table[1]], columns=table[0])
        parts.append(Section(heading, text, table=frame))
        parts += [Section(name, figure=plot(noun)) for name, noun in nouns.items()]
    head = _strongest(found)
    where = (
        f"Attention of head {head.label}, the one with the largest score, on the first sentence. The last row is "
        "where it looks before the answer."
    )
    parts.append(Section("Where does it look?", where, figure=plot(found.trace, layer=head.layer, head=head.head)))
    return parts


def nexts(found: Findings, folder: Path) -> list[Next]:
    """Command lines that work as they stand."""
    head = _strongest(found).label
    missed = [parse_node(row.head).label for row in found.rows if row.verdict.startswith("missed")][:3]
    n, seed = len(found.prompts), (found.held_out.seed or 0) + 1
    again = f"-n {n}" + (f" --seed {found.prompts.seed}" if found.prompts.seed else "")
    sources = f"llmtrace influence tiny-english --method source_token_attribution --heads {head} {again}"
    ablate = f"llmtrace ablate tiny-english --nodes {','.join(missed)} --together {again}"
    return [
        (
            f"llmtrace console {folder}",
            "look at it in the browser; llmtrace console tiny-english --task ioi changes things",
        ),
        (sources, f"which words head {head} takes its push from"),
        *([(ablate, "remove what the score missed, all at once")] if missed else []),
        (f"llmtrace evaluate tiny-english {folder} -n {n} --seed {seed}", "the circuit on other sentences"),
        ("llmtrace discover tiny-english --task greater_than", "the circuit of another task"),
        ("llmtrace paths gpt2", "the second test on GPT-2 small (downloads 0.5 GB)"),
    ]


def _story(found: Findings) -> list[tuple[str, str, Table | None]]:
    """(heading, text, table) of each step."""
    return [_prediction(found), _claim(found), _test(found), _circuit(found), _held_out(found)]


def _facts(found: Findings) -> str:
    return f"{found.metric} in {unit_of(found.metric)}, {len(found.prompts)} prompts, seed {found.prompts.seed}"


def _prediction(found: Findings) -> tuple[str, str, Table]:
    return (
        "1. What does it predict?",
        f"  {found.prompts.texts[0]} ...\n\nThe right name (named once) beats the wrong one (named twice) on "
        f"{found.right} of {len(found.prompts)} prompts, by {decimals(found.clean)} on average ({_facts(found)}).",
        (["next token", "probability"], [[token, decimals(p, 3)] for token, p in found.prediction]),
    )


def _claim(found: Findings) -> tuple[str, str, Table]:
    return (
        "2. Which heads push the answer?",
        "Direct logit attribution: what each head adds to the right name's logit minus the wrong one's on the "
        f"straight path to the output ({_facts(found)}). It reads one clean run, so it is a claim.",
        (["head", "score"], [[parse_node(row.head).label, row.direct_attribution] for row in found.rows[:5]]),
    )


def _test(found: Findings) -> tuple[str, str, Table]:
    rank = found.rank_correlation
    shown = [row for row in found.rows if row.verdict != "-"][:SHOWN_HEADS]
    return (
        "3. Is the claim true?",
        "Two tests change the model instead of reading it. Path patch: the head tells the output (MLPs included) "
        "what it would say on the corrupted sentence, which has three other names. Ablation: for all later parts "
        f"the head's output becomes its average over the corrupted sentences. Numbers are changes ({_facts(found)}): "
        "a head that pushes the answer up must bring it down.\n\nShown are heads whose score reaches "
        f"{decimals(found.threshold)} (5 % of the clean value), and heads whose ablation does with an interval on "
        f"one side of 0. Rank correlation of the score with the tests over all {len(found.rows)} heads (Spearman, 1 "
        f"is the same order): path patch {number(rank['path_patching'])}, ablation {number(rank['mean_ablation'])}. "
        "Missed: the score cannot see a head that acts via MLPs or via later heads.",
        (
            ["head", "score", "path patch", "ablation", "95 % interval", "verdict"],
            [
                [
                    parse_node(row.head).label,
                    row.direct_attribution,
                    row.path_patching,
                    row.mean_ablation,
                    f"{number(row.mean_ablation_low)} to {number(row.mean_ablation_high)}",
                    row.verdict,
                ]
                for row in shown
            ],
        ),
    )


def _circuit(found: Findings) -> tuple[str, str, Table]:
    n_edges, graph = found.circuit.n_edges, found.circuit.graph
    return (
        "4. Which connections carry it?",
        f"Edge attribution patching scores all {graph.n_edges:,} edges between heads, MLPs and output; a greedy walk "
        "from the output keeps the best. Faithfulness is how much is left when all other edges carry the corrupted "
        f"sentence: 0 nothing, 1 everything ({_facts(found)}). The first size over {found.enough:.0%} is the "
        f"circuit: {n_edges} edges, {n_edges / graph.n_edges:.0%} of the model.",
        (["edges", "faithfulness"], [[edges, decimals(value)] for edges, value in found.sizes]),
    )


def _held_out(found: Findings) -> tuple[str, str, None]:
    report, (low, high) = found.report, found.report.interval()
    chance = report.random_faithfulness.tolist()
    return (
        "5. Does the circuit hold on sentences that did not choose it?",
        f"Faithfulness {decimals(report.faithfulness)}, 95 % interval over prompts {decimals(low)} to "
        f"{decimals(high)} ({report.metric}, {len(found.held_out)} held-out prompts, seed {found.held_out.seed}, "
        f"{report.ablation} ablation of the rest).\n{len(chance)} random circuits of the same size: "
        f"{decimals(min(chance))} to {decimals(max(chance))}.",
        None,
    )


def _strongest(found: Findings) -> Head:
    head = parse_node(found.rows[0].head)
    assert isinstance(head, Head)
    return head
