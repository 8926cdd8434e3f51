"""Models whose arithmetic our view does not have are refused where a number would be silently wrong."""

from __future__ import annotations

import pytest
import torch
from tiny import over, prompts

from llmtrace.circuits import Graph
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.influence import direct_logit_attribution
from llmtrace.interventions import ablate, path_patch
from llmtrace.models import load, require_additive, require_readout
from llmtrace.models.probes import additivity

SIZES = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


def random_bridge(family: str, **options: object):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **options)
    hf = getattr(transformers, f"{family}ForCausalLM")(config).double().eval()
    for parameter in hf.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return load(hf, dtype="float64", backend="bridge")


@over()
def test_every_model_of_the_laws_is_what_our_view_says(tiny):
    require_readout(tiny.model)
    require_additive(tiny.model, "This test")


def test_a_scale_on_the_logits_is_refused_by_every_metric():
    """Final norm and W_U are not the model's own logits; not folded, as in a model that llmtrace did not load."""
    granite = random_bridge("Granite")
    granite.cfg.logits_scaling = granite.original_model.config.logits_scaling = 4.0
    for method in (direct_logit_attribution, path_patch, ablate):
        with pytest.raises(UnsupportedError, match="logits are something else"):
            method(granite, prompts())


def test_a_multiplier_on_the_residual_stream_is_refused_by_what_needs_sums():
    """Not folded, as in a model that llmtrace did not load."""
    granite = random_bridge("Granite")
    for layer in granite.original_model.model.layers:
        layer.original_component.residual_multiplier = 0.3
    with pytest.raises(UnsupportedError, match="A graph of edges needs writes that add up"):
        Graph.of(granite)
    with pytest.raises(UnsupportedError, match="add up"):
        path_patch(granite, prompts())
    assert ablate(granite, prompts()).change.abs().max() > 0, "ablation needs no sums and still works"


def test_biases_inside_a_gate_are_refused():
    llama = random_bridge("Llama", mlp_bias=True)
    with pytest.raises(UnsupportedError, match=r"mlp\.hook_pre"):
        Graph.of(llama)


def test_the_answer_follows_the_weights():
    """Asked once per state of the weights: an edit in place is seen."""
    model = load("tiny-english")
    require_additive(model, "This test")
    with torch.no_grad():
        model.blocks[0].attn.W_O.mul_(1.5)
    require_additive(model, "This test")  # still a transformer


def test_a_verdict_is_asked_for_again_when_the_model_has_changed(monkeypatch):
    """Once per state: weights edited in place, by `.data` or by a setting are another model."""
    model, asked = load("tiny-english", backend="bridge"), []
    monkeypatch.setitem(additivity.ASK, "writes", lambda model: asked.append(1) or "")

    def seldom(change):
        change()
        before = len(asked)
        require_additive(model, "This test", reads=())
        require_additive(model, "This test", reads=())
        return len(asked) - before

    weight = model.blocks[0].attn.o.original_component.weight
    assert seldom(lambda: None) == 1 and seldom(lambda: None) == 0
    with torch.no_grad():
        assert seldom(lambda: weight.mul_(1.5)) == 1
    assert seldom(lambda: weight.data.mul_(1.5)) == 1
    assert seldom(lambda: None) == 0


def test_bfloat16_runs_every_method():
    model = load("tiny-english", dtype="bfloat16")
    from llmtrace.circuits import discover, evaluate
    from llmtrace.prompts import ioi

    some = ioi(model, 8)
    exact = path_patch(load("tiny-english"), some)
    assert torch.allclose(path_patch(model, some).mean(), exact.mean(), atol=0.25)
    assert ablate(model, some, ablation="zero").change.abs().max() > 1
    assert direct_logit_attribution(model, some).gap.abs().max() < 0.5
    assert evaluate(model, some, discover(model, some, n_edges=200), draws=1).alone.isfinite().all()


def test_a_callable_that_measures_nothing_at_the_clean_run_is_refused_by_eap():
    from llmtrace.circuits import eap
    from llmtrace.metrics import custom, kl
    from llmtrace.models import logits
    from llmtrace.prompts import ioi

    model = load("tiny-english")
    some = ioi(model, 8)
    with torch.no_grad():
        clean, corrupted = logits(model, some.clean), logits(model, some.corrupted)
    end = some.positions["END"]
    here = clean[torch.arange(8), end].log_softmax(-1)

    def divergence(rows, reference):
        return (reference.exp() * (reference - rows.log_softmax(-1))).sum(-1)

    with pytest.raises(InputError, match="gradient of divergence is zero"):
        eap(model, some, metric=custom("divergence", divergence, end, context=(here,)))
    assert eap(model, some, metric=kl(end, corrupted)).values.abs().max() > 0.1, "KL to another run has a slope"
