"""Train `tiny-english`, the language model that ships inside the package.

    python benchmarks/make_tiny_english.py                # writes llmtrace/models/embedded/tiny-english
    python benchmarks/make_tiny_english.py --steps 200 --out /tmp/smoke

A GPT-2 of 4 layers x 8 heads x 128 over a word tokenizer, trained on a mixture of five small tasks, each of which
needs a mechanism that interpretability papers describe: indirect objects (Wang et al. 2022), induction on random
repeated words (Olsson et al. 2022), greater-than on years (Hanna et al. 2023), the colour of a named object, and an
instruction that names which of two facts to repeat. One template and one name pair in ten are never trained on.

It is a *data* script: the library never trains anything. It needs nothing of llmtrace, and the seed fixes the
result up to the floating-point order of the machine. The figures it reached are in `tiny-english/figures.json`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

SEED = 0
N_CTX = 64
WINDOW = 40  # tokens of one training row
BATCH = 64
MIXTURE = {"indirect_object": 0.27, "induction": 0.43, "greater_than": 0.10, "colour": 0.10, "facts": 0.10}

NAMES = """Mary John Tom Anna Alice Bob Kate Paul James Sarah David Laura Peter Emma Jack Lucy Mark Jane Simon Nina
Adam Rose Carl Ruth Eric Lily Sam Amy Leo Max Dan Martin""".split()
PLACES = "store park school beach office market garden library station museum".split()
OBJECTS = "drink book ball gift key ring map letter flower coin".split()
VERBS = "gave handed passed offered".split()
COLOURS = "red blue green black white brown yellow".split()
EVENTS = "war trip storm voyage".split()
TEMPLATES = [
    "When {A} and {B} went to the {place} , {S} {verb} a {object} to {IO} .",
    "Then {A} and {B} went to the {place} . {S} {verb} a {object} to {IO} .",
    "After {A} and {B} left the {place} , {S} {verb} the {object} to {IO} .",
    "While {A} and {B} were at the {place} , {S} {verb} a {object} to {IO} .",
    "{A} and {B} were working at the {place} . Then {S} decided to give a {object} to {IO} .",
    "Then , {A} and {B} had a long talk at the {place} . After that {S} {verb} the {object} to {IO} .",
]
HELD_OUT_TEMPLATE = "After {A} and {B} went to the {place} , {S} {verb} a {object} to {IO} ."
NUMBERS = [f"{n:02d}" for n in range(100)]
OTHER = "The lasted from the year to So is Fact fact one two : has Repeat . ,".split()


@functools.cache
def vocabulary() -> list[str]:
    words = {w for t in [*TEMPLATES, HELD_OUT_TEMPLATE] for w in t.split() if "{" not in w}
    words |= {*NAMES, *PLACES, *OBJECTS, *VERBS, *COLOURS, *EVENTS, *OTHER}
    return ["<pad>", "<unk>", "<bos>", *sorted(words), *NUMBERS]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words, punctuation marks and pairs of digits, so `1742` reads as the two words `17 42`."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary())}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex(r"\d\d"), "isolated")]
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary().index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<bos>", unk_token="<unk>", pad_token="<pad>",
        model_max_length=N_CTX,
    )  # fmt: skip


def name_pairs(rng: random.Random) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(trained, held out): one unordered pair in ten is never seen together."""
    pairs = list(itertools.combinations(NAMES, 2))
    rng.shuffle(pairs)
    cut = len(pairs) // 10
    return pairs[cut:], pairs[:cut]


TRAINED_PAIRS, HELD_OUT_PAIRS = name_pairs(random.Random(SEED))


def indirect_object(rng: random.Random, pairs=TRAINED_PAIRS, templates=TEMPLATES, third_name=0.1) -> str:
    """Now and then a third name gives (then either of the two receives), so that corrupted prompts are no surprise."""
    a, b = rng.sample(rng.choice(pairs), 2)
    subject, receiver = rng.sample((a, b), 2)
    if rng.random() < third_name:
        subject = rng.choice([n for n in NAMES if n not in (a, b)])
    return rng.choice(templates).format(
        A=a, B=b, S=subject, IO=receiver,
        place=rng.choice(PLACES), verb=rng.choice(VERBS), object=rng.choice(OBJECTS),
    )  # fmt: skip


def induction(rng: random.Random) -> str:
    words = [rng.choice(vocabulary()[3:]) for _ in range(rng.randint(4, 16))]
    return " ".join(words + words)


def greater_than(rng: random.Random) -> str:
    century, start = rng.randint(11, 19), rng.randint(1, 97)
    end = rng.randint(start + 1, 99)
    return (f"The {rng.choice(EVENTS)} lasted from the year {century} {start:02d} "
            f"to the year {century} {end:02d} .")  # fmt: skip


def colour(rng: random.Random) -> str:
    objects, colours = rng.sample(OBJECTS, 3), rng.sample(COLOURS, 3)
    facts = " ".join(f"The {o} is {c} ." for o, c in zip(objects, colours, strict=True))
    asked = rng.randrange(3)
    return f"{facts} So the {objects[asked]} is {colours[asked]} ."


def facts(rng: random.Random) -> str:
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(OBJECTS, 2)
    said = {"one": f"{a} has the {x} .", "two": f"{b} has the {y} ."}
    asked = rng.choice(["one", "two"])
    return f"Fact one : {said['one']} Fact two : {said['two']} Repeat fact {asked} : {said[asked]}"


TASKS: dict[str, Callable[[random.Random], str]] = {
    f.__name__: f for f in (indirect_object, induction, greater_than, colour, facts)
}


def training_batch(rng: random.Random, token: dict[str, int]) -> torch.Tensor:
    """[BATCH, WINDOW] rows: `<bos>`, then sentences of the mixture end to end."""
    rows = []
    for _ in range(BATCH):
        row = [token["<bos>"]]
        while len(row) < WINDOW:
            task = rng.choices(list(MIXTURE), list(MIXTURE.values()))[0]
            row += [token[w] for w in TASKS[task](rng).split()]
        rows.append(row[:WINDOW])
    return torch.tensor(rows)


@torch.no_grad()
def measure(model: GPT2LMHeadModel, token: dict[str, int], n: int = 500) -> dict[str, float]:
    """Accuracy of the first token that the task determines; greater-than: the probability of a later year."""
    model.eval()
    rng = random.Random(SEED + 1)

    def last_logits(words: list[str]) -> torch.Tensor:
        return model(torch.tensor([[token["<bos>"], *(token[w] for w in words)]])).logits[0, -1]

    def accuracy(make: Callable[[], str], after: int) -> float:
        sentences = [make().split() for _ in range(n)]
        return sum(last_logits(s[:after]).argmax().item() == token[s[after]] for s in sentences) / n

    def later_year() -> float:
        words = greater_than(rng).split()[:-2]
        start = int(words[7])
        p = last_logits(words).softmax(-1)
        return sum(p[token[f"{year:02d}"]].item() for year in range(start + 1, 100))

    words = torch.tensor([[rng.randrange(3, len(token)) for _ in range(15)] for _ in range(n)])
    rows = torch.cat([torch.full((n, 1), token["<bos>"]), words, words], dim=1)
    predicted = model(rows).logits[:, 16:-1].argmax(-1)
    io = dict(third_name=0.0)
    return {
        "indirect_object": accuracy(lambda: indirect_object(rng, **io), -2),
        "indirect_object_held_out_pairs": accuracy(lambda: indirect_object(rng, HELD_OUT_PAIRS, **io), -2),
        "indirect_object_held_out_template": accuracy(
            lambda: indirect_object(rng, HELD_OUT_PAIRS, [HELD_OUT_TEMPLATE], **io), -2
        ),
        "induction": (predicted == words[:, 1:]).float().mean().item(),
        "greater_than_probability": sum(later_year() for _ in range(n)) / n,
        "colour": accuracy(lambda: colour(rng), -2),
        "facts": accuracy(lambda: facts(rng), -5),
    }


def train(steps: int) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast, dict[str, float]]:
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = word_tokenizer()
    token = tokenizer.get_vocab()
    bos = token["<bos>"]
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(token), n_positions=N_CTX, n_embd=128, n_layer=4, n_head=8, tie_word_embeddings=False,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=bos, eos_token_id=bos, pad_token_id=token["<pad>"],
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
    warmup_then_cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 200) * 0.5 * (1 + math.cos(math.pi * min(1, s / steps)))
    )
    began = time.time()
    for step in range(1, steps + 1):
        model.train()
        x = training_batch(rng, token)
        logits = model(x).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup_then_cosine.step()
        if step % 500 == 0:
            figures = {k: round(v, 3) for k, v in measure(model, token, 100).items()}
            print(step, f"{loss.item():.3f}", f"{time.time() - began:.0f} s", figures, flush=True)
    # What ships is float16 (half the size); the figures are those of the rounded weights.
    model.half().float()
    return model, tokenizer, {**measure(model, token), "steps": steps, "seconds": round(time.time() - began)}


def main() -> None:
    home = Path(__file__).resolve().parents[1] / "llmtrace/models/embedded/tiny-english"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--out", type=Path, default=home)
    options = parser.parse_args()
    model, tokenizer, figures = train(options.steps)
    model.half().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / "figures.json").write_text(json.dumps({"seed": SEED, **figures}, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
