#!/usr/bin/env bash
# circuitsvis 1.43.3: tokens that look like a tag are not shown. The text of a token becomes HTML as it is, so "<s>",
# "</s>", "<pad>", "<bos>" and "<eos>", which begin and end the texts of Llama's, Mistral's and Gemma's tokenizers, are
# empty elements in colored_tokens: coloured boxes of no width. "<|endoftext|>" of GPT-2 is no tag, and is shown. The
# tokens of a line of code go the same way ("<div>"). A newline is meant to be shown as a pilcrow and is a space: all
# white space is replaced before newlines are looked for. Seen in Chromium too; here jsdom 26.1.0 runs the page.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 numpy==2.4.6 importlib-metadata==8.7.0
"$work/env/bin/pip" install -q --no-deps circuitsvis==1.43.3
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" jsdom@26.1.0
"$work/env/bin/python" - "$work/page.html" <<'PYTHON'
import sys
from pathlib import Path

from circuitsvis.tokens import colored_tokens

tokens = ["<s>", "<bos>", " Mary", "</s>", "<|endoftext|>", "<pad>", "\n"]
# jsdom runs no modules; nothing in the page needs it to be one
page = colored_tokens(tokens, [0.5] * len(tokens)).local_src.replace(' crossorigin type="module"', "")
Path(sys.argv[1]).write_text(f"<!doctype html><meta charset=utf-8><body>{page}", encoding="utf-8")
PYTHON
cd "$work"
node - <<'NODE'
const { readFileSync } = require("node:fs");
const { JSDOM, VirtualConsole } = require("jsdom");
const page = new JSDOM(readFileSync("page.html", "utf8"), {
  runScripts: "dangerously",
  pretendToBeVisual: true,
  virtualConsole: new VirtualConsole(),
});
setTimeout(() => {
  const boxes = [...page.window.document.querySelectorAll(".colored-tokens > span > span")];
  const shown = boxes.map((box) => box.textContent.replaceAll("\u00a0", " "));
  console.log(`circuitsvis 1.43.3 colored_tokens, the text of each box: ${JSON.stringify(shown)}`);
  const expected = ["", "", " Mary", "", "<|endoftext|>", "", " "];
  if (JSON.stringify(shown) !== JSON.stringify(expected)) {
    console.log(`the behaviour has changed: it was ${JSON.stringify(expected)}`);
    process.exit(1);
  }
  process.exit(0);
}, 3000);
NODE
