#!/usr/bin/env bash
# Restarts the service gpu-supervisor, if its configuration is good: checks it, updates the generated units,
# daemon-reload, restart, waits until it is ready, shows how it goes.
#
#   scripts/restart_service.sh                  the workers run on, and the new daemon takes them over
#   scripts/restart_service.sh --stop-workers   stops all workers first; the new daemon starts them again
#
# A configuration that is refused ends it with 78, and leaves the running daemon and its workers alone. Exit 0: restarted and ready.
set -euo pipefail

service=gpu-supervisor.service

fail() { # WHY [CODE]
    echo "restart_service.sh: cannot restart: $1" >&2
    exit "${2:-1}"
}

step() { echo "==> $*"; }

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

stop_workers=false
for word in "$@"; do
    case $word in
    --stop-workers) stop_workers=true ;;
    -h | --help) usage && exit 0 ;;
    *) fail "$word is not understood (see --help)" 2 ;;
    esac
done

if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "it needs root, and there is no sudo"
    exec sudo -- "$(realpath "${BASH_SOURCE[0]}")" "$@"
fi
[ -d /run/systemd/system ] || fail "systemd is not the init of this machine (there is no /run/systemd/system)"
[ "$(systemctl show --property=LoadState --value "$service")" = loaded ] ||
    fail "$service is not installed (scripts/install.sh installs it)"

# The program that the unit starts, and the configuration that it is given: those of a drop-in, where there is one.
starts=$(systemctl show --property=ExecStart --value "$service")
program=$(sed -n 's/^{ path=\([^ ;]*\).*/\1/p;q' <<<"$starts")
config=$(sed -n 's/.* --config[ =]\([^ ;]*\).*/\1/p;q' <<<"$starts")
[ -x "$program" ] || fail "$service starts $program, which is no program"

step "checking the configuration"
"$program" check-config ${config:+"$config"} ||
    fail "the configuration is refused (see above); the daemon that runs, and its workers, were left alone" 78

step "updating the units"
"$program" units apply ${config:+--config "$config"} || fail "the units were not updated (see above); nothing was stopped"
systemctl daemon-reload

if $stop_workers; then
    # Not `gpu-supervisor stop --all`: that is a wish, and is kept, so all workers would stay stopped; and starting all
    # again would start those too that an operator had stopped before. The slice ends whom
    # `stop_workers: false` keeps; the new daemon, which has not seen that, counts it as one exit.
    step "stopping $service and its workers"
    systemctl stop "$service"
    systemctl stop gpu-workers.slice
fi

# `restart`, not `stop` and `start`: a stop ends the workers, a restart leaves them to the next daemon.
# It waits until the daemon has said READY=1 (Type=notify).
step "restarting $service, until it is ready"
if ! systemctl restart "$service"; then
    journalctl --unit "$service" --lines 20 --no-pager --output cat >&2 || true
    fail "$service did not become ready (its last lines are above)"
fi

step "ready"
"$program" status || true
cat <<'TEXT'

Watch it:
  journalctl -u gpu-supervisor -f      what the daemon does, and why
  gpu-supervisor status --watch        the workers, their memory and their age
  gpu-supervisor history               every restart with its reason
  gpu-supervisor logs NAME -f          what a worker prints
TEXT
