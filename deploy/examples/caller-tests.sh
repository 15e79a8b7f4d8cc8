#!/bin/sh
# Stands for the tests of a service that calls the gateway: what they need, and how they make it answer as they like.
#
# GATEWAY_URL   where the gateway is
# GATEWAY_KEY   a key of it
set -eu

# Prints the status and the media type of the answer about a campaign.
answer_about() {
    curl -s -o /dev/null -w '%{http_code} %{content_type}' -H "Authorization: Bearer $GATEWAY_KEY" \
        "$GATEWAY_URL/v1/campaigns/$1"
}

expect() {
    answer=$(answer_about "$1")
    case $answer in
        $2) echo "ok: $1 is $answer" ;;
        *) echo "failed: $1 is $answer, not $2" >&2 && exit 1 ;;
    esac
}

# Every id with these names in front of a hyphen is a campaign of its own, which no other test has asked for.
expect "answer-slow-$$" '200 application/json*'
expect "problem-campaign-not-found-$$" '404 application/problem+json*'
expect "problem-upstream-unavailable-$$" '502 application/problem+json*'
expect "problem-upstream-timeout-$$" '504 application/problem+json*'
