import numpy as np
import torch

from workloads.samples import MAX_SAMPLES, ShowsSamples, png
from workloads.tclsta import WORKLOAD


def test_samples_show_what_streams_see_and_where_they_look():
    task = WORKLOAD.prepare(WORKLOAD.settings("tiny", {}), 0)
    assert isinstance(task, ShowsSamples)
    model = task.build_model().train()
    task.calibrate(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    samples, again = task.samples(model), task.samples(model)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert 1 < len(samples) <= MAX_SAMPLES
    named = {caption.split(": ")[1] for caption in (s.caption for s in samples)}
    assert len(named) == len(samples), "clips of different classes"
    for first, second in zip(samples, again, strict=True):
        assert first.caption == second.caption
        np.testing.assert_array_equal(first.picture, second.picture)
        assert png(first.picture).startswith(b"\x89PNG")
    # Four frames of 16 pixels with a line between them; frames, a strip, events, a strip.
    picture = samples[0].picture
    assert picture.shape == (16 + 3 + 16 + 3, 4 * 17 - 1, 3)
    events = picture[19:35].reshape(-1, 3)
    assert {(0, 0, 0), (255, 0, 0), (0, 255, 0)} <= {tuple(pixel) for pixel in events.tolist()}
    assert picture[16:19].max() == 255, "the strip is brightest where the stream attends most"
