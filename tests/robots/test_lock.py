"""One session at a time holds a robot, whatever it is called."""

import fcntl
import os
import pty
import stat
import struct
import subprocess
import sys

import pytest

from postbc.errors import RobotError
from postbc.robots import lock
from postbc.robots.lock import addresses, close_to_others, hold, hold_device, own_folder

TIOCGEXCL = 0x80045440  # linux/ioctls.h: whether a terminal is exclusive


def test_a_robot_is_known_by_where_it_is_reached_whatever_else_is_said_of_it(tmp_path):
    (tmp_path / "ttyACM0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyACM0")
    port, same = str(tmp_path / "ttyACM0"), str(tmp_path / "by-id")
    cameras = {"top": {"type": "zmq", "server_address": "10.0.0.1"}}
    assert addresses("so101_follower", {"port": port}) == addresses(
        "so101_follower", {"port": same, "id": "mine", "cameras": cameras, "max_relative_target": 5}
    )
    both = {"left_arm_config": {"port": same}, "right_arm_config": {"port": "/dev/other"}}
    assert set(addresses("bi_so_follower", both)) == {port, "/dev/other"}
    assert addresses("reachy2", {"ip_address": "10.0.0.2", "port": 50065}) == ["10.0.0.2:50065"]
    assert addresses("unheard_of", {"id": "mine", "serial": "A1"}) == ["A1"]
    assert addresses("unheard_of", {"id": "mine"}) == ["unheard_of"]


def test_a_folder_for_locks_that_another_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SHARED", tmp_path)
    folder = own_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and own_folder() == folder
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RobotError, match="no folder of yours"):
        own_folder()


def test_one_session_at_a_time(tmp_path):
    held = hold(tmp_path / "lock", "this arm")
    code = f"from pathlib import Path\nfrom postbc.robots.lock import hold\nhold(Path({str(tmp_path / 'lock')!r}), 'this arm')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another session runs with this arm" in done.stderr
    os.close(held)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_port_is_one_devices_and_once_connected_nobody_else_opens_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SHARED", tmp_path)
    main, other = pty.openpty()
    settings = {"port": os.ttyname(other)}
    held = hold_device("so101_follower", settings)
    with pytest.raises(RobotError, match="another session runs with so101_leader at /dev/pts/"):
        hold_device("so101_leader", settings)
    ports = close_to_others("so101_follower", {**settings, "ip": "10.0.0.2"})
    (exclusive,) = struct.unpack("i", fcntl.ioctl(other, TIOCGEXCL, b"0000"))
    assert len(ports) == 1 and exclusive
    for number in (main, other, *held, *ports):
        os.close(number)
