#!/bin/sh
# Starts xtask. Cargo's alias builds it for x86-64 Linux (see .cargo/config.toml: that needs no C compiler) and passes
# the program and its arguments here; any other machine cannot run that program and gets one of its own.
set -eu
case "$(uname -sm)" in
"Linux x86_64") exec "$@" ;;
"Linux aarch64") target=aarch64-unknown-linux-musl ;;
*) target= ;;
esac
shift
if [ -n "$target" ]; then
    [ -d "$(rustc --print target-libdir --target "$target")" ] || rustup target add "$target"
    exec cargo run --quiet --package xtask --target "$target" -- "$@"
fi
exec cargo run --quiet --package xtask -- "$@"
