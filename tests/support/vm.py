"""A Debian 12 in qemu: a kernel of its own, every cgroup controller, PSI, and a power cut that is one.

Software emulation, so all is slow: keep to stubs where real flows add nothing. The guest reaches this machine's
loopback at 10.0.2.2. Commands go over a second serial line to a root shell.

`python tests/support/vm.py` fetches the kernel now, if need be.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.cache import SetUpError, loudly, made_once
from support.checkout import lay_out_checkout
from support.debian import RELEASES

HOST = "10.0.2.2"
_DISK = "disk.img"
_BOOT_SECONDS = 420.0
_MEMORY_MIB = 512
_PACKAGE = "linux-image-cloud-amd64"
_MODULES = ("virtio_pci", "virtio_blk", "virtio_net")
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t proc none /proc
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod /$module; done
/bin/busybox ip link set eth0 up
/bin/busybox ip address add 10.0.2.15/24 dev eth0
/bin/busybox ip route add default via 10.0.2.2
while ! [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""
# one processor: several that are emulated wait for each other more than they help; quiet, as a serial line is slow
# no_timer_check: the kernel counts the timer's interrupts for some milliseconds, and panics if a busy host gave it none
_KERNEL_ARGUMENTS = (
    "console=ttyS0 root=/dev/vda rw psi=1 panic=-1 no_timer_check quiet mitigations=off"
    " systemd.unified_cgroup_hierarchy=1"
)
_MASKED = (
    *("serial-getty@ttyS0.service", "serial-getty@ttyS1.service", "systemd-firstboot.service"),
    "e2scrub_reap.service",
)
_FSTAB = "/dev/vda / ext4 defaults 0 0\n"
_SHELL_UNIT = """\
[Unit]
Description=A root shell for the tests
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw -echo; PS1= PS2= exec sh +i </dev/ttyS1 >/dev/ttyS1 2>&1'
Restart=always
[Install]
WantedBy=multi-user.target
"""


# $1 a folder for the mounts, $2 the layers below, $3 the disk, $4... units to enable
_MAKE_DISK = """\
set -eu
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
root=$1/root disk=$3
shift 3
rm -r "$root/opt/flows"
chroot "$root" systemd-sysusers
chroot "$root" systemctl --quiet enable test-shell "$@"
mkfs.ext4 -q -d "$root" "$disk" 1500M
"""


class Vm:
    """A virtual machine, switched on until the end of its `with` block. Its disk in `folder` is `make_disk`'s."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = folder / _DISK
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._count = 0

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_power()

    def boot(self) -> None:
        """Switch it on and return when its systemd is up."""
        kernel = _kernel()
        path = self._folder / "shell"
        path.unlink(missing_ok=True)
        with (self._folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig=KILL", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"),
                    *("-m", str(_MEMORY_MIB), "-no-reboot", "-display", "none", "-monitor", "none"),
                    *("-kernel", str(kernel / "vmlinuz"), "-initrd", str(kernel / "initrd")),
                    *("-append", _KERNEL_ARGUMENTS),
                    # what the guest has flushed outlives qemu in this machine's own cache
                    *("-drive", f"file={self._disk},format=raw,if=virtio,cache=unsafe"),
                    *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
                    *("-serial", "stdio", "-chardev", f"socket,id=shell,path={path},server=on,wait=off"),
                    *("-serial", "chardev:shell"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            self._connect(path)
        except BaseException:
            self.kill_power()
            raise

    def run(self, command: str, *, check: bool = True, timeout_seconds: float = 120.0) -> str:
        """Run a shell command inside and return what it printed. Raise AssertionError when it fails."""
        self._count += 1
        marker = f"done-{self._count}"
        assert self._line is not None
        self._line.sendall(f"{{ {command}\n}} </dev/null 2>&1; echo; echo {marker} $?\n".encode())
        printed = self._read_until(re.compile(rf"\n{marker} (\d+)\n".encode()), timeout_seconds)
        text, code = printed
        if check and code != 0:
            raise AssertionError(f"{command}: exit code {code}\n{text}")
        return text

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file inside."""
        self.run(f"mkdir -p $(dirname {path}); cat >{path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\nchmod {mode} {path}")

    def wait_until(self, condition: Callable[[], object], *, timeout_seconds: float = 240.0) -> None:
        """Wait until a condition holds. Raise AssertionError with the journal's end else."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_seconds:g} s:\n{self.run('journalctl -n 60 --no-pager')}")
            time.sleep(0.5)

    def kill_power(self) -> None:
        """Take the power away."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_down(self, *, timeout_seconds: float = 180.0) -> None:
        """Return when it has gone down by itself; a reboot ends it, too."""
        assert self._process is not None
        self._process.wait(timeout_seconds)
        self.kill_power()

    def _connect(self, path: Path) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        while not path.exists():
            self._require_alive(deadline)
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(path))
        while True:
            self._require_alive(deadline)
            with contextlib.suppress(TimeoutError):
                self.run("systemctl is-system-running --wait", check=False, timeout_seconds=20)
                return

    def _require_alive(self, deadline: float) -> None:
        if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
            console = (self._folder / "console").read_text(errors="replace")
            raise SetUpError(f"the virtual machine does not come up:\n{console[-3000:]}")
        time.sleep(0.2)

    def _read_until(self, end: re.Pattern[bytes], timeout_seconds: float) -> tuple[str, int]:
        assert self._line is not None
        deadline, data = time.monotonic() + timeout_seconds, b"\n"
        while not (found := end.search(data)):
            self._line.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = self._line.recv(65536)
            if not chunk:
                raise AssertionError("the virtual machine's serial line closed")
            data += chunk.replace(b"\r", b"")
        return data[: found.start()].decode(errors="replace").strip(), int(found[1])


def make_disk(folder: Path, files: Mapping[str, str], enabled: Sequence[str]) -> None:
    """Make a disk with Debian 12, this checkout's agent, a shell on the second serial line, and more.

    Given files by their path, all executable, and the units to enable. Real flows are not on it: stubs do.
    """
    layer = folder / "layer"
    layer.mkdir()
    lay_out_checkout(layer)
    units = layer / "etc/systemd/system"
    units.mkdir(parents=True)
    for masked in _MASKED:
        (units / masked).symlink_to("/dev/null")
    ours = {"/etc/systemd/system/test-shell.service": _SHELL_UNIT, "/etc/fstab": _FSTAB, "/etc/hostname": "vm\n"}
    for name, text in {**ours, **files}.items():
        path = layer / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    mounts = folder / "mounts"
    mounts.mkdir()
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", _MAKE_DISK, "sh"]
    layers = f"{layer}:{RELEASES[12].root}"
    loudly("making a virtual machine's disk", [*command, mounts, layers, folder / _DISK, *enabled])
    shutil.rmtree(layer)


def _kernel() -> Path:
    """Return the folder with a kernel and an initial ramdisk that finds the disk, made at the first call."""
    key = hashlib.sha256((_INIT + repr(_MODULES) + _PACKAGE + RELEASES[12].suite).encode()).hexdigest()[:12]
    return made_once(f"kernel-{key}", _make_kernel)


def _make_kernel(folder: Path) -> None:
    if not Path("/bin/busybox").exists():
        raise SetUpError("busybox is not installed; `make test` installs it, or: apt-get install busybox-static")
    unpacked = folder / "unpacked"
    # the guest's own, whatever runs here; each try needs an empty folder
    command = ["sh", "-c", 'rm -rf "$0" && exec mmdebstrap "$@" "$0"', unpacked]
    options = ["--mode=root", "--variant=extract", "--format=directory", "--quiet", f"--include={_PACKAGE}"]
    loudly("fetching a kernel for the virtual machine", [*command, *options, RELEASES[12].suite], tries=3)
    next(unpacked.glob("boot/vmlinuz-*")).rename(folder / "vmlinuz")
    tree = folder / "initrd-tree"
    for name in ("dev", "proc", "root", "bin"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    modules = _modules_in_order(next((unpacked / "lib/modules").iterdir()))
    for module in modules:
        shutil.copy(module, tree / module.name)
    (tree / "modules").write_text("\n".join(module.name for module in modules))
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(0o755)
    pack = f"cd {tree} && find . | cpio --quiet -o -H newc >{folder}/initrd"
    loudly("packing its initial ramdisk", ["sh", "-c", pack])
    shutil.rmtree(unpacked)


def _modules_in_order(folder: Path) -> list[Path]:
    """Return the modules that are needed, each after those that it needs itself."""
    subprocess.run(["depmod", "-b", str(folder.parents[2]), folder.name], check=True)
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        name, _, needed = line.partition(":")
        needs[name] = needed.split()
    ordered: list[str] = []

    def add(name: str) -> None:
        for needed in reversed(needs[name]):
            add(needed)
        if name not in ordered:
            ordered.append(name)

    for wanted in _MODULES:
        add(next(name for name in needs if Path(name).name.startswith(f"{wanted}.ko")))
    return [folder / name for name in ordered]


if __name__ == "__main__":
    try:
        print(_kernel())
    except SetUpError as error:
        sys.exit(f"error: {error}")
