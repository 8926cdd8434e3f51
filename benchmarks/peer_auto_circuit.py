"""auto-circuit's EAP on a model and prompts from a folder: `speed_discovery.py --peer PYTHON` runs it by that Python.

    python -m venv peer && peer/bin/pip install torch==2.13.0 transformer-lens==2.15.4 transformers==4.51.3 \\
        datasets==3.6.0 plotly==5.24.1 attrs ordered-set blobfile vscode-tqdm
    peer/bin/pip install --no-deps auto-circuit==1.0.1 word2word

Nothing of llmtrace is imported here. In the folder: `model.safetensors`, `model.json` (config), `prompts.safetensors`;
it writes `scores.safetensors` ([node, port] in llmtrace's order) and `times.json` (seconds of EAP and of a forward
pass).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
from auto_circuit.utils.graph_utils import patchable_model
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

REPEATS = 3


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(sys.argv[2]))
    asked = json.loads((folder / "model.json").read_text())
    known = HookedTransformerConfig.__dataclass_fields__
    config = {name: value for name, value in asked.items() if name in known and value is not None}
    model = HookedTransformer(HookedTransformerConfig.from_dict({**config, "dtype": torch.float32, "device": "cpu"}))
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    p = load_file(folder / "prompts.safetensors")
    stock = timed(lambda: model(p["clean"]))
    model.cfg.use_attn_result = True
    model.cfg.use_split_qkv_input = True
    model.cfg.use_hook_mlp_in = True
    wrapped = patchable_model(
        model, factorized=True, slice_output="last_seq", separate_qkv=True, device=torch.device("cpu")
    )
    pairs = PromptDataset(p["clean"], p["corrupted"], list(p["correct"]), list(p["wrong"]))
    loader = PromptDataLoader(pairs, seq_len=None, diverge_idx=0, batch_size=len(p["clean"]), shuffle=False)

    def eap() -> dict[str, Any]:
        for wrapper in wrapped.dest_wrappers:
            wrapper.patch_mask.grad = None
        return mask_gradient_prune_scores(wrapped, loader, None, "logit", "avg_diff", mask_val=0.0)

    seconds = timed(eap)
    save_file({"scores": matrix(wrapped, eap())}, folder / "scores.safetensors")
    (folder / "times.json").write_text(json.dumps({"eap": seconds, "forward": stock}))


def timed(run: Any) -> float:
    run()
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def matrix(model: Any, scores: dict[str, Any]) -> torch.Tensor:
    """Their scores, by name of the module that reads, as [writer, port]: q, k, v of a layer, its MLP, the logits."""
    cfg, columns = model.cfg, []
    nodes = 1 + cfg.n_layers * (cfg.n_heads + 1)
    for layer in range(cfg.n_layers):
        for slot in "qkv":
            columns.append(scores[f"blocks.{layer}.hook_{slot}_input"].T)  # [source, head]
        columns.append(scores[f"blocks.{layer}.hook_mlp_in"].T.reshape(-1, 1))
    columns.append(scores[f"blocks.{cfg.n_layers - 1}.hook_resid_post"].T.reshape(-1, 1))
    return torch.cat([torch.nn.functional.pad(c, (0, 0, 0, nodes - len(c))) for c in columns], 1).contiguous()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
