"""Support sets: scores against formulas by hand, and a class added to a bundle without torch."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.errors import BundleError, ImageError, OptionError
from blemish.imaging.read import read_image, write_image
from blemish.inspection.bundle import open_bundle, write_bundle
from blemish.inspection.enroll import ENROLLED, enroll
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import ProductDecision, SupportSet
from blemish.inspection.result import Verdict
from blemish.inspection.seen_images import find_seen, unpack_seen
from blemish.inspection.support_set import pack_vectors, score_classes
from blemish.training.train import train

OPTIONS = {"image_size": 64, "batch_size": 8, "steps": 2}


def without_pits(tiny_data, folder):
    """A CSV of the tiny set without pits."""
    lines = (tiny_data.folder / "labelled.csv").read_text().splitlines()
    path = folder / "scratches.csv"
    path.write_text("\n".join(line for line in lines if "/pit/" not in line) + "\n")
    return path


@pytest.fixture(scope="module", params=["prototypical", "matching"])
def run(request, tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    data = without_pits(tiny_data, folder)
    out = folder / "run"
    return train(
        data, out=out, method=request.param, options=OPTIONS, root=str(tiny_data.folder), progress=False,
        trainer={"accelerator": "cpu"},
    )  # fmt: skip


def pits(tiny_data):
    return sorted((tiny_data.folder / "mvtec" / "test" / "pit").glob("*.png"))


def test_a_class_is_added_without_training(run, tiny_data, tmp_path):
    images = pits(tiny_data)
    before = open_bundle(run)
    assert before.manifest.classes == ["good", "scratch"]
    out = tmp_path / "more.blemish"
    manifest = enroll(run, "pit", images[:4], out)
    assert manifest.classes == ["good", "scratch", "pit"]
    assert ENROLLED in manifest.calibration.warnings
    assert open_bundle(run).manifest == before.manifest  # the first bundle is as it was
    assert find_seen(unpack_seen(open_bundle(out)), images) == dict.fromkeys(images[:4], "train")  # no test images now
    found = [result.class_scores for result in Inspector.open(out).inspect(images[4:])]
    assert all(sum(scores.values()) == pytest.approx(1, abs=1e-5) for scores in found)
    assert np.mean([max(scores, key=scores.get) == "pit" for scores in found]) >= 0.75


def test_the_calibration_of_every_product_gets_a_warning(run, tiny_data, tmp_path):
    bundle = open_bundle(run)
    own = ProductDecision(decision=bundle.manifest.decision, calibration=bundle.manifest.calibration)
    manifest = bundle.manifest.model_copy(update={"products": {"a": own, "b": own}})
    path = tmp_path / "products.blemish"
    write_bundle(path, bundle.graph, manifest, bundle.extras)
    for _ in range(2):
        enroll(path, "pit", pits(tiny_data)[:1])
    for found in open_bundle(path).manifest.products.values():
        assert found.decision == own.decision
        assert found.calibration.warnings == [*own.calibration.warnings, ENROLLED]


def test_graph_and_support_set_give_what_the_network_gives(run, tiny_data):
    inspector = Inspector.open(run)
    batch = inspector.prepare(pits(tiny_data)[0])
    inner = inspector.engine._engine.run(batch)
    np.testing.assert_allclose(inspector.engine.run(batch).class_scores, inner.class_scores, atol=1e-4)


def test_enrolling_twice_equals_enrolling_together(run, tiny_data, tmp_path):
    images = pits(tiny_data)
    once = tmp_path / "once.blemish"
    twice = tmp_path / "twice.blemish"
    enroll(run, "pit", images[:5], once)
    enroll(run, "pit", images[:2], twice)
    enroll(twice, "pit", images[2:5])
    results = [Inspector.open(path).inspect(images[6]).class_scores for path in (once, twice)]
    assert results[0] == pytest.approx(results[1], abs=1e-5)


def test_command_enrolls_a_folder(run, tiny_data, tmp_path):
    out = tmp_path / "cli.blemish"
    args = ["enroll", str(run), "pit", str(tiny_data.folder / "mvtec" / "test" / "pit"), "--out", str(out)]
    result = CliRunner().invoke(build_app(), args)
    assert result.exit_code == 0, result.output
    assert "8 images" in result.output.replace("\n", " ")
    assert open_bundle(out).manifest.classes[-1] == "pit"


def test_no_torch_is_imported(run, tiny_data, tmp_path):
    code = (
        "import sys; from blemish.inspection.enroll import enroll; "
        f"enroll({str(run)!r}, 'pit', [{str(pits(tiny_data)[0])!r}], {str(tmp_path / 'o.blemish')!r}); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bad_requests_leave_the_bundle_alone(run, tiny_data, tmp_path):
    before = open_bundle(run).manifest
    with pytest.raises(ImageError):
        enroll(run, "pit", [pits(tiny_data)[0], tmp_path / "no.png"])
    with pytest.raises(OptionError, match="no images"):
        enroll(run, "pit", [])
    for name in (" ", "a|b"):
        with pytest.raises(OptionError, match="name of a class"):
            enroll(run, name, pits(tiny_data)[:1])
    with pytest.raises(OptionError, match="knows 'scratch'"):
        enroll(run, "Scratch", pits(tiny_data)[:1])
    assert "OK" not in enroll(run, "OK", pits(tiny_data)[:1], tmp_path / "good.blemish").classes  # that is good
    assert open_bundle(run).manifest == before


def test_images_that_inspection_would_not_decide_on_are_not_enrolled(run, tiny_data, tmp_path):
    good = read_image(pits(tiny_data)[0])
    unlike = {
        "deep": good.astype(np.uint16) * 257,
        "black": np.zeros_like(good),
        "large": np.tile(good, (6, 6, 1)),
        "colour": np.stack([good[..., 0], good[::-1, :, 0], good[:, ::-1, 0]], axis=-1),
    }
    before, out = open_bundle(run).manifest, tmp_path / "o.blemish"
    for name, image in unlike.items():
        write_image(tmp_path / f"{name}.png", image)
        assert Inspector.open(run).inspect(tmp_path / f"{name}.png").verdict == Verdict.REVIEW
        with pytest.raises(
            ImageError, match=rf"{name}\.png: .* unlike the training images: .*; take images like those"
        ):
            enroll(run, "pit", [pits(tiny_data)[0], tmp_path / f"{name}.png"], out)
    assert not out.exists()
    assert open_bundle(run).manifest == before


def test_other_bundles_say_that_they_cannot(run, tiny_data, tmp_path):
    bundle = open_bundle(run)
    plain = tmp_path / "plain.blemish"
    write_bundle(plain, bundle.graph, bundle.manifest.model_copy(update={"support": None}))
    with pytest.raises(BundleError, match="cannot take classes"):
        enroll(plain, "pit", pits(tiny_data)[:1])
    torn = tmp_path / "torn.blemish"
    write_bundle(torn, bundle.graph, bundle.manifest, {"support.npy": pack_vectors(np.zeros((1, 3), np.float32))})
    with pytest.raises(BundleError, match="does not fit"):
        Inspector.open(torn)


def test_prototype_scores_by_hand():
    rng = np.random.default_rng(0)
    queries, vectors = rng.random((5, 4)).astype(np.float32), rng.random((4, 4)).astype(np.float32)
    support = SupportSet(classes=[0, 1, 1, 2], weights=[5, 1, 3, 1], scale=7.0)
    means = np.stack([vectors[0], (vectors[1] + 3 * vectors[2]) / 4, vectors[3]])
    logits = np.array([[-7 * np.mean((q - m) ** 2) for m in means] for q in queries])
    np.testing.assert_allclose(score_classes(queries, vectors, support, 3), softmax(logits, axis=1), atol=1e-6)
    empty = score_classes(queries, vectors, support, 4)
    np.testing.assert_allclose(empty[:, 3], 0)


def test_attention_scores_by_hand():
    rng = np.random.default_rng(0)
    queries, vectors = rng.random((5, 4)).astype(np.float32), rng.random((4, 4)).astype(np.float32)
    support = SupportSet(classes=[0, 1, 0, 0], weights=[1] * 4, rule="attention", metric="cosine", scale=9.0)
    cosine = np.array([[q @ v / np.linalg.norm(q) / np.linalg.norm(v) for v in vectors] for q in queries])
    weights = softmax(9 * cosine, axis=1)
    means = np.stack([weights[:, [0, 2, 3]].mean(axis=1), weights[:, 1]], axis=1)
    expected = means / means.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(score_classes(queries, vectors, support, 2), expected, atol=1e-6)


def test_a_class_is_no_likelier_for_its_number_of_examples():
    import torch

    from blemish.methods.few_shot.matching import Matching, MatchingOptions

    corner = np.eye(3, dtype=np.float32)
    vectors, owners = np.concatenate([corner[[0] * 50], corner[[1] * 5]]), [0] * 50 + [1] * 5
    query = np.array([[1, 1, 1], [0.9, 1, 0]], np.float32)
    support = SupportSet(classes=owners, weights=[1] * 55, rule="attention", metric="cosine", scale=4.0)
    scores = score_classes(query, vectors, support, 2)
    assert scores[0].tolist() == pytest.approx([0.5, 0.5])
    assert scores[1, 1] > 0.5
    method = Matching(MatchingOptions(backbone="test_resnet", weights="random", strides=(4,), scale=4.0), ("a", "b"))
    shares = method.attend(torch.from_numpy(query), torch.from_numpy(vectors), torch.tensor(owners))
    np.testing.assert_allclose(shares.detach(), scores, atol=1e-6)
