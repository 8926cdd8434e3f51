#!/usr/bin/env bash
# transformer-lens 3.9.0 beside transformers 5.23.0: a PhiMoE that transformers itself has saved does not boot as a
# TransformerBridge ("Could not determine supported architecture from config"), though the family is in its list. The
# list spells the class as the first files on the hub do, "PhiMoEForCausalLM"; transformers' class, and so what
# save_pretrained writes under "architectures", is "PhimoeForCausalLM". With that one word changed in config.json the
# same folder boots and gives the same logits. MPT and JetMoE are spelt two ways in the same manner.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 transformers==5.23.0 transformer-lens==3.9.0
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
import json
import logging
from pathlib import Path

logging.disable(logging.WARNING)
import tokenizers
import torch
import transformers
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformer_lens.model_bridge import TransformerBridge

config = transformers.PhimoeConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=24, max_position_embeddings=32, num_local_experts=4, num_experts_per_tok=2,
    bos_token_id=0, eos_token_id=0, pad_token_id=0,
)
model = transformers.PhimoeForCausalLM(config).eval()
folder = Path("phimoe")
model.save_pretrained(folder)
words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, bos_token="w0", eos_token="w0", pad_token="w0", unk_token="w0"
).save_pretrained(folder)
written = json.loads((folder / "config.json").read_text())
print(f"save_pretrained writes {written['architectures']}")
assert written["architectures"] == ["PhimoeForCausalLM"]
assert "PhiMoEForCausalLM" in SUPPORTED_ARCHITECTURES and "PhimoeForCausalLM" not in SUPPORTED_ARCHITECTURES
assert not hasattr(transformers, "PhiMoEForCausalLM")
try:
    TransformerBridge.boot_transformers(str(folder))
except ValueError as refused:
    print(f"as saved: ValueError: {str(refused)[:60]}...")
else:
    raise SystemExit("the behaviour has changed: it boots as saved")
(folder / "config.json").write_text(json.dumps(written | {"architectures": ["PhiMoEForCausalLM"]}))
bridge = TransformerBridge.boot_transformers(str(folder))
tokens = torch.arange(5)[None]
with torch.no_grad():
    off = (bridge(tokens) - model(tokens).logits).abs().max().item()
print(f"with the other spelling: boots, logits within {off:.1e}")
assert off < 1e-5, "the behaviour has changed"
PYTHON
