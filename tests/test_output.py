"""What is written takes the place of a file, and of nothing else."""

import os
import subprocess

from ephaptic_grpc.output import save


def test_a_link_stays_a_link_and_what_only_its_owner_reads_stays_secret(tmp_path, capsys):
    (tmp_path / "kept").mkdir()
    kept, link = tmp_path / "kept/envoy.yaml", tmp_path / "envoy.yaml"
    kept.write_text("old")
    kept.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(kept, 1234, 1234)
    before = kept.stat()
    link.symlink_to("kept/envoy.yaml")
    save({link: b"new"}, "", check=False)
    assert capsys.readouterr().out == f"wrote {link}\n"
    after = kept.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert (link.is_symlink(), kept.read_text()) == (True, "new")
    assert [*kept.parent.iterdir()] == [kept]
    kept.unlink()
    save({link: b"again"}, "", check=False)
    assert (link.is_symlink(), kept.read_text()) == (True, "again")


def test_a_pipe_is_written_to(tmp_path, capsys):
    """As of ``-o >(command)``."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        save({pipe: b"new"}, "", check=False)
        assert reader.communicate()[0] == b"new"
    assert pipe.is_fifo()
    assert capsys.readouterr().out == ""


def test_what_is_printed_to_a_file_is_added_to_it(tmp_path, capfd):
    """As of ``-o /dev/stdout >> file``, which pytest's own is: after what is there, and without a word beside it."""
    stdout = tmp_path / "stdout"
    stdout.symlink_to("/proc/self/fd/1")
    print("# ours", flush=True)
    save({stdout: b"new\n"}, "", check=False)
    assert capfd.readouterr().out == "# ours\nnew\n"
    assert stdout.is_symlink()
