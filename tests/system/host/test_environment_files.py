"""Files of EnvironmentFile= are read as systemd itself reads them."""

from __future__ import annotations

import pytest

from local_agent.host.doctor.environment_file import parse
from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

_FILE = "/srv/variables"
_TEXT = r"""# a comment
; another
T_A=1
T_B = two words ~
T_C="a b"'c d'
T_D='it''s'
T_E="x\"y\n\$z\
w"
T_F=a\
b
T_G=
T_H="multi
line"
bad-name=3
T_I=a "b" c
no value
T_J=it's
T_K="a" "b" c
T_L=a\ b\ ~
  T_M=indented
export T_N=x
T_O=\"x\"
T_P=a#b
T_Q='a\b'
T_A=again
T_R=last""".replace("~", "")


def test_files_are_read_as_systemd_reads_them(machine: Machine) -> None:
    machine.write(_FILE, _TEXT)
    words = ["systemd-run", "--quiet", "--pipe", "--wait", f"--property=EnvironmentFile={_FILE}", "env", "-0"]
    printed = machine.run(words).stdout
    variables = dict(one.partition("=")[::2] for one in printed.split("\0") if one.startswith("T_"))
    assert variables["T_A"] == "again"
    assert {name: value for name, value in parse(_TEXT).items() if name.startswith("T_")} == variables
