"""Where a run may mount, and whatever it leaves is gone when it ends, however it ends: mounts and
processes live in namespaces of their own, loop devices go with their mounts, and directories of runs
that died are removed by the next one.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
FITHAW, FIFREEZE = 0xC0045878, 0xC0045877
FS_IOC_SHUTDOWN = 0x8004587D  # of ext4 and XFS; what `xfs_io -x -c shutdown` does
SHUTDOWN_NO_FLUSH = 2  # of the file system's own log
PREFIX = "quorlog-nemesis-"
BLKIO = "/sys/fs/cgroup/blkio"

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


# ---- namespaces ----

def mount_proc():
    call("mount", b"proc", b"/proc", b"proc", 0, None)


def thaw_below(base):
    """A file system that stays frozen would keep its processes from dying."""
    try:
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            points = [line.split()[1] for line in mounts]
    except OSError:
        return
    for point in points:
        if point.startswith(base):
            thaw(point)


def wait_inside(child, alive):
    """Waits for the process in the namespaces; its exit code. `alive` ends when it dies."""
    def forward(number, _frame):
        os.kill(child, number)
    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The terminal tells the child itself.
    os.read(alive, 1)
    libc.umount2(b"/proc", MNT_DETACH)  # Of the child's namespace.
    thaw_below(os.path.join(tempfile.gettempdir(), PREFIX))
    thaw_below("/var/tmp/" + PREFIX)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def enter():
    """Goes on in namespaces of its own, where that can be had. Returns whether it is so; the caller
    goes on as the only thread of process 1 of a new world, and its end is the end of that world."""
    flags = CLONE_NEWNS | CLONE_NEWPID
    uid, gid = os.getuid(), os.getgid()
    try:
        call("unshare", flags if uid == 0 else flags | CLONE_NEWUSER)
        if uid != 0:
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"),
                               ("gid_map", f"0 {gid} 1")):
                with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                    file.write(text)
        call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    except OSError as error:
        print(f"nemesis: no namespaces here ({error}): whatever has to be mounted is left out",
              file=sys.stderr)
        return False
    alive, death = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child != 0:
        os.close(death)
        code = wait_inside(child, alive)
        sys.stdout.flush()
        os._exit(code)
    os.close(alive)
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mount_proc()
    return True


# ---- directories ----

def begun(pid):
    """When a process began, in ticks; None: there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


def owner_of(path):
    """Whether the run that made a directory lives; True when that cannot be known."""
    try:
        with open(os.path.join(path, "owner"), encoding="ascii") as file:
            owner = json.load(file)
    except (OSError, ValueError):
        return True
    return owner["kept"] or begun(owner["pid"]) == owner["begun"]


def write_owner(path, owner):
    with open(os.path.join(path, "owner.new"), "w", encoding="ascii") as file:
        json.dump(owner, file)
    os.replace(os.path.join(path, "owner.new"), os.path.join(path, "owner"))


def remove_stale():
    """Directories of runs that are no more, unless they are kept."""
    for base in {tempfile.gettempdir(), "/var/tmp"}:
        for name in os.listdir(base):
            path = os.path.join(base, name)
            if name.startswith(PREFIX) and not owner_of(path):
                print(f"nemesis: removing {path}, left by a run that died", file=sys.stderr)
                shutil.rmtree(path, ignore_errors=True)


def make_directory():
    """For everything of this run; before enter(), so that the owner is known outside."""
    base = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
    path = tempfile.mkdtemp(prefix=PREFIX, dir=base)
    os.chmod(path, 0o755)
    write_owner(path, {"pid": os.getpid(), "begun": begun(os.getpid()), "kept": False})
    return path


def kept(path):
    try:
        with open(os.path.join(path, "owner"), encoding="ascii") as file:
            return json.load(file)["kept"]
    except (OSError, ValueError):
        return False


def keep_directory(path):
    write_owner(path, {"pid": 0, "begun": None, "kept": True})


# ---- disks ----

def ioctl(path, request, argument):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, request, argument)
    finally:
        os.close(fd)


def thaw(point):
    try:
        ioctl(point, FITHAW, 0)
    except OSError:
        pass  # It was not frozen, or is no file system that can be.


def tool(*args, **more):
    subprocess.run(args, check=True, capture_output=True, timeout=60, **more)


class Disk:
    """A node's disk. kind: ext4, xfs (an image on a loop device), tmpfs, or dir (nothing is
    mounted)."""

    def __init__(self, kind, base, name, size):
        self.kind = kind
        self.size = size
        self.image = os.path.join(base, f"{name}.{kind}")
        self.point = os.path.join(base, name)
        self.data = os.path.join(self.point, "data")
        self.mounted = False
        self.off = False
        os.makedirs(self.point, exist_ok=True)
        self.new()

    def new(self):
        """An empty disk in its place."""
        if self.kind == "dir":
            shutil.rmtree(self.data, ignore_errors=True)
            return
        if self.mounted:
            self.unmount()
        if self.kind in ("ext4", "xfs"):
            with open(self.image, "wb") as file:
                file.truncate(self.size)
        if self.kind == "ext4":
            tool("mkfs.ext4", "-q", "-F", "-N", "8192", "-E", "lazy_itable_init=0,nodiscard", "-m",
                 "0", self.image)
        elif self.kind == "xfs":
            tool("mkfs.xfs", "-q", "-f", "-K", self.image)
        self.mount()

    def mount(self):
        if self.kind == "tmpfs":
            tool("mount", "-t", "tmpfs", "-o", f"size={self.size}", "none", self.point)
        elif self.kind != "dir":
            tool("mount", "-o", "loop", self.image, self.point)
        self.mounted = self.kind != "dir"

    def unmount(self):
        if self.mounted:
            thaw(self.point)
            tool("umount", self.point)
            self.mounted = False

    def has_power_switch(self):
        return self.kind in ("ext4", "xfs")

    def power_off(self):
        """What was not synced is lost, and everything fails until it is mounted again."""
        ioctl(self.point, FS_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NO_FLUSH))

        self.off = True

    def power_on(self):
        self.unmount()
        self.mount()
        self.off = False

    def freeze(self):
        """Whatever writes waits until thaw()."""
        ioctl(self.point, FIFREEZE, 0)

    def thaw(self):
        thaw(self.point)

    def free(self):
        stat = os.statvfs(self.point)
        return stat.f_bavail * stat.f_frsize

    def used(self):
        stat = os.statvfs(self.point)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def fill(self, leave):
        """Another program takes everything but so many bytes."""
        with open(os.path.join(self.point, "filler"), "ab") as file:
            size = self.free() - leave
            while size > 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                    size = self.free() - leave
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size = min(size // 2, self.free() - leave)  # The node was quicker.

    def clear(self):
        try:
            os.unlink(os.path.join(self.point, "filler"))
        except FileNotFoundError:
            return
        fd = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)  # Else a power cut brings it back.
        finally:
            os.close(fd)

    def device(self):
        """MAJOR:MINOR."""
        number = os.stat(self.point).st_dev
        return f"{os.major(number)}:{os.minor(number)}"


class Throttle:
    """A bound of the bytes a second that a process writes to a device: cgroup version 1, blkio."""

    def __init__(self, name):
        self.path = os.path.join(BLKIO, name)

    @staticmethod
    def possible():
        return os.access(os.path.join(BLKIO, "blkio.throttle.write_bps_device"), os.W_OK)

    def apply(self, pid, device, rate):
        os.makedirs(self.path, exist_ok=True)
        with open(os.path.join(self.path, "blkio.throttle.write_bps_device"), "w",
                  encoding="ascii") as file:
            file.write(f"{device} {rate}")
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(pid))

    def remove(self):
        """Those in it go back to where they were."""
        try:
            with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as file:
                pids = file.read().split()
            for pid in pids:
                with open(os.path.join(BLKIO, "cgroup.procs"), "w", encoding="ascii") as file:
                    file.write(pid)
            os.rmdir(self.path)
        except OSError:
            pass  # It was never made, or its processes are just ending: removed at the next try.


def probe(base, inside):
    """What can be done here: {name: None, or why not}."""
    able = {}
    for kind in ("ext4", "xfs", "tmpfs"):
        if not inside:
            able[kind] = "no namespaces"
            continue
        if kind != "tmpfs" and shutil.which(f"mkfs.{kind}", path=os.environ.get("PATH", "") +
                                            ":/usr/sbin:/sbin") is None:
            able[kind] = f"mkfs.{kind} is not installed"
            continue
        able[kind] = probe_disk(kind, base)
    throttle = Throttle.possible() and os.geteuid() == 0 and inside
    able["throttle"] = None if throttle else "no cgroup with blkio.throttle that can be written to"
    return able


def probe_disk(kind, base):
    """None when such a disk can be had and does what faults need of it."""
    disk = None
    try:
        disk = Disk(kind, base, "probe", 320 << 20)
        with open(os.path.join(disk.point, "synced"), "wb") as file:
            file.write(b"x" * 5000)
            file.flush()
            os.fsync(file.fileno())
        if disk.has_power_switch():
            disk.freeze()
            disk.thaw()
            with open(os.path.join(disk.point, "lost"), "wb") as file:
                file.write(b"x" * 5000)
            disk.power_off()
            disk.power_on()
            if os.path.getsize(os.path.join(disk.point, "synced")) != 5000:
                return "what was synced does not survive a power cut"
            if os.path.exists(os.path.join(disk.point, "lost")):
                return "what was not synced survives a power cut: it would prove nothing"
        return None
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.decode(errors='replace').strip()}"
    except OSError as error:
        return str(error)
    finally:
        if disk is not None:
            try:
                disk.unmount()
            except subprocess.SubprocessError:
                pass
            shutil.rmtree(disk.point, ignore_errors=True)
            if os.path.exists(disk.image):
                os.unlink(disk.image)
