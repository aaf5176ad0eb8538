#!/bin/sh
# Builds the programs cyclone and fastdds, raw_cyclone and raw_fastdds into the given folder, if they are not there already from the same sources:
#   test/rosdds/build.sh FOLDER
# Exits 0 when all are there, 3 with one line when a Debian package is missing, 2 on wrong usage, 1 on anything else.
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
command -v g++ >/dev/null || missing="$missing g++"
command -v idlc >/dev/null || missing="$missing cyclonedds-tools"
header() { # COMPILER NAME PACKAGE LANGUAGE
	if command -v "$1" >/dev/null && ! echo "#include <$2>" | "$1" -E -x "$4" - >/dev/null 2>&1; then
		missing="$missing $3"
	fi
}
header gcc dds/dds.h cyclonedds-dev c
header g++ fastdds/dds/domain/DomainParticipant.hpp libfastrtps-dev c++
if [ -n "$missing" ]; then
	echo "the DDS test programs cannot be built: Debian packages are missing: apt-get install$missing" >&2
	exit 3
fi

# One build at a time, whoever asks.
exec 9>"$out/.lock"
flock 9

cd "$src"
stamp=$({
	cat ../build.sh *.idl *.h *.c *.cpp
	gcc --version
	dpkg-query -W cyclonedds-dev libfastrtps-dev 2>&1 || true
} | sha256sum)
programs="cyclone fastdds raw_cyclone raw_fastdds"
there=yes
for program in $programs; do
	[ -x "$out/$program" ] || there=
done
if [ "$there" ] && [ "$(cat "$out/.stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

tmp=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
warn="-Wall -Wextra -Werror=implicit-function-declaration"
idlc -x final -o "$tmp" rosdds.idl
gcc -std=c11 -D_GNU_SOURCE -O2 $warn -c -o "$tmp/peer.o" peer.c
gcc -std=c11 -D_GNU_SOURCE -O2 $warn -I"$tmp" -o "$tmp/cyclone" cyclone.c "$tmp/rosdds.c" "$tmp/peer.o" -lddsc -lpthread -lm
g++ -std=c++14 -O1 -Wall -Wextra -o "$tmp/fastdds" fastdds.cpp "$tmp/peer.o" -lfastrtps -lpthread -lm
idlc -t -x final -o "$tmp" hnet.idl # without XTypes' description of types, as ROS 2 has it
gcc -std=c11 -D_GNU_SOURCE -O2 $warn -c -o "$tmp/raw.o" raw.c
gcc -std=gnu11 -O2 $warn -I"$tmp" -o "$tmp/raw_cyclone" raw_cyclone.c "$tmp/hnet.c" "$tmp/raw.o" -lddsc -lpthread -lm
g++ -std=c++14 -O1 -Wall -Wextra -o "$tmp/raw_fastdds" raw_fastdds.cpp "$tmp/raw.o" -lfastrtps -lpthread -lm
for program in $programs; do
	mv "$tmp/$program" "$out/"
done
echo "$stamp" >"$out/.stamp"
