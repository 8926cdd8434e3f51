#!/usr/bin/env bash
# transformers 5.23.0, a Llama with rope_type "dynamic" and a trained length of 24 tokens: what it says of one and the
# same text of exactly 24 tokens depends on what was read before. After a text of 80 tokens its logits differ, and stay
# so; a text of 23 tokens between the two puts it right. Nothing is cached (use_cache=False), nothing is random: the
# rotary module keeps the frequencies of the longest text, and goes back to its own only below the trained length.
# A reference model that has been used is therefore no reference at the trained length.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 transformers==5.23.0
"$work/env/bin/python" - <<'PYTHON'
import torch
import transformers

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=24,
    rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
)
model = transformers.LlamaForCausalLM(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.2)


def read(length: int) -> torch.Tensor:
    tokens = torch.arange(length)[None] % 100
    with torch.no_grad():
        return model(tokens, use_cache=False).logits


fresh = read(24)
assert torch.equal(read(24), fresh), "the same text twice in a row"
read(80)
after = (read(24) - fresh).abs().max().item()
again = (read(24) - fresh).abs().max().item()
read(23)
healed = (read(24) - fresh).abs().max().item()
print(f"transformers {transformers.__version__}: logits of 24 tokens, largest difference from the first reading")
print(f"  after a text of 80 tokens  {after:.3f}\n  once more                  {again:.3f}")
print(f"  after one of 23 tokens     {healed:.3f}")
assert after > 1e-3 and again == after and healed == 0, "the behaviour has changed"
PYTHON
