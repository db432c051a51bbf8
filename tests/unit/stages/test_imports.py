"""Teachers and students from elsewhere on their way through the stages, on real digits."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision

from spikedistill.config.check import parse_config
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import open_store
from spikedistill.errors import ConfigError
from spikedistill.export.folder import load, write_export
from spikedistill.models import build_student
from spikedistill.models.imported.inputs import InputAdapter
from spikedistill.models.imported.settings import NetworkInputs
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.plan.build import build_plan
from spikedistill.stages.imports import DataFacts, teacher_inputs
from spikedistill.stages.network_io import WEIGHTS, load_network
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store

TRAIN = {"epochs": 1, "batch_size": 64}
ARCH = "shufflenet_v2_x0_5"
IMAGENET = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def store(trained, tmp_path):
    """A store of its own that has the prepared digits already."""
    shutil.copytree(trained.store.root / "data", tmp_path / "store" / "data")
    return Store(tmp_path / "store")


def saved(classes, folder, seed=5):
    torch.manual_seed(seed)
    theirs = torchvision.models.get_model(ARCH, num_classes=classes).eval()
    torch.save({"state_dict": theirs.state_dict(), "epoch": 90}, folder / "theirs.pth")
    return theirs, folder / "theirs.pth"


def plan_of(teacher, methods=None, dataset=None, width=1.25):
    experiment = {
        "dataset": dataset or {"name": "digits"},
        "teacher": teacher,
        "student": {"arch": "resnet8", "width": width, "time_steps": 2, "train": TRAIN},
        "methods": methods or {"kd": {}},
    }
    return build_plan(parse_config({"experiments": {"one": copy.deepcopy(experiment)}}))


def run(plan, store, *kinds):
    """Run the stages of some kinds; return the last artifact's reference."""
    made = [spec for spec in plan.stages.values() if not kinds or spec.stage in kinds]
    for spec in made:
        weights = Path(plan.weights[spec.ref]) if spec.ref in plan.weights else None
        run_stage(spec, store, RunOptions(results=store.root.parent / "results", weights=weights))
    return made[-1].ref


def zoo(file, **changes):
    return {"arch": f"torchvision/{ARCH}", "weights": str(file), "inputs": {"size": 32}} | changes


def network_of(plan, store, stage):
    spec = next(spec for spec in plan.stages.values() if spec.stage == stage)
    data = open_store(store.path(spec.data))
    batch, labels = next(Loader(data, "test", batch_size=8, inputs=spec.inputs).epoch(0))
    return load_network(spec, data, store.path(spec.ref)), batch, data, labels


def test_an_imported_teacher_gives_its_librarys_logits_on_the_datasets_pictures(store, tmp_path):
    theirs, file = saved(10, tmp_path)
    plan = plan_of(zoo(file))
    ref = run(plan, store, "preprocess", "teacher")
    teacher, batch, data, _ = network_of(plan, store, "teacher")
    pixels = torch.from_numpy(data.take(data.split("test")[:8])) / 255
    grey = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(teacher(batch).logits, theirs(IMAGENET(grey)), rtol=1e-4, atol=1e-5)
    manifest = store.manifest(ref)
    assert manifest["imported"]["file"] == "theirs.pth"
    assert manifest["imported"]["matched"] == "by name"
    assert manifest["imported"]["place"] == "state_dict"
    assert manifest["imported"]["sha256"] == manifest["spec"]["weights"]


def test_it_teaches_by_logits_and_by_maps_and_is_evaluated(store, tmp_path):
    _, file = saved(10, tmp_path)
    plan = plan_of(zoo(file), {"kd": {}, "ckdsnn": {}})
    run(plan, store)
    for row in plan.rows:
        evaluation = json.loads((store.path(row.evaluation) / "evaluation.json").read_text())
        assert evaluation["num_samples"] == 360
        assert ("teacher_agreement" in evaluation) == (row.method != "teacher")


def test_a_teacher_of_transformer_tokens_teaches_by_logits_and_has_pictures(store, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    torch.save(timm.create_model("test_vit", num_classes=10).state_dict(), tmp_path / "vit.pth")
    plan = plan_of({"arch": "timm/test_vit", "weights": str(tmp_path / "vit.pth")}, {"kd": {}})
    run(plan, store, "preprocess", "teacher")
    teacher, batch, *_ = network_of(plan, store, "teacher")
    assert teacher(batch).features.dim() == 3
    evaluation = next(spec for spec in plan.stages.values() if spec.stage == "evaluate")
    run_stage(evaluation, store, RunOptions(results=tmp_path / "results"))


def test_other_classes_are_an_error_without_a_recipe_and_a_new_classifier_with_one(store, tmp_path):
    theirs, file = saved(13, tmp_path)
    plan = plan_of(zoo(file))
    with pytest.raises(ConfigError, match=r"theirs.pth: has 13 classes, and the dataset has 10.*fine-tune"):
        run(plan, store, "preprocess", "teacher")
    assert not [ref for ref in store.refs() if ref.startswith("teachers/")]
    tuned = plan_of(zoo(file, train=TRAIN | {"lr": 0.01}))
    ref = run(tuned, store, "preprocess", "teacher")
    assert store.manifest(ref)["imported"]["new_layers"] == ["fc.weight", "fc.bias"]
    teacher, *_ = network_of(tuned, store, "teacher")
    moved = teacher.network.model.conv5[0].weight - theirs.conv5[0].weight
    assert 0 < moved.norm() < 0.5 * theirs.conv5[0].weight.norm()


def test_a_published_student_of_other_classes_is_told_what_it_can_be_given(store, tmp_path):
    torch.manual_seed(0)
    student = build_student("resnet8", num_classes=13, in_channels=1, time_steps=2, neuron=NeuronConfig())
    torch.save(student.network.state_dict(), tmp_path / "student.pth")
    experiment = {"arch": "resnet8", "train": TRAIN}, {"kd": {"weights": str(tmp_path / "student.pth")}}
    plan = plan_of(*experiment, width=1)
    with pytest.raises(ConfigError, match="has 13 classes, and the dataset has 10") as caught:
        run(plan, store, "preprocess", "distill")
    assert "has to be of the same classes" in str(caught.value)
    assert "teacher" not in str(caught.value)


def test_classes_choose_and_join_outputs_of_the_checkpoint(store, tmp_path):
    theirs, file = saved(13, tmp_path)
    run(plan := plan_of(zoo(file, classes=[[12, 0], *range(1, 10)])), store, "preprocess", "teacher")
    teacher, batch, *_ = network_of(plan, store, "teacher")
    with torch.no_grad():
        logits = theirs(teacher.adapter(batch))
        expected = torch.cat([logits[:, [12, 0]].logsumexp(1, keepdim=True), logits[:, 1:10]], dim=1)
        torch.testing.assert_close(teacher(batch).logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="has 13 classes, 0 to 12, and `classes` names class 13"):
        run(plan_of(zoo(file, classes=[13, *range(1, 10)])), store, "preprocess", "teacher")


def test_a_file_that_changed_after_planning_stops_the_stage_before_anything_is_made(store, tmp_path):
    _, file = saved(10, tmp_path)
    plan = plan_of(zoo(file))
    saved(10, tmp_path, seed=6)
    with pytest.raises(ConfigError, match=r"theirs.pth was changed after this stage was planned.*Nothing was computed"):
        run(plan, store, "preprocess", "teacher")
    with pytest.raises(ConfigError, match=r"is imported from a checkpoint: name it with --weights"):
        run_stage(next(s for s in plan.stages.values() if s.stage == "teacher"), store, RunOptions())


def test_a_model_that_does_not_take_the_pictures_is_told_before_anything_is_trained(store, tmp_path):
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), tmp_path / "squeezenet.pth")
    plan = plan_of(
        {"arch": "torchvision/squeezenet1_1", "weights": str(tmp_path / "squeezenet.pth"), "inputs": {"size": "dataset"}}
    )
    with pytest.raises(ConfigError, match=r"the network does not take samples of 1x8x8"):
        run(plan, store, "preprocess", "teacher")


def test_a_model_of_one_size_says_which(store, tmp_path):
    torch.save(torchvision.models.vit_b_32(num_classes=10, image_size=224).state_dict(), tmp_path / "vit.pth")
    plan = plan_of({"arch": "torchvision/vit_b_32", "weights": str(tmp_path / "vit.pth"), "inputs": {"size": 64}})
    with pytest.raises(ConfigError, match=r"'torchvision/vit_b_32' takes images of 224x224 only; set size: 224"):
        run(plan, store, "preprocess", "teacher")


def test_a_model_of_one_size_is_trained_from_scratch_on_images_of_that_size():
    spec = next(s for s in plan_of({"arch": "torchvision/vit_b_32", "train": TRAIN}).stages.values() if s.stage == "teacher")
    facts = DataFacts("images", 10, 3, ((0.5,) * 3, (0.5,) * 3))
    channels, conversion = teacher_inputs(spec, facts)
    assert (channels, conversion.size) == (3, 224)
    images = torch.rand(2, 3, 224, 224)
    assert torch.equal(InputAdapter(conversion)(images), images)
    asked = spec.model_copy(update={"own_inputs": NetworkInputs(size="dataset")})
    with pytest.raises(ConfigError, match="takes images of 224x224 only; set size: 224"):
        teacher_inputs(asked, facts)


def test_statistics_of_other_channels_are_not_spread_over_a_grey_image(store, tmp_path):
    theirs = torchvision.models.get_model(ARCH, num_classes=10)
    theirs.conv1[0] = torch.nn.Conv2d(1, 24, 3, stride=2, padding=1, bias=False)
    torch.save(theirs.state_dict(), tmp_path / "grey.pth")
    with pytest.raises(ConfigError, match="deviation of 3 channels for a teacher that takes 1; give others"):
        plan_of(zoo(tmp_path / "grey.pth", inputs={"size": 32, "channels": 1}))  # before anything is run
    plan = plan_of(zoo(tmp_path / "grey.pth", inputs={"size": 32, "channels": 1, "normalize": "dataset"}))
    run(plan, store, "preprocess", "teacher")
    spec = next(spec for spec in plan.stages.values() if spec.stage == "teacher")
    asked = spec.model_copy(update={"own_inputs": NetworkInputs(channels=1)})  # of a plan that was not checked
    with pytest.raises(ConfigError, match="deviation of 3 channels for a teacher that takes 1; give others"):
        teacher_inputs(asked, DataFacts("images", 10, 1, ((0.5,), (0.5,))))


def test_our_own_weights_come_back_as_teacher_and_as_published_student(trained, store):
    teacher, student = (trained.store.path(ref) / WEIGHTS for ref in (trained.teacher, trained.student))
    plan = plan_of({"arch": "resnet8", "width": 1.25, "weights": str(teacher)}, {"kd": {"weights": str(student)}})
    run(plan, store)
    ours = {row.method: json.loads((store.path(row.evaluation) / "evaluation.json").read_text()) for row in plan.rows}
    for row in trained.plan.rows:
        before = json.loads((trained.store.path(row.evaluation) / "evaluation.json").read_text())
        assert ours[row.method]["accuracy"] == before["accuracy"]
        assert ours[row.method]["confusion"] == before["confusion"]


@pytest.mark.slow
def test_event_frames_as_grey_images_for_a_model_of_images(tmp_path):
    _, file = saved(10, tmp_path)
    store = Store(tmp_path / "store")
    dataset = {"name": "digits-dvs", "params": {"num_frames": 2}}
    plan = plan_of(zoo(file, inputs={"size": 32, "events": "grey"}), dataset=dataset)
    run(plan, store, "preprocess", "teacher")
    teacher, batch, *_ = network_of(plan, store, "teacher")
    assert batch.dim() == 5
    images = teacher.adapter(batch)
    assert images.shape == (8, 3, 32, 32)
    mean, std = teacher.adapter.wanted_mean, teacher.adapter.wanted_std
    torch.testing.assert_close((images * std + mean).amax((1, 2, 3)), torch.ones(8), rtol=0.2, atol=0.2)  # resized, so about 1


def test_an_exported_teacher_from_elsewhere_is_loaded_with_its_inputs(store, tmp_path):
    _, file = saved(13, tmp_path)
    plan = plan_of(zoo(file, classes=[[12, 0], *range(1, 10)]))
    ref = run(plan, store, "preprocess", "teacher")
    write_export(store, ref, tmp_path / "exported")
    teacher, batch, *_ = network_of(plan, store, "teacher")
    assert torch.equal(load(tmp_path / "exported")(batch).logits, teacher(batch).logits)
    assert "imported from a checkpoint" in (tmp_path / "exported" / "README.md").read_text()
