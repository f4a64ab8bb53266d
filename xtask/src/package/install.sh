#!/bin/sh
# install.sh PACKAGE VERSION: installs a package, upgrades, removes and purges it, and looks at what each leaves.
#
# Place in the flow: `./x package` calls it as root in a mount namespace of its own (`unshare --mount`).
# Keeps true: all of it happens in a copy of this machine, an overlay in memory, that is gone at the end.
set -eu

fail() { # fail SENTENCE
    echo "package: $1" >&2
    exit 1
}
is() { # is WHAT FOUND EXPECTED
    [ "$2" = "$3" ] || fail "$1: found \`$2\`, not \`$3\`"
}
gone() { [ ! -e "$1" ] || fail "$1 is still there"; }
# A test of its own: in `a && b` a failure of `a` would not end the script.
there() { [ -e "$1" ] || fail "$1 is gone"; }

if [ "${3-}" != inside ]; then
    copy=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder's name is known now
    trap "umount --lazy '$copy' 2>/dev/null || true; rmdir '$copy'" EXIT
    mount -t tmpfs -o size=2g evernear-package "$copy" || exit 77
    mkdir "$copy/changes" "$copy/work" "$copy/root"
    mount -t overlay -o "lowerdir=/,upperdir=$copy/changes,workdir=$copy/work" overlay "$copy/root" || exit 77
    mount --rbind /proc "$copy/root/proc"
    mount --rbind /dev "$copy/root/dev"
    mkdir -p "$copy/root/package"
    cp "$1" "$copy/root/package/evernear.deb"
    cp "$0" "$copy/root/package/install.sh"
    chroot "$copy/root" sh /package/install.sh /package/evernear.deb "$2" inside
    exit
fi

cd /
unset CDPATH
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
DEBIAN_FRONTEND=noninteractive
export PATH DEBIAN_FRONTEND
# Of an earlier installation here, nothing may help.
dpkg --purge evernear >/dev/null 2>&1 || true
rm -rf /etc/evernear /var/lib/evernear /var/cache/evernear

dpkg --install "$1"
dpkg --verify evernear
is 'the program' "$(command -v evernear)" /usr/bin/evernear
is 'its version' "$(evernear --version)" "evernear $2"
evernear help | grep -q '^Usage: evernear' || fail '`evernear help` does not say how it is used'
is /etc/evernear "$(stat -c '%a %U:%G' /etc/evernear)" '750 root:evernear'
is 'the home of the user' "$(getent passwd evernear | cut -d: -f6)" /var/lib/evernear
for unit in evernear-edge.service evernear-origin.service; do
    # It says nothing of a unit that is right; of one that is wrong it may say so and end well.
    is "$unit" "$(systemd-analyze verify --man=no "/usr/lib/systemd/system/$unit" 2>&1 | grep evernear || true)" ''
    is "$unit" "$(systemctl --root=/ is-enabled "$unit" || true)" disabled
done

# What an administrator and the services made stays at an upgrade and at a removal.
mkdir -p /var/lib/evernear /var/cache/evernear
touch /etc/evernear/e1.key /var/lib/evernear/shard /var/cache/evernear/block
dpkg --install "$1"
there /etc/evernear/e1.key
dpkg --remove evernear
gone /usr/bin/evernear
gone /usr/lib/systemd/system/evernear-edge.service
there /etc/evernear/e1.key

# A purge takes the cache, and folders of keys and shards only when they are empty.
dpkg --purge evernear
gone /var/cache/evernear
there /etc/evernear/e1.key
there /var/lib/evernear/shard
dpkg --install "$1"
rm /etc/evernear/e1.key /var/lib/evernear/shard
dpkg --purge evernear
gone /etc/evernear
gone /var/lib/evernear
gone /usr/share/doc/evernear
