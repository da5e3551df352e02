# shellcheck shell=bash
# What building and pushing images share. Sourced from the project's root folder. WORK is a folder that goes at the end.

OUT=$PWD/.local/images
PREFIX=localhost/dexorder
NAMES=(operator gateway sidecar agent)
TARGET=${TARGET:-$(uname -m)-unknown-linux-musl}
PROGRAMS=${CARGO_TARGET_DIR:-target}/$TARGET/release
INSTALLER=${INSTALLER:-pip}
CHANNEL=${CHANNEL:-}
export STORAGE_DRIVER=${STORAGE_DRIVER:-overlay} BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

say() { printf 'images: %s\n' "$*" >&2; }

die() {
  printf 'images: error: %s\n' "$*" >&2
  exit 1
}

# The tag of an image as it was last built; fails if it never was.
tag_of() { [[ -f $OUT/$1.tar && -f $OUT/$1.tag ]] && cat "$OUT/$1.tag"; }

# commit NAME TAG CONTEXT [BUILDAH ARGUMENT]...: builds an image, writes its archive, drops the one before.
commit() {
  local name=$1 tag=$2 context=$3 before image
  shift 3
  image=$PREFIX/$name:$tag
  before=$(tag_of "$name" || true)
  say "building $image"
  buildah build --quiet --tag "$image" "$@" "$context" >"$OUT/$name.log" 2>&1 || {
    tail -n 40 "$OUT/$name.log" >&2
    die "the image of the $name did not build; all of its output is in ${OUT#"$PWD"/}/$name.log"
  }
  rm -f "$OUT/$name.tar.new"
  buildah push --quiet --disable-compression "$image" "oci-archive:$OUT/$name.tar.new:$image"
  mv -f "$OUT/$name.tar.new" "$OUT/$name.tar"
  printf '%s\n' "$tag" >"$OUT/$name.tag"
  if [[ $before && $before != "$tag" ]]; then
    buildah rmi "$PREFIX/$name:$before" >/dev/null 2>&1 || true
  fi
}

# compile NAME...: the static programs. What is built goes to WORK, out of the way of the next build.
compile() {
  local name packages=() quiet=()
  command -v musl-gcc >/dev/null || die "there is no musl-gcc: install the package musl-tools"
  for name in "$@"; do packages+=(--package "dexorder-$name"); done
  say "compiling $* (minutes the first time)"
  [[ -t 2 ]] || quiet=(--quiet)
  cargo build --release "${quiet[@]}" --locked --target "$TARGET" "${packages[@]}"
  for name in "$@"; do
    mkdir "$WORK/$name"
    cp "$PROGRAMS/dexorder-$name" "$WORK/$name/"
  done
}

# build_programs NAME...: images of nothing but one compiled program each.
build_programs() {
  local name tag
  for name in "$@"; do
    tag=$(cat "$WORK/$name/dexorder-$name" "images/$name/Containerfile" | hash)
    [[ $(tag_of "$name") == "$tag" ]] && continue
    commit "$name" "$tag" "$WORK/$name" --file "images/$name/Containerfile" --timestamp 0
  done
}

# The agent, with its Python packages on a Debian base.
build_agent() {
  local base=${BASE_IMAGE:-} base_id tag context
  if [[ -z $base ]]; then
    base=$(tests/cluster/base-image)
  elif ! image_id "$base" >/dev/null; then
    buildah pull --quiet "$base" >/dev/null
  fi
  base_id=$(image_id "$base")
  tag=$({ agent_files | xargs -0 sha256sum && echo "$base_id $INSTALLER${CHANNEL:+ $CHANNEL}"; } | hash)
  [[ $(tag_of agent) == "$tag" ]] && return
  context=$WORK/agent
  agent_files | tar --create --null --files-from=- | tar --extract --directory "$WORK"
  host_settings "$WORK"
  commit agent "$tag" "$context" --file "$context/Containerfile" --layers --pull=never --network host \
    --build-arg "BASE_IMAGE=$base" --build-arg "INSTALLER=$INSTALLER" ${CHANNEL:+--build-arg "CHANNEL=$CHANNEL"} "${HOST_SETTINGS[@]}"
}

# What the agent's image is made from: everything of the folder that git does not ignore, but for its tests.
agent_files() {
  git ls-files -z --cached --others --exclude-standard -- agent ':!agent/tests' |
    while IFS= read -r -d '' file; do [[ -f $file ]] && printf '%s\0' "$file"; done | sort -z
}

# host_settings FOLDER: sets HOST_SETTINGS to arguments that give the build this machine's way to the package
# registries: pip's settings, with the files that they name, and the machine's certificates. All of it is mounted while
# the build runs and is no part of the image.
host_settings() {
  local line key value word words target bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
  local -A settings=()
  HOST_SETTINGS=()
  if [[ -f $bundle ]]; then settings[cert]=$bundle; fi
  # pip lists its files first and the environment last: a later value replaces an earlier one.
  while IFS= read -r line; do
    key=${line%%=*} value=${line#*=}
    [[ $key == global.* || $key == :env:.* ]] || continue
    value=${value#\'} value=${value%\'}
    settings[${key##*.}]=$value
  done < <({ python3 -m pip config list 2>/dev/null || true; } | LC_ALL=C sort -r; pip_environment)
  printf '[global]\n' >"$1/pip.conf"
  for key in "${!settings[@]}"; do
    words=
    for word in ${settings[$key]}; do
      if [[ $word == /* && -e $word ]]; then
        target=/run/host/$key-${#HOST_SETTINGS[@]}
        HOST_SETTINGS+=(--volume "$word:$target:ro")
        word=$target
      fi
      words+=" $word"
    done
    printf '%s =%s\n' "$key" "$words" >>"$1/pip.conf"
  done
  HOST_SETTINGS+=(--volume "$1/pip.conf:/etc/pip.conf:ro")
}

# The variables PIP_* as pip itself lists them, for a machine whose Python has no pip.
pip_environment() {
  env | sed -n 's/^PIP_\([A-Z_]*\)=\(.*\)$/\1 \2/p' | while read -r key value; do
    key=${key,,}
    printf ":env:.%s='%s'\n" "${key//_/-}" "$value"
  done
}

image_id() { buildah inspect --type image --format '{{.FromImageID}}' "$1" 2>/dev/null; }

hash() { sha256sum | cut -c1-12; }

# Writes the names of what is built, for shells and for helm: on this machine, or in IMAGE_REGISTRY if that is set.
write_tags() {
  local name tag registry=${IMAGE_REGISTRY:-localhost}
  registry=${registry%/}
  : >"$OUT/tags.env.new"
  printf '# Written by images/build: the images that are built.\nimage: {registry: %s}\n' "$registry" >"$OUT/values.yaml.new"
  for name in "${NAMES[@]}"; do
    tag=$(tag_of "$name") || continue
    printf '%s_IMAGE=%s/dexorder/%s:%s\n' "${name^^}" "$registry" "$name" "$tag" >>"$OUT/tags.env.new"
    printf '%s: {image: {repository: dexorder/%s, tag: "%s"}}\n' "$name" "$name" "$tag" >>"$OUT/values.yaml.new"
  done
  mv -f "$OUT/tags.env.new" "$OUT/tags.env"
  mv -f "$OUT/values.yaml.new" "$OUT/values.yaml"
}
