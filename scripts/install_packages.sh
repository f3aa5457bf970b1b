#!/bin/sh
# Installs what building Colossus needs from Debian's own packages.
#   scripts/install_packages.sh [build|test|bench|cluster|slurm|fuzz]... default: build; the others add to it
# Does nothing, quickly, when all of it is there. Needs no Python.
set -eu

build="g++ make cmake ninja-build ccache git
  libfmt-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
  libxxhash-dev libzstd-dev liblzma-dev zlib1g-dev libcurl4-openssl-dev libssl-dev"
test="libgtest-dev libgmock-dev libpcre2-dev libsentencepiece-dev etcd-server libboost-context-dev"
cluster="iproute2 iptables"
slurm="$cluster slurmctld slurmd slurm-client munge"
fuzz="clang-16 libclang-rt-16-dev"  # libFuzzer; an older clang cannot read GCC 12's <ranges>
bench="libgloo-dev libns3-dev"  # whose all-reduces are measured beside ours; that plays networks packet by packet

wanted=$build
for group in "$@"; do
  case $group in
    build) ;;
    test) wanted="$wanted $test" ;;
    bench) wanted="$wanted $bench" ;;
    cluster) wanted="$wanted $cluster" ;;
    slurm) wanted="$wanted $slurm" ;;
    fuzz) wanted="$wanted $fuzz" ;;
    *) echo "install_packages.sh: unknown group \"$group\": build, test, bench, cluster, slurm or fuzz" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  # Another system: its compiler and headers may be there under other names. Try, and name what Debian calls them.
  missing=""
  for tool in g++ cmake ninja; do command -v $tool >/dev/null || missing="$missing $tool"; done
  [ -z "$missing" ] && exit 0
  echo "install_packages.sh: missing:$missing. This is no Debian system; install, by the names Debian 12 has for them:" >&2
  echo $wanted >&2
  exit 2
fi

missing=""
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^installed //p') || true
for package in $wanted; do
  echo "$installed" | grep -qx "$package" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

echo "installing:$missing"
if [ "$(id -u)" = 0 ]; then
  root=""
elif command -v sudo >/dev/null; then
  root="sudo"
else
  echo "install_packages.sh: this needs root; run as root:  apt-get install --no-install-recommends$missing" >&2
  exit 2
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists may be missing or old: refresh them only when the install fails without.
install() { $root apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1; }
if ! install; then
  { $root apt-get update -q && install; } >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "install_packages.sh: could not install:$missing" >&2
    echo "Colossus is built on Debian 12; elsewhere install these libraries by the names your system has for them." >&2
    exit 4
  }
fi
# Debian starts the services it installs; the tests start an etcd of their own.
case $missing in
  *etcd-server*) command -v systemctl >/dev/null && $root systemctl disable --now etcd >/dev/null 2>&1 || true ;;
esac
