#!/bin/sh
# Installs what the tests, the demo and the benchmarks need from Debian's or Ubuntu's packages. Installs only
# what is missing, and says what and why before it does.
#
#   test/install-deps.sh [GROUP...]      lab, dds, bench; without an argument: lab and dds
set -eu

fail() {
	echo "install-deps: $*" >&2
	exit 1
}

# Each line: package (or alternatives, the first that exists is taken), then what it is for.
packages() {
	case $1 in
	lab)
		echo "iproute2 looks at and sets up the test hosts' networks"
		echo "iputils-ping sends pings between test hosts"
		echo "nftables filters and translates addresses on test routers"
		echo "iptables filters on test hosts the way many machines still do"
		echo "iperf3 sends bulk traffic between test hosts"
		# The program without the package miniupnpd, which would bring the service.
		echo "miniupnpd-nftables maps ports on test routers"
		echo "util-linux starts programs without rights"
		echo "procps lists processes on test hosts"
		echo "qemu-user-static runs what is built for arm64"
		;;
	dds)
		echo "g++ builds the small DDS test programs"
		echo "make builds the small DDS test programs"
		echo "cyclonedds-dev is the Cyclone DDS that is tested against"
		echo "cyclonedds-tools has ddsperf and the IDL compiler of Cyclone DDS"
		echo "libfastrtps-dev|libfastdds-dev is the Fast DDS that is tested against"
		;;
	bench)
		echo "iperf3 measures throughput"
		echo "jq reads the results"
		echo "ethtool switches offloads for comparison"
		echo "wireguard-tools configures the implementations compared with"
		;;
	*) fail "unknown group '$1': use lab, dds or bench" ;;
	esac
}

[ $# -gt 0 ] || set -- lab dds
wanted=$(for group in "$@"; do packages "$group"; done) || exit 1

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
	fail "needs Debian or Ubuntu (no apt-get here); install by hand: $(echo "$wanted" | cut -d' ' -f1 | sort -u | tr '\n' ' ')"

# All names in one query; the answer has one line per installed package.
names=$(echo "$wanted" | cut -d' ' -f1 | tr '|' '\n' | sort -u)
# shellcheck disable=SC2086 # a list of words
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $names 2>/dev/null | sed -n 's/^installed //p')

has() {
	case "
$installed
" in
	*"
$1
"*) return 0 ;;
	esac
	return 1
}

missing=
while read -r package why; do
	rest=$package
	found=
	while [ -n "$rest" ] && [ -z "$found" ]; do
		name=${rest%%|*}
		has "$name" && found=yes
		[ "$rest" = "$name" ] && rest= || rest=${rest#*|}
	done
	case "
$missing" in
	*"
$package "*) found=yes ;;
	esac
	[ -n "$found" ] || missing="$missing$package $why
"
done <<LIST
$wanted
LIST
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || fail "needs root to install $(printf %s "$missing" | cut -d' ' -f1 | tr '\n' ' ')(there is no sudo)"
	as_root=sudo
fi

echo "install-deps: installing with apt-get, because it is missing:"
echo "$missing" | while read -r package why; do
	[ -z "$package" ] || printf '  %-32s %s\n' "$package" "$why"
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=2 -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null
}

# The one line of apt's pages that says what is wrong.
complaint() {
	grep -E '^(E|W|Err):' "$log" | tail -n 1 | grep . || tail -n 1 "$log"
}

# Without package lists nothing can be found; with old ones, downloads fail. A source that cannot be reached
# matters only if a package is missing in the end.
problem=
apt update || problem=$(complaint)
chosen=
for choice in $(echo "$missing" | cut -d' ' -f1); do
	name=
	for candidate in $(echo "$choice" | tr '|' ' '); do
		if apt-cache show "$candidate" >/dev/null 2>&1; then
			name=$candidate
			break
		fi
	done
	[ -n "$name" ] || fail "found no package $(echo "$choice" | sed 's/|/ or /g') (no network, or on Ubuntu 'universe' is off)${problem:+; apt-get update: $problem}"
	chosen="$chosen $name"
done
# shellcheck disable=SC2086 # a list of words
apt install -y --no-install-recommends $chosen ||
	fail "apt-get could not install$chosen (is there a network?): $(complaint)"
echo "install-deps: done"
