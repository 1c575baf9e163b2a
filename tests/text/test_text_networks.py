"""Networks of texts: token ids or embeddings, padding that does not count, costs, and what they remember."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from fedrevive.core.feature_statistics import recorded_inputs, statistic_layers
from fedrevive.core.text_network import masked_mean, random_tokens, unreached_parameters
from fedrevive.settings.errors import UserError
from fedrevive.settings.model import T5EncoderSettings, TextTransformerSettings
from fedrevive.tasks import t5
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model, forward_flops

INFO = TaskInfo("toy", (10,), 5, (), (), 50)
COMPACT = TextTransformerSettings(width=16, layers=2)


def tokens(rows: int = 4) -> torch.Tensor:
    """[rows, 10]: full, half, empty, full, ..."""
    random = torch.Generator().manual_seed(3)
    texts = random_tokens(rows, 10, 50, random)
    texts[1, 5:] = 0
    texts[2] = 0
    return texts


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory):
    """A tiny random encoder as transformers saves one; to import it takes seconds, so what needs it is slow."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("t5")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = transformers.T5Config(vocab_size=60, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=2)
        transformers.T5EncoderModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["text_transformer", pytest.param("t5_encoder", marks=pytest.mark.slow)])
def settings(request):
    if request.param == "text_transformer":
        return COMPACT
    return T5EncoderSettings(folder=str(request.getfixturevalue("t5_folder")))


@pytest.fixture
def model(settings):
    model = build_model(settings, INFO, seed=2)
    model.module.eval()
    return model


def test_embeddings_of_a_text_are_that_text(model):
    texts = tokens()
    embedded = F.embedding(texts, model.module.table()) * (texts != 0).unsqueeze(2)
    torch.testing.assert_close(model.module(embedded), model.module(texts), atol=0, rtol=0)


def test_padding_does_not_count(model):
    texts = tokens()
    logits = model.module(texts)
    assert logits.shape == (4, 5)
    assert bool(torch.isfinite(logits).all()), "an empty text has logits too"
    torch.testing.assert_close(model.module(texts[1:2, :5]), logits[1:2], atol=1e-5, rtol=1e-5)


def test_samples_of_a_batch_do_not_depend_on_each_other(model):
    texts = tokens()
    alone = torch.cat([model.module(text[None]) for text in texts])
    torch.testing.assert_close(alone, model.module(texts), atol=1e-5, rtol=1e-5)


def test_cost_is_what_torch_counts(model):
    with FlopCounterMode(display=False) as counter:
        model.module(tokens()[:1])
    assert forward_flops(model, INFO) == counter.get_total_flops()


def test_initial_weights_are_a_function_of_the_seed(settings):
    first, again, other = (build_model(settings, INFO, seed).vector for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_training_moves_the_statistics(model):
    before = model.buffers.clone()
    model.module(tokens())
    assert torch.equal(model.buffers, before)
    model.module.train()
    layers = statistic_layers(model.module)
    with recorded_inputs(layers) as features:
        model.module(tokens())
    assert len(layers) == 2
    for layer, reached in zip(layers, features, strict=True):
        assert reached.shape == (4, 16)
        torch.testing.assert_close(layer.running_mean, 0.1 * reached.mean(0))
        torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * reached.var(0, correction=0))


def test_masked_mean():
    features = torch.arange(12.0).view(2, 3, 2)
    present = torch.tensor([[True, False, True], [False, False, False]])
    assert masked_mean(features, present).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_random_tokens_use_every_id_but_padding():
    drawn = random_tokens(200, 10, 6, torch.Generator().manual_seed(0))
    assert sorted(set(drawn.flatten().tolist())) == [1, 2, 3, 4, 5]


def test_a_trained_table_is_the_first_parameter_and_embeddings_pass_it_by():
    model = build_model(COMPACT, INFO, seed=2)
    assert model.spec.parameters[0] == ("embedding", (50, 16))
    texts = tokens()
    assert unreached_parameters(model.module, texts) == 0
    embedded = torch.randn(4, 10, 16)
    unreached = unreached_parameters(model.module, embedded)
    assert unreached == 50 * 16
    model.module(embedded).square().sum().backward()
    assert not model.gradient[:unreached].any()
    assert model.gradient[unreached:].any()
    model.module(texts).square().sum().backward()
    assert model.gradient[16:unreached].any()
    assert not model.gradient[:16].any(), "the row of padding has no gradient"


@pytest.mark.slow
def test_a_frozen_table_is_no_part_of_the_model(t5_folder):
    model = build_model(T5EncoderSettings(folder=str(t5_folder)), INFO, seed=2)
    saved = load_file(t5_folder / "model.safetensors")
    torch.testing.assert_close(model.module.table(), saved["shared.weight"])
    table = 60 * 16
    trained = sum(value.numel() for value in saved.values()) - table
    assert model.spec.parameter_count == trained + (16 * 16 + 16) + (16 * 5 + 5)
    assert unreached_parameters(model.module, torch.randn(1, 2, 16)) == 0
    assert "embeddings" not in model.state_dict()
    other = build_model(T5EncoderSettings(folder=str(t5_folder)), INFO, seed=3)
    other.load(model.vector)
    assert torch.equal(other.module.eval()(tokens()), model.module.eval()(tokens()))


@pytest.mark.slow
def test_the_encoder_is_that_of_transformers(t5_folder):
    transformers = pytest.importorskip("transformers")
    model = build_model(T5EncoderSettings(folder=str(t5_folder)), INFO, seed=2)
    reference = transformers.T5EncoderModel.from_pretrained(t5_folder).eval()
    texts = tokens()
    framed = torch.cat([torch.ones(4, 1, dtype=torch.int64), texts], dim=1)
    mask = torch.cat([torch.ones(4, 1), (texts != 0).float()], dim=1)
    first = reference(input_ids=framed, attention_mask=mask).last_hidden_state[:, 0]
    module = model.module.eval()
    expected = module.head(torch.tanh(module.dense(first)))
    torch.testing.assert_close(module(texts), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "code", "line"),
    [
        (lambda folder: (folder / "config.json").unlink(), 2, "lacks config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), 2, "lacks model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{}"), 3, "names no vocab_size"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), 3, "holds no T5 encoder"),
        (lambda folder: without(folder / "model.safetensors", "o.weight"), 3, "lacks encoder.block"),
    ],
    ids=["config", "weights", "empty", "damaged", "incomplete"],
)
def test_a_folder_that_is_no_encoder_is_one_line(t5_folder, tmp_path, spoil, code, line):
    for path in t5_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    settings = T5EncoderSettings(folder=str(tmp_path))

    def checked_and_built():
        t5.check(settings, 50)
        return build_model(settings, INFO, seed=1)

    with pytest.raises(UserError, match=line) as raised:
        checked_and_built()
    assert raised.value.exit_code == code
    assert str(raised.value).startswith("model.folder: ")


def without(path, ending):
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if not name.endswith(ending)}, path)


@pytest.mark.slow
def test_a_larger_vocabulary_than_the_encoders_is_one_line(t5_folder):
    assert json.loads((t5_folder / "config.json").read_text())["vocab_size"] == 60
    t5.check(T5EncoderSettings(folder=str(t5_folder)), 60)
    with pytest.raises(UserError, match=r"task.vocabulary: 61 exceeds the 60 token ids"):
        t5.check(T5EncoderSettings(folder=str(t5_folder)), 61)
