#!/bin/bash
# Process 1 of a simulated machine (hosts.py starts it in new namespaces).
# Arguments: folder of its disk, its name, the folder that all machines share, read-only folders…
set -eu
disk=$1 name=$2 shared=$3
shift 3
root=$disk/root

# Its own file system: what it writes lies over the file system of the real machine.
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --bind /dev "$root/dev"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
for folder in dev/shm tmp run; do
  mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"
done
chmod 755 "$root/run"
for folder in "$@"; do
  mkdir -p "$root$folder"
  mount --bind "$folder" "$root$folder"
  mount -o remount,bind,ro "$root$folder"
done
mkdir -p "$root/shared"
mount --bind "$shared" "$root/shared"

hostname "$name"
ip link set lo up
mkdir -p "$root/run/sshd"
exec chroot "$root" /bin/bash -c '/usr/sbin/sshd -D -e -o UsePAM=no & touch /run/booted; wait'
