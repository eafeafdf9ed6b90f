"""The heads' equations, against values computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from workloads.tclsta.collaboration import CoAttention, CollaborationHead, Dropout, Fusion, Guided
from workloads.tclsta.heads import Saliency, StreamHeads, TemporalAttention, weighted_pool
from workloads.tclsta.stages import Clock


def keep(x):
    return x


def fill(module, value):
    """Every parameter of a module that is not its class's last layer."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def random_parameters(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def normalised(features):
    """Mean 0 and variance 1 over the features of a frame."""
    mean, variance = features.mean(-1, keepdim=True), features.var(-1, unbiased=False, keepdim=True)
    return (features - mean) / (variance + 1e-5).sqrt()


def stream(temporal="lstm", weighted=True, channels=3, classes=4):
    return random_parameters(StreamHeads(channels, 5, classes, temporal=temporal, weighted=weighted))


def test_pooling_weighs_positions_by_the_softmax_of_the_map():
    maps = torch.tensor([[[[2.0, 6.0]], [[0.0, 4.0]]]])  # two channels of 1 x 2
    saliency = torch.tensor([[[0.0, math.log(3.0)]]])  # weights 1/4 and 3/4
    torch.testing.assert_close(weighted_pool(maps, saliency), torch.tensor([[5.0, 3.0]]))


def test_the_class_activation_map_is_that_of_the_class_that_scores_highest():
    saliency = Saliency(1, 2, 2)
    with torch.no_grad():
        saliency.conv.weight.zero_()
        saliency.conv.weight[:, 0, 1, 1] = torch.tensor([1.0, -1.0])  # filters relu(x) and relu(-x)
        saliency.conv.bias.zero_()
        saliency.out.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 5.0]]))
        saliency.out.bias.copy_(torch.tensor([0.0, 1.0]))
    maps = torch.tensor([[[[4.0, -2.0]]], [[[1.0, -3.0]]]])  # means of the filters: (2, 1) and (0.5, 1.5)
    logits, activation = saliency(maps)
    torch.testing.assert_close(logits, torch.tensor([[6.0, 6.0], [1.5, 8.5]]))
    # The first frame's tie goes to class 0, which weighs filter 0 by 3; the second one's class 1 weighs filter 1 by 5.
    torch.testing.assert_close(activation, torch.tensor([[[12.0, 0.0]], [[0.0, 15.0]]]))


def test_attention_over_frames_by_hand():
    head = TemporalAttention(1, 1, 2, "attention")
    fill(head.key, 0.0)
    with torch.no_grad():
        head.key.weight.fill_(1.0)
        head.query.weight.fill_(2.0)
        head.out.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    frames = torch.tensor([[[0.0]], [[1.0]]])
    logits, attention = head(frames)
    later = 1 / (1 + math.exp(-2 * math.tanh(1.0)))
    torch.testing.assert_close(attention, torch.tensor([[1 - later], [later]]))
    torch.testing.assert_close(logits, torch.tensor([[later, -later]]))


@pytest.mark.parametrize(("kind", "sees_order"), [("lstm", True), ("attention", False)])
def test_only_the_lstm_sees_the_order_of_frames(kind, sees_order):
    head = random_parameters(TemporalAttention(3, 4, 5, kind))
    frames = noise(6, 2, 3)
    there, back = head(frames)[0], head(frames.flip(0))[0]
    assert torch.allclose(there, back, atol=1e-6) is not sees_order


def test_the_lstm_head_attends_to_the_lstms_outputs():
    head = random_parameters(TemporalAttention(3, 4, 5, "lstm"))
    frames = noise(6, 2, 3)
    states, _ = head.lstm(frames)
    logits, attention = head(frames)
    weights = torch.softmax(torch.tanh(states @ head.key.weight.T + head.key.bias) @ head.query.weight[0], 0)
    torch.testing.assert_close(attention, weights)
    torch.testing.assert_close(logits, head.out((weights[:, :, None] * states).sum(0)))


def test_losses_are_means_over_frames_of_the_cross_entropy():
    heads, maps, targets = stream(), noise(6, 2, 3, 3, 3), torch.tensor([1, 3])
    view = heads(maps, keep)
    by_frame = heads.connection(view.features)
    expected = torch.stack([F.cross_entropy(logits, targets) for logits in by_frame]).mean()
    torch.testing.assert_close(F.nll_loss(view.connection, targets), expected)
    by_frame = torch.stack([heads.saliency(frame)[0] for frame in maps])
    expected = torch.stack([F.cross_entropy(logits, targets) for logits in by_frame]).mean()
    torch.testing.assert_close(F.nll_loss(view.saliency, targets), expected)


def test_features_are_pooled_by_the_saliency_and_the_ablation_takes_the_mean():
    maps = noise(6, 2, 3, 3, 3)
    on, off = stream(weighted=True), stream(weighted=False)
    _, activation = on.saliency(maps.flatten(0, 1))
    view = on(maps, keep)
    pooled = weighted_pool(maps.flatten(0, 1), activation)
    torch.testing.assert_close(view.features.flatten(0, 1), normalised(pooled))
    torch.testing.assert_close(view.spatial_attention.sum((2, 3)), torch.ones(6, 2))
    torch.testing.assert_close(off(maps, keep).features, normalised(maps.mean((3, 4))))
    assert not torch.allclose(view.features, normalised(maps.mean((3, 4))), atol=1e-3)


def test_a_streams_score_is_the_mean_of_its_heads():
    heads, maps = stream(), noise(6, 2, 3, 3, 3)
    view = heads(maps, keep)
    connection = heads.connection(view.features).softmax(2).mean(0)
    spatial = torch.stack([heads.saliency(frame)[0] for frame in maps]).softmax(2).mean(0)
    torch.testing.assert_close(view.probability, (connection + spatial + view.temporal.exp()) / 3)
    torch.testing.assert_close(view.probability.sum(1), torch.ones(2))


def test_heads_that_were_never_trained_score_all_classes_alike():
    heads = StreamHeads(3, 5, 4, temporal="lstm", weighted=True)
    torch.testing.assert_close(heads(noise(6, 2, 3, 3, 3), keep).probability, torch.full((2, 4), 0.25))
    co = CoAttention(3, 5, 4, Clock()).eval()
    assert torch.equal(co(noise(6, 2, 3), noise(6, 2, 3, seed=2))[0], torch.zeros(2, 4))


def test_guided_attention_by_hand():
    attend = Guided(1, Clock(), guided=True).eval()
    fill(attend, 1.0)
    with torch.no_grad():
        attend.key.bias.zero_()
    frames, guide = torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[-1.0]])
    weights = torch.tensor([math.tanh(-1.0), math.tanh(1.0)]).softmax(0)
    seen, attention = attend(frames, guide)
    torch.testing.assert_close(attention[:, 0], weights)
    torch.testing.assert_close(seen, 2 * weights[1:, None])


def test_alternating_co_attention_by_hand():
    co = CoAttention(1, 1, 2, Clock()).eval()
    fill(co, 1.0)
    for layer in (co.static_in, co.motion_in, co.hidden, co.out):
        torch.nn.init.zeros_(layer.bias)
    for attend in (co.motion_self, co.static_by_motion, co.motion_by_static):
        torch.nn.init.zeros_(attend.key.bias)
    static, motion = (0.3, -0.8), (1.1, 0.2)

    def attended(values, guide):
        scores = [math.exp(math.tanh(v + guide)) for v in values]
        weights = [s / sum(scores) for s in scores]
        return sum(w * v for w, v in zip(weights, values, strict=True)), weights

    s, m = [math.tanh(v) for v in static], [math.tanh(v) for v in motion]
    first, _ = attended(m, 0.0)
    seen, on_static = attended(s, first)
    moved, on_motion = attended(m, seen)
    logit = math.tanh(seen + moved)
    logits, a_static, a_motion = co(torch.tensor(static).view(2, 1, 1), torch.tensor(motion).view(2, 1, 1))
    torch.testing.assert_close(logits, torch.tensor([[logit, logit]]))
    torch.testing.assert_close(a_static[:, 0], torch.tensor(on_static))
    torch.testing.assert_close(a_motion[:, 0], torch.tensor(on_motion))


def test_each_stream_guides_the_others_attention():
    co = random_parameters(CoAttention(3, 4, 5, Clock())).eval()
    static, motion = noise(6, 2, 3), noise(6, 2, 3, seed=2)
    _, on_static, on_motion = co(static, motion)
    assert not torch.allclose(co(static, 2 * motion)[1], on_static, atol=1e-4)
    assert not torch.allclose(co(2 * static, motion)[2], on_motion, atol=1e-4)


def test_fusion_by_hand():
    static, motion = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.2, 0.8]])
    torch.testing.assert_close(Fusion(0)(static, motion), torch.tensor([[0.4, 0.6]]))
    per_class = Fusion(2)
    torch.testing.assert_close(per_class(static, motion), torch.tensor([[0.4, 0.6]]))
    with torch.no_grad():
        per_class.logits.copy_(torch.tensor([math.log(3.0), 0.0]))  # static weights 3/4 and 1/2
    torch.testing.assert_close(per_class(static, motion), torch.tensor([[0.5, 0.6]]) / 1.1)
    shared = Fusion(1)
    with torch.no_grad():
        shared.logits.fill_(math.log(3.0))
    torch.testing.assert_close(shared(static, motion), torch.tensor([[0.5, 0.5]]))


def test_fusion_learns_which_stream_knows_a_class():
    """The static stream tells classes 0 and 1 apart and guesses between 2 and 3, the motion stream the other way."""
    fusion = Fusion(4)
    sure, guess, nothing = torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.full((2, 2), 0.5), torch.zeros(2, 2)
    static = torch.cat((torch.cat((sure, nothing), 1), torch.cat((nothing, guess), 1)))
    motion = torch.cat((torch.cat((guess, nothing), 1), torch.cat((nothing, sure), 1)))
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        F.nll_loss(fusion(static, motion).clamp_min(1e-9).log(), torch.arange(4)).backward()
        optimizer.step()
    weight = fusion.static_weight
    assert (weight[:2] > 0.8).all()
    assert (weight[2:] < 0.2).all()


@pytest.mark.parametrize(
    ("kind", "weights", "attends", "losses"),
    [
        ("fixed", None, False, 0),
        ("global", 1, False, 1),
        ("per-class", 4, False, 1),
        ("co-attention", None, True, 1),
        ("both", 4, True, 2),
    ],
)
def test_each_ablation_has_its_parts(kind, weights, attends, losses):
    head = CollaborationHead(kind, 3, 5, 4, Clock()).eval()
    learned = None if head.fusion is None or head.fusion.logits is None else len(head.fusion.logits)
    assert (learned, head.coattention is not None) == (weights, attends)
    p, q = noise(2, 4).softmax(1), noise(2, 4, seed=2).softmax(1)
    verdict = head((noise(6, 2, 3), noise(6, 2, 3, seed=2)), (p, q))
    assert len(verdict.losses) == losses
    fused, uniform = (p + q) / 2, torch.full((2, 4), 0.25)
    expected = {"co-attention": uniform, "both": (fused + uniform) / 2}.get(kind, fused)
    torch.testing.assert_close(verdict.probability, expected)


def test_dropout_draws_from_the_clock_and_from_nothing_else():
    clock = Clock()
    drop, x = Dropout(clock), torch.ones(1000)
    state = torch.get_rng_state()
    clock.noise.manual_seed(5)
    first, second = drop(x), drop(x)
    clock.noise.manual_seed(5)
    assert torch.equal(drop(x), first)
    assert not torch.equal(first, second)
    assert set(first.tolist()) == {0.0, 2.0}
    assert first.mean().item() == pytest.approx(1.0, abs=0.15)
    assert torch.equal(torch.get_rng_state(), state)
    assert drop.eval()(x) is x
