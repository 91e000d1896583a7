"""`blemish inspect` and `blemish decide`, from the command line to files and exit codes."""

import csv
import io
import json
import sys

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from PIL import Image

import blemish.cli
from blemish.imaging.read import read_image, write_image
from blemish.inspection.bundle import open_bundle, seal_members
from blemish.inspection.inspector import Inspector

BOX = (32, 16, 96, 48)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `blemish ...`: exit code, stdout, stderr."""
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"inspect": "Inspect", "decide": "Inspect"})
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as left:
            blemish.cli.main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return left.value.code, shown.out, shown.err

    return run


@pytest.fixture
def bundle(tmp_path):
    return anomaly_bundle(tmp_path / "run" / "grey.blemish", side=64)


def picture(grey, channels=3, dtype=np.uint8):
    """128 × 64, with a rectangle of a brightness in parts of full scale."""
    top = np.iinfo(dtype).max
    image = np.full((64, 128, channels), 0.1 * top, dtype)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = grey * top
    return image


@pytest.fixture
def folder(tmp_path):
    """Two that pass, one for review, one to reject."""
    for name, grey in [("a/1.png", 0.1), ("a/2.png", 0.55), ("b/1.png", 0.9), ("b/deep/3.bmp", 0.2)]:
        write_image(tmp_path / "images" / name, picture(grey))
    return tmp_path / "images"


def test_exit_codes_distinguish_verdicts_and_errors(command, bundle, folder, tmp_path):
    assert command("inspect", bundle, folder / "a" / "1.png")[0] == 0
    assert command("inspect", bundle, folder / "a")[0] == 3
    assert command("inspect", bundle, folder)[0] == 1
    assert command("inspect", bundle, folder, tmp_path / "none.png")[0] == 2
    assert command("inspect", tmp_path / "none.blemish", folder)[0] == 2
    assert command("inspect", bundle, folder, "--no-such-option")[0] == 2
    assert command("inspect", bundle, folder, "--overlay")[0] == 2
    (tmp_path / "void").mkdir()
    code, _, err = command("inspect", bundle, tmp_path / "void")
    assert code == 2
    assert "no image" in err
    assert command("inspect", bundle, folder / "a" / "1.png", tmp_path / "void")[0] == 0


def test_the_table_shows_worst_first_and_counts(command, bundle, folder):
    _, out, _ = command("inspect", bundle.parent, folder)  # a run folder stands for its bundle
    rows = [line.split() for line in out.splitlines() if str(folder) in line]
    assert [row[1] for row in rows] == ["reject", "review", "pass", "pass"]
    assert "4 images: 2 pass, 1 review, 1 reject" in out


def test_written_files(command, bundle, folder, tmp_path):
    out = tmp_path / "out"
    code, _, _ = command("inspect", bundle, folder, "--out", out, "--overlay", "--json", tmp_path / "x" / "r.jsonl",
                         "--csv", tmp_path / "x" / "r.csv", "--workers", "3", "--batch", "2")  # fmt: skip
    assert code == 1
    rows = list(csv.DictReader((tmp_path / "x" / "r.csv").read_text("utf-8").splitlines(keepends=True)))
    assert [row["verdict"] for row in rows] == ["pass", "review", "reject", "pass"]
    x0, y0, x1, y1 = (int(rows[2][name]) for name in ("x0", "y0", "x1", "y1"))
    assert np.abs(np.subtract((x0, y0, x1, y1), BOX)).max() <= 1
    lines = [json.loads(line) for line in (tmp_path / "x" / "r.jsonl").read_text("utf-8").splitlines()]
    assert [line["source"] for line in lines] == [str(path) for path in sorted(folder.rglob("*.*"))]
    expected = [Inspector.open(bundle).inspect(line["source"]).score for line in lines]
    assert [line["score"] for line in lines] == pytest.approx(expected, rel=1e-5)
    marked = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert marked == ["a/1.png", "a/2.png", "b/1.png", "b/deep/3.png"]
    drawn = read_image(out / "b" / "1.png")
    assert drawn.shape == (256, 512, 3)  # small pictures are enlarged, so that words on them can be read
    assert (drawn != read_image(folder / "b" / "1.png").repeat(4, axis=0).repeat(4, axis=1)).any()
    assert command("inspect", bundle, folder, "--out", tmp_path / "plain")[0] == 1
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["regions.csv"]


def test_json_on_stdout_is_only_json(command, bundle, folder):
    _, out, err = command("inspect", bundle, folder, "--json", "-")
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == ["pass", "review", "reject", "pass"]
    assert "4 images" in err


def test_regions_as_a_coco_file(command, bundle, folder, tmp_path):
    assert command("inspect", bundle, folder, "--coco", tmp_path / "x" / "coco.json", "--out", tmp_path / "o")[0] == 1
    content = json.loads((tmp_path / "x" / "coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [str(p) for p in sorted(folder.rglob("*.*"))]
    rejected = next(a for a in content["annotations"] if a["image_id"] == 3)
    assert np.abs(np.subtract(rejected["bbox"], (32, 16, 64, 32))).max() <= 2
    assert not (tmp_path / "o").exists()


def test_files_patterns_and_stdin(command, bundle, folder):
    paths = [str(path) for path in sorted(folder.rglob("*.*"))]

    def seen(*arguments, stdin=""):
        out = command("inspect", bundle, *arguments, "--json", "-", stdin=stdin)[1]
        return [json.loads(line)["source"] for line in out.splitlines()]

    assert seen(*reversed(paths)) == paths[::-1]
    assert seen(folder / "*" / "1.png") == [paths[0], paths[2]]
    assert seen(folder / "**" / "*.bmp") == [paths[3]]
    assert seen("-", stdin="\n".join([paths[2], "", paths[0]])) == [paths[2], paths[0]]
    assert seen(paths[1], folder / "a") == [paths[1], paths[0]]  # none twice


def test_same_names_do_not_overwrite_each_other(command, bundle, folder, tmp_path):
    write_image(folder / "a" / "1.jpg", picture(0.1))
    paths = [
        folder / "a" / "1.png",
        folder / "b" / "1.png",
        folder / "a" / "1.jpg",
        folder / "a" / ".." / "a" / "1.png",
    ]
    command("inspect", bundle, *paths, "--out", tmp_path / "o", "--overlay")
    assert sorted(path.name for path in (tmp_path / "o").glob("*.png")) == ["1.png", "a-1-2.png", "a-1.png", "b-1.png"]


def test_a_folder_with_everything_that_can_go_wrong(command, bundle, tmp_path):
    """The good ones are inspected, each bad one is one clear line, and nothing is lost."""
    folder = tmp_path / "mixed"
    write_image(folder / "a_good.png", picture(0.9))
    write_image(folder / "b_deep.png", picture(0.9, 1, np.uint16))
    write_image(folder / "c_one.png", np.full((1, 1, 3), 20, np.uint8))
    Image.fromarray(picture(0.9)).convert("CMYK").save(folder / "d_cmyk.jpg", quality=95)
    whole = (folder / "a_good.png").read_bytes()
    (folder / "e_truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "f_empty.png").write_bytes(b"")
    (folder / "g_text.jpg").write_text("no image at all")
    (folder / "h_png_inside.jpg").write_bytes(whole)  # the content decides, not the name
    write_image(folder / "i_five.tif", np.zeros((9, 9, 5), np.uint8))
    bomb = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "j_bomb.png").write_bytes(bomb)
    write_image(folder / "z_last.png", picture(0.1))
    code, out, err = command("inspect", bundle, folder, "--json", "-", "--csv", tmp_path / "r.csv", "--batch", "3")
    assert code == 2
    verdicts = {json.loads(line)["source"].rsplit("/")[-1]: json.loads(line)["verdict"] for line in out.splitlines()}
    assert verdicts == {
        "a_good.png": "reject", "b_deep.png": "reject", "c_one.png": "pass", "d_cmyk.jpg": "reject",
        "h_png_inside.jpg": "reject", "z_last.png": "pass",
    }  # fmt: skip
    complaints = [line for line in err.splitlines() if line.startswith("!")]
    for name in ("e_truncated.png", "f_empty.png", "g_text.jpg", "i_five.tif", "j_bomb.png"):
        assert sum(name in line for line in complaints) == 1, (name, complaints)
    assert len(complaints) == 5
    assert "5 unreadable" in err
    rows = csv.DictReader((tmp_path / "r.csv").read_text("utf-8").splitlines(keepends=True))
    assert len({row["source"] for row in rows}) == 6


@pytest.mark.parametrize("harm", ["flip", "cut", "other", "missing", "traversal", "empty"])
def test_a_damaged_bundle_is_one_clear_line(command, bundle, folder, harm):
    content = bundle.read_bytes()
    if harm == "flip":
        content = content[:500] + bytes([content[500] ^ 4]) + content[501:]
    content = {
        "flip": content,
        "cut": content[:-100],
        "other": b"\x89PNG and so on" * 20,
        "missing": seal_members({"graph.onnx": b"x"}),
        "traversal": seal_members({"../../evil": b"x"}),
        "empty": b"",
    }[harm]
    bundle.write_bytes(content)
    for arguments in (("inspect", bundle, folder), ("decide", bundle, "--reject", "0.3")):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert str(bundle) in err
    assert bundle.read_bytes() == content


def test_an_interruption_keeps_finished_results(command, bundle, folder, tmp_path, monkeypatch):
    original = Inspector.inspect

    def interrupted(self, *args, **kwargs):
        results = original(self, *args, **kwargs)
        yield next(results)
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(Inspector, "inspect", interrupted)
    code, out, _ = command("inspect", bundle, folder, "--csv", tmp_path / "r.csv")
    assert code == 130
    assert len(list(csv.DictReader((tmp_path / "r.csv").read_text("utf-8").splitlines(keepends=True)))) == 2
    assert "2 images" in out


def test_scale_tiles_and_rules_for_one_inspection(command, bundle, folder, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("reject: 2\nreview: 2\nrules: ['review if length_mm > 1', 'ignore if area_px < 5']\n")
    bad = folder / "b" / "1.png"
    code, _, err = command("inspect", bundle, bad, "--decision", rules)
    assert code == 2
    assert "px_per_mm" in err
    assert command("inspect", bundle, bad, "--decision", rules, "--px-per-mm", "10,10", "--tile", "64")[0] == 3
    assert command("inspect", bundle, bad, "--px-per-mm", "ten")[0] == 2
    assert command("inspect", bundle, bad)[0] == 1  # the bundle is as it was


def test_what_makes_results_less_sure_is_said(command, bundle, folder, tmp_path):
    good = folder / "a" / "1.png"
    (tmp_path / "rules.yaml").write_text("- reject if max_width_px > 900")
    code, out, err = command("inspect", bundle, good, "--decision", tmp_path / "rules.yaml", "--json", "-")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "how exactly this bundle measures max_width_px is not known" in err
    assert "how exactly" in command("decide", bundle, "--rules", tmp_path / "rules.yaml", "--out", tmp_path / "n")[2]
    assert "not calibrated for tiles of 32×32 px" in command("inspect", bundle, good, "--tile", 32)[2]
    code, _, err = command("inspect", bundle, good, "--overlap", 0.5)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "without tiles" in err
    assert "!" not in command("inspect", bundle, good)[2]


def test_decide_changes_thresholds_and_rules(command, bundle, folder, tmp_path):
    before = bundle.read_bytes()
    review = folder / "a" / "2.png"
    code, out, _ = command("decide", bundle)
    assert (code, bundle.read_bytes()) == (0, before)
    assert "0.6" in out
    other = tmp_path / "other.blemish"
    assert command("decide", bundle, "--reject", 0.52, "--out", other)[0] == 0
    assert bundle.read_bytes() == before
    assert command("inspect", other, review)[0] == 1
    assert command("inspect", bundle, review)[0] == 3

    rules = tmp_path / "rules.yaml"
    rules.write_text("- reject if area_px > 100\n- ignore if area_px < 5\n")
    assert (
        command("decide", bundle.parent, "--rules", rules, "--review", 0.4, "--min-area", 3, "--map-low", 0.45)[0] == 0
    )
    decision = open_bundle(bundle).manifest.decision
    assert (decision.review, decision.reject, decision.min_area_px) == (0.4, 0.6, 3)
    assert (decision.map_low, decision.map_high) == (0.45, 0.5)
    assert len(decision.rules) == 2
    assert command("inspect", bundle, review)[0] == 1


def test_a_named_new_bundle_is_written_without_a_change_too(command, bundle, tmp_path):
    code, out, _ = command("decide", bundle, "--out", tmp_path / "copy.blemish")
    assert (code, "copy.blemish" in out) == (0, True)
    assert open_bundle(tmp_path / "copy.blemish").manifest == open_bundle(bundle).manifest
    before = bundle.stat().st_mtime_ns
    assert command("decide", bundle, "--reject", "0.6")[0] == 0
    assert bundle.stat().st_mtime_ns == before


def test_the_decision_as_json(command, bundle):
    code, out, err = command("decide", bundle, "--review", 0.4, "--json", "-")
    decision = open_bundle(bundle).manifest.decision
    assert (code, json.loads(out)) == (0, decision.model_dump(mode="json"))
    assert "now decides by" in err


def test_a_lowered_reject_threshold_lowers_the_review_threshold(command, bundle):
    code, _, err = command("decide", bundle, "--reject", 0.3)
    decision = open_bundle(bundle).manifest.decision
    assert (code, decision.reject, decision.review) == (0, 0.3, 0.3)
    assert "follows" in err


@pytest.mark.parametrize(
    ("arguments", "rules", "words"),
    [
        (["--review", "0.9"], None, "above the reject"),
        (["--reject", "nan"], None, "nan"),
        (["--map-high", "0.1"], None, "map_low"),
        ([], "- reject if dent.area_px > 3", "unknown class 'dent'"),
        ([], "- reject if lenght_px > 3", "did you mean length_px"),
        ([], "rejct: 3", "did you mean reject"),
        ([], "reject: 3\nreject: 2", "'reject' twice"),
        ([], "- reject if good.area_px > 3", "unknown class 'good'"),
        ([], "- reject if circularity > 5", "can never be"),
        ([], "{map_low: null, map_high: null, rules: [reject if area_px > 1]}", "need a value of map_high"),
        ([], "{zones: {seal: [[0, 0], [1, 0], [1, 0.3]]}}", "not as shares"),
    ],
)
def test_a_decision_that_makes_no_sense_changes_nothing(command, bundle, tmp_path, arguments, rules, words):
    before = bundle.read_bytes()
    if rules is not None:
        (tmp_path / "rules.yaml").write_text(rules)
        arguments = ["--rules", tmp_path / "rules.yaml"]
    code, _, err = command("decide", bundle, *arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert bundle.read_bytes() == before


def test_rules_in_mm_without_a_scale_are_kept_with_a_note(command, bundle, tmp_path):
    (tmp_path / "rules.yaml").write_text("- reject if length_mm > 0.5")
    code, _, err = command("decide", bundle, "--rules", tmp_path / "rules.yaml")
    assert code == 0
    assert "--px-per-mm" in err


def test_images_are_never_overwritten_by_their_marked_copies(command, bundle, folder):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    code, _, err = command("inspect", bundle, folder, "--out", folder, "--overlay")
    assert code == 2
    assert "would be overwritten" in err
    (folder.parent / "link").symlink_to(folder)
    assert command("inspect", bundle, folder, "--out", folder.parent / "link", "--overlay")[0] == 2
    listed = "\n".join(map(str, before))
    assert command("inspect", bundle, "-", "--out", folder, "--overlay", stdin=listed)[0] == 2
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_no_result_replaces_another_or_a_file_that_is_read(command, bundle, folder, tmp_path):
    first = folder / "a" / "1.png"
    before, own = first.read_bytes(), bundle.read_bytes()
    same = tmp_path / "x.txt"
    for options in (
        ("--csv", same, "--json", same),
        ("--csv", same, "--coco", tmp_path / "images" / ".." / "x.txt"),
        ("--json", "-", "--coco", "-"),
        ("--json", first),
        ("--csv", bundle),
        ("--csv", tmp_path / "o" / "1.png", "--out", tmp_path / "o", "--overlay"),
    ):
        code, out, err = command("inspect", bundle, first, *options)
        assert (code, out) == (2, ""), options
        assert "would be" in err
    assert (first.read_bytes(), bundle.read_bytes(), same.exists()) == (before, own, False)
    assert command("inspect", bundle, first, "--csv", "/dev/null", "--json", "/dev/null")[0] == 0


def test_earlier_results_stay_where_the_reference_image_is_refused(command, bundle, folder, tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_text("earlier results")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    compares = anomaly_bundle(tmp_path / "compares.blemish", side=64, template=True)
    for own, template in ((bundle, folder / "a" / "1.png"), (compares, tmp_path / "cut.png")):
        assert command("inspect", own, folder, "--csv", kept, "--template", template)[0] == 2
        assert kept.read_text() == "earlier results"
