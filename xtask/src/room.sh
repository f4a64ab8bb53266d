#!/bin/bash
# room.sh ROOMS NAME HOST COMPILER RUSTUP CLONE COMMANDS: runs commands in a clone in a bare Debian 12.
#
# Place in the flow: `./x room` calls it as root, in namespaces of its own for mounts and processes.
# ROOMS/base is made once by debootstrap; ROOMS/NAME is a fresh copy of it each time, with the folder COMPILER as the
# toolchain NAME of the program RUSTUP.
set -euo pipefail
rooms=$1 name=$2 host=$3 compiler=$4 rustup=$5 clone=$6 commands=$7
base=$rooms/base room=$rooms/$name

if [ ! -e "$base/etc/debian_version" ]; then
    mkdir -p "$rooms"
    rm -rf --one-file-system "$base.new"
    debootstrap --variant=minbase --include=ca-certificates,git,curl bookworm "$base.new"
    mv "$base.new" "$base" # whole, or not there
fi
rm -rf --one-file-system "$room"
cp -a "$base" "$room"

toolchain=$room/root/.rustup/toolchains/$name-$host
mkdir -p "${toolchain%/*}" "$room/root/.cargo/bin"
cp -a "$compiler" "$toolchain"
rm -rf "$toolchain/share/doc"
for target in "$toolchain"/lib/rustlib/*/lib; do
    # What is built there is for this machine; no other target helps.
    case $target in */"$host"/lib) ;; *) rm -rf "${target%/lib}" ;; esac
done
printf 'version = "12"\nprofile = "minimal"\ndefault_toolchain = "%s"\n' "$name-$host" >"$room/root/.rustup/settings.toml"
cp -L "$rustup" "$room/root/.cargo/bin/rustup"
for program in cargo rustc rustdoc rustfmt cargo-fmt cargo-clippy clippy-driver; do
    ln -s rustup "$room/root/.cargo/bin/$program"
done

# How this machine reaches the network, whom it trusts there included.
cp /etc/resolv.conf /etc/hosts "$room/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$room/etc/ssl/certs/"
git clone --quiet "$clone" "$room/root/evernear"
echo "room: commit $(git -C "$room/root/evernear" log -1 --format='%h %s')"

mount -t proc proc "$room/proc"
mount --rbind /dev "$room/dev"
mount --rbind /sys "$room/sys"
path=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
proxies=()
for proxy in http_proxy https_proxy no_proxy; do
    if [ -n "${!proxy-}" ]; then proxies+=("$proxy=${!proxy}"); fi
done
# No variable of this machine's but its proxies; no rustup that brings what the commands should not need.
chroot "$room" env -i HOME=/root TERM=dumb PATH=$path RUSTUP_AUTO_INSTALL=0 CARGO_TERM_COLOR=never \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "${proxies[@]}" bash -c "cd /root/evernear && $commands"
