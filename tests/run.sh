#!/usr/bin/env bash
# Builds everything and runs every test, on a Debian machine with the .NET 10 SDK. Closes with: N passed, N failed, N skipped.
# --soak runs the long soaks, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1-}" in
  '') ;;
  --soak) export BACKEND_TOOLKIT_SOAK=1 ;;
  *) echo "usage: $0 [--soak]" >&2; exit 2 ;;
esac

export DOTNET_CLI_UI_LANGUAGE=en DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=0 # the tests run under foreign cultures, too
export PATH="$PATH:/usr/sbin:/sbin"            # for ldconfig

# need PACKAGE COMMAND: unless the command succeeds, installs the newest Debian package whose whole name matches the pattern.
missing=()
need() { eval "$2" >/dev/null 2>&1 || missing+=("$1"); }

need git 'command -v git'
need curl 'command -v curl'
need clang 'command -v clang'           # links what is compiled ahead of time
need zlib1g-dev 'test -e /usr/include/zlib.h'
need 'libicu[0-9]+' 'ldconfig -p | grep libicuuc.so' # cultures
need redis-server 'command -v redis-server'
need chromium 'command -v chromium'
need postgresql 'compgen -G "/usr/lib/postgresql/*/bin/initdb"'

if ((${#missing[@]})); then
  as_root=(); ((EUID == 0)) || as_root=(sudo)
  "${as_root[@]}" apt-get update -q
  for pattern in "${missing[@]}"; do
    package=$(apt-cache pkgnames | grep -Ex "$pattern" | sort -V | tail -n 1) || { echo "No Debian package is called $pattern." >&2; exit 1; }
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package"
  done
fi

dotnet build Backend.Toolkit.sln --configuration Release

report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
dotnet test --solution Backend.Toolkit.sln --configuration Release --no-build --results-directory artifacts/test-results 2>&1 | tee "$report" || status=$?

# The summary over all projects is the last of its kind.
count() { sed -n "s/^ *$1: *\([0-9][0-9]*\)\$/\1/p" "$report" | tail -n 1; }
passed=$(count succeeded) failed=$(count failed) skipped=$(count skipped)

if ((status == 0)) && { [[ -z $passed || -z $failed ]] || ((passed == 0 || failed > 0)); }; then
  status=1
fi
# What failed stands at the end, too, where it is read first.
sed -n '/^ *failed [A-Z].* ([0-9].*)$/,/^ *at /p' "$report" | head -n 200
echo "${passed:-0} passed, ${failed:-0} failed, ${skipped:-0} skipped"
exit "$status"
