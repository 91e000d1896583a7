"""Two processes train together: the same weights in both, whatever the method alternates or leaves out."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from blemish import Inspector
from blemish.inspection.result import Verdict
from blemish.methods.catalogue import method_class
from blemish.training.learn.run import read_config

TWO_PROCESSES = """
import json, os, sys
from pathlib import Path

import torch.distributed as dist
from safetensors.torch import save_file

from blemish.dataset.read import read_dataset
from blemish.methods.catalogue import method_class
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.run import RunConfig

if __name__ == "__main__":
    data, out, name, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    config = RunConfig(
        blemish="0", data="", method=name, options=method_class(name).Options(**options).model_dump(mode="json"),
        trainer={"accelerator": "cpu", "devices": 2, "strategy": "ddp"},
    )
    dataset = read_dataset(data)
    method = build_method(config, dataset)
    before = {key: value.clone() for key, value in method.named_parameters()}
    fit(method, dataset, config, run=out / "run", validates=False)
    changed = [key for key, value in method.named_parameters() if not value.equal(before[key])]
    rank = dist.get_rank()
    weights = {key: value.contiguous() for key, value in method.state_dict().items()}
    save_file(weights, out / f"rank-{rank}.safetensors", {"changed": json.dumps(changed)})
"""
SMALL = {"image_size": 64, "batch_size": 4}
NETWORK = {"backbone": "test_resnet", "weights": "random"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ganomaly", {"steps": 6}),
        ("f-anogan", {"gan_steps": 2, "steps": 6}),
        ("aae", {"steps": 6}),
        ("segan", {**NETWORK, "steps": 6}),
        ("efficientad", {**NETWORK, "steps": 6}),
        ("siamese", {**NETWORK, "steps": 6}),
        ("patch-svdd", {"steps": 6, "image_size": 192}),
        ("stfpm", {**NETWORK, "steps": 6}),
    ],
)
def test_both_processes_end_with_the_same_weights(name, options, tiny_data, tmp_path):
    kind = method_class(name)
    taken = {key: value for key, value in (SMALL | options).items() if key in kind.Options.model_fields}

    data = tiny_data.folder / ("mvtec" if kind.info.requires == ("good",) else "labelled.csv")
    (tmp_path / "go.py").write_text(TWO_PROCESSES)
    command = [sys.executable, str(tmp_path / "go.py"), str(data), str(tmp_path), name, json.dumps(taken)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1))
    trained = [key for key, _ in kind(kind.Options(**taken), ("good", "defect")).named_parameters()]
    assert any(key in first for key in trained)
    for key in trained:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0, msg=key)
    assert all(torch.isfinite(value.float()).all() for value in first.values())


@pytest.mark.slow
def test_two_nodes_by_torchrun_train_one_run(tiny_data, tmp_path):
    """The command of the page, with both nodes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = tmp_path / "run"
    settings = {**SMALL, **NETWORK, "width": 4, "steps": 4}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    processes = []
    for rank in range(2):
        nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank)]
        master = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
        training = ["-m", "blemish", "train", str(tiny_data.folder / "labelled.csv"), "--method", "unet", *sets]
        where = ["--num-nodes", "2", "--devices", "1", "--strategy", "ddp", "--device", "cpu", "--out", str(run)]
        command = [sys.executable, "-m", "torch.distributed.run", *nodes, *master, *training, "--refine", "off", *where]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(output[-2000:] for output in outputs)
    assert read_config(run).trainer["num_nodes"] == 2
    image = next((tiny_data.folder / "mvtec" / "test" / "scratch").iterdir())
    assert Inspector.open(run).inspect(image).verdict in set(Verdict)
