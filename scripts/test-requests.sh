#!/bin/sh
# The demo's five requests against a running demo; fails if one is not as documented.
# Usage: scripts/test-requests.sh [edge URL of the demo tenant]   (default: the demo started from this folder)
set -u
cd "$(dirname "$0")/.."
command -v curl >/dev/null 2>&1 || { echo "test-requests: curl is not installed" >&2; exit 2; }

recorded() { [ -r .devstack/demo.json ] && sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" .devstack/demo.json; }
EDGE=${1:-${DEMO_EDGE_URL:-$(recorded edge_url)}}
EDGE=${EDGE:-http://demo.localhost:8000}
KEY=demo_key_abc123
token=$(scripts/demo-token alice) || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failures=0

# ask <curl arguments>: status into $status, header lines into $work/head, body into $work/body
ask() { status=$(curl -sS --noproxy '*' --max-time 15 -D "$work/head" -o "$work/body" -w '%{http_code}' "$@" 2>"$work/error") || status="none ($(cat "$work/error"))"; }
header() { tr -d '\r' <"$work/head" | sed -n "s/^$1: *//Ip" | tail -n 1; }
expect() { # <number> <what was asked> <expected> <seen>
  if [ "$3" = "$4" ]; then printf 'ok    (%s) %s -> %s\n' "$1" "$2" "$4"
  else printf 'WRONG (%s) %s -> %s, expected %s\n' "$1" "$2" "$4" "$3"; failures=$((failures + 1)); fi
}

ask "$EDGE/api/public/posts"
expect 1 "GET /api/public/posts" 200 "$status"

ask -H "Authorization: Bearer $token" "$EDGE/api/users/1"
if [ "$status" = 429 ]; then # a run just before this one used up the limit of (5)
  sleep $(($(header Retry-After) + 1))
  ask -H "Authorization: Bearer $token" "$EDGE/api/users/1"
fi
expect 2 "GET /api/users/1 with a JWT" 200 "$status"
ask "$EDGE/api/users/1"
expect 2 "GET /api/users/1 without" 401 "$status"

ask -H "X-API-Key: $KEY" "$EDGE/api/admin/users"
expect 3 "GET /api/admin/users with X-API-Key: $KEY" 200 "$status"
ask -H "X-API-Key: another_key_xyz789" "$EDGE/api/admin/users"
expect 3 "GET /api/admin/users with another key" 401 "$status"

fresh="run=$(date +%s)-$$" # a query of its own, so that the first answer cannot be in the cache yet
ask "$EDGE/api/posts/1?$fresh"
expect 4 "GET /api/posts/1 the first time" "200 MISS" "$status $(header X-Cache)"
ask "$EDGE/api/posts/1?$fresh"
expect 4 "GET /api/posts/1 the second time" "200 HIT" "$status $(header X-Cache)"

token=$(scripts/demo-token alice) || exit 2
curl -sS --noproxy '*' --max-time 60 -H "Authorization: Bearer $token" -D "$work/heads" -o /dev/null -w '%{http_code}\n' \
  "$EDGE/api/users/1?n=[1-150]" >"$work/codes" 2>"$work/error" || cat "$work/error"
passed=$(grep -c '^200$' "$work/codes") limited=$(grep -c '^429$' "$work/codes")
tr -d '\r' <"$work/heads" | awk 'tolower($1) == "retry-after:" && $2 > 0 { n++ } END { print n + 0 }' >"$work/waits"
seen="$passed x 200, $limited x 429, Retry-After on $(cat "$work/waits")"
if [ "$passed" -gt 0 ] && [ "$limited" -gt 0 ] && [ $((passed + limited)) = 150 ] && [ "$(cat "$work/waits")" = "$limited" ]; then
  printf 'ok    (5) 150 x GET /api/users/1 -> %s\n' "$seen"
else
  printf 'WRONG (5) 150 x GET /api/users/1 -> %s\n' "$seen"; failures=$((failures + 1))
fi

[ "$failures" = 0 ] || { echo "$failures of the demo's requests were not as documented"; exit 1; }
echo "All five requests were answered as documented"
