#!/bin/sh
# Builds cyclone_peer and fastdds_peer into the given folder, if they are not there already from the same sources:
#   test/dds/build.sh FOLDER
# With HNET_CYCLONE_PREFIX or HNET_FASTDDS_PREFIX in the environment the libraries installed below those folders are used instead of Debian's:
# Cyclone DDS 0.10 or 11, Fast DDS 3. Exits 0 when both are there, 3 with one line when a Debian package is missing, 2 on wrong usage, 1 on anything else.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: $0 FOLDER" >&2
	exit 2
fi
src=$(cd "$(dirname "$0")/peers" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

# Where the libraries are; for the linker and for when the programs run.
cyclone=${HNET_CYCLONE_PREFIX:-}
fastdds=${HNET_FASTDDS_PREFIX:-}
cyclone_flags= fastdds_flags= fastdds_libs="-lfastrtps" fastdds_std=c++14
if [ -n "$cyclone" ]; then
	PATH=$cyclone/bin:$PATH
	cyclone_flags="-I$cyclone/include -L$cyclone/lib -Wl,--disable-new-dtags,-rpath,$cyclone/lib"
fi
if [ -n "$fastdds" ]; then
	fastdds_flags="-I$fastdds/include -L$fastdds/lib -Wl,--disable-new-dtags,-rpath,$fastdds/lib"
	fastdds_libs="-lfastdds -lfastcdr" fastdds_std=c++17
fi

missing=
command -v gcc >/dev/null || missing="$missing gcc"
command -v g++ >/dev/null || missing="$missing g++"
command -v idlc >/dev/null || missing="$missing cyclonedds-tools"
header() { # COMPILER NAME PACKAGE LANGUAGE FLAGS
	if command -v "$1" >/dev/null && ! echo "#include <$2>" | "$1" $5 -E -x "$4" - >/dev/null 2>&1; then
		missing="$missing $3"
	fi
}
header gcc dds/dds.h cyclonedds-dev c "$cyclone_flags"
header g++ fastdds/dds/domain/DomainParticipant.hpp libfastrtps-dev c++ "$fastdds_flags"
if [ -n "$missing" ]; then
	echo "the DDS test programs cannot be built: Debian packages are missing: apt-get install$missing" >&2
	exit 3
fi

# One build at a time, whoever asks.
exec 9>"$out/.lock"
flock 9

cd "$src"
stamp=$({
	cat ../build.sh std_string.idl peer.h peer.c cyclone_peer.c fastdds_peer.cpp
	gcc --version
	echo "$cyclone $fastdds"
	dpkg-query -W cyclonedds-dev libfastrtps-dev 2>&1 || true
} | sha256sum)
if [ -x "$out/cyclone_peer" ] && [ -x "$out/fastdds_peer" ] && [ "$(cat "$out/.stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

tmp=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
warn="-Wall -Wextra -Werror=implicit-function-declaration"
idlc -x final -o "$tmp" std_string.idl
gcc -std=c11 -D_GNU_SOURCE -O2 $warn -c -o "$tmp/peer.o" peer.c
gcc -std=c11 -D_GNU_SOURCE -O2 $warn -I"$tmp" $cyclone_flags -o "$tmp/cyclone_peer" cyclone_peer.c "$tmp/std_string.c" "$tmp/peer.o" -lddsc -lpthread -lm
g++ -std=$fastdds_std -O1 -Wall -Wextra $fastdds_flags -o "$tmp/fastdds_peer" fastdds_peer.cpp "$tmp/peer.o" $fastdds_libs -lpthread -lm
mv "$tmp/cyclone_peer" "$tmp/fastdds_peer" "$out/"
echo "$stamp" >"$out/.stamp"
