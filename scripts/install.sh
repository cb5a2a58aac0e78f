#!/usr/bin/env bash
# Installs gpu-supervisor on this machine, or brings the installed one up to this checkout. Run it again at any time.
#
#   sudo scripts/install.sh                  installs or updates; what runs is restarted, its workers run on
#   sudo scripts/install.sh --no-restart     lays the new version beside; the old one runs until it is restarted
#   sudo scripts/install.sh --uninstall      stops it and removes it; the configuration and the history stay
#   sudo scripts/install.sh --uninstall --purge      removes these and the group as well
#
#   --prefix DIR    where the program goes (default: where it is, else /opt/gpu-supervisor)
#   --wheels DIR    packages from DIR instead of the network (docs/install.md says how to fill it)
#   --root DIR      everything below DIR instead of /, to look at; no root, no group, no systemd
#
# PYTHON names the interpreter; else it is /usr/bin/python3, else the first of python3.14 ... python3.11 in PATH.
#
# The program is a virtual environment in PREFIX/releases/, and PREFIX/current leads to it. A new one is made beside the
# old one and takes its place at the end, in one step: an install that fails leaves what was there working. What lies
# outside PREFIX is listed in PREFIX/installed, and --uninstall goes by that list.
set -euo pipefail
umask 022 # root's may be 077, and every user runs the command
export PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH PYTHONHOME
checkout=$(cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/.." && pwd)

service=gpu-supervisor.service
doing=install

fail() { # WHY [CODE]
    echo "install.sh: cannot $doing: $1" >&2
    exit "${2:-1}"
}

step() { echo "==> $*"; }

# --- what is asked for ---

prefix='' wheels='' root='' purge=false restart=true

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

read_words() { # WORD...
    while [ $# != 0 ]; do
        case $1 in
        --*=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}"
            continue
            ;;
        --uninstall) doing=uninstall ;;
        --purge) purge=true ;;
        --no-restart) restart=false ;;
        --prefix | --wheels | --root)
            if [ $# = 1 ] || [ -z "$2" ]; then fail "$1 needs a directory" 2; fi
            case $1 in
            --prefix) prefix=$2 ;;
            --wheels) wheels=$(realpath -m -- "$2") ;;
            --root) root=$(realpath -m -- "$2") ;;
            esac
            shift
            ;;
        -h | --help) usage && exit 0 ;;
        *) fail "$1 is not understood (see --help)" 2 ;;
        esac
        shift
    done
    if $purge && [ $doing = install ]; then fail "--purge goes with --uninstall" 2; fi
}

# The link outside says where it is installed.
installed_prefix() {
    local target
    target=$(readlink "$root/usr/local/bin/gpu-supervisor") || return 0
    case $target in */bin/gpu-supervisor) echo "${target%/bin/gpu-supervisor}" ;; esac
}

choose_prefix() {
    local before
    before=$(installed_prefix)
    prefix=${prefix:-${before:-/opt/gpu-supervisor}}
    prefix=${prefix%/}
    # It is written into a unit, where other characters would need quoting, and into the first line of programs.
    [[ $prefix =~ ^(/[A-Za-z0-9._+-]+)+$ && $prefix/ != */../* ]] || fail "--prefix $prefix is no plain absolute path" 2
    if [[ /usr/local/bin/ == "$prefix"/* ]]; then fail "--prefix $prefix is no directory of its own" 2; fi
    if [ $doing = install ] && [ -n "$before" ] && [ "$before" != "$prefix" ]; then
        fail "it is installed in $before already; remove that first (--uninstall --prefix $before)"
    fi
}

check_machine() {
    if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then fail "it needs root (sudo scripts/install.sh)"; fi
    if [ -e "$home" ] && [ ! -d "$home/releases" ] && [ -n "$(ls -A "$home")" ]; then
        fail "$prefix is there and was not made by install.sh; remove it, or name another with --prefix"
    fi
    if [ $doing = install ] && [ -z "$root" ] &&
        dpkg-query --show --showformat='${db:Status-Abbrev}' gpu-supervisor 2>/dev/null | grep -q '^.i'; then
        fail "the package gpu-supervisor is installed (apt manages it; apt remove gpu-supervisor first)"
    fi
}

has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

runs() { has_systemd && systemctl is-active --quiet "$service"; }

# --- the program: a virtual environment of its own ---

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11 or newer"
        command -v "$PYTHON"
        return
    fi
    # The system's own first: one of a user's home may not be readable to others.
    for candidate in /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer (python3 is $(python3 --version 2>&1 | head -n 1)); install one or set PYTHON"
}

sources() { find supervisor -type f ! -name '*.pyc' -print0 | sort -z; }

# A release is named after what it is made of, so that the same is not made twice.
name_release() { # PYTHON
    local version sum
    version=$(sed -n 's/^__version__.*"\(.*\)".*/\1/p' supervisor/__init__.py)
    sum=$({
        echo "$1" && "$1" -VV
        sources | xargs -0 sha256sum -- pyproject.toml requirements/build.txt requirements/run.txt scripts/restart_service.sh
    } | sha256sum)
    echo "$version-${sum:0:12}"
}

is_good() { [ -f "$1/complete" ] && "$1/bin/gpu-supervisor" version >/dev/null 2>&1; }

pip() { # ARGUMENT...
    local from=()
    if [ -n "$wheels" ]; then from=(--no-index --find-links "$wheels"); fi
    # No build isolation: sdnotify is published as source only, and is built by the pinned setuptools.
    "$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation \
        --use-pep517 --root-user-action=ignore "${from[@]}" "$@" || fail "pip install $* failed (see above)"
}

make_release() { # PYTHON
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$1 has no venv or ensurepip; install the package python3-venv (Debian, Ubuntu) or its like"
    step "making $release with $("$1" --version)"
    rm -rf "$release"
    made=$release # until it is complete, the end of this script removes it
    "$1" -m venv "$release" || fail "$1 -m venv failed (see above)"
    step "installing the pinned packages from ${wheels:-the package index}"
    pip --no-compile --require-hashes --requirement requirements/build.txt # used a few times, here
    pip --require-hashes --requirement requirements/run.txt
    # From a copy: a build leaves its own files in the tree, which here would belong to root.
    mkdir "$work/source"
    cp -R pyproject.toml README.md LICENSE supervisor "$work/source"
    pip "$work/source"
    install -m 755 scripts/restart_service.sh "$release/bin/restart_service.sh"
    "$release/bin/gpu-supervisor" version >/dev/null || fail "the new gpu-supervisor does not run (see above)"
    touch "$release/complete"
    made=''
}

# A running daemon must not be replaced by one that would not start.
check_config() {
    local config=$root/etc/gpu-supervisor/config.yaml
    [ -f "$config" ] || return 0
    step "checking $config with the new version"
    if "$release/bin/gpu-supervisor" check-config "$config"; then return; fi
    if runs && $restart; then
        fail "$config is refused by the new version (see above); the old one was left running, and nothing was changed" 78
    fi
    echo "install.sh: warning: $config is refused (see above); the service will not start before that is mended" >&2
}

switch() {
    ln -sfn "releases/${release##*/}" "$home/current.new"
    mv -T "$home/current.new" "$home/current" # rename(2): there is no moment without a program
    mkdir -p "$home/bin" # not a link to current/bin: a venv's python started by another path is not in its venv
    ln -sfn ../current/bin/gpu-supervisor ../current/bin/restart_service.sh "$home/bin/"
}

remove_old_releases() {
    local old
    for old in "$home"/releases/*/; do
        old=${old%/}
        if [ "$old" = "$release" ]; then continue; fi
        # The daemon of an old release starts its helper from there, for as long as it runs.
        if grep -qsF -- " $old/" /proc/[0-9]*/maps; then continue; fi
        rm -rf "$old"
    done
}

# --- what lies outside the prefix ---

# Notes a path as ours before it is made, so that an install that is cut short can be uninstalled.
note() { # PATH
    grep -qsxF -- "$1" "$home/installed" || echo "$1" >>"$home/installed"
    laid+=("$1")
}

make_directory() { # DIRECTORY
    if [ -d "$root$1" ]; then return; fi
    make_directory "$(dirname "$1")"
    note "$1/"
    mkdir "$root$1"
}

# scripts/stage has the list. Units go into /usr/local/lib/systemd/system: systemd.unit(5) reads /etc before /run before
# /usr/local/lib, so the slice that the daemon generates into /run wins over ours, and what `systemctl edit --full` writes
# wins over both and outlives an update.
lay_out() {
    local path
    laid=() units_changed=false
    PYTHON=$release/bin/python scripts/stage "$work/local" --prefix "$prefix"
    while read -r path; do
        make_directory "/usr/local/${path%/*}"
        note "/usr/local/$path"
        if cmp -s "$work/local/$path" "$root/usr/local/$path"; then continue; fi
        if [[ $path == lib/systemd/* ]]; then units_changed=true; fi
        install -m 644 "$work/local/$path" "$root/usr/local/$path"
    done < <(cd "$work/local" && find . -type f | sed 's|^\./||' | sort)
    make_directory /usr/local/bin
    note /usr/local/bin/gpu-supervisor
    ln -sfn "$prefix/bin/gpu-supervisor" "$root/usr/local/bin/gpu-supervisor"
    remove_listed keep_laid
}

keep_laid() { # PATH ; true for what this version still has, and for directories
    local each
    if [[ $1 == */ ]]; then return 0; fi
    for each in "${laid[@]}"; do if [ "$each" = "$1" ]; then return 0; fi; done
    return 1
}

keep_nothing() { return 1; }

# Removes what the list names, the newest first, and leaves what is kept in it.
remove_listed() { # KEEPS
    local path kept=()
    while read -r path; do
        if "$1" "$path"; then
            kept=("$path" "${kept[@]}")
        elif [[ $path == */ ]]; then
            rmdir --ignore-fail-on-non-empty "$root$path" 2>/dev/null || true
        else
            rm -f "$root$path"
        fi
    done < <(tac "$home/installed")
    printf '%s\n' "${kept[@]}" >"$home/installed.new"
    mv "$home/installed.new" "$home/installed"
}

make_group() {
    if [ -n "$root" ] || getent group gpu-supervisor >/dev/null; then return; fi
    step "making the group gpu-supervisor, whose members may use the control socket"
    groupadd --system gpu-supervisor || fail "groupadd failed (see above)"
}

lay_config() {
    local config=$root/etc/gpu-supervisor/config.yaml
    if [ -e "$config" ]; then
        step "keeping ${config#"$root"} as it is (every key and its default: man gpu-supervisor.yaml)"
        return
    fi
    step "writing ${config#"$root"}, which has no workers yet"
    mkdir -p "${config%/*}"
    install -m 644 etc/config.yaml "$config"
}

# --- install ---

install_it() {
    local python first=true
    if [ -n "$wheels" ] && [ ! -d "$wheels" ]; then fail "--wheels $wheels is no directory"; fi
    python=$(find_python)
    if [ -f "$home/installed" ]; then first=false; fi
    release=$home/releases/$(name_release "$python")
    if is_good "$release"; then step "${release##*/} is made already"; else make_release "$python"; fi
    check_config
    step "putting everything in its place"
    make_group
    lay_config
    switch
    lay_out
    load "$first"
    remove_old_releases
    goodbye
}

load() { # FIRST
    if ! has_systemd; then
        if [ -z "$root" ]; then step "systemd is not the init of this machine: the units are there, and are not loaded"; fi
        return 0
    fi
    systemctl daemon-reload
    # Once: who disables it later wants it disabled after an update as well.
    if $1; then systemctl enable --quiet "$service"; fi
    if ! runs; then return 0; fi
    if runs_release && ! $units_changed; then
        step "what runs is this version, and runs on"
    elif $restart; then
        "$release/bin/restart_service.sh" ||
            fail "the new version is in place and was not started (see above); the old one is kept in $prefix/releases"
        systemctl try-restart gpu-supervisor-web.service || true # its trouble is not the workers'
    else
        step "the old version runs on; scripts/restart_service.sh brings up the new one, and leaves the workers running"
    fi
}

runs_release() { grep -qsF " $release/" "/proc/$(systemctl show --property=MainPID --value "$service")/maps"; }

goodbye() {
    step "installed: $("$release/bin/gpu-supervisor" version)"
    if [ -n "$root" ] || runs; then return; fi
    cat <<'TEXT'

Next:
  sudoedit /etc/gpu-supervisor/config.yaml          the workers (man gpu-supervisor.yaml)
  gpu-supervisor check-config                       every fault and warning at once
  sudo systemctl start gpu-supervisor               it also starts at boot
  journalctl -u gpu-supervisor -f                   what it does, and why
  sudo usermod --append --groups gpu-supervisor YOU to ask it without sudo
TEXT
}

# --- uninstall ---

uninstall_it() {
    if [ -f "$home/installed" ]; then
        stop_it
        step "removing the files"
        remove_listed keep_nothing
        rm -rf "${home:?}"/{releases,current,current.new,bin,installed}
        rmdir "$home" 2>/dev/null || echo "$prefix holds other files, and stays"
    else
        step "nothing is installed in $prefix"
        if [ -d "$home/releases" ]; then rm -rf "$home/releases" && rmdir "$home" 2>/dev/null || true; fi
    fi
    if has_systemd; then
        systemctl daemon-reload
        systemctl reset-failed "$service" 2>/dev/null || true
    fi
    if $purge; then remove_data; else tell_data; fi
}

stop_it() {
    local unit
    if ! has_systemd; then return 0; fi
    step "stopping the service and its workers"
    for unit in gpu-supervisor-web.service "$service"; do
        if grep -q "/$unit\$" "$home/installed"; then systemctl disable --quiet --now "$unit" || true; fi
    done
    systemctl stop gpu-workers.slice 2>/dev/null || true # whom `stop_workers: false` kept
    # Not `gpu-supervisor units remove`: what is removed may be what does not run any more.
    rm -rf /run/gpu-supervisor /run/systemd/system/gpu-worker-*.service /run/systemd/system/gpu-workers.slice
}

remove_data() {
    step "removing the configuration, the history and the group"
    rm -rf "$root/etc/gpu-supervisor" "$root/var/lib/gpu-supervisor"
    if [ -z "$root" ] && getent group gpu-supervisor >/dev/null; then groupdel gpu-supervisor; fi
}

tell_data() {
    local left=() each
    for each in /etc/gpu-supervisor /var/lib/gpu-supervisor; do if [ -e "$root$each" ]; then left+=("$each"); fi; done
    if [ ${#left[@]} = 0 ]; then return 0; fi
    step "kept: ${left[*]} and the group gpu-supervisor (--uninstall --purge removes them)"
}

# --- begin ---

read_words "$@"
choose_prefix
home=$root$prefix
check_machine
cd "$checkout"

if [ $doing = uninstall ]; then
    uninstall_it
    exit
fi

work=$(mktemp -d) made=''
cleanup() {
    rm -rf "$work"
    if [ -n "$made" ]; then rm -rf "$made"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$home/releases"
exec 9>"$home/releases/.lock"
flock --nonblock 9 || fail "another install.sh is at work in $prefix"
install_it
