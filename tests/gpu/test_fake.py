"""The fake GPU itself: what it counts, and what it refuses while a graph is captured, as a real one does."""

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.only_fake


def network():
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    return nn.Sequential(*layers).cuda().to(memory_format=torch.channels_last)


def test_kernels_and_calls_of_libraries_are_counted(gpu):
    layer, x = nn.Linear(4, 4, bias=False).cuda(), torch.zeros(2, 4, device="cuda")
    with gpu.counted() as counted:
        layer(x).relu()
    assert (counted.library_calls, counted.launches, counted.syncs) == (1, 1, 0)


def test_a_value_that_is_read_is_a_wait(gpu):
    x = torch.zeros(4, device="cuda")
    with gpu.counted() as counted:
        x.sum().item()
    assert counted.syncs == 1
    with pytest.raises(RuntimeError, match="synchronizing"), gpu.without_waiting():
        x.sum().item()


def test_copies_from_memory_that_is_not_pinned_are_told_from_others(gpu):
    x = torch.zeros(4)
    with gpu.counted() as counted:
        x.pin_memory().to("cuda", non_blocking=True)
        x.to("cuda", non_blocking=True)
    assert (counted.copies, counted.pageable_copies, counted.syncs) == (2, 1, 0)


def test_operators_answered_for_libraries_check_devices_and_dtypes(gpu):
    x, layer = torch.zeros(2, 4, device="cuda"), nn.Linear(4, 4).cuda()
    with pytest.raises(RuntimeError, match="device"):
        torch.mm(x, torch.zeros(4, 4))
    with pytest.raises(RuntimeError, match="dtype"):
        torch.mm(x, layer.weight.bfloat16())
    with torch.autocast("cuda", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_convolutions_keep_the_memory_layout(gpu):
    model = network()
    y = model[0](torch.zeros(2, 3, 8, 8, device="cuda").to(memory_format=torch.channels_last))
    assert y.shape == (2, 8, 6, 6)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_more_memory_than_the_device_has_is_refused(gpu):
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(100 << 30, dtype=torch.uint8, device="cuda")


def captured(function):
    """Capture a function after a warm-up, as torch asks for; return the graph."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        function()
        with torch.cuda.graph(graph, stream=stream):
            function()
    return graph


def test_a_captured_step_is_one_launch(gpu):
    model, x = network(), torch.zeros(2, 3, 8, 8, device="cuda")

    def step():
        model.zero_grad(set_to_none=True)
        model(x).sum().backward()

    with gpu.counted() as counted:
        graph = captured(step)
    assert counted.graph_nodes >= 10
    assert counted.graph_launches == 0
    with gpu.counted() as counted:
        graph.replay()
    assert (counted.launches, counted.graph_launches, counted.library_calls) == (1, 1, 0)


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda x: x.sum().item(),
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.cuda.current_stream().synchronize(),
        lambda x: x.cpu(),
        lambda x: x.copy_(torch.ones(4), non_blocking=True),
        lambda x: torch.cuda.default_stream().record_event().synchronize(),
    ],
    ids=["item", "synchronize", "stream", "cpu", "pageable copy", "event"],
)
def test_what_waits_cannot_be_captured(gpu, forbidden):
    x = torch.zeros(4, device="cuda")
    with pytest.raises(RuntimeError, match=r"captur"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        forbidden(x)
    assert not torch.cuda.is_current_stream_capturing()
    x.sum().item()  # and afterwards it is allowed again


def test_the_legacy_stream_cannot_be_used_while_capturing(gpu):
    x = torch.zeros(4, device="cuda")
    with (
        pytest.raises(RuntimeError, match=r"captur"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
        torch.cuda.stream(torch.cuda.default_stream()),
    ):
        x.add_(1)


def test_calls_of_libraries_are_refused_like_kernels(gpu):
    x = torch.zeros(4, 4, device="cuda")
    with (
        pytest.raises(RuntimeError, match=r"captur"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
        torch.cuda.stream(torch.cuda.default_stream()),
    ):
        x.mm(x)


def test_a_capture_cannot_wait_for_what_happened_before_it(gpu):
    before = torch.cuda.default_stream().record_event()
    with pytest.raises(RuntimeError, match="captur"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.cuda.current_stream().wait_event(before)


def test_streams_that_join_a_capture_have_to_be_waited_for(gpu):
    x, side = torch.zeros(4, device="cuda"), torch.cuda.Stream()

    def forked(*, joined):
        def function():
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                x.add_(1)
            if joined:
                torch.cuda.current_stream().wait_stream(side)

        return function

    captured(forked(joined=True)).replay()
    with pytest.raises(RuntimeError, match="unjoined"):
        captured(forked(joined=False))


@pytest.mark.own_process
@pytest.mark.gpus(2)
def test_contexts_are_counted_for_each_device(gpu):
    with gpu.counted(0) as first, gpu.counted(1) as second:
        torch.cuda.set_device(1)
        torch.zeros(4, device="cuda")
        torch.zeros(4, device="cuda:1")
    assert (first.contexts, second.contexts) == (0, 1)
