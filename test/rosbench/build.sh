#!/bin/sh
# Builds the benchmark's peer on Cyclone DDS into the given folder, if it is not there already from the same sources:
#   test/rosbench/build.sh FOLDER
# Exits 0 when it is there, 3 with one line when a Debian package is missing, 2 on wrong usage, 1 on anything else.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: $0 FOLDER" >&2
	exit 2
fi
src=$(cd "$(dirname "$0")/peers" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

missing=
command -v gcc >/dev/null || missing="$missing gcc"
command -v idlc >/dev/null || missing="$missing cyclonedds-tools"
if command -v gcc >/dev/null && ! echo '#include <dds/dds.h>' | gcc -E - >/dev/null 2>&1; then
	missing="$missing cyclonedds-dev"
fi
if [ -n "$missing" ]; then
	echo "the benchmark's peer cannot be built: Debian packages are missing: apt-get install$missing" >&2
	exit 3
fi

# One build at a time, whoever asks.
exec 9>"$out/.lock"
flock 9

cd "$src"
stamp=$({
	cat ../build.sh rosbench.idl cyclone.c
	gcc --version
	dpkg-query -W cyclonedds-dev 2>&1 || true
} | sha256sum)
if [ -x "$out/cyclone" ] && [ "$(cat "$out/.stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
tmp=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
idlc -t -x final -o "$tmp" rosbench.idl
gcc -std=gnu11 -O2 -Wall -Wextra -Werror=implicit-function-declaration -I"$tmp" -o "$tmp/cyclone" cyclone.c "$tmp/rosbench.c" -lddsc -lpthread -lm
mv "$tmp/cyclone" "$out/"
echo "$stamp" >"$out/.stamp"
