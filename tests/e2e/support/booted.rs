//! A Debian that systemd has started, in namespaces of its own but for the network.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::tools;
use super::wait;
use super::work::Work;

/// A running Debian. It ends with its guard.
pub(crate) struct BootedDebian {
    /// `unshare`, whose only child is systemd.
    process: Process,
    systemd: String,
}

impl BootedDebian {
    /// Starts the Debian in `root`, which has systemd. Fails where the kernel, or the container
    /// that the test runs in, lets no systemd start.
    pub(crate) fn boot(work: &Work, root: &Path) -> Result<Self, String> {
        let script = work.file("boot.sh", BOOT);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"]);
        let process = Process::spawn(
            "systemd",
            command.arg("sh").arg(script).arg(root),
            &work.log("boot.log"),
        );
        let id = process.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let mut booted = Self { process, systemd: String::new() };
        booted.systemd = booted.until("unshare has a child", |_| {
            let children = fs::read_to_string(&children).unwrap_or_default();
            children.split(' ').next().filter(|id| !id.is_empty()).map(str::to_owned)
        })?;
        // It waits for the end of the start. A system that lacks some unit is `degraded`, an error.
        booted.until("systemd has started", |booted| {
            let state = booted.run(&["systemctl", "is-system-running", "--wait"]);
            let is_up = |text: &String| text.lines().any(|it| it == "running" || it == "degraded");
            state.as_ref().map_or_else(is_up, is_up).then_some(())
        })?;
        Ok(booted)
    }

    /// Waits until `probe` answers; fails if systemd has ended.
    fn until<T>(&mut self, what: &str, probe: impl Fn(&Self) -> Option<T>) -> Result<T, String> {
        wait::until(what, wait::DAEMON, || {
            if self.process.has_ended() {
                return Some(Err(self.process.tail()));
            }
            probe(self).map(Ok)
        })
    }

    /// Runs a command in it; stdout, or what was said on stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.systemd, "--mount", "--pid", "--uts", "--ipc"]);
        command.args(["--root", "--wd"]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        tools::run(command.args(arguments))
    }
}

impl Drop for BootedDebian {
    fn drop(&mut self) {
        // unshare hears no SIGTERM; its end kills systemd, and that ends everything in there.
        self.process.kill();
    }
}

/// Makes `$1` the root of a system, with the devices and file systems that systemd expects.
const BOOT: &str = r#"
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : > "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd,xattr systemd "$root/sys/fs/cgroup/systemd"
fi
mkdir -p "$root/old"
cd "$root"
pivot_root . old
cd /
umount -l /old
mount --make-rshared /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lxc /lib/systemd/systemd
"#;
