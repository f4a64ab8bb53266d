#!/bin/sh
# Compiles our own crates with coverage for `./x fuzz --ours`, which makes this script cargo's RUSTC_WORKSPACE_WRAPPER.
# Cargo keeps apart what a wrapper compiled, so the programs of the demo and the tests stay as they are.
# The targets are linted on the way, because no other build has them.
case " $* " in
*' -vV '* | *' --print'* | *' --crate-name build_script_'*) exec "$@" ;;
*' fuzz/fuzz_targets/'*) exec "$EVERNEAR_FUZZ_LINTER" "$@" $EVERNEAR_FUZZ_FLAGS ;;
esac
exec "$@" $EVERNEAR_FUZZ_FLAGS
