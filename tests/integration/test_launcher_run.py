"""`launcher run` against moto: what is written, what is started, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import contract
from agent.contract import RunPointer, RunSpec, RunState
from tests.fakes.s3_server import S3Server
from tests.integration.launcher_kit import REGION, Kit, operator


@pytest.fixture
def kit(aws: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with operator(aws.url, tmp_path, monkeypatch) as kit:
        kit.add_compute_env()
        yield kit


def test_a_run_is_written_before_its_machine_is_started(kit: Kit) -> None:
    """Spec, status, pipeline, name and index are in S3, and they agree with what the person asked for."""
    config = kit.folder / "my.config"
    config.write_text("process.cpus = 2\n")
    run = kit.submit("-n", "first", "--param", "n=3", "-p", "test,docker", "--config", str(config))
    run_id = run["run_id"]
    under = contract.run_key(kit.work_dir, run_id)
    assert kit.keys() == sorted(
        [
            contract.index_key(kit.work_dir, run_id),
            contract.name_key(kit.work_dir, "first"),
            *(under + name for name in (contract.BUNDLE, contract.SPEC, contract.STATUS)),
        ]
    )
    spec = contract.parse(RunSpec, kit.body(under + contract.SPEC))
    assert (spec.name, spec.compute_env, spec.region) == ("first", "main", REGION)
    assert spec.workload.params == {"n": 3}
    assert spec.workload.profiles == ("test", "docker")
    assert spec.workload.config == "process.cpus = 2\n"
    assert spec.owner.startswith("arn:aws:sts::")
    bundle = kit.body(under + contract.BUNDLE)
    assert hashlib.sha256(bundle).hexdigest() == spec.workload.source.bundle_sha256
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        assert archive.getnames() == ["main.nf"]
    assert kit.status(run_id).state is RunState.SUBMITTED
    assert kit.body(contract.name_key(kit.work_dir, "first")).decode() == run_id


def test_the_machine_is_started_as_the_design_says(kit: Kit) -> None:
    """It ends by shutdown, wants IMDSv2 with two hops, is tagged, and knows nothing but a pointer to its run."""
    run = kit.submit("-n", "tagged")
    [machine] = kit.instances(run["run_id"])
    assert machine["InstanceId"] == run["instance_id"]
    assert machine["InstanceType"] == "m5d.large"
    assert machine["ImageId"] == kit.image
    options = machine["MetadataOptions"]
    assert options["HttpTokens"] == "required"
    assert options["HttpPutResponseHopLimit"] == 2
    assert options["InstanceMetadataTags"] == "enabled"
    assert machine["IamInstanceProfile"]["Arn"].endswith("/solorun-agent")
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags["Name"] == "solorun tagged"
    assert tags["solorun:run"] == run["run_id"]
    assert tags["solorun:name"] == "tagged"
    assert tags["solorun:compute-env"] == "main"
    assert tags["solorun:owner"].startswith("arn:aws:sts::")
    about = kit.ec2.describe_instance_attribute
    shutdown = about(InstanceId=run["instance_id"], Attribute="instanceInitiatedShutdownBehavior")
    assert shutdown["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    encoded = about(InstanceId=run["instance_id"], Attribute="userData")["UserData"]["Value"]
    pointer = contract.parse(RunPointer, base64.b64decode(encoded))
    assert pointer.prefix == contract.run_prefix(kit.work_dir, run["run_id"])
    [mapping] = machine["BlockDeviceMappings"]
    [volume] = kit.ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["VolumeType"], volume["Size"]) == ("gp3", 50)
    assert {tag["Key"]: tag["Value"] for tag in volume["Tags"]} == tags


def test_spot_is_asked_for_and_makes_the_run_resumable(kit: Kit) -> None:
    """--spot starts a Spot machine, and the spec says to keep finished tasks."""
    run = kit.submit("--spot", "--instance-type", "m5d.xlarge", "--time-limit", "90m")
    [machine] = kit.instances(run["run_id"])
    assert machine["InstanceLifecycle"] == "spot"
    assert machine["InstanceType"] == "m5d.xlarge"
    under = contract.run_key(kit.work_dir, run["run_id"])
    spec = contract.parse(RunSpec, kit.body(under + contract.SPEC))
    assert spec.resumable
    assert spec.time_limit_s == 5400
    assert spec.machine == contract.MachineRequest(instance_type="m5d.xlarge", boot_disk_gb=50, spot=True)


def test_secrets_go_by_reference_only(kit: Kit) -> None:
    """The token's reference is in the spec and nowhere else; no value is ever asked for."""
    run = kit.submit("--platform-token", "ssm:/me/token", "--secret", "DB_KEY=secretsmanager:db")
    spec = kit.body(contract.run_key(kit.work_dir, run["run_id"]) + contract.SPEC).decode()
    assert "/me/token" in spec
    [machine] = kit.instances(run["run_id"])
    assert "/me/token" not in json.dumps(machine, default=str)


def test_a_dry_run_prints_the_plan_and_does_nothing(kit: Kit) -> None:
    """The plan says what would be written and started; afterwards S3 and EC2 are as before."""
    text = kit.ok("run", str(kit.pipeline()), "--dry-run", "-n", "planned")
    for word in (
        "planned",
        "m5d.large",
        kit.image,
        "spec.json",
        "pipeline.tar.gz",
        "solorun:owner",
        "50 GB gp3",
    ):
        assert word in text.out
    assert "nothing was written" in text.err
    plan = kit.ok("run", str(kit.pipeline()), "--dry-run", "--json").json()
    assert plan["machine"]["image_id"] == kit.image
    assert plan["writes"][0]["what"] == "reserves the name"
    assert plan["spec"]["workload"]["source"]["folder"] == "hello"
    assert kit.keys() == []
    assert kit.started() == 0


def test_a_name_that_is_taken_is_refused_and_the_holder_named(kit: Kit) -> None:
    """The second run of a name is not started, and the first one's files stay as they were."""
    first = kit.submit("-n", "only-one")
    before = kit.keys()
    again = kit("run", str(kit.pipeline()), "-n", "only-one")
    assert again.code == 2
    assert first["run_id"] in again.err
    assert "launcher runs delete only-one" in again.err
    assert kit.keys() == before
    assert kit.started() == 1
    assert kit("run", str(kit.pipeline()), "-n", "only-one", "--dry-run").code == 2


def test_what_ec2_refuses_leaves_nothing_behind(kit: Kit) -> None:
    """A subnet that does not exist: exit code 2, no machine, and the name is free again."""
    kit.add_compute_env("nowhere", "--subnet", "subnet-0123456789")
    result = kit("run", str(kit.pipeline()), "-c", "nowhere", "-n", "again")
    assert result.code == 2
    assert "subnet-0123456789" in result.err
    assert kit.keys() == []
    assert kit.ok("run", str(kit.pipeline()), "-c", "main", "-n", "again")


def test_a_work_dir_of_its_own_is_remembered(kit: Kit) -> None:
    """A run that was kept elsewhere is found without saying where."""
    run = kit.submit("--work-dir", f"s3://{kit.bucket}/elsewhere", "-n", "away")
    assert kit.ok("runs", "view", "away", "--json").json()["run_id"] == run["run_id"]
    assert [item["name"] for item in kit.ok("runs", "list", "--json").json()] == ["away"]


def test_a_work_dir_that_cannot_be_remembered_stops_the_run_before_it_starts(kit: Kit) -> None:
    """Exit code 2 means that nothing was started: the config folder is written to first."""
    (kit.folder / "config" / "work-dirs").write_text("a file where a folder belongs")
    result = kit("run", str(kit.pipeline()), "--work-dir", f"s3://{kit.bucket}/elsewhere")
    assert result.code == 2
    assert "work-dirs" in result.err
    assert kit.keys() == []
    assert kit.started() == 0


@pytest.mark.parametrize("how", [["--follow"], ["--wait", "SUCCEEDED"]])
def test_a_run_that_can_no_longer_be_followed_is_not_told_as_not_started(kit: Kit, how: list[str]) -> None:
    """Exit code 6, never 2: the machine works, and the person is told how to see, follow and end the run."""

    def destroy_status() -> None:
        key = next(key for key in kit.keys("work/") if key.endswith("/" + contract.STATUS))
        kit.s3.put_object(Bucket=kit.bucket, Key=key, Body=b"not a status")

    kit.clock.while_asleep = [destroy_status]
    result = kit("run", str(kit.pipeline()), "-n", "odd", *how)
    assert result.code == 6, result.err
    for word in ("is started", "not what solorun wrote", "goes on", "launcher runs logs odd --follow"):
        assert word in result.err
    assert kit.started() == 1


def test_params_come_from_stdin_too(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--params-file -` reads YAML or JSON, and --param wins over it."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1,\n\t"b": {"c": true}}'))
    plan = kit.ok(
        "run", str(kit.pipeline()), "--params-file", "-", "--param", "b.d=x", "--dry-run", "--json"
    ).json()
    assert plan["spec"]["workload"]["params"] == {"a": 1, "b": {"c": True, "d": "x"}}


def _no_main(kit: Kit) -> list[str]:
    folder = kit.folder / "empty"
    folder.mkdir()
    (folder / "other.nf").touch()
    return [str(folder)]


def _mistyped(kit: Kit) -> list[str]:
    (kit.folder / "flows" / "rnaseq").mkdir(parents=True)
    return ["flows/raseq"]


def _bad_params(kit: Kit) -> list[str]:
    (kit.folder / "params.yaml").write_text("a: 1\nb: [1, 2\nc: 3\n")
    return [str(kit.pipeline()), "--params-file", str(kit.folder / "params.yaml")]


def _list_params(kit: Kit) -> list[str]:
    (kit.folder / "params.json").write_text("[1, 2]")
    return [str(kit.pipeline()), "--params-file", str(kit.folder / "params.json")]


def _other_region(kit: Kit) -> list[str]:
    name = kit.bucket + "-far"
    far = kit.client("s3", "eu-north-1")
    far.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    return [str(kit.pipeline()), "--work-dir", f"s3://{name}/work"]


def _unpublished(kit: Kit) -> list[str]:
    kit.add_compute_env("graviton", "--arm64")
    return [str(kit.pipeline()), "-c", "graviton"]


def _no_profile(kit: Kit) -> list[str]:
    kit.ok("compute-envs", "add", "bare", "--region", REGION, "--work-dir", kit.work_dir)
    return [str(kit.pipeline()), "-c", "bare"]


def _unknown_image(kit: Kit) -> list[str]:
    kit.add_compute_env("own-image", "--image-id", "ami-00000000000000000")
    return [str(kit.pipeline()), "-c", "own-image"]


def _local_cloud_down(kit: Kit) -> list[str]:
    kit.add_compute_env("here", "--local")
    return [str(kit.pipeline()), "-c", "here"]


def _with(*more: str) -> Callable[[Kit], list[str]]:
    return lambda kit: [str(kit.pipeline()), *more]


BAD_INPUT: list[tuple[str, Callable[[Kit], list[str]], tuple[str, ...]]] = [
    ("unknown compute environment", _with("-c", "mian"), ("'mian'", "Did you mean main?")),
    ("folder without main script", _no_main, ("no main script", "other.nf", "--main-script")),
    ("folder that does not exist", lambda _kit: ["./nowhere"], ("no folder ./nowhere",)),
    ("neither folder nor repository", lambda _kit: ["nonsense"], ("neither a folder nor a git",)),
    ("folder in a folder, mistyped", _mistyped, ("no folder flows/raseq",)),
    ("revision of a folder", _with("-r", "v1"), ("--revision",)),
    ("params file that is no YAML", _bad_params, ("params.yaml", "line 3")),
    ("params file that holds a list", _list_params, ("name: value", "list")),
    ("params file that is missing", _with("--params-file", "gone.yaml"), ("gone.yaml does not exist",)),
    ("param without =", _with("--param", "samples"), ("'samples'", "no `=`")),
    ("param twice", _with("--param", "a=1", "--param", "a=2"), ("a is given twice",)),
    ("profile twice", _with("-p", "test", "-p", "x,test"), ("test is given twice",)),
    ("config that is missing", _with("--config", "gone.config"), ("gone.config does not exist",)),
    ("main script that is missing", _with("--main-script", "gone.nf"), ("gone.nf",)),
    ("work dir not s3://", _with("--work-dir", "/scratch"), ("not an S3 URI",)),
    ("bucket missing", _with("--work-dir", "s3://there-is-no-such-bucket-here/x"), ("does not exist",)),
    ("bucket elsewhere", _other_region, ("eu-north-1", REGION)),
    ("bad name", _with("-n", "Not A Name"), ("not a run name",)),
    ("bad time limit", _with("--time-limit", "soon"), ("not a duration",)),
    ("time limit of zero", _with("--time-limit", "0s"), ("out of range",)),
    ("secret by value", _with("--secret", "KEY=hunter2"), ("reference",)),
    ("token by value", _with("--platform-token", "eyJ0aWQ"), ("ssm:NAME",)),
    ("instance type of the other kind", _with("--instance-type", "m6gd.large"), ("arm64",)),
    ("disk too small", _with("--boot-disk-gb", "1"), ("out of range",)),
    ("no machine image published", _unpublished, ("/solorun/ami/latest/arm64/image_id",)),
    ("no instance profile", _no_profile, ("bare has no instance_profile", "docs/aws.md")),
    ("machine image that does not exist", _unknown_image, ("no machine image ami-00000000000000000",)),
    ("local cloud down", _local_cloud_down, ("not up", "launcher local up")),
    ("unknown option", _with("--nonsense"), ("--nonsense",)),
    (
        "several problems at once",
        _with("-n", "BAD", "--param", "x", "--time-limit", "never", "--work-dir", "file:///x"),
        ("4 problems", "'BAD'", "'x'", "'never'", "file:///x"),
    ),
]


@pytest.mark.parametrize(
    ("make", "words"), [case[1:] for case in BAD_INPUT], ids=[case[0] for case in BAD_INPUT]
)
def test_bad_input_is_refused_before_anything_is_written_or_started(
    kit: Kit, make: Callable[[Kit], list[str]], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets a message that names what is wrong, exit code 2, no machine, and nothing in S3."""
    monkeypatch.chdir(kit.folder)
    arguments = make(kit)
    kit.ok("compute-envs", "default", "main")
    result = kit("run", *arguments)
    assert result.code == 2, result.err
    assert result.out == ""
    for word in words:
        assert word in result.err
    assert "hunter2" not in result.err
    assert "Traceback" not in result.err
    assert kit.keys() == []
    assert kit.started() == 0


def test_without_credentials_the_way_to_get_some_is_told(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials: exit code 2, once, with what to do."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    result = kit("run", str(kit.pipeline()))
    assert result.code == 2
    assert result.err.count("No AWS credentials") == 1
    assert "aws sso login" in result.err


def test_an_unknown_aws_profile_is_named(kit: Kit) -> None:
    """A compute environment with a profile that the AWS configuration lacks."""
    kit.add_compute_env("other", "--profile", "nobody")
    result = kit("run", str(kit.pipeline()), "-c", "other")
    assert result.code == 2
    assert "nobody" in result.err


def test_an_endpoint_that_does_not_answer_is_an_outage(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 6: trying again later may help."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = kit("runs", "list")
    assert result.code == 6
    assert "127.0.0.1:1" in result.err
