#!/bin/bash
# Stores a file through `evernear put` over a link of 4 Mbit/s that loses 3 % of the packets towards six origins, and kills
# it as often as asked. As root, on a machine with tc (tbf) and nft:
#
#   KILLS="1 2 3 4 5" unshare --net bench/uplink.sh target/debug/evernear 64
#
# The bytes on the link are those of tbf: headers, acknowledgements, and what was lost and sent again among them.
set -eu
program=$(readlink -f -- "$1") mib=$2
folder=$(mktemp -d "${TMPDIR:-/dev/shm}/uplink.XXXX") pids=()
trap 'kill "${pids[@]}"; wait; rm -r "$folder"' EXIT
cd "$folder"
export HOME=$folder EVERNEAR_PASSPHRASE_FILE=$folder/words
ip link set lo mtu 1500 up
(umask 077 && echo "correct horse battery" >words && mkdir .evernear)
"$program" cluster init keys >/dev/null
for number in 1 2 3 4 5 6; do
    "$program" cluster issue keys "o$number" --role origin >/dev/null
    cat >"o$number.toml" <<CONFIG
name = "o$number"
listen = "127.0.0.1:740$number"
data_dir = "$folder/o$number"
catalog = "sqlite://$folder/catalog.db"
place = { country = "BE", region = "eu", zone = "z$number", latitude = 50.0, longitude = 4.0 }
tls = { authority = "$folder/keys/authority.pem", certificate = "$folder/keys/o$number.pem", key = "$folder/keys/o$number.key" }
CONFIG
    "$program" origin run --config "o$number.toml" >"o$number.log" 2>&1 &
    pids+=($!)
done
"$program" cluster issue keys me --role twin >/dev/null
"$program" owner new >/dev/null
cat >.evernear/twin.toml <<CONFIG
profile = "4+2"
identity = { authority = "../keys/authority.pem", certificate = "../keys/me.pem", key = "../keys/me.key" }
node = [{ name = "o1", address = "127.0.0.1:7401" }]
CONFIG
until "$program" node ls >nodes 2>&1 && [ "$(grep -c '^o' nodes)" = 6 ]; do sleep 0.2; done
head -c $((mib << 20)) /dev/urandom >film

tc qdisc add dev lo root tbf rate 4mbit burst 16kb latency 300ms
nft -f - <<RULES
table inet uplink {
    chain input {
        type filter hook input priority 0;
        tcp dport 7401-7406 numgen random mod 100 < 3 drop
    }
}
RULES
sent() { tc -s qdisc show dev lo | awk '/Sent/ { print $2; exit }'; }
shards=$((mib * 3 / 2 << 20)) resume=()
SECONDS=0
for kill in ${KILLS:-}; do
    "$program" put film >put.log 2>&1 &
    put=$!
    while [ "$(sent)" -lt $((shards / 6 * kill)) ]; do sleep 0.2; done
    kill -9 $put
    wait $put || echo "killed at $(sent) bytes after $SECONDS s"
    resume=(--resume)
done
label=$("$program" put film "${resume[@]}" --json | sed -n 's/^ *"label": "\(.*\)",$/\1/p')
echo "stored after $SECONDS s: $(sent) bytes on the link for shards of $shards"
tc qdisc del dev lo root
nft flush ruleset
"$program" get "$label" -o back >/dev/null
cmp film back && echo "and read back the same"
